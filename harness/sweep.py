"""A sweep: prepare data, run what the plan says is missing, record every trial the moment it ends.

A trial is done if and only if the store says so; a stopped or killed sweep goes on with the same command. The database
libraries are imported only where there is a database.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from harness.checkpoint import tidy
from harness.config import DataConfig, SearchSpace, Study, TrialSpec
from harness.errors import ConfigError, StoreError
from harness.executors import Executor, RunContext
from harness.fits import check_fits
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.plan import Plan, former, plan, results_so_far
from harness.progress import Display, describe
from harness.search import refuse_other_space, search_of
from harness.values import Estimate, Split

if TYPE_CHECKING:
    from harness.ledger import Ledger
    from harness.ledger_page import Draw
    from harness.store import Store


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

    Only one sweep at a time: raises SweepLocked while another holds the database. Before a result is written: DataError
    where data are missing, ConfigError where they are too few for a trial. ConfigError and StoreError as they say.
    """
    from harness.store import open_store

    options = options or SweepOptions()
    paths = context.paths
    before = start_plan(study, paths, options)
    _can_be_written(paths.results)
    splits = _prepared(before.upcoming, paths, console, quiet)
    for spec in before.upcoming:
        check_fits(spec, splits[spec.data])
    if splits:
        context = replace(context, prepared=_folders(splits, paths))
    with open_store(paths.results, create=True) as store, store.driver_lock():
        _refuse_changed(study, store, options)
        spaces: dict[str, SearchSpace] = {}
        if options.search == "grid":
            whole = _registered(study, store, replace=options.replace)
            if before.forgets and not quiet:
                words = f"forgotten: {before.forgets} unfinished trials that {study.name} no longer asks for"
                console.print(words, markup=False, highlight=False)
            todo = plan(study, store, options)
        else:
            todo = plan(study, store, options)
            store.register_study(todo.study, keep_wishes=True)
            whole = todo.study.specs
            spaces = {space.place: space for space in todo.study.search}
        for split in splits.values():
            store.record_data(split)
        store.record_estimates(todo.study.name, estimates)
        tidy(paths.checkpoints, [key for key, status in todo.statuses.items() if status == "done"])
        if not spaces and not todo.missing and _nothing_to_do(todo.study.name, whole, store, paths.results):
            return todo
        from harness.ledger import Ledger

        with Ledger(
            paths.results,
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


def start_plan(study: Study, paths: RunPaths, options: SweepOptions, *, shown: bool = False) -> Plan:
    """What a start would run.

    Raises ConfigError where the study, or the space of a search, is not what it was when it was stored, unless it may
    be extended; asking for less changes nothing. Raises SweepLocked while another sweep writes there, unless the plan
    is only `shown`.
    """
    store = results_so_far(paths)
    if store is None:
        return plan(study, None, options)
    with store:
        if not shown:
            store.check_free()
        _refuse_changed(study, store, options)
        return plan(study, store, options)


def _refuse_changed(study: Study, store: "Store", options: SweepOptions) -> None:
    if options.extend or options.replace:
        return
    if options.search != "grid":
        refuse_other_space(search_of(study, store, options), store)
        return
    asked = former(study, store)
    known, places = {spec.key for spec in asked}, {(spec.profile, spec.data) for spec in asked}
    new = [spec for spec in study.specs if spec.key not in known and (spec.profile, spec.data) in places]
    if new:
        raise ConfigError(
            f"study {study.name} is not what it was when it was stored: {len(new)} of its {len(study.specs)} trials "
            f"are new, such as {describe(new[0])} ({_difference(asked, study.specs)}): add --extend to run them "
            "too, --replace to run them in place of others that are not done, or give the study another name or --out"
        )


def _registered(study: Study, store: "Store", *, replace: bool) -> tuple[TrialSpec, ...]:
    """Write down what the study asks for; returns all that it ever asked for on these data sets.

    But for what it is to `replace`: what is not finished and not asked for now.
    """
    asked = {spec.key for spec in former(study, store)}
    if replace or {spec.key for spec in study.specs} - asked:
        store.register_study(study, keep_wishes=not replace)
    return former(study, store)


def _difference(before: Sequence[TrialSpec], now: Sequence[TrialSpec]) -> str:
    """Which fields have values that they did not have."""

    def values(specs: Sequence[TrialSpec]) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for spec in specs:
            for name, value in spec.flat().items():
                if str(value) not in found[name]:
                    found[name].append(str(value))
        return found

    old, new = values(before), values(now)
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
    from harness.data.describe import dropped
    from harness.prepare import prepare

    splits = {}
    for config in configs:
        if quiet or not console.is_terminal:
            splits[config] = prepare(config, paths)
        else:
            with console.status(Text(f"preparing {config.dataset}")):
                splits[config] = prepare(config, paths)
        if not quiet:
            split = splits[config]
            console.print(
                f"{config.dataset}: {split.n_train_users} training users, {split.n_items} items, "
                f"{split.n_test_users} test users, data {split.fingerprint[:8]}; {dropped(split)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    return splits
