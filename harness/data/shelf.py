"""The data folder: files put there by hand, and what the files that are there are worth."""

import shutil
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from harness.data.archives import check_intact
from harness.data.catalogue import DATA_DIR_VARIABLE, DATASETS, data_folder, fetching, find
from harness.data.digest import sha256
from harness.data.kinds import DatasetSpec, RawFile
from harness.data.readers import rows_of
from harness.data.reserve import reserved
from harness.errors import ConfigError, DataError, unknown_name

State = Literal["ok", "NOT OFFICIAL", "BAD"]
"""Readable, and official where that can be told; readable, but not the official file that is known; unreadable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What `verify` says of one file."""

    file: RawFile
    path: Path
    state: State
    words: str
    """One line."""


def spec_to_add(key: str, file: Path) -> DatasetSpec:
    """The data set of that key; raises ConfigError for an unknown one, with the command meant where it is a path."""
    if key in DATASETS:
        return DATASETS[key]
    path = Path(key)
    if not (path.suffix or len(path.parts) > 1 or path.exists()):
        raise unknown_name("data set", key, DATASETS)
    if str(file) in DATASETS:
        meant = f"did you mean btsr-data add {file} {key}?"
    else:
        nearest = _nearest(path.name) or _nearest(file.name)
        meant = f"did you mean btsr-data add {nearest} {key}? " if nearest else ""
        meant += f"Data sets: {', '.join(sorted(DATASETS))}; a table of your own is used where it is, by --dataset"
    raise ConfigError(f"{key} is a file where the data set belongs, as in btsr-data add DATASET FILE: {meant}")


def _nearest(name: str) -> str | None:
    """The data set whose key, or one of whose files, is called most like this."""
    keys = {Path(file.name).name.lower(): spec.key for spec in DATASETS.values() for file in spec.files}
    keys |= {key: key for key in DATASETS}
    near = (get_close_matches(word.lower(), keys, n=1, cutoff=0.7) for word in (name, Path(name).stem))
    return next((keys[found[0]] for found in near if found), None)


def add(spec: DatasetSpec, source: Path, *, edition: str = "", data_dir: Path | None = None) -> Finding:
    """Copy a file of the data set into the data folder, under the name it is looked for, after reading it to its end.

    Its SHA-256 tells which file it is, else its name, else the edition. Raises DataError for a file that is missing,
    cannot be read as what it is taken for, or differs from one that is there; ConfigError for one of unknown kind.
    """
    if spec.embedded:
        raise ConfigError(f"{spec.key} is generated and has no file to add")
    if not source.is_file():
        raise DataError(f"there is no file {source.absolute()} to add: check the path")
    check_intact(source)
    digest = sha256(source)
    file = _recognised(spec, source, digest, edition)
    finding = _finding(spec, file, source, digest, data_dir)
    if finding.state == "BAD":
        raise DataError(f"{finding.words}: it is not added")
    target = data_folder(data_dir) / file.name
    try:
        with reserved(target):
            if target.exists() and sha256(target) != digest:
                raise DataError(f"{target} is there already and differs: remove it first")
            if not target.exists():
                _copy(source, target)
    except OSError as error:
        raise DataError(
            f"{file.name} cannot be written to {target.parent} ({error}): choose another folder by --data-dir or "
            f"{DATA_DIR_VARIABLE}"
        ) from error
    return replace(finding, path=target)


def verify(spec: DatasetSpec, data_dir: Path | None = None) -> list[Finding]:
    """Every file of the data set that is in the data folder, read to its end and compared with what is known of it."""
    findings: list[Finding] = []
    for file in spec.files:
        path = find(replace(spec, files=(file,)), data_dir)
        if path is not None and all(finding.path != path for finding in findings):
            try:
                finding = _finding(spec, file, path, sha256(path), data_dir)
            except DataError as error:
                finding = Finding(file=file, path=path, state="BAD", words=str(error))
            findings.append(finding)
    return findings


def _copy(source: Path, target: Path) -> None:
    """Copy a file; under its name it is whole."""
    draft = target.with_name(f".{target.name}.added")
    try:
        shutil.copyfile(source, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _finding(spec: DatasetSpec, file: RawFile, path: Path, digest: str, data_dir: Path | None) -> Finding:
    """Read the file as what it is taken for, and compare it with what is known of official ones."""
    try:
        check_intact(path)
        rows = rows_of(file, path, spec.columns)
    except DataError as error:
        return Finding(file=file, path=path, state="BAD", words=str(error))
    found = len(rows.frame) + sum(rows.dropped.values())
    words = [f"{path}: {found:,} rows"]
    words += [f"{count:,} of them dropped ({reason})" for reason, count in rows.dropped.items()]
    state, origin = _origin(spec, file, digest, data_dir)
    words.append(origin)
    expected = (spec.official(digest) or file).rows
    if expected is not None and found != expected:
        words.append(f"the official file has {expected:,} rows")
    return Finding(file=file, path=path, state=state, words="; ".join(words))


def _origin(spec: DatasetSpec, file: RawFile, digest: str, data_dir: Path | None) -> tuple[State, str]:
    """Whether a file with this sum is an official one, in words, and what to do where it is not."""
    official = spec.official(digest)
    if official is not None:
        other = f" of edition {official.edition}" if official.edition != file.edition else ""
        return "ok", f"the official file{other}"
    if file.sha256:
        fetch = f"run {fetching(spec, file, file.edition, data_dir)}" if file.urls else f"get it from {spec.url}"
        return (
            "NOT OFFICIAL",
            f"its SHA-256 is not that of the official file (it is {digest}): for that one remove this and {fetch}",
        )
    if not spec.url:
        return "ok", f"a file of your own, SHA-256 {digest}"
    if file.reader == "table":
        return "ok", f"a table in place of the official archive, nothing to compare it with (SHA-256 {digest})"
    return "ok", f"no official SHA-256 is known (this is {digest})"


def _recognised(spec: DatasetSpec, source: Path, digest: str, edition: str) -> RawFile:
    """The entry that this file is."""
    candidates = spec.files_of(edition)
    for file in candidates:
        if file.sha256 == digest:
            return file
    for file in candidates:
        if f"/{source.absolute().as_posix()}".endswith(f"/{file.name}"):
            return file
    suffix = "".join(source.suffixes[-2:]) if source.suffix == ".gz" else source.suffix
    alike = [file for file in candidates if file.name.endswith(suffix)] if suffix else []
    if edition and len(alike) == 1:
        return alike[0]
    editions = f", or name one of the editions {', '.join(spec.editions)} by --edition" if spec.editions else ""
    raise ConfigError(
        f"{source.name} is no known file of {spec.key}: call it one of {', '.join(file.name for file in candidates)}"
        f"{editions}"
    )
