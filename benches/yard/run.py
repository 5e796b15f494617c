"""The order of the measurements: every round asks each contender in turn."""

import contextlib
import os
import platform
import signal
import sys
import time

from . import forward, load, phone
from .contenders import Flushable, Limited, Maitred, MaitredFw4, Office, OpenNds, PlainFw4, Portal

CONNECTIONS = (1, 32, 256)
REDIRECT_SECONDS = 5  # openNDS takes seconds to answer the first of 256
LEVELS = (1, 1000, 10000)
# A grant of openNDS reads and writes the rules of all and takes half a second and more.
MOST_OPENNDS = 1
# Numbers above every guest that is granted in bulk.
LOGIN_GUESTS = 20000
ARRIVALS = range(20500, 20700)
READER = 20900
GARDEN_GUESTS = 21000
VISITS = 1_000_000
REBUILDS = 20


class Plan:
    """How much is done."""

    def __init__(self, quick):
        self.rounds = 2 if quick else 5
        self.redirect_rounds = 1 if quick else 3
        self.logins = 20 if quick else 200
        self.idle = 30 if quick else 60
        self.garden = 2000 if quick else 10000
        self.flows = 50000
        self.staff_pages = 30 if quick else 200
        self.starts = 1 if quick else 3
        self.page_loads = 20 if quick else 100
        self.new_pages = 4 if quick else 20


def run(lab, folder, kinds, quick):
    """Measures; returns `{"machine": …, "versions": …, metric: {contender: figures}}`."""
    plan = Plan(quick)
    everyone = []

    def make(kind):
        own = folder / kind.__name__.lower()
        own.mkdir()
        return kind(lab, len(list(folder.iterdir())), own)

    everyone = [make(kind) for kind in kinds]
    ours = [c for c in everyone if isinstance(c, Maitred)]
    daemons = [c for c in everyone if isinstance(c, Portal)]
    results = {
        "quick": quick,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": os.getloadavg()[0],
        "versions": {c.name: c.version() for c in everyone},
        "binary": Maitred.binary.name if ours else None,
    }
    results["start"] = {c.name: load.median(starts(c, plan.starts)) for c in daemons}
    say("started")
    results["rss 0"] = named(daemons, load.idle(daemons, plan.idle)[1])
    # openNDS makes its pages with scripts and services of a whole router.
    for contender in ours:
        figures, path, replies = load.portal_page(contender, READER)
        results["page"] = {contender.name: figures}
        slow = phone.first_page(replies, path, plan.page_loads, plan.new_pages)
        results["phone"] = {contender.name: slow}
        say("first page")
    results["arrivals"] = {}
    for contender in daemons:
        times, failed = load.arrivals(contender, ARRIVALS)
        results["arrivals"][contender.name] = percentiles(times) | {"failed": failed}
        contender.await_redirect(60)
    say(f"{len(ARRIVALS)} phones arrived at once")
    for connections in CONNECTIONS:
        results[f"redirects {connections}"] = redirects(daemons, connections, plan)
        say(f"redirects, {connections} connections")
    for guests in LEVELS:
        present = [c for c in everyone if not isinstance(c, OpenNds) or guests <= MOST_OPENNDS]
        granted = {c.name: c.grant_up_to(guests) for c in present}
        results[f"grants {guests}"] = {c.name: granted[c.name] for c in present if c in daemons}
        say(f"{guests} guests online")
        more = []
        if guests == max(LEVELS) and ours:
            more = [make(kind) for kind in (Limited, PlainFw4, MaitredFw4)]
            for one in more:
                one.start()
                one.grant_up_to(guests)
            say(f"{guests} guests online with limits, and beside fw4")
        results.update(forwarding([*present, *more], guests, plan))
        for one in more:
            if one.process:
                lab.stop(one.process)
        say(f"forwarding with {guests} guests")
        resting = [c for c in present if c in daemons]
        results[f"rss {guests}"] = {c.name: c.rss() for c in resting}
        if guests == 1000:
            used, sizes = load.idle(resting, plan.idle)
            results |= {"idle": named(resting, used), "rss 1000": named(resting, sizes)}
            say("idle")
    results["logins"] = {}
    for contender in daemons:
        with others_paused(daemons, contender):
            results["logins"][contender.name] = logins(contender, plan)
    say("logins")
    # A stranger may begin 200 connections at once; each try is two of them.
    askers = range(GARDEN_GUESTS, GARDEN_GUESTS + plan.garden // 40)
    results["garden"] = {c.name: load.garden(c, plan.garden, askers) for c in ours}
    say("garden")
    results["restart"] = {c.name: load.restart_under_traffic(c) for c in daemons}
    for contender in daemons:
        results["restart"][contender.name]["guests"] = contender.granted
    say("restarted")
    # A table that comes makes the kernel walk the connections of every router on this machine.
    for contender in everyone:
        load.empty_conntrack(contender)
    if ours:
        flushable = make(Flushable)
        flushable.start()
        flushable.grant_up_to(1000)
        load.fill_conntrack(flushable, plan.flows)
        gaps = list(load.rebuilds(flushable, REBUILDS))
        results["rebuild"] = {ours[0].name: percentiles(gaps)}
        lab.stop(flushable.process)
        say("rebuilt")
        office = make(Office)
        office.record(VISITS)
        results["staff"] = {ours[0].name: percentiles(office.pages(plan.staff_pages))}
        say("staff page")
    return results


def named(contenders, values):
    return dict(zip([one.name for one in contenders], values))


def starts(contender, count):
    """Seconds from exec to the first redirect; the last start stays."""
    times = [contender.start()]
    while len(times) < count:
        contender.lab.stop(contender.process)
        times.append(contender.start())
    return times


def redirects(daemons, connections, plan):
    rounds = {c.name: [] for c in daemons}
    for _ in range(plan.redirect_rounds):
        for contender in daemons:
            rounds[contender.name].append(load.redirects(contender, connections, REDIRECT_SECONDS))
            contender.await_redirect(60)  # what the load left in its queues is done
    return {
        name: {key: load.median([one[key] for one in ones]) for key in ones[0]}
        for name, ones in rounds.items()
    }


def forwarding(present, guests, plan):
    tcp = forward.in_turns(present, forward.tcp, plan.rounds)
    udp = forward.in_turns(present, forward.small_packets, plan.rounds)
    back = {}
    if guests == max(LEVELS):
        back = forward.in_turns(present, forward.small_packets_back, plan.rounds, back=True)
    return {
        f"tcp {guests}": {name: size * 8 / 1e9 for name, (size, _) in tcp.items()},
        f"packets {guests}": {name: count / 1000 for name, (_, count) in udp.items()},
        f"packets back {guests}": {name: count / 1000 for name, (_, count) in back.items()},
    }


def logins(contender, plan):
    """Guests log in one after another while the router tracks many flows."""
    flows = load.fill_conntrack(contender, plan.flows)
    guests = range(LOGIN_GUESTS, LOGIN_GUESTS + plan.logins)
    contender.site.plug(guests)
    time.sleep(1)  # the router has taken in their links, which phones do not bring with them
    times = [load.login(contender, guest) for guest in guests]
    figures = {
        what: percentiles([one[what] for one in times])
        for what in ("kernel", "answer", "packet")
        if all(what in one for one in times)
    }
    return figures | {"guests": contender.granted, "flows": flows, "logins": len(times)}


@contextlib.contextmanager
def others_paused(daemons, contender):
    """What the others do by themselves, openNDS's scripts above all, is not in this one's milliseconds."""
    others = [other.process.pid for other in daemons if other is not contender]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def percentiles(values):
    return {"p50": load.percentile(values, 0.5), "p99": load.percentile(values, 0.99)}


def machine():
    with open("/proc/cpuinfo") as cpus:
        model = next((line.split(":")[1].strip() for line in cpus if "model name" in line), "")
    return f"{os.cpu_count()} cores ({model or platform.machine()}), Linux {os.uname().release}"


_BEGAN = time.monotonic()


def say(what):
    print(f"[{time.monotonic() - _BEGAN:4.0f} s] {what}", file=sys.stderr, flush=True)
