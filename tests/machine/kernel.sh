#!/bin/bash
# Gets Debian's own kernel for tests/machine/boot.sh into target/tools/kernel: unpacked, not
# installed, so that this machine boots as before.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
[ ! -e target/tools/kernel/vmlinux ] || exit 0

image() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p'; }
download() { apt-get -qq -o APT::Sandbox::User=root download "$(image)"; }

mkdir -p target/tools
work=$(mktemp -d "$root/target/tools/kernel-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
# The lists may be missing, or old.
download 2>/dev/null || { apt-get -qq update && download; }
# Of its modules: networks, and what the machine's disk is made of.
modules='./lib/modules/*/kernel'
dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x --wildcards './boot/vmlinuz-*' './lib/modules/*/modules.*' \
    "$modules"/net/{802,8021q,9p,bridge,core,ipv4,ipv6,llc,netfilter,packet,sched} \
    "$modules"/drivers/net/{dummy,ifb,tun,veth}.ko "$modules"/drivers/virtio \
    "$modules"/fs/{9p,fscache,netfs,overlayfs} "$modules"/{crypto,lib}
busybox depmod -b "$work" "$(ls lib/modules)"

# Unpacked here once, and not by a slow machine at each start. Linux's boot protocol says where it
# lies in the image: behind setup_sects + 1 sectors and payload_offset bytes.
number() { od -An -t "u$2" -j "$1" -N "$2" boot/vmlinuz-* | tr -d ' '; }
start=$((($(number 497 1) + 1) * 512 + $(number 584 4)))
xz -dc --single-stream < <(tail -c "+$((start + 1))" boot/vmlinuz-*) >vmlinux
rm -r linux-image-*.deb boot
mv "$work" "$root/target/tools/kernel"
