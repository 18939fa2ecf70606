"""A sweep: plan what is missing, prepare data, run, record every trial the moment it ends.

A trial is done if and only if the store says so; a stopped or killed sweep goes on with the same command. The database
libraries are imported only where there is a database.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.checkpoint import tidy
from harness.config import DataConfig, RunPaths, SearchSpace, Study, TrialSpec
from harness.errors import ConfigError, StoreError
from harness.executors import Executor, RunContext
from harness.options import SweepOptions
from harness.progress import Display, describe
from harness.search import begin_search, search_of
from harness.values import Estimate, Split

if TYPE_CHECKING:
    from harness.ledger import Ledger
    from harness.ledger_page import Draw
    from harness.store import Status, Store


def database(paths: RunPaths) -> str | Path:
    """The results database of a run: where the paths say, otherwise in the run folder."""
    if paths.database is None:
        return paths.work_dir / "btsr.db"
    return paths.database if "://" in paths.database else Path(paths.database)


def shown(paths: RunPaths) -> str:
    """The database for messages, without a password."""
    if paths.database is None:
        return str(database(paths))
    from harness.database import shown

    return shown(paths.database)


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
    return Plan(
        study=study,
        statuses={key: status for key, status in known.items() if key in mine},
        given_up=frozenset(
            key for key, (attempt, error) in failures.items() if key in mine and options.is_final(attempt, error)
        ),
        ended=ended,
        budget=options.trials,
    )


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
    where = database(paths)
    if isinstance(where, Path) and not where.exists():
        return plan(study, None, options)
    from harness.store import open_existing

    store = open_existing(where)
    if store is None:
        return plan(study, None, options)
    with store:
        return plan(study, store, options)


def run_study(
    study: Study,
    executor: Executor,
    context: RunContext,
    *,
    console: Console,
    quiet: bool = False,
    options: SweepOptions | None = None,
    estimates: Sequence[Estimate] = (),
    draw: "Draw | None" = None,
) -> Plan:
    """Run what is missing of a study and record it; returns the plan as it is afterwards.

    `draw` makes the pictures that the dashboard shows.

    Only one sweep at a time: raises SweepLocked while another holds the database. Raises DataError before anything is
    written where data are missing, ConfigError and StoreError as their messages say.
    """
    from harness.store import open_store

    options = options or SweepOptions()
    paths = context.paths
    before = current_plan(study, paths, options)
    _can_be_written(database(paths))
    splits = _prepared(before.upcoming, paths, console, quiet)
    if splits:
        context = replace(context, prepared=_folders(splits, paths))
    with open_store(database(paths), create=True) as store, store.driver_lock():
        spaces: dict[str, SearchSpace] = {}
        if options.search == "grid":
            whole = _registered(study, store, extend=options.extend)
            todo = plan(study, store, options)
        else:
            todo = plan(study, store, options)
            whole = begin_search(todo.study, store, extend=options.extend)
            spaces = {space.place: space for space in todo.study.search}
        for split in splits.values():
            store.record_data(split)
        store.record_estimates(todo.study.name, estimates)
        tidy(paths.checkpoints, [key for key, status in todo.statuses.items() if status == "done"])
        if not spaces and not todo.missing and _nothing_to_do(todo.study.name, whole, store, database(paths)):
            return todo
        from harness.ledger import Ledger

        with Ledger(
            database(paths),
            todo.study.name,
            todo.study.title,
            search=options.search,
            prune=options.prune,
            spaces=spaces,
            command=context.command,
            draw=draw,
            artifacts=paths.artifacts,
        ) as ledger:
            ledger.reconcile(whole, store, skip=todo.given_up)
            _run(todo, store, ledger, executor, context, spaces, options, console=console, quiet=quiet)
        return plan(study, store, options)


def _run(
    todo: Plan,
    store: "Store",
    ledger: "Ledger",
    executor: Executor,
    context: RunContext,
    spaces: dict[str, SearchSpace],
    options: SweepOptions,
    *,
    console: Console,
    quiet: bool,
) -> None:
    """Run the plan's missing trials, then what a search proposes; record each as it ends."""
    from harness.driver import SweepDriver

    missing = todo.missing
    new = sum(todo.unproposed.values())
    if not missing and not new:
        return
    with Display(missing, total=len(missing) + new, console=console, quiet=quiet) as display:
        driver = SweepDriver(
            missing, store, ledger, display, context.paths, study=todo.study, options=options, spaces=spaces
        )
        executor.run(driver, context)


def _nothing_to_do(name: str, specs: Sequence[TrialSpec], store: "Store", where: str | Path) -> bool:
    """Whether all that the study ever asked for here has ended, and is shown so: what most second starts find."""
    from harness.ledger_storage import is_shown, usual_name

    statuses = store.statuses()
    ended: defaultdict[str, list[str]] = defaultdict(list)
    for spec in specs:
        if statuses.get(spec.key) not in {"done", "pruned"}:
            return False
        ended[usual_name(name, spec.data.dataset)].append(spec.key)
    return is_shown(where, ended)


def _can_be_written(where: str | Path) -> None:
    """Raise StoreError where a new database file could not be made, before hours are spent on preparing data."""
    if not isinstance(where, Path) or where.exists():
        return
    try:
        nearest = next(folder for folder in where.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise StoreError(
            f"{where} cannot be made ({error.strerror}): name another folder by --out, or database by --db"
        ) from error


def _registered(study: Study, store: "Store", *, extend: bool) -> tuple[TrialSpec, ...]:
    """Write down what the study asks for; returns all that it ever asked for on these data sets.

    Raises ConfigError where it is not what it was, unless it may be extended; asking for less changes nothing.
    """
    stored = store.study(study.name).specs if study.name in store.studies() else ()
    here = {(spec.profile, spec.data) for spec in study.specs}
    former = [spec for spec in stored if (spec.profile, spec.data) in here]
    known, places = {spec.key for spec in former}, {(spec.profile, spec.data) for spec in former}
    new = [spec for spec in study.specs if spec.key not in known and (spec.profile, spec.data) in places]
    if new and not extend:
        raise ConfigError(
            f"study {study.name} is not what it was when it was stored: {len(new)} of its {len(study.specs)} trials "
            f"are new, such as {describe(new[0])} ({_difference(former, study.specs)}): add --extend to run them "
            "too, or give the study another name or --out"
        )
    if {spec.key for spec in study.specs} - known:
        store.register_study(study, keep_wishes=True)
    return tuple({spec.key: spec for spec in (*former, *study.specs)}.values())


def _difference(former: Sequence[TrialSpec], now: Sequence[TrialSpec]) -> str:
    """Which fields have values that they did not have."""

    def values(specs: Sequence[TrialSpec]) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for spec in specs:
            for name, value in spec.flat().items():
                if str(value) not in found[name]:
                    found[name].append(str(value))
        return found

    old, new = values(former), values(now)
    changes = [
        f"{name} {', '.join(v for v in found if v not in old[name])} beside {', '.join(old[name][:5])}"
        for name, found in new.items()
        if set(found) - set(old[name])
    ]
    return "; ".join(changes[:4]) or "other combinations of known values"


def _folders(configs: Iterable[DataConfig], paths: RunPaths) -> dict[DataConfig, Path]:
    """Where the prepared data of these configurations are, for workers that start in other folders."""
    from harness.prepare import prepared_folder

    return {config: prepared_folder(config, paths).absolute() for config in configs}


def _prepared(specs: Sequence[TrialSpec], paths: RunPaths, console: Console, quiet: bool) -> dict[DataConfig, Split]:
    """The data of these trials, each prepared once, here, before any worker asks for it."""
    configs = dict.fromkeys(spec.data for spec in specs)
    if not configs:
        return {}
    from harness.prepare import prepare

    splits = {}
    for config in configs:
        if quiet or not console.is_terminal:
            splits[config] = prepare(config, paths)
        else:
            with console.status(f"preparing {config.dataset}"):
                splits[config] = prepare(config, paths)
        if not quiet:
            split = splits[config]
            console.print(
                f"{config.dataset}: {split.n_train_users} training users, {split.n_items} items, "
                f"{split.n_test_users} test users, data {split.fingerprint[:8]}",
                highlight=False,
            )
    return splits
