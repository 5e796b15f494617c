"""The routers that are compared: plain NAT, maitred, openNDS."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import time
import urllib.parse

from . import http
from .lab import Site, inside, sh

BRIDGE = "br-guest"
BRAND = pathlib.Path(__file__).resolve().parents[2] / "examples/brand"
STRANGER = 1  # the guest who never logs in


class Plain:
    """NAT and nothing else: what the kernel can do."""

    name = "plain NAT"

    def __init__(self, lab, number, folder):
        self.lab, self.folder = lab, folder
        self.site = Site(lab, number, type(self).__name__.lower())
        self.process = None
        self.granted = 0

    def start(self):
        pass

    def grant_up_to(self, count):
        """So many guests are online afterwards, guest 0 first; a daemon returns grants a second."""
        self.granted = count

    def next_guests(self, count):
        """Who must be granted so that `count` are."""
        return [guest for guest in range(count + 1) if guest != STRANGER][self.granted : count]

    def version(self):
        return f"Linux {os.uname().release}"


class PlainFw4(Plain):
    """NAT as OpenWrt has it."""

    name = "plain NAT with fw4"

    def start(self):
        self.site.firewall()


class Portal(Plain):
    """A contender that is a daemon."""

    def spawn(self):
        raise NotImplementedError

    def start(self):
        """Starts it and returns the seconds to the first redirect of a stranger."""
        began = time.monotonic()
        self.spawn()
        self.await_redirect(60)
        return time.monotonic() - began

    def await_redirect(self, patience):
        self.site.plug([STRANGER])
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended by itself; see {self.folder}/log")
            try:
                url = f"http://{self.site.far}/"
                if http.request(self.site, STRANGER, url, timeout=0.5).status in (302, 307):
                    return
            except OSError:
                pass
            # Faster than this is a flood, which maitred's caps would stop.
            time.sleep(0.004)
        raise SystemExit(f"{self.name} redirected nobody in {patience} s; see {self.folder}/log")

    def rss(self):
        """Resident memory in MB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu(self):
        """Seconds of processor time used, its ended children's too."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def restart(self):
        """Stops it as an upgrade does and starts it.

        Returns the seconds to the first redirect, from the stop and from the start.
        """
        began = time.monotonic()
        self.lab.stop(self.process)
        stopped = time.monotonic()
        self.spawn()
        self.await_redirect(60)
        ended = time.monotonic()
        return ended - began, ended - stopped


class Maitred(Portal):
    name = "maitred"
    binary = pathlib.Path("dist/maitred")
    limits = ""
    staff = ""

    def __init__(self, lab, number, folder):
        super().__init__(lab, number, folder)
        self.spool = folder / "spool"
        self.config = folder / "maitred.toml"
        self.config.write_text(
            f"""
[store]
id = "yardstick"
name = "Yardstick"
time_zone = "UTC"
clock = "always"
state_dir = "{folder}/state"
run_dir = "{folder}/run"

[brand]
name = "翡翠茶馆 Jade"
logo = "{BRAND}/logo.svg"
hero = "{BRAND}/hero.svg"

[[zone]]
name = "guest"
interface = "{BRIDGE}"
max_clients = 16000
walled_garden = ["*.garden.example"]
{self.limits}

{self.staff}

[code]
per_device_day = 1000
per_number_hour = 1000
per_number_day = 1000
per_prefix_day = 100000
per_store_day = 100000

[sms]
provider = "spool"
dir = "{self.spool}"

[dns]
upstreams = ["{self.site.far}"]

[uplink]
check = false
"""
        )

    def version(self):
        return sh(str(self.binary), "--version").stdout.strip()

    def spawn(self):
        with open(self.folder / "log", "ab") as log:
            words = [str(self.binary), "run", "--config", str(self.config)]
            self.process = self.lab.spawn(self.site.router, *words, log=log)

    def grant_up_to(self, count):
        """By the control socket, as `maitred grant` does."""
        wanted = self.next_guests(count)
        began = time.monotonic()
        for guest in wanted:
            self.ask({"grant": {"mac": self.site.mac(guest), "zone": "guest", "seconds": 14400}})
        spent = time.monotonic() - began
        self.granted = count
        return len(wanted) / spent

    def ask(self, question):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            control.connect(str(self.folder / "run/control.sock"))
            control.sendall(json.dumps({"version": 1, "ask": question}).encode() + b"\n")
            raw = b""
            while chunk := control.recv(65536):
                raw += chunk
        answer = json.loads(raw)
        if "ok" not in answer:
            raise SystemExit(f"maitred refused {question}: {answer}")
        return answer["ok"]

    def prepare_login(self, guest):
        """Brings a guest to the step before the last: the code is typed, not yet sent."""
        page, url = http.follow(self.site, guest, f"http://{self.site.far}/")
        before = set(self.spool.glob("*.json"))
        # Numbers of the mainland's plan, each with a prefix of its own.
        url, form = http.fill(page, url, f"139{guest % 10000:04d}{guest % 10000:04d}")
        page, url = http.follow(self.site, guest, url, form)
        end = time.monotonic() + 5
        while not (new := set(self.spool.glob("*.json")) - before):
            if time.monotonic() > end:
                raise SystemExit(f"no code came for guest {guest}: {page.body.decode()[:2000]}")
            time.sleep(0.002)
        code = json.loads(new.pop().read_text())["code"]
        return http.fill(page, url, code)

    def login(self, guest, prepared):
        """Sends the code; returns a connection on which the answer comes."""
        url, form = prepared
        return http.begin(self.site, guest, url, form)

    @staticmethod
    def logged_in(connection):
        return http.finish(connection).status in (200, 302, 303)


class Limited(Maitred):
    """maitred with limits on all guests, too high to be reached."""

    name = "maitred with limits"
    limits = """
upload_rate = "4GB"
download_rate = "4GB"
upload_quota = "9000GB"
download_quota = "9000GB"
quota = "9000GB"
"""


class MaitredFw4(Maitred):
    """maitred beside OpenWrt's own firewall, as on a store's router."""

    name = "maitred with fw4"

    def spawn(self):
        self.site.firewall()
        super().spawn()


class Flushable(Maitred):
    """maitred on a table that others can flush, as on kernels before 6.9."""

    name = "maitred on a plain table"

    def spawn(self):
        self.lab.run(self.site.router, "nft", "add", "table", "inet", "maitred")
        super().spawn()


class Office(Maitred):
    """maitred with a staff page and a long record."""

    PASSWORD = "yardstick-password"

    def __init__(self, lab, number, folder):
        hashed = sh(str(self.binary), "password", input=f"{self.PASSWORD}\n").stdout.strip()
        self.staff = f'[staff]\nlisten = "127.0.0.1:2080"\npassword_hash = "{hashed}"'
        super().__init__(lab, number, folder)

    def record(self, visits):
        """Puts visits of the last two years straight into the database, and starts on it."""
        self.start()
        self.lab.stop(self.process)
        now = int(time.time() * 1000)
        step = 2 * 365 * 86_400_000 // visits
        with contextlib.closing(sqlite3.connect(self.folder / "state/maitred.db")) as database:
            boot = database.execute("SELECT max(id) FROM boot").fetchone()[0]
            database.execute("PRAGMA synchronous = OFF")
            rows = (
                ("guest", (n % 100_000).to_bytes(6), boot, now - n * step, 60_000 * (n % 90), 1)
                for n in range(visits, 0, -1)
            )
            database.executemany(
                "INSERT INTO visit (zone, mac, boot, started_ms, started, dwell, device_nth)"
                " VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6)",
                rows,
            )
            database.commit()
        self.start()

    def pages(self, count):
        """Logs in and reads the staff page so many times: ms for each."""
        form = {"password": self.PASSWORD}
        cookie = self.ask_staff("POST", "/staff/login", form).headers["set-cookie"].split(";")[0]
        times = []
        for _ in range(count):
            began = time.monotonic()
            reply = self.ask_staff("GET", "/staff", cookie=cookie)
            times.append((time.monotonic() - began) * 1000)
            if reply.status != 200 or b"password" in reply.body:
                raise SystemExit(f"the staff page answers {reply.status}")
        return times

    def ask_staff(self, method, path, form=None, cookie=None):
        body = urllib.parse.urlencode(form or {}).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:2080\r\nConnection: close\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\n" if form else ""
        head += f"Content-Length: {len(body)}\r\n" if form else ""
        head += f"Cookie: {cookie}\r\n" if cookie else ""
        with inside(self.site.router):
            connection = socket.create_connection(("127.0.0.1", 2080), timeout=20)
        with connection:
            connection.sendall(head.encode() + b"\r\n" + body)
            return http.finish(connection)


# openNDS 9.10 makes its base chains at another priority than iptables 1.8.9 expects of them, and
# then cannot use them. Without those lines of its set-up script, iptables makes the chains.
NFT_WITHOUT_BASE_CHAINS = """#!/bin/sh
case "$*" in
"rename chain ip filter "* | *"chain ip filter "*"priority -100"*) exit 0 ;;
esac
exec /tmp/nft "$@"
"""

# It writes to /etc, /run and /tmp; here it gets its own.
PRIVATE_FOLDERS = """
set -e
mount -t tmpfs tmpfs "$1/etc"
cp -a /etc/. "$1/etc"
cp "$1/opennds.conf" "$1/etc/opennds/opennds.conf"
mount --bind "$1/etc" /etc
cp "$(command -v nft)" "$1/etc/nft"
mount --bind "$1/nft" "$(command -v nft)"
cp "$1/leases" /etc/leases
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mv /etc/nft /tmp/nft
mv /etc/leases /tmp/dhcp.leases
exec opennds -f -d 0
"""

OPENNDS_CONFIG = f"""
GatewayInterface {BRIDGE}
MaxClients 20000
use_outdated_mhd 1
FirewallRuleSet authenticated-users {{
    FirewallRule allow all
}}
FirewallRuleSet users-to-router {{
    FirewallRule allow udp port 53
    FirewallRule allow tcp port 53
    FirewallRule allow udp port 67
}}
"""


class OpenNds(Portal):
    name = "openNDS"

    def __init__(self, lab, number, folder):
        super().__init__(lab, number, folder)
        (folder / "etc").mkdir()
        (folder / "opennds.conf").write_text(OPENNDS_CONFIG)
        (folder / "nft").write_text(NFT_WITHOUT_BASE_CHAINS)
        (folder / "nft").chmod(0o755)
        (folder / "private.sh").write_text(PRIVATE_FOLDERS)
        leases = (f"0 {self.site.mac(g)} {self.site.address(g)} * *\n" for g in range(21000))
        (folder / "leases").write_text("".join(leases))

    def version(self):
        shown = sh("dpkg-query", "-W", "-f", "${Version}", "opennds-daemon").stdout
        return f"openNDS {shown}"

    def spawn(self):
        with open(self.folder / "log", "ab") as log:
            wrap = ("unshare", "--mount", "sh", str(self.folder / "private.sh"))
            self.process = self.lab.spawn(self.site.router, str(self.folder), log=log, wrap=wrap)

    def auth(self, guest):
        """Starts `ndsctl auth`, again and again while openNDS is busy."""
        script = "for i in $(seq 100); do ndsctl auth $0 && exit; sleep 0.01; done; exit 1"
        words = ["nsenter", "-t", str(self.process.pid), "-m", "-n", "sh", "-c", script]
        return subprocess.Popen(
            [*words, self.site.address(guest)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def grant_up_to(self, count):
        """A guest must have asked for a page before openNDS knows it."""
        wanted = self.next_guests(count)
        self.lend_addresses(wanted)
        spent = 0.0
        for guest in wanted:
            self.visit(guest)
            began = time.monotonic()
            if self.auth(guest).wait(20) != 0:
                raise SystemExit(f"openNDS did not grant guest {guest}")
            spent += time.monotonic() - began
        self.granted = count
        return len(wanted) / spent

    def lend_addresses(self, guests):
        """Gives the addresses of guests that are not plugged in to guest 0."""
        with self.lab.inside_batch(self.site.guests, "ip") as lines:
            absent = (g for g in guests if g not in self.site.plugged)
            lines.extend(f"addr add {self.site.address(g)}/32 dev g0" for g in absent)

    def visit(self, guest):
        """Asks for a page until it is redirected: openNDS is deaf for seconds after a load."""
        end = time.monotonic() + 30
        reply = None
        while time.monotonic() < end:
            try:
                reply = self.ask_for_page(guest)
                if reply.status == 307:
                    return
            except OSError as error:
                reply = error
            time.sleep(0.05)
        raise SystemExit(f"openNDS did not redirect guest {guest}: {vars(reply)}")

    def ask_for_page(self, guest):
        plugged = guest in self.site.plugged
        with self.site.socket(guest if plugged else 0) as connection:
            connection.settimeout(5)
            if not plugged:
                connection.bind((self.site.address(guest), 0))
            connection.connect((self.site.far, 80))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return http.finish(connection)

    def prepare_login(self, guest):
        self.visit(guest)

    def login(self, guest, prepared):
        return Ends(self.auth(guest))

    @staticmethod
    def logged_in(ends):
        return ends.process.wait(20) == 0


class Ends:
    """A process that can be waited for beside sockets: readable once it has ended."""

    def __init__(self, process):
        self.process = process
        self.descriptor = os.pidfd_open(process.pid)

    def fileno(self):
        return self.descriptor

    def __del__(self):
        os.close(self.descriptor)


def missing():
    """The programs that the yardstick needs and this machine has not."""
    programs = ["chromium", "ethtool", "ip", "iperf3", "ndsctl", "nft", "nsenter", "opennds"]
    programs += ["sysctl", "wrk"]
    return [program for program in programs if not shutil.which(program)]
