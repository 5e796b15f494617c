"""The figures as one Markdown table."""

from .phone import LOW_TIER

NAMES = ("maitred", "openNDS", "plain NAT")
BEGIN, END = "<!-- yardstick: begin -->", "<!-- yardstick: end -->"


def markdown(results):
    """The table, and under it what it was measured on, when, and by which command."""
    table = Table(results)
    for guests in (1, 1000, 10000):
        online = f"{guests:,} guest{'s' if guests > 1 else ''} online"
        table.ratio(f"tcp {guests}", f"TCP, {online}, Gbit/s", 0.97)
        table.ratio(f"packets {guests}", f"64-byte packets, {online}, k/s", 0.90)
    limited = "10,000 guests with rates and quotas"
    table.ratio("tcp 10000", f"TCP, {limited}, Gbit/s", 0.82, "maitred with limits")
    table.ratio("packets 10000", f"64-byte packets, {limited}, k/s", 0.82, "maitred with limits")
    both = "10,000 guests online, OpenWrt's fw4 on both"
    pair = ("maitred with fw4", "plain NAT with fw4")
    table.ratio("tcp 10000", f"TCP, {both}, Gbit/s", 0.97, *pair)
    table.ratio("packets 10000", f"64-byte packets, {both}, k/s", 0.90, *pair)
    table.ratio("packets back 10000", "64-byte packets to a guest, 10,000 guests online, k/s", None)
    table.ratio("packets back 10000", f"64-byte packets to a guest, {both}, k/s", None, *pair)
    for guests in (1000, 10000):
        table.row(f"grants {guests}", f"grants a second, up to {guests:,}", "{:,.0f}".format)
    for what, name, budget in (
        ("kernel", "code sent → kernel confirmed", 1),
        ("packet", "code sent → first packet back", 5),
        ("answer", "code sent → page says online", None),
    ):
        found = {n: one[what] for n, one in results.get("logins", {}).items() if what in one}
        table.times(found, f"{name}, ms (p50, p99)", budget)
    table.row(
        "garden",
        "SYN straight after the answer of a garden name: through",
        lambda one: f"{one['through']:,} of {one['tries']:,}",
        "all",
        lambda one: one["through"] == one["tries"],
    )
    for connections in (1, 32, 256):
        what = f"redirects a second, {connections} connection{'s' if connections > 1 else ''}"
        metric = f"redirects {connections}"
        table.row(f"{metric}", f"{what} (p50, p99 ms)", redirect)
        if connections == 32:
            most = lambda one: one["p99"] <= 2
            table.row(metric, "— p99, ms", lambda one: f"{one['p99']:.2f}", "≤ 2", most)
            enough = lambda one: one["core"] >= 20000
            core = lambda one: f"{one['core']:,.0f}"
            table.row(metric, "— for each core that the daemon uses", core, "≥ 20,000", enough)
    table.times(results.get("arrivals", {}), "200 new phones at once: redirect, ms (p50, p99)", 50)
    for guests, budget in ((0, 6), (1000, 7.5), (10000, 20)):
        what = f"memory, {guests:,} {'' if guests > 1000 else 'silent '}guests, MB"
        table.most(f"rss {guests}", what, "{:.1f}".format, budget)
    idle = "processor, 1,000 silent guests, % of a core"
    table.most("idle", idle, "{:.2f}".format, 0.5)
    seconds = lambda s: f"{s * 1000:,.0f}"
    table.most("start", "start to first redirect, ms", seconds, 150, 0.15)
    table.row(
        "restart",
        "stop, start, first redirect, ms (of it from the start; guests)",
        lambda one: f"{seconds(one['seconds'])} ({seconds(one['start'])}; {one['guests']:,})",
        "≤ 200 at 10,000",
        lambda one: one["seconds"] <= 0.2,
    )
    table.row(
        "restart",
        "— packets of a guest online lost",
        lambda one: f"{one['lost']:,} of {one['sent']:,}",
        "0",
        lambda one: one["lost"] == 0,
    )
    back = "table back after a flush of all, kernels before 6.9, 1,000 guests, ms (p50, p99)"
    table.times(results.get("rebuild", {}), back, 100)
    table.row(
        "page",
        "portal page with all parts, bytes (parts from elsewhere)",
        lambda one: f"{one['bytes']:,} ({one['outside']})",
        "≤ 30,000 (0)",
        lambda one: one["bytes"] <= 30000 and not one["outside"],
    )
    what = "first page on a slow phone: its main thread until usable, ms (p50, most)"
    half = lambda one, kind: f"{middle(one[kind]):,.0f}, {one[kind][-1]:,.0f}"
    quick_enough = lambda one: middle(one["usable"]) <= 100
    table.row("phone", what, lambda one: half(one, "usable"), "p50 ≤ 100", quick_enough)
    table.row("phone", "— of it a page of one letter", lambda one: half(one, "empty"))
    table.row("phone", "— and its pictures", lambda one: half(one, "pictures"))
    table.row("phone", "— in a browser process just born", lambda one: half(one, "cold"))
    table.times(results.get("staff", {}), "staff page over 1,000,000 visits, ms (p50, p99)", 100)
    lines = ["| " + " | ".join(cells) + " |" for cells in table.rows]
    return "\n".join([*lines, "", note(results)])


class Table:
    """Rows: what, a cell for each contender, the budget, and whether maitred keeps it."""

    def __init__(self, results):
        self.results = results
        self.rows = [("", *NAMES, "budget", "verdict"), ("---", *["---:"] * 4, "---")]

    def row(self, metric, what, show, budget="", kept=None):
        found = metric if isinstance(metric, dict) else self.results.get(metric, {})
        verdict = ""
        if kept and NAMES[0] in found:
            verdict = "met" if kept(found[NAMES[0]]) else "missed"
        cells = (show(found[name]) if name in found else "–" for name in NAMES)
        self.rows.append((what, *cells, budget, verdict))

    def most(self, metric, what, show, budget, limit=None):
        limit = budget if limit is None else limit
        self.row(metric, what, show, f"≤ {budget:g}", lambda value: value <= limit)

    def times(self, found, what, budget):
        self.row(
            found,
            what,
            lambda one: f"{one['p50']:,.2f}, {one['p99']:,.2f}{failures(one)}",
            f"p99 ≤ {budget}" if budget else "",
            budget and (lambda one: one["p99"] <= budget and not one.get("failed")),
        )

    def ratio(self, metric, what, budget, ours=NAMES[0], plain=NAMES[2]):
        """As measured, and the share of plain NAT's figure."""
        measured = self.results.get(metric, {})
        shown = zip(NAMES, (ours, NAMES[1] if ours == NAMES[0] else None, plain))
        found = {column: measured[name] for column, name in shown if name in measured}
        base = found.get(NAMES[2])
        kept = (lambda value: value >= budget * base) if base and budget else None
        asked = f"(≥ {budget:.2f})" if budget else ""
        self.row(found, what, lambda value: share(value, base), asked, kept)


def share(value, base):
    """A rate, and what part it is of another."""
    part = f" ({value / base:.3f})" if base and value is not base else ""
    return f"{value:,.1f}{part}" if value < 100 else f"{value:,.0f}{part}"


def middle(values):
    """Their median; they are sorted."""
    return values[len(values) // 2]


def redirect(one):
    return f"{one['rate']:,.0f} ({one['p50']:.2f}, {one['p99']:.2f}{failures(one)})"


def failures(one):
    return f"; {one['failed']:,.0f} failed" if one.get("failed") else ""


def note(results):
    versions = ", ".join(dict.fromkeys(results["versions"].values()))
    command = "benches/yardstick" + (" --quick" if results["quick"] else "") + " --readme"
    said = [
        f"`{command}`, {results['date']}: {results['machine']}; {versions}; load average"
        f" {results['load']:.1f} at the start.",
        "In brackets after a rate: share of plain NAT's.",
    ]
    if binary := results.get("binary"):
        said.append(f"The binary of maitred: `{binary}`.")
    for name, one in results.get("logins", {}).items():
        said.append(
            f"{name}: {one['logins']} logins with {one['guests']:,} guests online and"
            f" {one['flows']:,} connections tracked."
        )
    for one in results.get("phone", {}).values():
        said.append(
            f"Slow phone: DevTools' low-tier mobile (BenchmarkIndex {LOW_TIER}; here"
            f" {middle(one['index']):,.0f})."
        )
    if results["quick"]:
        said.append("A quick run: fewer rounds.")
    return " ".join(said)


def into(readme, text):
    """Replaces what stands between the markers."""
    before, _, rest = readme.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{readme} has no {BEGIN} … {END}")
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
