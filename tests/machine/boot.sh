#!/bin/bash
# Runs a command as root on Debian's own kernel (see kernel.sh), in a virtual machine whose disk is
# this machine's, read-only; what is written there is gone with it. It has no network.
#   [KERNEL=FOLDER] tests/machine/boot.sh COMMAND...
# Prints what the command prints, and ends as it does.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
kernel=$(realpath -m "${KERNEL:-$root/target/tools/kernel}")
command -v qemu-system-x86_64 >/dev/null || { echo "boot.sh: install qemu-system-x86" >&2; exit 2; }
[ -e "$kernel/vmlinux" ] || { echo "boot.sh: no kernel: run tests/machine/kernel.sh" >&2; exit 2; }

# Named so that the tests sweep it if this is killed.
work=$(mktemp -d -t "mt-$$-XXXXXX")
console=$work/console
touch "$console"
trap 'tr -d "\r" <"$console"; rm -rf "$work"' EXIT

# The first disk: busybox and the modules that the real one needs.
version=$(ls "$kernel/lib/modules")
modules=lib/modules/$version
mkdir -p "$work"/disk/{bin,dev,host,proc,sys,top,"$modules"}
cd "$work/disk"
cp "$(command -v busybox)" bin/busybox
ldd bin/busybox | grep -o '/[^ ]*' | while read -r library; do install -D "$library" ".$library"; done
# The tests' modules, all at once: the kernel would try each of a table's rules anew for each module.
nets="crc32c_generic veth bridge 8021q sch_netem nf_conntrack_netlink nf_flow_table_inet nft_chain_nat"
nets="$nets nft_connlimit nft_ct nft_fib_inet nft_flow_offload nft_limit nft_masq nft_quota nft_redir nft_reject_inet"
needed=
cp "$kernel/$modules/modules.dep" "$modules"
for name in virtio_pci 9pnet_virtio 9p overlay; do
    # Others' kernels have some of them built in.
    ! grep -q "/$name\.ko$" "$kernel/$modules/modules.builtin" || continue
    needed="$needed $name"
    # shellcheck disable=SC2013 # words: a module, and those that it needs
    for file in $(sed -n "\|/$name\.ko:|s|:||p" "$modules/modules.dep"); do
        install -D "$kernel/$modules/$file" "$modules/$file"
    done
done

cat >init <<INIT
#!/bin/busybox sh
set -e
b=/bin/busybox
\$b mount -t proc proc /proc
\$b mount -t sysfs sys /sys
\$b mount -t devtmpfs dev /dev
for module in $needed; do \$b modprobe \$module; done
\$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /host
\$b mount -t tmpfs top /top
\$b mkdir -p /dev/pts /dev/shm /top/root /top/work /top/new
\$b mount -t devpts pts /dev/pts
\$b mount -t tmpfs shm /dev/shm
\$b mount -t overlay -o lowerdir=/host,upperdir=/top/new,workdir=/top/work all /top/root
cd /top/root
\$b mount -t tmpfs run run
\$b mount -t tmpfs tmp tmp
# This folder may lie below one that is empty now.
\$b mkdir -p .$root lib/modules
\$b mount --bind /host$root .$root
\$b mount --bind /host$kernel/lib/modules lib/modules
\$b ln -s /bin/busybox run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
\$b cp /told run/told
for part in dev proc sys; do \$b mount --move /\$part \$part; done
exec \$b switch_root . /bin/busybox sh /run/told
INIT
chmod +x init

{
    printf 'export PATH=%q HOME=/root RUST_BACKTRACE=1\n' "$PATH"
    printf '/run/modprobe -a %s\n' "$nets"
    printf 'ip link set lo up\nbusybox date -s @%s >/dev/null\ncd %q\n' "$(date +%s)" "$root"
    printf 'echo "machine: up"\n'
    printf '%q ' "$@"
    # The console is a slow line: what is written last must have left before the end.
    printf '\necho "machine: status $?"\nsleep 0.2\nbusybox reboot -f\n'
} >told
find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >"$work/disk.gz"

# It ends with this script. Programs that lie in the same place each time are translated once.
boot() { # boot ACCELERATOR CPU CORES
    setpriv --pdeathsig KILL qemu-system-x86_64 -accel "$1" -cpu "$2" -smp "$3" -m 1024 \
        -machine pc -nodefaults -no-user-config -display none -no-reboot -serial "file:$console" \
        -kernel "$kernel/vmlinux" -initrd "$work/disk.gz" \
        -append "console=ttyS0 quiet panic=-1 reboot=t norandmaps mitigations=off init_on_alloc=0 apparmor=0" \
        -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=host,mount_tag=host </dev/null &
    machine=$!
}

# Whether it comes up: some kernels have a KVM that takes a machine and never boots it.
boots() {
    for _ in {1..100}; do
        ! grep -q 'machine: up' "$console" || return 0
        kill -0 "$machine" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

started=
if [ -w /dev/kvm ] && grep -qwE 'svm|vmx' /proc/cpuinfo; then
    boot kvm host 2
    if boots; then
        started=kvm
    else
        kill "$machine" 2>/dev/null || true
        wait "$machine" || true
        : >"$console"
    fi
fi
# One core and few features make an emulated machine cheapest.
[ -n "$started" ] || boot tcg Nehalem,+rdrand 1
wait "$machine"
status=$(sed -n 's/^machine: status \([0-9]*\).*/\1/p' "$console" | tail -n 1)
exit "${status:-1}"
