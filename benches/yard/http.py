"""A guest's browser, as small as it can be: one request a connection, from one guest's device."""

import html.parser
import re
import socket
import urllib.parse


class Reply:
    def __init__(self, raw):
        self.size = len(raw)
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        match = re.match(r"HTTP/1\.[01] (\d{3})", lines[0])
        if not match:
            raise OSError("no HTTP reply")
        self.status = int(match[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])}


def request(site, guest, url, form=None, timeout=5.0):
    """GET, or POST of a form; returns the reply and where it came from."""
    with begin(site, guest, url, form, timeout) as connection:
        return finish(connection)


def begin(site, guest, url, form=None, timeout=5.0):
    """Sends a request and returns its connection."""
    parts = urllib.parse.urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = urllib.parse.urlencode(form).encode() if form is not None else b""
    head = f"{'POST' if form is not None else 'GET'} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    head += "Accept-Language: en\r\nConnection: close\r\n"
    if form is not None:
        head += "Content-Type: application/x-www-form-urlencoded\r\n"
        head += f"Content-Length: {len(body)}\r\n"
    connection = site.socket(guest)
    try:
        connection.settimeout(timeout)
        connection.connect((parts.hostname, parts.port or 80))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head.encode() + b"\r\n" + body)
    except OSError:
        connection.close()
        raise
    return connection


def finish(connection):
    """Reads the reply to its end."""
    raw = b""
    while chunk := connection.recv(65536):
        raw += chunk
    return Reply(raw)


def follow(site, guest, url, form=None):
    """As `request`, and on to where redirects lead; returns the last reply and its URL."""
    for _ in range(6):
        reply = request(site, guest, url, form)
        if reply.status not in (301, 302, 303, 307):
            return reply, url
        url, form = urllib.parse.urljoin(url, reply.headers["location"]), None
    raise OSError(f"redirects without end at {url}")


class Forms(html.parser.HTMLParser):
    """The forms of a page."""

    def __init__(self, body):
        super().__init__()
        self.forms = []
        self.feed(body.decode())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.forms.append((attributes.get("action", ""), []))
        elif tag == "input" and self.forms:
            self.forms[-1][1].append(attributes)


def fill(reply, url, text):
    """The page's form for a text, filled in and every box ticked: where it goes, and what."""
    for action, inputs in Forms(reply.body).forms:
        fields = {}
        typed = False
        for field in inputs:
            kind, name = field.get("type", "text"), field.get("name")
            if kind in ("text", "tel", "number") and not typed:
                fields[name], typed = text, True
            elif name and kind not in ("submit", "button"):
                fields[name] = field.get("value", "on")
        if typed:
            return urllib.parse.urljoin(url, action), fields
    raise OSError(f"no form at {url} (status {reply.status})")
