"""The Optuna studies of a sweep: its queue and display, in the same database; the door to Optuna.

A grid has one for each data set, a search one for each of its spaces, that is, for each method on each data set.

It is never the truth. At every start it is made to agree with the results, under the driver's lock; a study that was
deleted in the dashboard is made anew. Only the driver writes to it.
"""

import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from harness import ledger_page
from harness.config import SearchSpace, TrialSpec
from harness.database import one_line, shown
from harness.errors import StoreError
from harness.ledger_page import Draw, Facts
from harness.ledger_pictures import attach
from harness.ledger_storage import open_storage, put_back
from harness.ledger_study import Page, page_of
from harness.options import Prune, Search
from harness.store import Store
from harness.values import EpochLog, Outcome, TrialResult

DRESS_SECONDS = 10.0
"""How often the note and the heat map are made anew while trials end."""

PICTURE_SECONDS = 300.0
"""How often the pictures are, which take a second."""


class Ledger:
    """The studies of one sweep; opened by the driver alone, under its lock."""

    def __init__(
        self,
        where: str | Path,
        name: str,
        title: str,
        *,
        search: Search = "grid",
        prune: Prune | None = None,
        spaces: Mapping[str, SearchSpace] | None = None,
        command: str = "",
        draw: Draw | None = None,
        artifacts: Path | None = None,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._where, self._name, self._title, self._command = where, name, title, command
        self._search, self._prune, self._spaces = search, prune, spaces or {}
        self._draw, self._artifacts = draw, artifacts
        self._pages: dict[str, Page] = {}
        """By place for a search, by data set for a grid."""
        self._damaged = False
        self._skip: frozenset[str] = frozenset()

    # -- the storage ----------------------------------------------------------------------------------------------

    @cached_property
    def _storage(self) -> Any:
        with self._plain():
            return open_storage(self._where)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for place in self._pages:
                    self.dress(place, force=True, last=True)
            elif kind is KeyboardInterrupt:
                with suppress(StoreError):  # the next start would put it right, too
                    self._put_back()
        finally:
            self.close()

    def _put_back(self) -> None:
        """What runs is interrupted: it waits for the next start, and is shown so."""
        for place, page in self._pages.items():
            for key in [key for key, status in page.status.items() if status == "running"]:
                with self._plain():
                    page.stand(key, "waiting")
            self.dress(place, force=True)

    def close(self) -> None:
        """Let go of the database."""
        if "_storage" in self.__dict__:
            self._storage.remove_session()
            self._storage.engine.dispose()

    @contextmanager
    def _plain(self, *, repair: bool = True) -> Iterator[None]:
        """What goes wrong in the database is a StoreError; what a user changed in the dashboard, damage to repair."""
        from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
        from sqlalchemy.exc import DBAPIError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                yield
        except (KeyError, UpdateFinishedTrialError):
            if not repair:
                raise
            self._damaged = True
        except (StorageInternalError, DBAPIError) as error:
            cause = error if isinstance(error, DBAPIError) else error.__cause__ or error
            reason = one_line(getattr(cause, "orig", None) or cause)
            raise StoreError(
                f"the queue in {shown(str(self._where))} cannot be written ({reason}): check its folder and the free "
                "space, then give the same command again"
            ) from error

    @property
    def damaged(self) -> bool:
        """Whether somebody changed the study meanwhile: reconcile it again."""
        return self._damaged

    def _place(self, spec: TrialSpec) -> str:
        """Key of the page that a trial is on."""
        return spec.place if self._spaces else spec.data.dataset

    # -- agreement with the results -------------------------------------------------------------------------------

    def reconcile(
        self,
        specs: Sequence[TrialSpec],
        store: Store,
        *,
        running: Collection[str] = (),
        skip: Collection[str] = (),
    ) -> None:
        """Make the studies agree with the store: finished trials shown, all others of `specs` waiting, each once.

        What stands as running, in our other studies too, is the trace of a dead driver, unless it is among `running`;
        what is in `skip` has failed for good.
        """
        self._damaged, self._skip = False, frozenset(skip)
        statuses = store.statuses()
        over = {"done"} if self._search == "grid" else {"done", "pruned"}
        ended = {key for key, status in statuses.items() if status in over or key in self._skip}
        by_place: dict[str, list[TrialSpec]] = {place: [] for place in self._spaces}
        for spec in specs:
            by_place.setdefault(self._place(spec), []).append(spec)
        with self._plain(repair=False):
            for place, mine in by_place.items():
                keys = {spec.key for spec in mine}
                space = self._spaces.get(place)
                page = page_of(self._storage, self._name, place, keys, search=self._search, space=space)
                self._pages[place] = page
                page.status = {s.key: statuses.get(s.key, "") if s.key in ended else "waiting" for s in mine}
                there = page.clean()
                shown_as = {"done", "pruned"}
                missing = [s for s in mine if page.status[s.key] in shown_as and s.key not in there]
                waiting = [s for s in mine if page.status[s.key] == "waiting"]
                page.changed = bool(missing or waiting) or place in self._spaces
                if not page.changed:
                    continue
                page.done = self._facts([s for s in mine if page.status[s.key] == "done"], store)
                for spec in missing:
                    page.add_ended(spec, store.epochs(spec.key))
                for spec in waiting:
                    if spec.key not in page.trials:
                        page.add_waiting(spec)
                for key in set(running) & set(page.trials):
                    page.stand(key, "running")
                self.dress(place, force=True)
            put_back(self._storage, {page.name for page in self._pages.values()})

    @staticmethod
    def _facts(specs: Sequence[TrialSpec], store: Store) -> dict[str, Facts]:
        """What the store knows of finished trials."""
        metrics = store.metrics([spec.key for spec in specs], part="valid")
        best = {row.key: row.best_epoch or 0 for row in store.trials()}
        return {
            spec.key: ledger_page.facts(
                spec, metrics[spec.key], store.epochs(spec.key), best[spec.key], store.provenance(spec.key)
            )
            for spec in specs
        }

    # -- while the sweep runs -------------------------------------------------------------------------------------

    def claim(self, spec: TrialSpec) -> None:
        """Its trial is running now."""
        page = self._pages[self._place(spec)]
        with self._plain():
            if spec.key not in page.trials:
                page.add_waiting(spec)
            page.stand(spec.key, "running")

    def propose(self, place: str) -> TrialSpec | None:
        """A new point of the place's space, chosen by the sampler from all that has ended there; it waits from now on.

        None where the sampler chose a point that is known or cannot be, or the study was changed meanwhile.
        """
        page, space = self._pages[place], self._spaces[place]
        proposed: TrialSpec | None = None
        with self._plain():
            proposed = page.propose(space)
        return proposed

    def known(self, place: str) -> set[str]:
        """Keys of all trials of a space, ended or not."""
        return set(self._pages[place].status)

    def epoch(self, spec: TrialSpec, log: EpochLog) -> bool:
        """Add a point to the learning curve; returns whether the trial is worth going on with."""
        page = self._pages[self._place(spec)]
        value = ledger_page.curve((log,)).get(log.epoch)
        if value is None or self._search == "nsga2" or spec.key not in page.trials:
            return True
        worth = True
        with self._plain():
            worth = page.report(spec.key, log.epoch, value, self._prune)
        return worth

    def ended(self, outcome: Outcome, *, again: bool = False) -> None:
        """Tell how a trial ended; a failure that is tried `again` waits from now on."""
        spec, found = outcome.spec, None
        page = self._pages[self._place(spec)]
        if isinstance(outcome, TrialResult):
            args = (outcome.metrics, outcome.epochs, outcome.best_epoch, outcome.provenance)
            found = ledger_page.facts(spec, *args)
        with self._plain():
            page.end(outcome, found)
            if again:
                page.add_waiting(spec)
        self.dress(self._place(spec))

    def dress(self, place: str, *, force: bool = False, last: bool = False) -> None:
        """Make the note and heat map of a study anew, but not all the time, and the pictures, more seldom still."""
        page = self._pages[place]
        if not page.changed or (not force and time.monotonic() - page.dressed_at < DRESS_SECONDS):
            return
        with self._plain():
            page.dress(self._title, self._command)
        page.dressed_at = time.monotonic()
        if self._draw and self._artifacts and (last or time.monotonic() - page.drawn_at >= PICTURE_SECONDS):
            with self._plain():
                attach(page.study, self._artifacts, self._draw(page.name, tuple(page.done.values())))
            page.drawn_at = time.monotonic()
