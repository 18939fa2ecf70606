"""How the Optuna studies in a results database are reached, for writing by the driver and for a look from outside."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.database import BUSY_SECONDS, file_of, is_url, optuna_url


def open_storage(where: str | Path) -> Any:
    """Optuna's storage in this database, its tables made where they are missing."""
    import optuna
    from sqlalchemy import event

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    server = is_url(where)
    storage = optuna.storages.RDBStorage(
        optuna_url(where), engine_kwargs={} if server else {"connect_args": {"timeout": BUSY_SECONDS}}
    )
    if not server:

        @event.listens_for(storage.engine, "connect")
        def _connected(connection: Any, _: object) -> None:
            connection.execute("PRAGMA synchronous = NORMAL")

        storage.engine.dispose()
    return storage


def running(where: str | Path) -> list[tuple[str, int, float | None]]:
    """Key, last epoch and its validation NDCG@10 of every trial that stands as running; for reading only."""
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState

    url = optuna_url(where) if is_url(where) else f"sqlite:///file:{quote(str(file_of(where)))}?mode=ro&uri=true"
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
