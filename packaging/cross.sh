#!/bin/sh
# Builds static musl binaries for OpenWrt targets, strips them, tries each under qemu-user and
# prints their sizes.
#   packaging/cross.sh [aarch64|armv7hf|x86_64|mipsel|mips]...      (default: aarch64 mips)
#   packaging/cross.sh --check [TARGET]...   only proves that every crate compiles (default: mips)
#   packaging/cross.sh --test [TARGET]...    runs the tests that need no kernel of the target's: the
#                                            domain, the wire formats, SQLite (default: mips)
# Binaries land in dist/maitred-TARGET. Needs Debian 12 or newer; installs what is missing as root.
set -eu
cd "$(dirname "$0")/.."

mode=build
case ${1:-} in --check | --test) mode=${1#--}; shift ;; esac
if [ $# = 0 ]; then
    set -- mips
    [ "$mode" != build ] || set -- aarch64 mips
fi

tools=$PWD/dist/tools
packaging/install.sh cross
if ! [ -x "$tools/bin/cargo-zigbuild" ]; then
    /usr/bin/python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check cargo-zigbuild==0.24.0 ziglang==0.15.2
fi

# Debian's rustc carries the library source, which big-endian mips needs; rustup's comes first in
# PATH elsewhere. The cache folder keeps zig's objects out of the home folder.
export PATH="$tools/bin:/usr/bin:/bin" RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR="$PWD/dist/target" CARGO_ZIGBUILD_CACHE_DIR="$PWD/dist/zig"
export CARGO_PROFILE_RELEASE_PANIC=abort CARGO_PROFILE_RELEASE_STRIP=true

triple() {
    case $1 in
        aarch64 | x86_64 | mipsel | mips) echo "$1-unknown-linux-musl" ;;
        armv7hf) echo armv7-unknown-linux-musleabihf ;;
        *) echo "cross.sh: no target \"$1\"" >&2; exit 2 ;;
    esac
}

runner() {
    case $1 in
        "$(uname -m)") echo env ;;
        armv7hf) echo qemu-arm-static ;;
        *) echo "qemu-$1-static" ;;
    esac
}

without_tables='target."cfg(target_env = \"musl\")".rustflags = ["-Cforce-unwind-tables=no"]'
for target in "$@"; do
    name=$(triple "$target")
    case $mode in
        check)
            cargo-zigbuild check --locked --bins --lib --target "$name" -Zbuild-std=std,panic_unwind
            ;;
        test)
            variable=CARGO_TARGET_$(echo "$name" | tr a-z- A-Z_)_RUNNER
            env "$variable=$(runner "$target")" cargo-zigbuild test --locked --lib \
                --target "$name" -Zbuild-std=std,test,panic_unwind -- \
                domain:: wire:: adapters::store::
            ;;
        build)
            # What aborts on a panic never unwinds: the tables for it would be a seventh of the file.
            # Without its default features the library prints no backtrace, which needs symbols.
            # A panic says in which crate's file, not in which folder of this machine.
            CFLAGS='-fno-unwind-tables -fno-asynchronous-unwind-tables' \
                CARGO_PROFILE_RELEASE_TRIM_PATHS=all \
                cargo-zigbuild build --release --locked --bin maitred --target "$name" \
                -Ztrim-paths -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size \
                --config "$without_tables"
            cp "$CARGO_TARGET_DIR/$name/release/maitred" "dist/maitred-$target"
            ;;
    esac
done
[ "$mode" = build ] || exit 0

for target in "$@"; do packaging/smoke.sh "$target"; done
printf '\n| target | stripped | xz -9e |\n|---|---|---|\n'
for target in "$@"; do
    file=dist/maitred-$target
    printf '%s %s %s\n' "$target" "$(wc -c <"$file")" "$(xz -9e -c "$file" | wc -c)" |
        awk '{ printf "| %s | %.2f MB | %.2f MB |\n", $1, $2 / 1e6, $3 / 1e6 }'
done
