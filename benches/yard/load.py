"""What is measured, each as one function of one contender, in plain numbers."""

import contextlib
import json
import os
import re
import select
import socket
import statistics
import struct
import threading
import time
import urllib.parse

from . import http
from .lab import ECHO, GARDEN_PORT, inside

# linux/netfilter/nfnetlink.h, nf_tables.h
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWTABLE = 0
NFT_MSG_DELTABLE = 2


def redirects(contender, connections, seconds):
    """Strangers ask for pages: redirects a second, and p50 and p99 of a redirect in ms.

    `core` is the rate for each second of processor time that the daemon used.
    """
    site = contender.site
    used = contender.cpu()
    words = ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "5s"]
    words += ["-H", "Connection: close", f"http://{site.far}/"]
    text = contender.lab.run(site.crowd(), *words).stdout
    used = contender.cpu() - used
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    return {
        "rate": rate,
        "core": rate * seconds / used if used else 0.0,
        "p50": milliseconds(re.search(r"50%\s+([\d.]+\w+)", text)[1]),
        "p99": milliseconds(re.search(r"99%\s+([\d.]+\w+)", text)[1]),
        "failed": errors + (int(bad[1]) if bad else 0),
    }


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


def login(contender, guest):
    """One login: ms from the code's last byte until the kernel says that the guest is granted,
    until the answer comes, and until the first packet has come back.

    The guest sends a datagram every half millisecond meanwhile; the first that is echoed counts.
    For openNDS, which has no codes of its own, from the call of `ndsctl auth`; what it changes in
    the kernel is not told apart.
    """
    site = contender.site
    prepared = contender.prepare_login(guest)
    mac = bytes.fromhex(site.mac(guest).replace(":", ""))
    times = {}
    with site.socket(guest, socket.SOCK_DGRAM) as probe, changes(site.router) as kernel:
        probe.setblocking(False)
        pending = contender.login(guest, prepared)
        began = time.monotonic()
        while time.monotonic() - began < 15:
            if "packet" not in times:
                with contextlib.suppress(OSError):  # the router's refusal of an earlier one
                    probe.sendto(b"?", (site.far, ECHO))
            waiting = [probe, kernel] + ([] if "answer" in times else [pending])
            for ready in select.select(waiting, [], [], 0.0005)[0]:
                now = (time.monotonic() - began) * 1000
                if ready is pending:
                    times["answer"] = now
                elif ready is kernel:
                    if mac in kernel.recv(1 << 16):
                        times.setdefault("kernel", now)
                else:
                    with contextlib.suppress(OSError):
                        probe.recv(64)
                        times.setdefault("packet", now)
            if "answer" in times and "packet" in times:
                break
        if "answer" not in times or not contender.logged_in(pending) or "packet" not in times:
            raise SystemExit(f"{contender.name}: guest {guest} logged in but got no packet through")
    return times


def garden(contender, tries, strangers):
    """Strangers ask for a garden name, and send a SYN the moment that the answer is there; how many
    of them get through at once."""
    site, through = contender.site, 0
    site.plug(strangers)
    for number in range(tries):
        guest = strangers[number * len(strangers) // tries]
        name = f"n{number}".encode()
        question = bytes([len(name)]) + name + b"\6garden\7example\0" + b"\0\1\0\1"
        with site.socket(guest, socket.SOCK_DGRAM) as asker, site.socket(guest) as door:
            asker.settimeout(5)
            asker.sendto(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + question, (site.gateway, 53))
            address = socket.inet_ntoa(asker.recv(512)[-4:])
            door.settimeout(0.9)  # shorter than the second try of a SYN
            with contextlib.suppress(OSError):
                door.connect((address, GARDEN_PORT))
                through += 1
    return {"through": through, "tries": tries}


def changes(namespace):
    """A socket on which the kernel tells of every change of nf_tables in the namespace."""
    with inside(namespace):
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    kernel.bind((0, 0))
    kernel.setsockopt(270, 1, 7)  # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES
    kernel.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE: a table comes at once
    return kernel


def fill_conntrack(contender, entries):
    """Puts so many connections of others into the router's table; returns how many it tracks.

    By netlink: no device may open as many as this needs.
    """
    with inside(contender.site.router):
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    with kernel:
        kernel.bind((0, 0))
        for first in range(0, entries, 100):
            flows = range(first, min(first + 100, entries))
            kernel.send(b"".join(connection(flow) for flow in flows))
    with inside(contender.site.router), open("/proc/thread-self/net/stat/nf_conntrack") as counters:
        counters.readline()
        return int(counters.readline().split()[0], 16)


def empty_conntrack(contender):
    """Forgets the router's connections."""
    with inside(contender.site.router):
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    with kernel:
        # IPCTNL_MSG_CT_DELETE of no connection in particular; request, acknowledged
        kernel.send(struct.pack("=LHHLL", 20, 0x0102, 0x0005, 0, 0) + bytes(4))
        kernel.recv(4096)


def connection(number):
    """The request that adds a UDP connection (linux/netfilter/nfnetlink_conntrack.h)."""

    def attribute(kind, *values):
        payload = b"".join(values)
        return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)

    def tuple_of(kind, source, target, ports):
        nested = 0x8000
        addresses = attribute(1 | nested, attribute(1, source), attribute(2, target))
        udp = attribute(1, b"\x11"), attribute(2, ports[0]), attribute(3, ports[1])
        return attribute(kind | nested, addresses, attribute(2 | nested, *udp))

    guest = socket.inet_aton(f"10.9.{100 + number // 50000}.{1 + number % 200}")
    server = socket.inet_aton("198.19.0.1")
    ports = struct.pack("!H", 10000 + number // 200), struct.pack("!H", 443)
    body = struct.pack("!BBH", socket.AF_INET, 0, 0)
    body += tuple_of(1, guest, server, ports) + tuple_of(2, server, guest, ports[::-1])
    # Confirmed, and an answer was seen.
    body += attribute(3, struct.pack("!I", 2 | 8)) + attribute(7, struct.pack("!I", 3600))
    # IPCTNL_MSG_CT_NEW; request, create, only if new
    return struct.pack("=LHHLL", 16 + len(body), 0x0100, 0x0601, 0, 0) + body


def portal_page(contender, guest):
    """The page that a stranger is redirected to: bytes on the wire with all its parts, how many parts
    come from elsewhere, and its path and all replies by path, in Chinese."""
    site = contender.site
    site.plug([guest])
    _, url = http.follow(site, guest, f"http://{site.far}/")
    url = urllib.parse.urljoin(url, "/?lang=zh-CN")
    page = http.request(site, guest, url)
    parts = re.findall(
        rb"""(?:<(?:script|img|iframe)[^>]*?src|<link[^>]*?href)\s*=\s*["']?([^"'> ]+)"""
        rb"""|url\(["']?([^"')]+)""",
        page.body,
    )
    links = {urllib.parse.urljoin(url, (a or b).decode()) for a, b in parts}
    links = {link for link in links if not link.startswith("data:")}
    own = {link for link in links if urllib.parse.urlsplit(link).netloc == urllib.parse.urlsplit(url).netloc}
    path = lambda link: "/" + link.split("/", 3)[3]
    replies = {path(link): http.request(site, guest, link) for link in own} | {path(url): page}
    bytes_ = sum(reply.size for reply in replies.values())
    return {"bytes": bytes_, "outside": len(links - own)}, path(url), replies


def arrivals(contender, guests):
    """All these guests, never seen before, ask for a page at once: ms to each one's redirect, and
    how many got none."""
    site = contender.site
    site.plug(guests)
    # The router has taken in their links, which phones do not bring with them.
    time.sleep(1)
    poller = select.epoll()
    waiting, times = {}, []

    def take(patience):
        for number, event in poller.poll(patience):
            made, since = waiting[number]
            try:
                if event & select.EPOLLOUT:
                    made.send(b"GET / HTTP/1.1\r\nHost: probe.example\r\nConnection: close\r\n\r\n")
                    poller.modify(made, select.EPOLLIN)
                    continue
                redirected = made.recv(4096).split(b" ")[1:2] in ([b"302"], [b"307"])
            except OSError:
                redirected = False
            if redirected:
                times.append((time.monotonic() - since) * 1000)
            poller.unregister(made)
            made.close()
            del waiting[number]

    sockets = [site.socket(guest) for guest in guests]
    began = time.monotonic()
    for made in sockets:
        made.setblocking(False)
        waiting[made.fileno()] = (made, time.monotonic())
        made.connect_ex((site.far, 80))
        poller.register(made, select.EPOLLOUT)
        take(0)
    while waiting and time.monotonic() - began < 15:
        take(1)
    poller.close()
    for made, _ in waiting.values():
        made.close()
    if not times:
        raise SystemExit(f"{contender.name} redirected none of {len(guests)} who came at once")
    return times, len(guests) - len(times)


def idle(contenders, seconds):
    """What each takes while nobody does anything: percent of a core, and MB resident, the median of
    ten looks."""
    before, sizes = [one.cpu() for one in contenders], [[] for _ in contenders]
    for _ in range(10):
        time.sleep(seconds / 10)
        for one, seen in zip(contenders, sizes):
            seen.append(one.rss())
    used = [(one.cpu() - then) / seconds * 100 for one, then in zip(contenders, before)]
    return used, [statistics.median(seen) for seen in sizes]


def restart_under_traffic(contender):
    """A granted guest sends a packet a millisecond through a restart.

    Returns seconds to the first redirect, from the stop and from the start after it, and how many
    packets got no echo.
    """
    site = contender.site
    stop = threading.Event()
    sent, seen = [0], set()

    def talk():
        with site.socket(0, socket.SOCK_DGRAM) as talker:
            talker.setblocking(False)
            due = time.monotonic()
            last = None
            while last is None or time.monotonic() < last + 0.3:
                if stop.is_set():
                    last = last or time.monotonic()
                else:
                    try:
                        talker.sendto(struct.pack("!I", sent[0]), (site.far, ECHO))
                    except OSError:
                        pass
                    sent[0] += 1
                due += 0.001
                while (left := due - time.monotonic()) > 0:
                    if select.select([talker], [], [], left)[0]:
                        try:
                            seen.add(talker.recv(64))
                        except OSError:
                            pass

    talker = threading.Thread(target=talk)
    talker.start()
    time.sleep(0.3)
    seconds, start = contender.restart()
    time.sleep(0.3)
    stop.set()
    talker.join()
    return {"seconds": seconds, "start": start, "sent": sent[0], "lost": sent[0] - len(seen)}


def rebuilds(contender, rounds):
    """All tables are flushed; how many milliseconds ours is away, as the kernel tells of it. It
    comes back as a whole."""
    site, lab = contender.site, contender.lab
    for _ in range(rounds):
        with changes(site.router) as kernel:
            kernel.settimeout(20)
            flush = lab.spawn(site.router, "nft", "flush", "ruleset")
            gone = told(kernel, NFT_MSG_DELTABLE, b"maitred")
            yield (told(kernel, NFT_MSG_NEWTABLE, b"maitred") - gone) * 1000
        lab.stop(flush)
        time.sleep(0.5)


def told(kernel, kind, name):
    """When the kernel tells of this change of a table."""
    while True:
        messages = kernel.recv(1 << 16)
        now = time.monotonic()
        while messages:
            length, own = struct.unpack_from("=LH", messages)
            if own == NFNL_SUBSYS_NFTABLES << 8 | kind and name in messages[:length]:
                return now
            messages = messages[(length + 3) & ~3 :]


def median(values):
    return statistics.median(values)


def percentile(values, share):
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
