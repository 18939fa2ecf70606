"""Pictures among the artifacts of an Optuna study, as its dashboard shows them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import StoreError

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy


def attach(study: "OptunaStudy", folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Show pictures (file name -> PNG), kept in `folder`; each takes the place of a former one of its name.

    Raises StoreError where the folder cannot be written.
    """
    from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

    known = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            if name in known:
                fresh = folder / f"{known[name]}.new"
                fresh.write_bytes(content)
                fresh.replace(folder / known[name])
                continue
            with tempfile.TemporaryDirectory() as draft:
                (file := Path(draft) / name).write_bytes(content)
                store = FileSystemArtifactStore(folder)
                upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=study)
    except OSError as error:
        raise StoreError(
            f"pictures for the dashboard cannot be written to {folder} ({error.strerror or error}): check the folder "
            "and the free space, then give the same command again"
        ) from error
