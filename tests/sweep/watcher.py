"""Somebody who has the dashboard open: asks its API all the time, as a browser does."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from harness.dashboard import dashboard

PAUSE_SECONDS = 0.2


class Watcher:
    """Asks for all studies, then for each one whole, over and over."""

    def __init__(self, address: str) -> None:
        self._api = address.replace("/dashboard/", "/api/studies")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.answers = 0
        self.most_trials = 0
        self.trouble: list[str] = []

    def _ask(self, path: str = "") -> Any:
        with urlopen(self._api + path, timeout=500) as answer:
            return json.load(answer)

    def studies(self) -> list[dict[str, Any]]:
        """What the page of every study shows."""
        return [self._ask(f"/{study['study_id']}") for study in self._ask()["study_summaries"]]

    def _look(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                found = self.studies()
            except HTTPError as error:
                self.trouble.append(f"{error.code}: {error.read()[:500]!r}")
            except (URLError, OSError, ValueError) as error:
                if self.answers:  # before the first one there is no database yet, and so no server
                    self.trouble.append(f"{type(error).__name__}: {error}")
            else:
                self.answers += 1
                self.most_trials = max([self.most_trials, *(len(study["trials"]) for study in found)])

    def shows(self, complete: int, patience: float = 500) -> Counter[str]:
        """How many trials are shown in each state, once so many are complete or patience is at an end.

        It answers from memory for some seconds, and not at all before there is a database.
        """
        until = time.monotonic() + patience
        while True:
            try:
                states = Counter(trial["state"] for study in self.studies() for trial in study["trials"])
            except URLError:
                states = Counter()
            if states["Complete"] >= complete or time.monotonic() > until:
                return states
            time.sleep(PAUSE_SECONDS)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Ask meanwhile."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


@contextmanager
def watched(where: Path, artifacts: Path) -> Iterator[Watcher]:
    """The dashboard open on a database that may not be there yet, and asked all the time."""
    with dashboard(where, artifacts, 0) as address:
        watcher = Watcher(address)
        with watcher.watching():
            yield watcher
