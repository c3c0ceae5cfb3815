#!/usr/bin/env bash
# Hands a target to libFuzzer: `wire/fuzz/run.sh TARGET RUNS [FLAG OF LIBFUZZER]...`. Needs a nightly compiler and
# cargo-fuzz. Begins with the stored corpus and what earlier runs have added to it in `target/fuzz`, where everything
# goes that is made here.
set -euo pipefail
if (($# < 2)); then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
target=$1 runs=$2
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
made=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
mkdir -p "$made/corpus/$target" "$made/artifacts/$target"
cd "$here/libfuzzer"
# The sanitizers run over the ordinary tests; without one there are several times as many runs in the same time.
exec cargo +nightly fuzz run --fuzz-dir . --target-dir "$made/build" --sanitizer none "$target" \
    "$made/corpus/$target" "$here/corpus/$target" -- \
    -runs="$runs" -max_len=16384 -rss_limit_mb=1024 -timeout=10 -artifact_prefix="$made/artifacts/$target/" "$@"
