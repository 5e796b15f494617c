"""How long the first page keeps the main thread of a slow phone busy.

The slow phone is the "low-tier mobile" of Chrome DevTools' calibrated throttling: a Moto G Power of
2022, which has 264 of Lighthouse's BenchmarkIndex (CalibrationController.ts in
ChromeDevTools/devtools-frontend; docs/throttling.md in GoogleChrome/lighthouse). This machine's
index is measured beside each load, and the load's time is multiplied by the ratio of the two. All of
it by the thread's own clock, so that waiting for a processor does not count; nor do the network and
the drawing, which DevTools does not slow down either.
"""

import contextlib
import http.server
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time

LOW_TIER = 264
EMPTY = "/empty"
CATEGORIES = ["devtools.timeline", "benchmark"]
SETTLED = 0.2  # seconds after a page's load event, until nothing happens in it any more
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
CHROMIUM += ["--disable-extensions", "--disable-background-networking", "--disable-component-update"]
CHROMIUM += ["--disable-sync", "--disable-renderer-backgrounding", "--remote-debugging-pipe"]
# The two halves of the index: strings of 10,000 letters made letter by letter, and copies of 100,000
# numbers between two arrays. Each says how many it did, by tens.
INDEX = """
const tens = (work) => {
  const end = Date.now() + 60;
  let done = 0;
  do done += work();
  while (Date.now() < end);
  return done / 10;
};
const [one, other] = [[], []];
for (let n = 0; n < 100000; n += 1) one[n] = other[n] = n;
globalThis.strings = () => tens(() => {
  let text = "";
  for (let at = 0; at < 10000; at += 1) text += "a";
  return text.length === 10000 ? 1 : NaN;
});
globalThis.copies = () => tens(() => {
  for (let round = 0; round < 10; round += 1) {
    const [from, to] = round % 2 ? [one, other] : [other, one];
    for (let at = 0; at < from.length; at += 1) to[at] = from[at];
  }
  return 10;
});
"""


def first_page(replies, path, warm, cold):
    """The low-tier phone's milliseconds, each list sorted.

    `usable`: from the start of the answer until the page is parsed and painted, in a process that
    has shown it before; `pictures`: until its pictures are, too; `empty`: as `usable`, of a page of one
    letter; `cold`: as `usable`, in a process just born. `index`: this machine's. `replies` has what
    the portal answers, by path.
    """
    with serving(replies) as origin, contextlib.closing(Browser()) as browser:
        gauge, own, empty = browser.tab(), browser.tab(), browser.tab()
        browser.ask("Performance.enable", gauge, timeDomain="threadTicks")
        browser.evaluate(gauge, INDEX)
        for _ in range(10):  # until it is compiled as well as it can be
            index(browser, gauge)
        browser.ask("Tracing.start", traceConfig={"includedCategories": CATEGORIES})
        loads = []
        for number in range(-2, warm):
            factor = index(browser, gauge) / LOW_TIER
            for kind, tab, shown in (("usable", own, path), ("empty", empty, EMPTY)):
                browser.load(tab, origin + shown)
                loads.append((kind if number >= 0 else None, factor))
        for _ in range(cold):
            factor = index(browser, gauge) / LOW_TIER
            browser.load(browser.tab(), origin + path)
            loads.append(("cold", factor))
        figures = list(spent(browser.traced(), origin))
        number = "13800138000"
        if (typed := browser.type(own, "phone", number)) != number:
            raise SystemExit(f"typed {number} into the first page, and it holds {typed!r}")
    found = {what: [] for what in ("usable", "pictures", "empty", "cold", "index")}
    for (kind, factor), (usable, done) in zip(loads, figures, strict=True):
        if kind:
            found[kind].append(usable * factor)
        if kind == "usable":
            found["pictures"].append(done * factor)
            found["index"].append(LOW_TIER * factor)
    return {what: sorted(values) for what, values in found.items()}


def index(browser, tab):
    """This machine's BenchmarkIndex, by the thread's clock."""
    halves = []
    for half in ("strings", "copies"):
        began = browser.thread_seconds(tab)
        done = browser.evaluate(tab, f"{half}()")
        halves.append(done / (browser.thread_seconds(tab) - began))
    return sum(halves) / 2


def spent(events, origin):
    """For each load, milliseconds of the main thread from the answer's start until the page is parsed
    and painted, and until nothing more happens."""
    end = lambda event: event["tts"] + event.get("tdur", 0)
    events = sorted((e for e in events if "tts" in e), key=lambda event: event["ts"])
    named = lambda name, all: (e for e in all if e["name"] == name)
    commits = [e for e in named("CommitLoad", events) if e["args"]["data"]["url"].startswith(origin)]
    for commit, following in zip(commits, [*commits[1:], None]):
        frame = commit["args"]["data"]["frame"]
        until = following["ts"] if following else float("inf")
        thread = [e for e in events if (e["pid"], e["tid"]) == (commit["pid"], commit["tid"])]
        before = [e for e in thread if e["ts"] <= commit["ts"]]
        began = list(named("ResourceReceiveResponse", before))[-1]
        after = [e for e in thread if commit["ts"] <= e["ts"] < until]
        parsed = [e for e in named("MarkDOMContent", after) if e["args"]["data"]["frame"] == frame]
        paints = list(named("Paint", after))
        if not parsed or not paints:
            raise SystemExit("chromium painted nothing: is this machine too busy?")
        frames = named("ProxyMain::BeginMainFrame", after)
        painted = next(e for e in frames if end(e) >= end(paints[0]))
        usable = max(end(parsed[0]), end(painted))
        yield (usable - began["tts"]) / 1000, (max(map(end, after)) - began["tts"]) / 1000


class Browser:
    """Chromium on a phone-sized screen, told what to do by DevTools' protocol through two pipes."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="yardstick-browser")
        self.number, self.rest, self.shown = 0, b"", {}
        theirs_in, self.writer = os.pipe()
        self.reader, theirs_out = os.pipe()
        # It reads from its descriptor 3 and writes to 4.
        pipes = f"exec \"$@\" 3</proc/self/fd/{theirs_in} 4>/proc/self/fd/{theirs_out}"
        self.process = subprocess.Popen(
            ["sh", "-c", pipes, "sh", *CHROMIUM, f"--user-data-dir={self.folder}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def close(self):
        with contextlib.suppress(OSError, SystemExit, subprocess.TimeoutExpired):
            self.ask("Browser.close")
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
        os.close(self.writer)
        os.close(self.reader)
        shutil.rmtree(self.folder, ignore_errors=True)

    def tab(self):
        """A tab of an empty profile, so that it has a process of its own."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        made = self.ask("Target.createTarget", url="about:blank", browserContextId=context)
        tab = self.ask("Target.attachToTarget", targetId=made["targetId"], flatten=True)["sessionId"]
        screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        self.ask("Emulation.setDeviceMetricsOverride", tab, **screen)
        self.ask("Page.enable", tab)
        return tab

    def load(self, tab, url):
        """Opens a page, or opens it again with nothing from a cache."""
        if self.shown.get(tab) == url:
            self.ask("Page.reload", tab, ignoreCache=True)
        else:
            self.ask("Page.navigate", tab, url=url)
        self.shown[tab] = url
        while (told := self.read()).get("method") != "Page.loadEventFired":
            pass
        time.sleep(SETTLED)

    def traced(self):
        """Every event since `Tracing.start`."""
        self.ask("Tracing.end")
        events = []
        while (told := self.read())["method"] != "Tracing.tracingComplete":
            events += told["params"].get("value", [])
        return events

    def type(self, tab, field, text):
        """Types into a field by its id; returns what it holds then."""
        self.evaluate(tab, f"document.getElementById('{field}').focus()")
        self.ask("Input.insertText", tab, text=text)
        return self.evaluate(tab, f"document.getElementById('{field}').value")

    def thread_seconds(self, tab):
        metrics = self.ask("Performance.getMetrics", tab)["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "ThreadTime")

    def evaluate(self, tab, script):
        said = self.ask("Runtime.evaluate", tab, expression=script)
        if "exceptionDetails" in said:
            raise SystemExit(f"chromium: {said['exceptionDetails']}")
        return said["result"].get("value")

    def ask(self, method, tab=None, **params):
        """Waits for the answer; events that come before it are dropped."""
        self.number += 1
        question = {"id": self.number, "method": method, "params": params}
        if tab:
            question["sessionId"] = tab
        os.write(self.writer, json.dumps(question).encode() + b"\0")
        while (told := self.read()).get("id") != self.number:
            pass
        if "error" in told:
            raise SystemExit(f"chromium: {method}: {told['error']}")
        return told["result"]

    def read(self):
        while b"\0" not in self.rest:
            if not select.select([self.reader], [], [], 20)[0]:
                raise SystemExit("chromium says nothing")
            if not (more := os.read(self.reader, 1 << 20)):
                raise SystemExit("chromium ended")
            self.rest += more
        told, _, self.rest = self.rest.partition(b"\0")
        return json.loads(told)


@contextlib.contextmanager
def serving(replies):
    """Gives out these replies, and a page of one letter, at an origin of their own."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            reply = replies.get(self.path)
            self.send_response(200)
            for name, value in reply.headers.items() if reply else [("content-type", "text/html")]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body if reply else b"<!doctype html><p>x")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
