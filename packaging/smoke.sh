#!/bin/sh
# Tries dist/maitred-TARGET, under qemu-user where this machine's processor is another.
#   packaging/smoke.sh TARGET
set -eu
cd "$(dirname "$0")/.."

binary=dist/maitred-$1
case $1 in
    "$(uname -m)") maitred() { timeout 60 "$binary" "$@"; } ;;
    armv7hf) maitred() { timeout 60 qemu-arm-static "$binary" "$@"; } ;;
    *) target=$1; maitred() { timeout 60 "qemu-$target-static" "$binary" "$@"; } ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

readelf -h "$binary" | grep -E 'Class|Data|Machine'
# A static binary asks for no interpreter.
if readelf -l "$binary" | grep INTERP; then exit 1; fi
maitred --version
maitred check openwrt/maitred/files/maitred.toml
# What it says of a bad file must name the line.
echo 'nonsense = 1' >"$work/bad.toml"
if maitred check "$work/bad.toml" >"$work/said" 2>&1; then
    echo "smoke.sh: accepted a bad configuration" >&2
    exit 1
fi
grep -q 'line 1' "$work/said"
echo "$binary runs"
