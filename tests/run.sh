#!/bin/bash
# Every check and test of maitred, in one command; needs root, for network namespaces and packages.
# On a bare Debian 12 with a Rust toolchain it installs what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "tests/run.sh: run me as root: the tests make network namespaces" >&2
    exit 1
fi

# A step under a time limit; says what it cost.
step() {
    local limit=$1 name=$2 start=$SECONDS
    shift 2
    printf '\n== %s\n' "$name"
    if ! timeout --kill-after=10 "$limit" "$@"; then
        echo "FAILED: $name (limit $limit)" >&2
        exit 1
    fi
    echo "== $name: $((SECONDS - start)) s"
}

# cargo-nextest runs each test as a process and ends those that hang. An unoptimised build of it,
# without what updates it, costs a third of the time and runs the same tests.
nextest() {
    command -v cargo-nextest >/dev/null || CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked \
        --debug --no-default-features --root target/tools cargo-nextest@0.9.143
}

# An independent client of portals.
captivity() {
    local folder=target/tools/captivity
    [ -x $folder/bin/captivity ] || { python3 -m venv $folder && $folder/bin/pip -q install captivity-cli==3.2.1; }
}

scripts() {
    local files
    mapfile -t files < <(git ls-files -co --exclude-standard |
        xargs awk 'FNR == 1 && /^#!\/bin\/(ba)?sh/ { print FILENAME }')
    # SC1008: rc.common's shebang. SC3043: OpenWrt's ash has `local`.
    shellcheck --exclude=SC1008,SC3043 "${files[@]}"
    echo "${#files[@]} scripts"
}
# Makes WeChat's pushes in the tests.
wechatpy() {
    [ -x target/tools/wechat/bin/python ] || /usr/bin/python3 -m venv target/tools/wechat
    target/tools/wechat/bin/pip install --quiet --disable-pip-version-check -r tests/wechat/requirements.txt
}
export -f nextest captivity scripts wechatpy

export PATH="$PATH:$PWD/target/tools/bin" CARGO_TERM_COLOR=never
step 10m "packages" packaging/install.sh build test cross
[ ! -e tests/browser/package.json ] || step 5m "playwright" npm ci --silent --prefix tests/browser
step 5m "wechatpy" bash -euo pipefail -c wechatpy
step 20m "cargo-nextest" bash -c nextest
step 5m "a kernel for the tests' machine" tests/machine/kernel.sh
step 5m "captivity" bash -euo pipefail -c captivity
step 1m "format" cargo fmt --check
step 1m "shell scripts" bash -euo pipefail -c scripts
step 15m "clippy" cargo clippy --quiet --locked --all-targets -- -D warnings
step 15m "builds for big-endian mips" packaging/cross.sh --check
step 25m "tests" cargo nextest run --locked
printf '\nAll checks passed in %d min %d s\n' $((SECONDS / 60)) $((SECONDS % 60))
