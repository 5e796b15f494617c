"""The figures as one Markdown table."""

NAMES = ("maitred", "openNDS", "plain NAT")
BEGIN, END = "<!-- yardstick: begin -->", "<!-- yardstick: end -->"


def markdown(results):
    """The table, and under it what it was measured on."""
    rows = [("", *NAMES, "budget"), ("---", "---:", "---:", "---:", "---:")]
    for guests in (1, 1000, 10000):
        online = f"{guests:,} guest{'s' if guests > 1 else ''} online"
        rows.append(ratio(results, f"tcp {guests}", f"TCP, {online}, Gbit/s", 0.97))
        rows.append(ratio(results, f"packets {guests}", f"64-byte packets, {online}, k/s", 0.90))
    for connections in (1, 32, 256):
        what = f"redirects a second, {connections} connection{'s' if connections > 1 else ''}"
        found = results.get(f"redirects {connections}", {})
        rows.append(row(what + " (p50, p99 ms)", found, redirect, "20,000 (p99 2)" if connections == 32 else ""))
    for guests in (1000, 10000):
        what = f"grants a second, up to {guests:,}"
        rows.append(row(what, results.get(f"grants {guests}", {}), lambda rate: f"{rate:,.0f}"))
    logins = results.get("logins", {})
    for what, name, budget in (
        ("answer", "code sent → page says online", ""),
        ("packet", "code sent → first packet passed", 5),
    ):
        shown = lambda one, what=what: f"{one[what + ' p50']:,.1f}, {one[what + ' p99']:,.1f}"
        rows.append(row(f"{name}, ms (p50, p99)", logins, shown, f"p99 {budget}" if budget else ""))
    for guests, budget in ((0, 6), (1000, 7.5), (10000, 20)):
        what = f"memory, {guests:,} guests, MB"
        rows.append(row(what, results.get(f"rss {guests}", {}), lambda mb: f"{mb:.1f}", budget))
    cpu = results.get("idle", {})
    rows.append(row("processor, 1,000 silent guests, % of a core", cpu, lambda p: f"{p:.2f}", 0.5))
    start = results.get("start", {})
    rows.append(row("start to first redirect, ms", start, lambda s: f"{s * 1000:,.0f}", 150))
    rows.append(row("restart to first redirect, ms (guests; packets lost)", results.get("restart", {}), restart, "200 (none lost)"))
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in rows]
    return "\n".join(lines + ["", note(results)])


def row(what, found, show, budget=""):
    return (what, *(show(found[name]) if name in found else "–" for name in NAMES), budget)


def ratio(results, metric, what, budget):
    """As measured, and the share of plain NAT's figure."""
    found = results.get(metric, {})
    plain = found.get("plain NAT")

    def show(value):
        share = f" ({value / plain:.2f})" if plain and value is not plain else ""
        return f"{value:,.1f}{share}" if value < 100 else f"{value:,.0f}{share}"

    return row(what, found, show, f"({budget:.2f})")


def redirect(one):
    failed = f"; {one['failed']:,.0f} failed" if one["failed"] else ""
    return f"{one['rate']:,.0f} ({one['p50']:.2f}, {one['p99']:.2f}{failed})"


def restart(one):
    return f"{one['seconds'] * 1000:,.0f} ({one['guests']:,}; {one['lost']:,} of {one['sent']:,})"


def note(results):
    versions = ", ".join(results["versions"].values())
    said = [f"{results['machine']}; {versions}.", "In brackets after a rate: share of plain NAT's."]
    for name, one in results.get("logins", {}).items():
        said.append(f"{name}: {one['logins']} logins, {one['guests']:,} guests, {one['flows']:,} flows tracked.")
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
