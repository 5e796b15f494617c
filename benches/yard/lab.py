"""Routers side by side in network namespaces: one "internet", and for each router its guests.

All of it stands on addresses of the benchmarking range (RFC 2544) and 10.9.0.0/16, inside
namespaces that `Lab` makes and removes.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
ECHO, DISCARD, CHARGEN = 7, 9, 19  # RFC 862, RFC 863, RFC 864
GARDEN_PORT = 7777


def sh(*words, check=True, **options):
    """Runs one command to its end, within a minute."""
    return subprocess.run(words, check=check, text=True, capture_output=True, timeout=60, **options)


# The base chains of OpenWrt's default configuration, with a zone for guests: on every router each
# packet passes them, empty as most of them are.
FW4 = """
table inet fw4 {
    chain input {
        type filter hook input priority filter; policy drop;
        iif "lo" accept
        ct state vmap { established : accept, related : accept }
        iifname "br-guest" jump input_guest
        iifname "u0" reject
    }
    chain input_guest {
        udp dport { 53, 67, 2054 } accept
        tcp dport { 53, 2050, 2051, 2053, 2054 } accept
        reject with tcp reset
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state vmap { established : accept, related : accept }
        iifname "br-guest" jump forward_guest
        reject
    }
    chain forward_guest {
        oifname "u0" accept
    }
    chain output {
        type filter hook output priority filter; policy accept;
        ct state vmap { established : accept, related : accept }
    }
    chain prerouting {
        type filter hook prerouting priority filter; policy accept;
        iifname "br-guest" jump helper_guest
    }
    chain helper_guest {
    }
    chain dstnat {
        type nat hook prerouting priority dstnat; policy accept;
    }
    chain srcnat {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "u0" meta nfproto ipv4 masquerade
    }
    chain raw_prerouting {
        type filter hook prerouting priority raw; policy accept;
    }
    chain mangle_prerouting {
        type filter hook prerouting priority mangle; policy accept;
    }
    chain mangle_postrouting {
        type filter hook postrouting priority mangle; policy accept;
        oifname "u0" tcp flags & (fin | syn | rst) == syn tcp option maxseg size set rt mtu
    }
    chain mangle_forward {
        type filter hook forward priority mangle; policy accept;
        iifname "u0" tcp flags & (fin | syn | rst) == syn tcp option maxseg size set rt mtu
    }
}
"""


@contextlib.contextmanager
def inside(namespace):
    """This thread is in the namespace meanwhile; sockets made there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    away = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if LIBC.setns(away, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        yield
    finally:
        LIBC.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(away)


class Lab:
    """The namespaces and every process in them; `close` removes all."""

    def __init__(self):
        self.tag = f"yard{os.getpid()}"
        self.namespaces = []
        self.processes = []
        self.internet = self.namespace("net")
        with self.inside_batch(self.internet, "nft") as rules:
            rules.append("add table ip sink")
            rules.append("add chain ip sink pre { type filter hook prerouting priority raw; }")
            rules.append(f"add rule ip sink pre udp dport {DISCARD} drop")
        self.fork(self.internet, echo)
        # Addresses that names of `garden.example` lead to, each to its own.
        sh("ip", "-n", self.internet, "route", "add", "local", "9.9.0.0/16", "dev", "lo")
        self.fork(self.internet, numbered_names)
        self.fork(self.internet, open_doors)

    def namespace(self, name):
        name = f"{self.tag}-{name}"
        sh("ip", "netns", "add", name)
        self.namespaces.append(name)
        self.sysctl(name, "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        sh("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def sysctl(self, namespace, *settings):
        self.run(namespace, "sysctl", "-qw", *settings)

    def run(self, namespace, *words, **options):
        """Runs one command in the namespace to its end."""
        return sh("nsenter", f"--net=/run/netns/{namespace}", *words, **options)

    @contextlib.contextmanager
    def inside_batch(self, namespace, tool):
        """Lines for `ip -batch` or `nft -f`, run at the end."""
        lines = []
        yield lines
        words = ["ip", "-batch", "-"] if tool == "ip" else ["nft", "-f", "-"]
        self.run(namespace, *words, input="\n".join(lines) + "\n")

    def spawn(self, namespace, *words, log=subprocess.DEVNULL, wrap=()):
        """Starts a program in the namespace; ended by `stop` or `close`."""
        # `ip netns exec` shows the program the namespace's own sysfs, too.
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *wrap, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        self.processes.append(process)
        return process

    def fork(self, namespace, work, *arguments):
        """Runs a function of ours in a process of its own in the namespace; returns its pid."""
        child = os.fork()
        if child:
            self.processes.append(Child(child))
            return self.processes[-1]
        try:
            LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the yardstick
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with inside(namespace):
                work(*arguments)
        finally:
            os._exit(0)

    def stop(self, process, kill=False):
        """Ends one process, and waits for it."""
        if process.poll() is None:
            process.kill() if kill else process.terminate()
            if not ends(process, 20):
                process.kill()
            process.wait()
        self.processes.remove(process)

    def close(self):
        for process in list(self.processes):
            self.stop(process, kill=True)
        for name in self.namespaces:
            sh("ip", "netns", "del", name, check=False)


def ends(process, seconds):
    """Whether it ends within the time; `Popen.wait` would look only every 50 ms."""
    descriptor = os.pidfd_open(process.pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


class Child:
    """A forked process, with as much of Popen's face as `Lab` uses."""

    def __init__(self, pid):
        self.pid = pid
        self.done = False

    def poll(self):
        self.done = self.done or os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return 0 if self.done else None

    def wait(self):
        if not self.done:
            os.waitpid(self.pid, 0)
            self.done = True

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    kill = terminate


def echo():
    """Answers every datagram (RFC 862)."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("", ECHO))
    while True:
        data, peer = listener.recvfrom(2048)
        listener.sendto(data, peer)


def numbered_names():
    """A resolver: `n<number>.…` has the address of that number in 9.9.0.0/16 (RFC 1035)."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("", 53))
    while True:
        question, peer = listener.recvfrom(512)
        number = int(question[14 : 13 + question[12]])
        record = struct.pack("!HHHIH2sH", 0xC00C, 1, 1, 60, 4, bytes([9, 9]), number)
        header = question[:2] + bytes([0x81, 0x80]) + question[4:6] + bytes([0, 1, 0, 0, 0, 0])
        listener.sendto(header + question[12:] + record, peer)


def open_doors():
    """Lets everybody connect."""
    with socket.create_server(("", GARDEN_PORT), backlog=4096) as server:
        while True:
            server.accept()[0].close()


class Site:
    """A router with a guest bridge and an uplink that masquerades, and its guests.

    Guest 0 (`g0`) is the one that moves traffic. Others, each a station with a MAC of its own,
    are plugged in by `plug`.
    """

    def __init__(self, lab, number, name):
        self.lab = lab
        self.router = lab.namespace(f"{name}-router")
        self.guests = lab.namespace(f"{name}-guests")
        self.uplink, self.far = f"198.18.{number}.1", f"198.18.{number}.2"
        self.gateway = "10.9.0.1"
        self.far_link = f"n{number}"
        with lab.inside_batch(self.router, "ip") as lines:
            # Without an address of its own, a bridge takes another with each port it gains.
            lines.append("link add br-guest address 02:00:5e:ff:00:01 type bridge")
            lines.append("link set br-guest up")
            lines.append(f"addr add {self.gateway}/16 dev br-guest")
            lines.append(f"link add u0 type veth peer name {self.far_link} netns {lab.internet}")
            lines.append("link set u0 up")
            lines.append(f"addr add {self.uplink}/24 dev u0")
            lines.append(f"route add default via {self.far}")
        with lab.inside_batch(lab.internet, "ip") as lines:
            lines.append(f"link set {self.far_link} up")
            lines.append(f"addr add {self.far}/24 dev {self.far_link}")
        # Packets are cut to their 64 bytes where they leave, not where they arrive.
        lab.run(lab.internet, "ethtool", "-K", self.far_link, "tx-udp-segmentation", "off")
        lab.sysctl(self.router, "net.ipv4.ip_forward=1", "net.netfilter.nf_conntrack_max=262144")
        # As on OpenWrt: what a bridge forwards is not filtered as if it were routed.
        families = ("arptables", "iptables", "ip6tables")
        lab.sysctl(self.router, *(f"net.bridge.bridge-nf-call-{family}=0" for family in families))
        lab.sysctl(
            self.guests,
            "net.ipv4.conf.all.arp_ignore=1",
            "net.ipv4.conf.all.arp_announce=2",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
            "net.ipv4.ip_local_port_range=1024 65535",
        )
        with lab.inside_batch(self.router, "nft") as lines:
            lines.append("add table ip wan")
            lines.append("add chain ip wan post { type nat hook postrouting priority srcnat; }")
            lines.append("add rule ip wan post oifname u0 masquerade")
        self.crowded = None
        self.plugged = set()
        self.plug([0])

    def plug(self, guests):
        """Plugs in guests of these numbers who are not yet."""
        new = set(guests) - self.plugged
        self.plugged |= new
        with self.lab.inside_batch(self.guests, "ip") as lines:
            for guest in new:
                lines.append(
                    f"link add g{guest} address {self.mac(guest)} type veth"
                    f" peer name p{guest} netns {self.router}"
                )
                lines.append(f"link set g{guest} up")
                lines.append(f"addr add {self.address(guest)}/16 dev g{guest}")
                metric = f" metric {guest}" if guest else ""
                lines.append(f"route add default via {self.gateway} dev g{guest}{metric}")
        with self.lab.inside_batch(self.router, "ip") as lines:
            lines.extend(f"link set p{guest} master br-guest up" for guest in new)
            # As on an access point: stations do not hear each other's broadcasts.
            lines.extend(f"link set p{guest} type bridge_slave isolated on" for guest in new)
        if 0 in new:
            self.lab.run(self.guests, "ethtool", "-K", "g0", "tx-udp-segmentation", "off")

    def firewall(self):
        """Puts chains as fw4 of OpenWrt 24.10 makes them in the place of the one that masquerades."""
        self.lab.run(self.router, "nft", "delete", "table", "ip", "wan")
        self.lab.run(self.router, "nft", "-f", "-", input=FW4)

    def crowd(self):
        """The namespace of 1,024 strangers behind one link: the source port picks the MAC.

        No single device may open as many connections as the yardstick needs, nor may a few hundred.
        """
        if not self.crowded:
            self.crowded = self.lab.namespace(f"{self.router}-crowd".removeprefix(f"{self.lab.tag}-"))
            with self.lab.inside_batch(self.crowded, "ip") as lines:
                lines.append(f"link add c0 type veth peer name pc netns {self.router}")
                lines.append("link set c0 up")
                lines.append("addr add 10.9.250.1/16 dev c0")
                lines.append(f"route add default via {self.gateway}")
            self.lab.run(self.router, "ip", "link", "set", "pc", "master", "br-guest", "up")
            self.lab.sysctl(self.crowded, "net.ipv4.ip_local_port_range=1024 65535")
            macs = ", ".join(f"{n} : 02:00:5e:01:{n >> 8:02x}:{n & 255:02x}" for n in range(1024))
            with self.lab.inside_batch(self.crowded, "nft") as lines:
                lines.append("add table netdev crowd")
                hook = "type filter hook egress device c0 priority 0;"
                lines.append(f"add chain netdev crowd out {{ {hook} }}")
                lines.append(
                    f"add rule netdev crowd out ether saddr set tcp sport and 0x3ff map {{ {macs} }}"
                )
        return self.crowded

    @staticmethod
    def mac(guest):
        return f"02:00:5e:00:{guest >> 8:02x}:{guest & 255:02x}"

    @staticmethod
    def address(guest):
        return f"10.9.{(guest + 2) >> 8}.{(guest + 2) & 255}"

    def socket(self, guest, kind=socket.SOCK_STREAM):
        """A socket of one guest."""
        with inside(self.guests):
            made = socket.socket(socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"g{guest}".encode())
        return made
