"""How fast a guest's packets go through: the routers in turns, a fraction of a second each."""

import contextlib
import os
import random
import signal
import socket
import statistics
import time

from .lab import CHARGEN, DISCARD, inside

UDP_SEGMENT = 103  # linux/udp.h: the kernel cuts one send into datagrams of this size
PAYLOAD = 18  # with UDP, IPv4, Ethernet and its checksum: a frame of 64 bytes
BURST = 60
TURNS = 12  # of each contender in a round
WARM_UP, SLICE = 0.05, 0.2  # seconds of a turn: before it counts, and while it does


def in_turns(contenders, move, rounds, back=False):
    """What guest 0 of each gets through its router, in bytes and packets a second, medians of turns.

    To the internet, or `back` from it.

    In another order each time, so that what the machine does meanwhile meets all alike; who has no
    turn stands still. Every round has connections of its own, lucky or not.
    """
    found = {one: [] for one in contenders}
    for _ in range(rounds):
        with contextlib.ExitStack() as stack:
            movers = {one: stack.enter_context(move(one)) for one in contenders}
            for _ in range(TURNS):
                for one in random.sample(contenders, len(contenders)):
                    with running(movers[one]):
                        time.sleep(WARM_UP)
                        found[one].append(arriving(one.site, back, SLICE))
    rates = {one.name: [statistics.median(kind) for kind in zip(*all_)] for one, all_ in found.items()}
    if idle := [name for name, (_, packets) in rates.items() if packets < 1000]:
        raise SystemExit(f"{', '.join(idle)}: forwards no packets of its granted guest")
    return rates


@contextlib.contextmanager
def tcp(contender):
    """Guest 0 sends TCP to the internet, until stopped; yields who sends."""
    site, lab = contender.site, contender.lab
    server = lab.spawn(lab.internet, "iperf3", "-s", "-1", "-B", site.far)
    try:
        time.sleep(0.3)
        words = ["iperf3", "-c", site.far, "-t", "3600", "-A", "0,1", "--connect-timeout", "3000"]
        client = lab.spawn(site.guests, *words)
        with standing(lab, client):
            yield client
    finally:
        lab.stop(server, kill=True)


@contextlib.contextmanager
def small_packets(contender):
    """Guest 0 sends 64-byte UDP as fast as it can, until stopped; yields who sends."""
    client = contender.lab.fork(contender.site.guests, flood, contender.site.far)
    with standing(contender.lab, client):
        yield client


@contextlib.contextmanager
def small_packets_back(contender):
    """The internet sends guest 0 64-byte UDP on a flow that it began; yields who sends."""
    site, lab = contender.site, contender.lab
    sender = lab.fork(lab.internet, answer, site.far)
    with standing(lab, sender), site.socket(0, socket.SOCK_DGRAM) as asker:
        os.kill(sender.pid, signal.SIGCONT)
        asker.sendto(b"", (site.far, CHARGEN))
        time.sleep(0.1)
        os.kill(sender.pid, signal.SIGSTOP)
        yield sender


@contextlib.contextmanager
def standing(lab, process):
    """Lets a process begin, and has it stand still."""
    try:
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGSTOP)
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
        lab.stop(process, kill=True)


@contextlib.contextmanager
def running(process):
    """Who stands still runs meanwhile."""
    os.kill(process.pid, signal.SIGCONT)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGSTOP)


def flood(address):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, DISCARD))
    send_for_ever(sender)


def answer(address):
    """To the first who asks, and without an end (RFC 864, a little faster)."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((address, CHARGEN))
    sender.connect(sender.recvfrom(1)[1])
    send_for_ever(sender)


def send_for_ever(sender):
    os.sched_setaffinity(0, {0})
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PAYLOAD)
    burst = bytes(PAYLOAD * BURST)
    while True:
        sender.send(burst)


def arriving(site, back, seconds):
    """Bytes and packets a second that come to the internet from a router, or `back` to its guest."""
    where = (site.guests, "g0") if back else (site.lab.internet, site.far_link)
    before, began = arrived(*where), time.monotonic()
    time.sleep(seconds)
    after, ended = arrived(*where), time.monotonic()
    return [(now - then) / (ended - began) for then, now in zip(before, after)]


def arrived(namespace, link):
    """Bytes and packets that came in on a link."""
    with inside(namespace), open("/proc/thread-self/net/dev") as counters:
        line = next(line for line in counters if line.strip().startswith(f"{link}:"))
    return [int(count) for count in line.split(":")[1].split()[:2]]
