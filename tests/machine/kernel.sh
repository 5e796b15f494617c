#!/bin/bash
# Gets Debian's own kernel for tests/machine/boot.sh into target/tools/kernel: unpacked, not
# installed, so that this machine boots as before.
#   tests/machine/kernel.sh [FOLDER PACKAGE...]    another one, from packages of Debian's or Ubuntu's
set -euo pipefail
shopt -s nullglob
mapfile -t packages < <(realpath -e "${@:2}" 2>/dev/null)
kernel=$(realpath -m "${1:-$(dirname "$0")/../../target/tools/kernel}")
[ ! -e "$kernel/vmlinux" ] || exit 0

image() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p'; }
download() { apt-get -qq -o APT::Sandbox::User=root download "$(image)"; }

mkdir -p "$(dirname "$kernel")"
work=$(mktemp -d "$kernel-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
if [ "${#packages[@]}" = 0 ]; then
    # The lists may be missing, or old.
    download 2>/dev/null || { apt-get -qq update && download; }
    packages=(linux-image-*.deb)
fi
for package in "${packages[@]}"; do dpkg-deb --fsys-tarfile "$package" | tar -x ./boot ./lib 2>/dev/null || true; done
# Of its modules: networks, and what the machine's disk is made of.
modules=$(echo lib/modules/*)
mkdir kept
for part in net/{802,8021q,9p,bridge,core,ipv4,ipv6,llc,netfilter,packet,sched} drivers/net/{dummy,ifb,tun,veth}.ko \
    drivers/virtio fs/{9p,fscache,netfs,overlayfs} crypto lib; do
    [ ! -e "$modules/kernel/$part" ] || cp -r --parents "$modules/kernel/$part" kept
done
cp --parents "$modules"/modules.* kept
rm -r lib && mv kept/lib .
busybox depmod -b "$work" "$(basename "$modules")"

# Unpacked here once, and not by a slow machine at each start. Linux's boot protocol says where it
# lies in the image: behind setup_sects + 1 sectors and payload_offset bytes.
number() { od -An -t "u$2" -j "$1" -N "$2" boot/vmlinuz-* | tr -d ' '; }
start=$((($(number 497 1) + 1) * 512 + $(number 584 4)))
packed() { tail -c "+$((start + 1))" boot/vmlinuz-*; }
case $(od -An -t x4 -N 4 < <(packed)) in
    *fd2fb528) zstd -dcq 2>/dev/null >vmlinux < <(packed) || true ;; # what follows is not its own
    *) xz -dc --single-stream < <(packed) >vmlinux ;;
esac
[ -s vmlinux ] || { echo "kernel.sh: cannot unpack $(echo boot/vmlinuz-*)" >&2; exit 1; }
rm -rf ./*.deb boot kept
mv "$work" "$kernel"
