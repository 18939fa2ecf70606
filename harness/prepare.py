"""Prepared data on disk: one folder of memory-mapped arrays per data set, filter and split, made once.

The computation itself is `harness.data.split`. Leak checks run on every prepare and on every load.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from harness.config import DataConfig, RunPaths
from harness.data import readers, synthetic
from harness.data.catalogue import dataset, locate
from harness.data.split import Evidence, check_leaks, fingerprint, split_rows
from harness.errors import DataError
from harness.values import Split

PREPARE = 1
"""Raised whenever the same rows and configuration give another split; part of the key of prepared data."""

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


class _DamagedError(DataError):
    """A prepared folder that is incomplete, or not what its fingerprint says."""


def prepare(config: DataConfig, paths: RunPaths) -> Split:
    """The data set of `config`, filtered and split; from the cache below `paths.prepared`, made there when missing.

    Several processes at once prepare once; a damaged folder is made again. Raises ConfigError for an unknown data
    set, DataError for a missing or bad raw file, for data that leave no test user and for an unwritable folder,
    LeakError when a check fails.
    """
    folder, rows = _plan(config, paths)
    split = _load_intact(folder)
    if split is not None:
        return split
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            split = _load_intact(folder)
            if split is None:
                _save(folder, *split_rows(rows(), config))
                split = load_split(folder)
    except OSError as error:
        raise DataError(
            f"prepared data cannot be written below {folder.parent} ({error}): choose another folder by --out"
        ) from error
    return split


def prepared_folder(config: DataConfig, paths: RunPaths) -> Path:
    """Where `prepare` keeps this split: `<data set>-<16 hex digits>`, a hash of the raw data, `config` and PREPARE."""
    return _plan(config, paths)[0]


def load_split(folder: Path) -> Split:
    """A prepared split, its arrays memory-mapped read-only, after checking its fingerprint and its promises.

    Raises DataError for a folder that is missing or damaged, LeakError when a check fails.
    """
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
            **{name: arrays[name] for name in _SPLIT_ARRAYS},
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _DamagedError(
            f"{folder} holds no intact prepared data ({reason}): delete it and prepare again"
        ) from error
    if split.fingerprint != fingerprint(split.config, split.boundary, arrays):
        raise _DamagedError(f"{folder} is not what its fingerprint says: delete it and prepare again")
    check_leaks(split, Evidence(**{name: arrays[name] for name in _EVIDENCE_ARRAYS}))
    return split


def describe(split: Split) -> list[tuple[str, str]]:
    """The split's report as (label, value) lines for a reader, in the order of the steps of spec 6.1."""
    report, config = split.report, split.config
    moment = np.datetime64(split.boundary, "s")

    def sizes(rows: str, users: str, items: str) -> str:
        return f"{report[rows]:,} rows, {report[users]:,} users, {report[items]:,} items"

    chosen = "none" if config.filter == "none" else f"{config.filter}, items {config.min_item}, users {config.min_user}"
    per_bucket = np.bincount(split.bucket[split.targets("test")], minlength=4)[1:]
    return [
        ("raw", sizes("raw_rows", "raw_users", "raw_items")),
        (f"after filter ({chosen})", sizes("rows", "users", "items")),
        ("boundary", f"{split.boundary} ({moment} UTC), quantile {config.quantile}, ties {config.tie}"),
        ("rows before the boundary", f"{report['rows_before_boundary']:,}"),
        ("training", sizes("train_rows", "train_users", "train_items")),
        ("training sequences (two rows or more)", f"{report['train_sequences']:,}"),
        ("rows from the boundary on", f"{report['test_rows']:,} of {report['test_users']:,} users"),
        ("of them with earlier rows (thrown away)", f"{report['test_users_with_earlier_rows']:,} users"),
        ("test rows lost to unseen items", f"{report['test_rows_of_unseen_items']:,}"),
        ("evaluated users (three rows or more)", f"{report['evaluated_users']:,}"),
        ("test targets per popularity bucket", " / ".join(f"{count:,}" for count in per_bucket)),
        ("test targets already in the input", f"{report['repeat_share']:.1%}"),
        ("training users with a same-target partner", f"{report['partner_share']:.1%}"),
        ("fingerprint", split.fingerprint),
    ]


def _plan(config: DataConfig, paths: RunPaths) -> tuple[Path, Callable[[], pd.DataFrame]]:
    """The folder of the prepared split, and how to read its raw rows when it is not there."""
    spec = dataset(config.dataset)
    if spec.embedded:
        source = f"generator {synthetic.VERSION} {synthetic.SEED} {synthetic.USERS} {synthetic.ITEMS}"
        rows: Callable[[], pd.DataFrame] = synthetic.generate
    else:
        path = locate(spec, paths.data_dir)
        source = readers.sha256(path)
        rows = partial(readers.read, spec, path)
    content = {"prepare": PREPARE, "source": source, "config": config.canonical()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return paths.prepared / f"{spec.key}-{hashlib.sha256(text.encode()).hexdigest()[:16]}", rows


def _load_intact(folder: Path) -> Split | None:
    """The split in `folder`, or None where there is none, or a damaged one."""
    try:
        return load_split(folder)
    except _DamagedError:
        return None


def _save(folder: Path, split: Split, evidence: Evidence) -> None:
    """Write the split beside `folder` and rename it into place; the caller holds the folder's lock."""
    draft = folder.with_name(f".{folder.name}.partial")
    for stale in (draft, folder):
        if stale.exists():
            shutil.rmtree(stale)
    draft.mkdir()
    for name in _SPLIT_ARRAYS:
        np.save(draft / f"{name}.npy", getattr(split, name))
    for name in _EVIDENCE_ARRAYS:
        np.save(draft / f"{name}.npy", getattr(evidence, name))
    meta = {
        "config": split.config.canonical(),
        "fingerprint": split.fingerprint,
        "boundary": split.boundary,
        "report": dict(split.report),
    }
    (draft / "split.json").write_text(json.dumps(meta, indent=1, sort_keys=True), encoding="utf-8")
    draft.rename(folder)
