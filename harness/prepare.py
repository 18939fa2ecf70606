"""Prepared data on disk: one folder of memory-mapped arrays per data set, filter and split, made once.

The computation itself is `harness.data.split`. Leak checks run on every prepare, on every load and before every trial.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from harness.config import DataConfig, is_file
from harness.data import readers, synthetic
from harness.data.catalogue import dataset as registered
from harness.data.catalogue import dataset_of, downloadable, find, locate
from harness.data.digest import Digest, remember, remembered_sha256
from harness.data.distributions import Distributions, distributions, load_distributions, save_distributions
from harness.data.leaks import Evidence, check_leaks
from harness.data.reserve import reserved
from harness.data.rows import RawRows
from harness.data.split import fingerprint, keep_rows, split_kept
from harness.errors import DataError, LeakError
from harness.paths import RunPaths
from harness.values import Split

PREPARE = 3
"""Raised whenever the same rows and configuration give another split or report; part of the key of prepared data."""

_SPLIT_ARRAYS = (
    "train_items",
    "train_offsets",
    "test_items",
    "test_offsets",
    "popularity",
    "bucket",
    "item_ids",
    "user_ids",
)
_EVIDENCE_ARRAYS = ("train_times", "train_user_ids", "test_times")
_PROFILE = "profile.npz"


class _DamagedError(DataError):
    """A prepared folder that is incomplete, or not what its fingerprint says."""


def prepare(config: DataConfig, paths: RunPaths) -> Split:
    """The data set of `config`, filtered and split; from the cache below `paths.prepared`, made there when missing.

    Several processes at once prepare once; a damaged folder is made again. Raises ConfigError for an unknown data
    set, DataError for a missing or bad raw file, for data that leave no test user and for an unwritable folder,
    LeakError when a check fails.
    """
    plan = _plan(config, paths)
    split = _load_intact(plan.folder)
    try:
        if split is None:
            with reserved(plan.folder):
                split = _load_intact(plan.folder)
                if split is None:
                    _make(plan, config)
                    split = load_split(plan.folder)
    except OSError as error:
        raise DataError(
            f"prepared data cannot be written below {paths.prepared} ({error}): choose another folder by --out"
        ) from error
    if plan.digest:
        remember(plan.digest)
    return split


def for_trial(config: DataConfig, paths: RunPaths, folder: Path | None = None) -> Split:
    """The prepared data for a trial: opened once in this process, checked for leaks and damage each time.

    `folder` is where they were prepared, None where that is to be found out. Only when they are not there, or damaged,
    they are prepared anew, and only then, or to find `folder`, the raw file is needed. Raises as `prepare`.
    """
    place = folder or prepared_folder(config, paths)
    try:
        opened = (place / "split.json").stat()
        split, evidence = _opened(place, opened.st_ino, opened.st_mtime_ns)
        check_leaks(split, evidence)
        _check_fingerprint(place, split, evidence)
    except OSError:
        return prepare(config, paths)
    except _DamagedError as damage:
        try:
            return prepare(config, paths)
        except LeakError:
            raise
        except DataError as error:
            raise DataError(f"{damage}; {error}") from error
    return split


def prepared_folder(config: DataConfig, paths: RunPaths) -> Path:
    """Where `prepare` keeps this split: `<data set>-<16 hex digits>`, a hash of the raw data, `config` and PREPARE."""
    return _plan(config, paths).folder


def load_split(folder: Path) -> Split:
    """A prepared split, its arrays memory-mapped read-only, after checking its fingerprint and its promises.

    Raises DataError for a folder that is missing or damaged, LeakError when a check fails.
    """
    split, evidence = _open(folder)
    check_leaks(split, evidence)
    return split


def prepared_as(fingerprint: str, paths: RunPaths) -> Split | None:
    """The data with this fingerprint below `paths.prepared`, whatever became of their raw file; None where not there.

    Raises LeakError when a check fails.
    """
    for described in sorted(paths.prepared.glob("*/split.json")):
        try:
            told = json.loads(described.read_text(encoding="utf-8"))
            split = _load_intact(described.parent) if told["fingerprint"] == fingerprint else None
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if split is not None:
            return split
    return None


def _check_fingerprint(folder: Path, split: Split, evidence: Evidence) -> None:
    """Raise DataError unless the arrays are those that the fingerprint was computed from."""
    arrays = {name: getattr(split, name) for name in _SPLIT_ARRAYS}
    arrays |= {name: getattr(evidence, name) for name in _EVIDENCE_ARRAYS}
    if split.fingerprint != fingerprint(split.config, split.boundary, arrays):
        raise _DamagedError(f"{folder} is not what its fingerprint says: delete it and prepare again")


@lru_cache(maxsize=32)
def _opened(folder: Path, inode: int, changed: int) -> tuple[Split, Evidence]:
    """What `_open` gives, anew when another folder has come in its place."""
    return _open(folder)


def _open(folder: Path) -> tuple[Split, Evidence]:
    """A prepared split and what its leak checks need, memory-mapped, after checking its fingerprint."""
    try:
        meta = json.loads((folder / "split.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
            for name in (*_SPLIT_ARRAYS, *_EVIDENCE_ARRAYS)
        }
        split = Split(
            config=DataConfig.model_validate(meta["config"]),
            fingerprint=meta["fingerprint"],
            boundary=meta["boundary"],
            n_items=len(arrays["item_ids"]),
            report=meta["report"],
            file=meta["file"],
            edition=meta["edition"],
            **{name: arrays[name] for name in _SPLIT_ARRAYS},
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _DamagedError(
            f"{folder} holds no intact prepared data ({reason}): delete it and prepare again"
        ) from error
    evidence = Evidence(**{name: arrays[name] for name in _EVIDENCE_ARRAYS})
    _check_fingerprint(folder, split, evidence)
    return split, evidence


def distributions_of(config: DataConfig, paths: RunPaths) -> Distributions:
    """How the rows that the filter leaves are distributed; prepares what is not there yet, and raises as `prepare`."""
    prepare(config, paths)
    return load_distributions(prepared_folder(config, paths) / _PROFILE)


def raw_file(config: DataConfig, paths: RunPaths) -> Path | None:
    """The file that the data set is read from, None for a generated one; fetched if `paths.download` allows it.

    What is fetched is announced on standard error first: size, licence, source. Raises ConfigError for an
    unknown data set or edition and for one whose terms must be accepted first, DataError for a file that is missing and
    cannot be fetched.
    """
    spec = dataset_of(config)
    if spec.embedded:
        return None
    path = find(spec, paths.data_dir)
    if path is None and paths.download and downloadable(spec):
        from harness.data.fetch import download

        return download(spec, paths.data_dir)
    return path or locate(spec, paths.data_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Where a split is kept, and what it is made of."""

    folder: Path
    rows: Callable[[], RawRows]
    """Reads the raw rows."""
    file: str
    edition: str
    """As in `Split`."""
    digest: Digest | None
    """Of the raw file, None for generated rows."""


def _plan(config: DataConfig, paths: RunPaths) -> _Plan:
    """The folder of the prepared split, and how to read its raw rows when it is not there."""
    spec = dataset_of(config)
    path = raw_file(config, paths)
    digest, rows, file, edition = None, _generated, "", ""
    if path is None:
        source = f"generator {synthetic.VERSION} {synthetic.SEED} {synthetic.USERS} {synthetic.ITEMS}"
    else:
        digest = remembered_sha256(path, paths.prepared)
        source, rows = digest.sha256, partial(readers.read, spec, path, digest.sha256)
        if not is_file(config.dataset):
            found = spec.raw_file(path)
            known = registered(config.dataset).official(digest.sha256)
            file, edition = found.name, (known or found).edition
    content = {"prepare": PREPARE, "source": source, "config": config.canonical()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    folder = paths.prepared / f"{spec.key}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return _Plan(folder=folder, rows=rows, file=file, edition=edition, digest=digest)


def _generated() -> RawRows:
    return RawRows(frame=synthetic.generate())


def _load_intact(folder: Path) -> Split | None:
    """The split in `folder`, or None where there is none, or a damaged one."""
    try:
        return load_split(folder) if (folder / _PROFILE).is_file() else None
    except _DamagedError:
        return None


def _make(plan: _Plan, config: DataConfig) -> None:
    """Read and split the rows and keep the result in the plan's folder; the caller holds the folder's lock."""
    rows = plan.rows()
    kept = keep_rows(rows.frame, config)
    split, evidence = split_kept(kept, config)
    dropped = sum(rows.dropped.values())
    report = {**split.report, "raw_rows": split.report["raw_rows"] + dropped, "rows_dropped_by_reader": dropped}
    told = replace(split, report=report, file=plan.file, edition=plan.edition)
    _save(plan.folder, told, evidence, distributions(kept))


def _save(folder: Path, split: Split, evidence: Evidence, found: Distributions) -> None:
    """Write the split beside `folder` and rename it into place; the caller holds the folder's lock."""
    draft = folder.with_name(f".{folder.name}.partial")
    for stale in (draft, folder):
        if stale.exists():
            shutil.rmtree(stale)
    meta = {
        "config": split.config.canonical(),
        "fingerprint": split.fingerprint,
        "boundary": split.boundary,
        "report": dict(split.report),
        "file": split.file,
        "edition": split.edition,
    }
    try:
        draft.mkdir()
        for name in _SPLIT_ARRAYS:
            np.save(draft / f"{name}.npy", getattr(split, name))
        for name in _EVIDENCE_ARRAYS:
            np.save(draft / f"{name}.npy", getattr(evidence, name))
        save_distributions(found, draft / _PROFILE)
        (draft / "split.json").write_text(json.dumps(meta, indent=1, sort_keys=True), encoding="utf-8")
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
