#!/bin/bash
# A day in a store, played with the real daemon and real clients in network namespaces of its own.
#
#   examples/demo.sh            plays the story; exits 0 only if every step was seen
#   examples/demo.sh --stay     then leaves the store open for a browser on this machine, until Ctrl-C
#   examples/demo.sh --release  builds and runs the release binary
#
# Needs root and a Rust toolchain; on Debian, installs the packages it misses.
set -euo pipefail
cd "$(dirname "$0")/.."

stay=false profile=debug flags=(--quiet --locked)
for argument; do
    case $argument in
    --stay) stay=true ;;
    --release) profile=release flags+=(--release) ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
[ "$(id -u)" = 0 ] || { echo "The demo makes network namespaces: run it as root." >&2; exit 1; }
command -v cargo >/dev/null || { echo "Missing: Rust 1.94 or newer (cargo)." >&2; exit 1; }
export PATH=$PATH:/usr/sbin:/sbin
packaging/install.sh build demo

echo "Building maitred ($profile)"
cargo build "${flags[@]}"
echo "Built in $SECONDS s"
maitred=$(realpath "${CARGO_TARGET_DIR:-target}/$profile/maitred")

# The story has process and mount namespaces of its own, and its files in memory there. When it ends, or
# this script does, even by SIGKILL, the kernel ends and removes all that was made.
setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child examples/demo/story.sh "$maitred" "$stay" &
story=$!
end() { # end STATUS
    kill -KILL "$story"
    wait "$story" 2>/dev/null || true
    exit "$1"
}
trap 'end 129' HUP
trap 'end 130' INT
trap 'end 143' TERM
wait "$story"
