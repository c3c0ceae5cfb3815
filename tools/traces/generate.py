#!/usr/bin/env python3
"""Writes src/demo/cdn.rs from two files of facebook/CacheLib (Apache-2.0).

    generate.py SIZES_JSON POPULARITY_JSON > ../src/demo/cdn.rs

The files are cachelib/cachebench/test_configs/hit_ratio/cdn/sizes.json and pop.json.
"""
import json
import sys

SIZE_BINS = 500
POPULARITY_POINTS = 64

HEADER = """\
//! What a CDN cache holds, and what is asked of it.
//!
//! Source: facebook/CacheLib, cachelib/cachebench/test_configs/hit_ratio/cdn/sizes.json and pop.json
//! (Apache License 2.0, Copyright (c) Meta Platforms, Inc. and affiliates). Reduced to these tables by
//! `tools/traces/generate.py`; the mean size and the share of requests at each point are kept.
"""


def size_bins(path):
    """Mean size of each of SIZE_BINS equally likely ranges of sizes."""
    data = json.load(open(path))
    sizes = sorted(zip(data["valSizeRange"], data["valSizeRangeProbability"]))
    width = sum(weight for _, weight in sizes) / SIZE_BINS
    bins, mass, total = [], 0.0, 0.0
    for size, weight in sizes:
        while weight > 0:
            taken = min(weight, width - mass)
            mass, total, weight = mass + taken, total + taken * size, weight - taken
            if width - mass < 1e-6:
                bins.append(round(total / mass))
                mass, total = 0.0, 0.0
    if len(bins) < SIZE_BINS:
        bins.append(round(total / mass))
    return bins


def popularity(path):
    """Points (keys, requests): the so many most popular keys get so many requests."""
    data = json.load(open(path))
    buckets = list(zip(data["popularityBuckets"], data["popularityWeights"]))
    buckets.sort(key=lambda bucket: -bucket[1] / bucket[0])
    points, keys, requests = [(0, 0)], 0, 0
    total_keys = sum(count for count, _ in buckets)
    for count, weight in buckets:
        keys, requests = keys + count, requests + weight
        step = total_keys ** (1 / POPULARITY_POINTS)
        if points[-1][0] == 0 or keys >= points[-1][0] * step or keys == total_keys:
            points.append((keys, requests))
    return points


def rows(items, per_row):
    for start in range(0, len(items), per_row):
        print("    " + " ".join(f"{item}," for item in items[start : start + per_row]))


def main():
    sizes, points = size_bins(sys.argv[1]), popularity(sys.argv[2])
    print(HEADER)
    print("/// Sizes of objects in bytes: each the mean of an equally likely range of sizes, in order.")
    print("#[rustfmt::skip]")
    print(f"pub const SIZES: [u32; {len(sizes)}] = [")
    rows(sizes, 12)
    print("];\n")
    print("/// Popularity: so many of the most popular keys get so many of all requests.")
    print("#[rustfmt::skip]")
    print(f"pub const POPULARITY: [(u32, u32); {len(points)}] = [")
    rows([f"({keys}, {requests})" for keys, requests in points], 6)
    print("];")


main()
