"""One address to one file, resumed after a break: the downloader that is handed to pooch."""

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from harness.data.archives import check_intact, is_web_page
from harness.errors import DataError

_CHUNK_BYTES = 1 << 16
_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.ReadTimeoutError,
)
"""What may go better when tried again."""


class CutShort(Exception):
    """The answer ended before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how often an address is tried."""

    attempts: int = 4
    seconds: float = 60.0
    """Without a byte before an attempt is given up."""
    pause_seconds: float = 1.0
    """Before the second attempt; doubled for each that follows."""


class Resuming:
    """Fetches an address into a partial file that survives a break, and hands it over when it is complete and intact.

    It goes on where it stopped if the server says that the file is the same as before (ETag or Last-Modified), or if
    `known` says that a sum will be compared afterwards; otherwise it begins anew.
    """

    def __init__(self, partial: Path, console: Console, patience: Patience, *, known: bool) -> None:
        self._partial = partial
        self._state = partial.with_name(f"{partial.name}.json")
        self._console = console
        self._patience = patience
        self._known = known
        self.resumed = False
        """Whether the last file was put together from several answers."""

    def __call__(self, url: str, output_file: "str | os.PathLike[str]", _: Any = None) -> None:
        """Fetch `url` to `output_file`; the third argument is pooch's and not used.

        Raises DataError for a web page or a damaged archive, `requests` errors and CutShort when the address cannot be
        read to its end; what has come so far is then kept for the next time.
        """
        self.resumed = False
        for attempt in range(self._patience.attempts):
            if attempt:
                time.sleep(self._patience.pause_seconds * 2 ** (attempt - 1))
            last = attempt + 1 == self._patience.attempts
            try:
                self._once(url)
                break
            except _BROKEN as error:
                if last and isinstance(error, requests.RequestException):
                    raise
                if last:
                    raise CutShort(self._stopped(" (no byte in time)" if "timed out" in str(error) else "")) from error
            except CutShort:
                if last:
                    raise
            except requests.HTTPError as error:
                assert error.response is not None, "it comes from raise_for_status"
                if last or error.response.status_code not in {429, 500, 502, 503, 504}:
                    raise
        try:
            check_intact(self._partial)
        except DataError as error:
            reason = str(error).replace(f"{self._partial} ", "", 1).rsplit(": ", 1)[0]
            raise DataError(f"what came {reason}") from error
        self._state.unlink(missing_ok=True)
        os.replace(self._partial, output_file)

    def clear_but_own(self) -> None:
        """Make the partial file's folder, and remove what a killed process has left in it besides that file."""
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        for left in self._partial.parent.iterdir():
            if left not in {self._partial, self._state}:
                left.unlink()

    def keep_what_came(self) -> None:
        """Remove the partial file and its folder if not a byte of it has come."""
        if not self._partial.exists() or not self._partial.stat().st_size:
            self._forget()
            self._partial.parent.rmdir()

    def _forget(self) -> None:
        """Remove what has come so far."""
        self._partial.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def _once(self, url: str) -> None:
        """Fetch what is missing; returns when the length is right, as far as the server tells it."""
        have, validator = self._so_far(url)
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        with requests.get(url, headers=headers, stream=True, timeout=(10, self._patience.seconds)) as response:
            if response.status_code == 416:
                self._forget()
                raise CutShort("the server does not know the rest of the file")
            response.raise_for_status()
            begin, total = self._range(response, have)
            self.resumed |= begin > 0
            if "html" in response.headers.get("Content-Type", ""):
                raise DataError("the server sent a web page, not the file: it may have moved or want a login")
            tag = response.headers.get("ETag", "")
            same = tag if not tag.startswith("W/") else ""
            self._state.write_text(
                json.dumps({"url": url, "validator": same or response.headers.get("Last-Modified", "")})
            )
            self._write(response, begin, total)
        size = self._partial.stat().st_size
        if total is not None and size != total:
            raise CutShort(self._stopped(f" of {total:,}"))

    def _so_far(self, url: str) -> tuple[int, str]:
        """Bytes that can be kept, and what the server called the file; zero and empty to begin anew."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            same, validator, size = state["url"] == url, str(state["validator"]), self._partial.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            same, validator, size = False, "", 0
        if same and (validator or self._known):
            return size, validator
        self._forget()
        return 0, ""

    def _range(self, response: requests.Response, have: int) -> tuple[int, int | None]:
        """Where the answer begins in the file, and how long the file is (None: the server does not say)."""
        if response.status_code != 206:
            length = response.headers.get("Content-Length", "")
            return 0, int(length) if length.isdecimal() else None
        said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if said is None or int(said[1]) != have:
            self._forget()
            raise CutShort("the server sent another part of the file than it was asked for")
        return have, int(said[2]) if said[2].isdecimal() else None

    def _write(self, response: requests.Response, begin: int, total: int | None) -> None:
        """Write the answer's body from `begin` on, with a progress bar in a terminal."""
        with (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                disable=not self._console.is_terminal,
                transient=True,
            ) as progress,
            self._partial.open("ab" if begin else "wb", buffering=0) as file,
        ):
            task = progress.add_task(self._partial.name.removesuffix(".partial"), total=total, completed=begin)
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                if not file.tell() and is_web_page(chunk):
                    raise DataError("the server sent a web page, not the file: it may have moved or want a login")
                file.write(chunk)
                progress.advance(task, len(chunk))

    def _stopped(self, of: str) -> str:
        size = self._partial.stat().st_size if self._partial.exists() else 0
        return f"the answer ended after {size:,}{of} bytes"
