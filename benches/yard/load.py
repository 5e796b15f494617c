"""What is measured, each as one function of one contender, in plain numbers."""

import json
import os
import re
import select
import socket
import statistics
import struct
import threading
import time

from . import http
from .lab import DISCARD, ECHO, inside

UDP_SEGMENT = 103  # linux/udp.h: the kernel cuts one send into datagrams of this size
PAYLOAD = 18  # with UDP, IPv4, Ethernet and its checksum: a frame of 64 bytes
BURST = 60


def tcp_gbits(contender, seconds):
    """Guest 0 sends TCP through the router; what arrived, in Gbit/s."""
    site, lab = contender.site, contender.lab
    server = lab.spawn(lab.internet, "iperf3", "-s", "-1", "-B", site.far)
    try:
        for _ in range(50):
            time.sleep(0.05)
            words = ["iperf3", "-c", site.far, "-J", "-O", "1", "-t", str(seconds)]
            ran = lab.run(site.guests, *words, "--connect-timeout", "1000", check=False)
            report = json.loads(ran.stdout or "{}")
            if "error" not in report:
                return report["end"]["sum_received"]["bits_per_second"] / 1e9
        raise SystemExit(f"iperf3 through {contender.name}: {report}")
    finally:
        lab.stop(server, kill=True)


def small_packets(contender, seconds):
    """Guest 0 sends 64-byte UDP as fast as it can; how many thousand a second arrived."""
    site, lab = contender.site, contender.lab
    sender = lab.fork(site.guests, flood, site.far)
    try:
        time.sleep(0.5)
        before, began = arrived(lab, site.far_link), time.monotonic()
        time.sleep(seconds)
        after, ended = arrived(lab, site.far_link), time.monotonic()
    finally:
        lab.stop(sender)
    rate = (after - before) / (ended - began) / 1000
    if rate < 1:
        raise SystemExit(f"{contender.name} forwards no packets of its granted guest")
    return rate


def flood(address):
    os.sched_setaffinity(0, {0})
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, DISCARD))
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PAYLOAD)
    burst = bytes(PAYLOAD * BURST)
    while True:
        sender.send(burst)


def arrived(lab, link):
    """Packets that came in on a link of the internet."""
    with inside(lab.internet), open("/proc/thread-self/net/dev") as counters:
        line = next(line for line in counters if line.strip().startswith(f"{link}:"))
    return int(line.split(":")[1].split()[1])


def redirects(contender, connections, seconds):
    """A stranger asks for pages: redirects a second, and p50 and p99 of a redirect in ms."""
    site = contender.site
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "5s"]
    words += ["-H", "Connection: close", f"http://{site.far}/"]
    text = contender.lab.run(site.guests, *words).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    return {
        "rate": rate,
        "p50": milliseconds(re.search(r"50%\s+([\d.]+\w+)", text)[1]),
        "p99": milliseconds(re.search(r"99%\s+([\d.]+\w+)", text)[1]),
        "failed": errors + (int(bad[1]) if bad else 0),
    }


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


def login(contender, guest):
    """One login: ms from the code's last byte to the answer, and to the first packet's return.

    The guest sends a datagram every half millisecond meanwhile; the first that is echoed counts.
    For openNDS, which has no codes of its own, from the call of `ndsctl auth`.
    """
    site = contender.site
    prepared = contender.prepare_login(guest)
    with site.socket(guest, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        answer = {}

        def wait(pending):
            answer["ok"] = contender.logged_in(pending)
            answer["at"] = time.monotonic()

        pending = contender.login(guest, prepared)
        began = time.monotonic()
        waiter = threading.Thread(target=wait, args=(pending,))
        waiter.start()
        passed = None
        while passed is None and time.monotonic() - began < 15:
            try:
                probe.sendto(b"?", (site.far, ECHO))
            except OSError:  # the router's refusal of an earlier one
                pass
            if select.select([probe], [], [], 0.0005)[0]:
                try:
                    probe.recv(64)
                    passed = time.monotonic()
                except OSError:
                    pass
        waiter.join()
    if passed is None or not answer["ok"]:
        raise SystemExit(f"{contender.name}: guest {guest} logged in but got no packet through")
    return {"answer": (answer["at"] - began) * 1000, "packet": (passed - began) * 1000}


def fill_conntrack(contender, entries):
    """Guest 0 opens so many flows; returns how many the router then tracks."""
    site = contender.site
    with site.socket(0, socket.SOCK_DGRAM) as sender:
        for flow in range(entries):
            try:
                sender.sendto(b"", (site.far, 10000 + flow))
            except OSError:
                pass
            if flow % 100 == 0:
                time.sleep(0.001)
    with inside(site.router), open("/proc/thread-self/net/stat/nf_conntrack") as counters:
        counters.readline()
        return int(counters.readline().split()[0], 16)


def idle_cpu(contenders, seconds):
    """Percent of a core that each uses while nobody does anything."""
    before = [contender.cpu() for contender in contenders]
    time.sleep(seconds)
    after = [contender.cpu() for contender in contenders]
    return [(b - a) / seconds * 100 for a, b in zip(before, after)]


def restart_under_traffic(contender):
    """A granted guest sends a packet a millisecond through a restart.

    Returns seconds to the first redirect, and how many packets got no echo.
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
    seconds = contender.restart()
    time.sleep(0.3)
    stop.set()
    talker.join()
    return {"seconds": seconds, "sent": sent[0], "lost": sent[0] - len(seen)}


def median(values):
    return statistics.median(values)


def percentile(values, share):
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
