"""How the Optuna studies in a results database are reached, for writing by the driver and for a look from outside."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import SearchSpace, TrialSpec
from harness.database import BUSY_SECONDS, engine_of, file_of, file_url, is_url, optuna_url, plain_errors, shown
from harness.errors import SchemaError
from harness.options import Prune, Search

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from sqlalchemy import Connection

WIDEST = 1e6
"""Upper end of the declared range of a grid's parameters: a later grid may have any value."""


def open_storage(where: str | Path, *, create: bool = True) -> Any:
    """Optuna's storage in this database; `create` makes its tables where they are missing.

    Raises SchemaError for tables of another version of Optuna, with the command that brings them up to date.
    """
    import optuna
    from sqlalchemy import event

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    server = is_url(where)
    options = {} if server else {"connect_args": {"timeout": BUSY_SECONDS}}
    try:
        storage = optuna.storages.RDBStorage(optuna_url(where), engine_kwargs=options, skip_table_creation=not create)
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        name = shown(optuna_url(where))
        hint = f"run `optuna storage upgrade --storage {name}`" if "upgrade --storage" in str(error) else "install that"
        made_by = str(error).partition("(set up by ")[2].partition(")")[0] or "another Optuna"
        raise SchemaError(
            f"the queue in {shown(where)} was made by {made_by}, this is Optuna {optuna.__version__}: {hint}, "
            "then give the same command again (results are not touched)"
        ) from error
    if not server:

        @event.listens_for(storage.engine, "connect")
        def _connected(connection: Any, _: object) -> None:
            connection.execute("PRAGMA synchronous = NORMAL")

        storage.engine.dispose()
    return storage


def is_there(where: str | Path) -> bool:
    """Whether the results database and Optuna's tables in it are whole, so that others than the driver may open it."""
    if not is_url(where) and not file_of(where).exists():
        return False
    with _looking(where) as connection:
        return _has_tables(connection)


def is_shown(where: str | Path, ended: Mapping[str, Collection[str]]) -> bool:
    """Whether these studies (name -> keys) show just these trials as ended, and none is open; Optuna is not loaded."""
    from sqlalchemy import bindparam, text

    query = text(
        "SELECT study_name, state, value_json FROM studies JOIN trials USING (study_id) "
        "LEFT JOIN trial_user_attributes AS named ON named.trial_id = trials.trial_id AND named.key = 'key' "
        "WHERE study_name IN :names AND state != 'FAIL'"
    ).bindparams(bindparam("names", expanding=True))
    with _looking(where) as connection:
        if not _has_tables(connection):
            return False
        found: dict[str, set[str]] = {}
        for name, state, key in connection.execute(query, {"names": list(ended)}):
            if state not in {"COMPLETE", "PRUNED"} or key is None:
                return False
            found.setdefault(name, set()).add(json.loads(key))
    return all(found.get(name, set()) >= set(keys) for name, keys in ended.items())


@contextmanager
def _looking(where: str | Path) -> "Iterator[Connection]":
    """A connection for reading; Optuna is not loaded."""
    engine = engine_of(where, read_only=True)
    try:
        with plain_errors(where), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _has_tables(connection: "Connection") -> bool:
    """Whether Optuna's tables are made, the last of them filled."""
    from sqlalchemy import inspect, text

    last = "alembic_version"
    made = inspect(connection).has_table(last)
    return made and bool(connection.execute(text(f"SELECT COUNT(*) FROM {last}")).scalar_one())


def running(where: str | Path) -> list[tuple[str, int, float | None]]:
    """Key, last epoch and its validation NDCG@10 of every trial that stands as running; for reading only."""
    if not is_there(where):  # a driver has it that is about to make them, or merges
        return []
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState

    url = optuna_url(where) if is_url(where) else file_url(file_of(where), mode="ro").render_as_string()
    storage = RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
    try:
        found = []
        for study in storage.get_all_studies():
            study_id = storage.get_study_id_from_name(study.study_name)
            for trial in storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
                last = trial.last_step
                found.append((trial.user_attrs.get("key", ""), last or 0, trial.intermediate_values.get(last or 0)))
        return found
    finally:
        storage.remove_session()
        storage.engine.dispose()


def put_back(storage: Any, but: Collection[str]) -> None:
    """What other studies show as running is the trace of a dead driver, since one sweeps at a time: it waits again.

    Studies named in `but` are left alone, as are trials that are not ours.
    """
    from optuna.trial import TrialState

    for study in storage.get_all_studies():
        if study.study_name not in but:
            for trial in storage.get_all_trials(study._study_id, deepcopy=False, states=(TrialState.RUNNING,)):
                if "key" in trial.user_attrs:
                    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def usual_name(name: str, place: str) -> str:
    """What the Optuna study of a place is called; `place` is the data set for a grid."""
    return f"{name}/{place}"


def study_name(storage: Any, name: str, place: str, space: SearchSpace | None) -> str:
    """What the Optuna study of a place is called in this database.

    A search has one for each method on each data set; earlier versions searched one method on each, under the data
    set's name alone, and their studies go on.
    """
    former = usual_name(name, space.base.data.dataset) if space else ""
    studies = {study.study_name: study._study_id for study in storage.get_all_studies()} if space else {}
    if space and former in studies:
        trials = storage.get_all_trials(studies[former], deepcopy=False)
        if any(trial.user_attrs.get("method") == space.base.method for trial in trials):
            return former
    return usual_name(name, place)


def is_of_another_space(storage: Any, name: str, keys: Collection[str]) -> bool:
    """Whether the study shows trials that ended but are not among these, hence not in the space that is searched now.

    A sampler would learn from them; such a study is to be made anew, its trials stay in the results.
    """
    from optuna.trial import TrialState

    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    shown = [
        trial.user_attrs.get("key")
        for study in storage.get_all_studies()
        if study.study_name == name
        for trial in storage.get_all_trials(study._study_id, deepcopy=False, states=ended)
    ]
    return any(key and key not in keys for key in shown)


def params_of(spec: TrialSpec, space: SearchSpace | None) -> "tuple[dict[str, Any], dict[str, BaseDistribution]]":
    """A trial's parameters and their declared ranges: those of the space, otherwise alpha and lambda if it has them."""
    from optuna.distributions import FloatDistribution

    if space:
        return dict(space.point(spec)), distributions(space)
    if spec.aux.kind == "none":
        return {}, {}
    params = {"alpha": spec.aux.alpha}
    if spec.aux.kind == "barlow_twins":
        params["lambda"] = spec.aux.lam
    return params, dict.fromkeys(params, FloatDistribution(0.0, WIDEST))


def distributions(space: SearchSpace) -> "dict[str, BaseDistribution]":
    """The ranges of a space."""
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(r.low), int(r.high), log=r.log)
        if r.integer
        else FloatDistribution(r.low, r.high, log=r.log)
        for name, r in space.ranges.items()
    }


def sampler(search: Search, seed: int) -> Any:
    """Who chooses the next point of a search."""
    from optuna import samplers

    if search == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=5)
    return samplers.NSGAIISampler(seed=seed) if search == "nsga2" else samplers.RandomSampler(seed=seed)


def pruner(prune: Prune) -> Any:
    """Who decides that a trial falls behind."""
    from optuna.pruners import MedianPruner, SuccessiveHalvingPruner

    return SuccessiveHalvingPruner() if prune == "halving" else MedianPruner(n_warmup_steps=2)
