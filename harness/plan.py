"""What a study asks for against what the results hold: which trials are done, given up and still to run.

The database libraries are imported only where there is a database.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import Study, TrialSpec
from harness.errors import ConfigError
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.search import search_of

if TYPE_CHECKING:
    from harness.store import Store
    from harness.stored import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """Counts of one data set and method."""

    dataset: str
    method: str
    profile: str
    trials: int
    done: int
    failed: int
    missing: int
    """What the next start runs."""
    pruned: int = 0
    """Given up by a search because others are better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A study against what is there."""

    study: Study
    statuses: "dict[str, Status]"
    """Of this study's trials that have ended."""
    given_up: frozenset[str] = frozenset()
    """Keys of failed trials that are not tried again."""
    ended: "frozenset[Status]" = frozenset({"done"})
    """What needs no other run: in a search, pruned trials too; a grid is run whole."""
    budget: int = 0
    """Points that a search tries in every space of the study, in the end."""
    forgets: int = 0
    """Trials that a start, which replaces the study's former definition, takes out of it: never finished."""

    @property
    def unproposed(self) -> dict[str, int]:
        """Place -> how many points of its space are still to be chosen; empty for a grid."""
        known = Counter(spec.place for spec in self.study.specs)
        left = {space.place: self.budget - known[space.place] for space in self.study.search}
        return {place: count for place, count in left.items() if count > 0}

    @property
    def upcoming(self) -> tuple[TrialSpec, ...]:
        """What is to run as far as it is known: missing trials, then the base of every space with points left."""
        left = self.unproposed
        return (*self.missing, *(space.base for space in self.study.search if space.place in left))

    def _is_missing(self, spec: TrialSpec) -> bool:
        return self.statuses.get(spec.key) not in self.ended and spec.key not in self.given_up

    @property
    def missing(self) -> tuple[TrialSpec, ...]:
        """What is to run, all cells' first seed before any second one."""
        seen: defaultdict[str, int] = defaultdict(int)
        turns = []
        for spec in self.study.specs:
            turns.append(seen[spec.group])
            seen[spec.group] += 1
        in_order = sorted(range(len(turns)), key=lambda index: (turns[index], index))
        specs = (self.study.specs[index] for index in in_order)
        return tuple(spec for spec in specs if self._is_missing(spec))

    @property
    def rows(self) -> tuple[PlanRow, ...]:
        """Counts by data set, method and profile, in the study's order."""
        cells: defaultdict[tuple[str, str, str], list[TrialSpec]] = defaultdict(list)
        left: Counter[tuple[str, str, str]] = Counter()
        unproposed = self.unproposed
        for space in self.study.search if self.budget else ():
            cell = (space.base.data.dataset, space.base.method, space.base.profile)
            cells[cell], left[cell] = [], unproposed.get(space.place, 0)
        for spec in self.study.specs:
            cells[spec.data.dataset, spec.method, spec.profile].append(spec)
        rows = []
        for (dataset, method, profile), specs in cells.items():
            found = [self.statuses.get(spec.key) for spec in specs]
            rows.append(
                PlanRow(
                    dataset=dataset,
                    method=method,
                    profile=profile,
                    trials=len(specs) + left[dataset, method, profile],
                    done=found.count("done"),
                    failed=found.count("failed"),
                    missing=sum(map(self._is_missing, specs)) + left[dataset, method, profile],
                    pruned=found.count("pruned"),
                )
            )
        return tuple(rows)

    @property
    def total(self) -> int:
        """Trials, those that a search has not chosen yet included."""
        return sum(row.trials for row in self.rows)

    @property
    def waiting(self) -> int:
        """Trials that are to run."""
        return sum(row.missing for row in self.rows)

    @property
    def done(self) -> int:
        """Finished trials."""
        return sum(row.done for row in self.rows)

    @property
    def pruned(self) -> int:
        """Trials that a search gave up."""
        return sum(row.pruned for row in self.rows)

    @property
    def failed(self) -> int:
        """Trials whose last attempt failed."""
        return sum(row.failed for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every trial is done, or was given up by this search because others are better."""
        ended = all(self.statuses.get(spec.key) in self.ended for spec in self.study.specs)
        return ended and not self.unproposed


def plan(study: Study, store: "Store | None", options: SweepOptions | None = None) -> Plan:
    """What is done, failed and missing; without a store nothing is done. Of a search, the plan of its own study.

    Raises ConfigError for a trial that is not there and for a search that cannot be.
    """
    options = options or SweepOptions()
    if options.search != "grid":
        study = search_of(study, store, options)
    elif options.only is not None:
        study = study.model_copy(update={"specs": (_only(study, options.only),)})
    ended: frozenset[Status] = frozenset({"done"} if options.search == "grid" else {"done", "pruned"})
    if store is None:
        return Plan(study=study, statuses={}, ended=ended, budget=options.trials)
    known, mine = store.statuses(), {spec.key for spec in study.specs}
    failures = {} if options.retry_failed or options.only else store.failures()
    gone = {spec.key for spec in former(study, store)} - mine if options.replace else set()
    return Plan(
        study=study,
        statuses={key: status for key, status in known.items() if key in mine},
        given_up=frozenset(
            key for key, (attempt, error) in failures.items() if key in mine and options.is_final(attempt, error)
        ),
        ended=ended,
        budget=options.trials,
        forgets=sum(known.get(key) != "done" for key in gone),
    )


def former(study: Study, store: "Store") -> tuple[TrialSpec, ...]:
    """What the study asked for before on these data sets."""
    stored = store.study(study.name).specs if study.name in store.studies() else ()
    here = {(spec.profile, spec.data) for spec in study.specs}
    return tuple(spec for spec in stored if (spec.profile, spec.data) in here)


def _only(study: Study, key: str) -> TrialSpec:
    """The one trial whose key begins like this."""
    found = [spec for spec in study.specs if spec.key.startswith(key)]
    if len(found) != 1:
        what = "no trial" if not found else f"{len(found)} trials"
        raise ConfigError(
            f"--only {key}: {what} of study {study.name} has such a key: see column trial_key of table study_trial"
        )
    return found[0]


def current_plan(study: Study, paths: RunPaths, options: SweepOptions | None = None) -> Plan:
    """The plan against the results as they are, which are only read. Raises StoreError for a bad database."""
    store = results_so_far(paths)
    if store is None:
        return plan(study, None, options)
    with store:
        return plan(study, store, options)


def results_so_far(paths: RunPaths) -> "Store | None":
    """The results for reading; None where nothing has run yet. Raises StoreError for a bad database."""
    if isinstance(paths.results, Path) and not paths.results.exists():
        return None
    from harness.store import open_existing

    return open_existing(paths.results)
