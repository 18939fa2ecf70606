"""A loopback HTTP server that misbehaves in every way that a download has to survive."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEB_PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


@dataclass
class Site:
    """What the server has and what it was asked."""

    url: str
    content: bytes
    tag: str = '"v1"'
    seconds: float = 0.0
    """Of silence in the middle of /stall and /slow."""
    drops: dict[str, list[int]] = field(default_factory=dict)
    """Path -> how many bytes each answer gives before the connection breaks; then all."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range header of every request, in order."""

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for asked, _ in self.asked)


class Handler(BaseHTTPRequestHandler):
    """One request; the first folder of the path says what goes wrong."""

    site: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        way = self.path.split("/", 4)[3] if self.path.startswith("http") else self.path.split("/")[1]
        self.site.asked.append((self.path, self.headers.get("Range", "")))
        answers: dict[str, Callable[[], None]] = {
            "good": self.good,
            "resume": self.resume,
            "restart": self.restart,
            "changed": self.changed,
            "untagged": self.untagged,
            "shuffled": self.shuffled,
            "missing": lambda: self.answer(b"gone", status=404),
            "busy": self.busy,
            "page": lambda: self.answer(WEB_PAGE, kind="text/html"),
            "hidden_page": lambda: self.answer(WEB_PAGE, kind="application/zip"),
            "wrong": lambda: self.answer(self.site.content[:-1] + b"!"),
            "short": lambda: self.answer(self.site.content[: len(self.site.content) // 2]),
            "long_length": lambda: self.answer(self.site.content, length=len(self.site.content) + 100),
            "short_length": lambda: self.answer(self.site.content, length=len(self.site.content) - 100),
            "no_length": lambda: self.answer(self.site.content, length=None),
            "no_length_short": lambda: self.answer(self.site.content[:-100], length=None),
            "empty": lambda: self.answer(b""),
            "moved": lambda: self.redirect("good"),
            "moved_to_page": lambda: self.redirect("page"),
            "circle": lambda: self.redirect("circle"),
            "slow": lambda: self.halves(self.site.seconds),
            "stall": lambda: self.halves(self.site.seconds),
        }
        answers[way]()

    def good(self) -> None:
        """The file; parts of it when asked; breaks as `drops` says."""
        self.answer(self.site.content)

    def resume(self) -> None:
        """The rest of the file from where the last answer broke."""
        begin = self.begin()
        total = len(self.site.content)
        if not begin or self.headers.get("If-Range") not in {None, self.site.tag}:
            self.answer(self.site.content)
        else:
            span = f"bytes {begin}-{total - 1}/{total}"
            self.answer(self.site.content[begin:], status=206, span=span)

    def restart(self) -> None:
        """The whole file, whatever part is asked for."""
        self.answer(self.site.content)

    def changed(self) -> None:
        """Another file of the same length under another tag after the first answer."""
        if self.site.count(self.path) > 1:
            self.site.tag = '"v2"'
        self.resume()

    def untagged(self) -> None:
        """Parts of the file, but nothing that says whether it is still the same."""
        self.site.tag = ""
        self.resume()

    def shuffled(self) -> None:
        """Another part of the file than was asked for."""
        begin, total = self.begin(), len(self.site.content)
        if begin:
            self.answer(self.site.content[:-begin], status=206, span=f"bytes 0-{total - begin - 1}/{total}")
        else:
            self.answer(self.site.content)

    def busy(self) -> None:
        """Overload, twice."""
        if self.site.count(self.path) <= 2:
            self.answer(b"later", status=503)
        else:
            self.answer(self.site.content)

    def begin(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def redirect(self, way: str) -> None:
        self.send_response(302)
        self.send_header("Location", f"{self.site.url}/{way}/{self.path.rsplit('/', 1)[-1]}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def halves(self, seconds: float) -> None:
        half = len(self.site.content) // 2
        self.head(200, len(self.site.content))
        self.wfile.write(self.site.content[:half])
        self.wfile.flush()
        time.sleep(seconds)
        self.wfile.write(self.site.content[half:])

    def answer(
        self, body: bytes, *, status: int = 200, length: int | None = -1, kind: str = "application/zip", span: str = ""
    ) -> None:
        """Status, headers and body; `length` -1: the right one, None: none, until the connection ends."""
        self.head(status, len(body) if length == -1 else length, kind, span)
        planned = self.site.drops.get(self.path)
        self.wfile.write(body[: planned.pop(0)] if planned else body)
        self.wfile.flush()

    def head(self, status: int, length: int | None, kind: str = "application/zip", span: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.site.tag and status < 300:
            self.send_header("ETag", self.site.tag)
        if span:
            self.send_header("Content-Range", span)
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def served(content: bytes) -> Iterator[Site]:
    """A site on a free loopback port that has this content under every path."""
    handler = type("Bound", (Handler,), {})
    server = _Quiet(("127.0.0.1", 0), handler)
    site = Site(url=f"http://127.0.0.1:{server.server_address[1]}", content=content)
    handler.site = site
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
