"""The data sets by key, and where their files lie. Imports no heavy library, and fetches nothing.

A missing file is an error that names the folder, the accepted names and the source; `harness.data.fetch` downloads.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from harness.config import FILE_SUFFIXES, DataConfig, file_key, is_file, names_in
from harness.data.kinds import DatasetSpec, RawFile, Reader
from harness.data.official import OFFICIAL
from harness.errors import ConfigError, DataError, unknown_name

DATA_DIR_VARIABLE = "BTSR_DATA"
"""Environment variable that names the folder of the raw files."""

DATASETS: dict[str, DatasetSpec] = {spec.key: spec for spec in OFFICIAL}

_DEEPEST = 4
"""How many folders below the data folder a file is searched for."""


def dataset(key: str) -> DatasetSpec:
    """The data set of that key, or of the user's own file of that path, which need not exist yet.

    Raises ConfigError with the nearest spelling for an unknown key.
    """
    if key in DATASETS:
        return DATASETS[key]
    if is_file(key):
        reader: Reader = "jsonl" if key.lower().endswith((".jsonl", ".jsonl.gz")) else "table"
        return DatasetSpec(
            key=Path(key).name,
            title=Path(key).name,
            files=(RawFile(name=key, reader=reader),),
            url="",
            licence="yours",
            note="a file of your own",
        )
    if "/" in key or os.sep in key:
        raise ConfigError(
            f"data set {key} is no file that can be read: its name must end in {', '.join(FILE_SUFFIXES)}"
        )
    raise unknown_name("data set", key, DATASETS)


def dataset_of(config: DataConfig) -> DatasetSpec:
    """The data set that `config` means, narrowed to its edition and with its columns."""
    spec = dataset(config.dataset)
    return replace(spec, files=spec.files_of(config.edition), columns=config.columns)


def named_datasets(*words: Sequence[str] | None) -> tuple[str, ...]:
    """The data sets that words of the command line name (see `names_in`), each once; the path of a file by `file_key`.

    Raises ConfigError for an unknown key and when nothing is named.
    """
    names = names_in(chain(*(some for some in words if some)))
    for name in names:
        dataset(name)
    if not names:
        raise ConfigError(f"no data set is named: use all, some of {', '.join(DATASETS)}, or a file")
    return tuple(dict.fromkeys(name if name in DATASETS else file_key(name) for name in names))


def data_folder(data_dir: Path | None) -> Path:
    """Folder of the raw files: `data_dir`, else the environment's BTSR_DATA, else ./data."""
    return (data_dir or Path(os.environ.get(DATA_DIR_VARIABLE) or "data")).expanduser()


def find(spec: DatasetSpec, data_dir: Path | None = None) -> Path | None:
    """Path of the first of the data set's accepted files that exists in the data folder or below it, else None."""
    folder = data_folder(data_dir)
    for file in spec.files:
        if (folder / file.name).is_file():
            return folder / file.name
    return _below(folder, [file.name for file in spec.files])


def downloadable(spec: DatasetSpec) -> RawFile | None:
    """The file that a download would fetch: the first of the data set that has an address, if any."""
    return next((file for file in spec.files if file.urls), None)


def source(spec: DatasetSpec) -> str:
    """The address that a user who fetches the file by hand is told: an edition's own, else the data set's."""
    file = downloadable(spec)
    return file.urls[0] if file and not file.consent and len(spec.editions) == 1 else spec.url


def command(words: str, edition: str, data_dir: Path | None) -> str:
    """A command of `btsr-data` for an edition, if any, and the data folder where it was named."""
    place = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""
    return f"btsr-data {words}{f' --edition {edition}' if edition else ''}{place}"


def fetching(spec: DatasetSpec, file: RawFile, edition: str, data_dir: Path | None) -> str:
    """The command that fetches a file of the data set, its terms accepted where it has any."""
    return command(f"download {spec.key}{' --accept-terms' if file.consent else ''}", edition, data_dir)


def only_edition(spec: DatasetSpec) -> str:
    """The edition of a data set that has one alone; empty for others."""
    return spec.editions[0] if len(spec.editions) == 1 else ""


def locate(spec: DatasetSpec, data_dir: Path | None = None) -> Path:
    """What `find` gives; raises DataError with the folder, the accepted names, the source and how to get the file."""
    assert not spec.embedded, f"{spec.key} is generated and has no file"
    path = find(spec, data_dir)
    if path is not None:
        return path
    if not spec.url:
        raise DataError(f"there is no file {spec.files[0].name}: check the path")
    folder = data_folder(data_dir)
    where = f"no file of it in {folder.absolute()}" if folder.is_dir() else f"no such folder as {folder.absolute()}"
    edition, file = only_edition(spec), downloadable(spec)
    fetched = f"run {fetching(spec, file, edition, data_dir)}, " if file else ""
    names = ", ".join(file.name for file in spec.files)
    raise DataError(
        f"{spec.key} ({spec.title}): {where}: {fetched}get {'one of ' if len(spec.files) > 1 else ''}{names} by hand "
        f"({source(spec)}) and run {command(f'add {spec.key} FILE', edition, data_dir)}, or name another folder by "
        f"--data-dir or {DATA_DIR_VARIABLE}"
    )


def _below(folder: Path, names: list[str]) -> Path | None:
    """The first of the names that lies in a folder below, in the order of the names, then of the paths."""
    found: dict[str, Path] = {}
    for root, folders, _ in os.walk(folder):
        here = Path(root)
        deep = len(here.relative_to(folder).parts) >= _DEEPEST
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name not in found and here != folder and (here / name).is_file():
                found[name] = here / name
    return next((found[name] for name in names if name in found), None)
