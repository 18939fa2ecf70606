"""The contract of every field of the data's configuration: another key, other fingerprint, other rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.config import DataConfig, TrialSpec
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.values import Split

EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # field: settings, and others that differ from them in this field alone
    "dataset": ({}, {"dataset": "other.csv"}),
    "filter": ({"min_user": 25, "min_item": 25}, {"min_user": 25, "min_item": 25, "filter": "at_once"}),
    "min_item": ({}, {"min_item": 30}),
    "min_user": ({}, {"min_user": 30}),
    "quantile": ({}, {"quantile": 0.8}),
    "tie": ({}, {"tie": "random"}),
    "count": ({"min_user": 30}, {"min_user": 30, "count": "partners"}),
    "repeats": ({}, {"repeats": "first"}),
    "split": ({}, {"split": "leave_one_out"}),
    "user_col": ({}, {"user_col": "friend"}),
    "item_col": ({}, {"item_col": "brand"}),
    "time_col": ({}, {"time_col": "day"}),
}
ELSEWHERE = {"edition"}  # of the registry's data sets: tests/data/test_official.py


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables with ties in time, repeats, rare users and items, and other columns that could be meant."""
    here = tmp_path_factory.mktemp("raw")
    for seed, name in enumerate(("own.csv", "other.csv")):
        rng = np.random.default_rng(seed)
        n = 3000
        users = (80 * rng.random(n) ** 1.5).astype(int)
        frame = pd.DataFrame({
            "user": users,
            "item": (60 * rng.random(n) ** 1.5).astype(int),
            "timestamp": 10**9 + 86_400 * ((37 * users) % 80 + rng.integers(0, 9, n)),
            "friend": (users + 1) % 70,
            "brand": rng.integers(0, 30, n),
            "day": 10**9 + 86_400 * ((23 * users) % 80 + rng.integers(0, 9, n)),
        })
        frame.to_csv(here / name, index=False)
    return here


def prepared(folder: Path, settings: dict[str, Any]) -> tuple[DataConfig, Split]:
    content = {"dataset": "own.csv", "min_item": 5, "min_user": 5} | settings
    content["dataset"] = str(folder / content["dataset"])
    config = DataConfig.model_validate(content)
    return config, prepare(config, RunPaths(work_dir=folder / "run"))


def rows(split: Split) -> list[list[int]]:
    return [x.tolist() for x in (split.train_items, split.train_offsets, split.test_items, split.test_offsets)]


def test_no_field_is_left_untested() -> None:
    assert set(DataConfig.model_fields) == set(EFFECTS) | ELSEWHERE


@pytest.mark.parametrize("field", EFFECTS)
def test_every_field_changes_the_key_and_the_data(field: str, folder: Path) -> None:
    (one, first), (two, second) = (prepared(folder, settings) for settings in EFFECTS[field])
    assert {name for name in DataConfig.model_fields if getattr(one, name) != getattr(two, name)} == {field}
    assert TrialSpec(method="some", data=one).key != TrialSpec(method="some", data=two).key
    assert first.fingerprint != second.fingerprint and rows(first) != rows(second)
