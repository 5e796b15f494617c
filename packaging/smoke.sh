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
grep -q 'bad.toml:1:' "$work/said"
# Random bytes, curve arithmetic, Argon2, and a mode that no umask widens.
public=$(maitred token --generate "$work/key")
[ "$(printf %s "$public" | base64 -d | wc -c)" = 32 ]
[ "$(stat -c %a "$work/key")" = 600 ]
maitred token --key "$work/key" --store store-1 --zone guest --mac 02:00:00:00:00:01 \
    --guest 00112233445566778899aabbccddeeff | grep -q .
echo 'correct horse' | maitred password | grep -q '^.argon2id'
echo "$binary runs"
