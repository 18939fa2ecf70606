"""A leak in prepared data stops the trial that would train on it, also one that came after the trial before."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import prepare as module
from harness.config import DataConfig, TrialSpec
from harness.data.distributions import distributions
from harness.data.leaks import Evidence
from harness.data.split import fingerprint, keep_rows, split_rows
from harness.data.synthetic import generate
from harness.errors import DataError, LeakError
from harness.executors import RunContext, train_trial
from harness.paths import RunPaths
from harness.prepare import for_trial, prepare, prepared_folder
from harness.values import Split

DATA = DataConfig(dataset="ml1m")
SPEC = TrialSpec.model_validate({
    "method": "sasrec_ce",
    "data": {"dataset": "ml1m"},
    "encoder": {"max_len": 5, "dim": 8, "blocks": 1},
    "train": {"batch_size": 64, "max_epochs": 1, "patience": 1},
})


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    (tmp_path / "data").mkdir()
    rows = generate(users=400, items=60).rename(columns={"time": "timestamp"})
    rows.to_csv(tmp_path / "data" / "ml-1m.csv", index=False)
    return RunPaths(data_dir=tmp_path / "data", work_dir=tmp_path / "runs")


def late_row(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"train_times": np.append(evidence.train_times[:-1], split.boundary)}


def early_test_row(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"test_times": np.append(split.boundary - 1, evidence.test_times[1:])}


def user_on_both_sides(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    trained, tester = evidence.train_user_ids.copy(), split.user_ids[0]
    trained[int(np.searchsorted(trained.astype(np.int64), int(tester)))] = tester
    return {}, {"train_user_ids": trained}


def item_of_the_test(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    kept = np.append(split.item_ids, "unseen"), np.append(split.popularity, np.int32(0))
    bucket = np.append(split.bucket, np.int8(3))
    items = np.append(split.test_items[:-1], np.int32(split.n_items))
    return {"item_ids": kept[0], "popularity": kept[1], "bucket": bucket, "test_items": items}, {}


def popularity_of_the_test(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return {
        "popularity": split.popularity + np.bincount(split.test_items, minlength=split.n_items).astype(np.int32)
    }, {}


def validation_after_test(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    times = evidence.test_times.copy()
    last = split.test_offsets[1] - 1
    times[last - 1] = times[last] + 1
    return {}, {"test_times": times}


def items_swapped(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"item_ids": split.item_ids[[1, 0, *range(2, split.n_items)]]}, {}


def item_doubled(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"item_ids": split.item_ids[[0, 0, *range(2, split.n_items)]]}, {}


def renamed_tester(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"user_ids": np.append("99999", split.user_ids[1:])}, {}


def trainers_reversed(split: Split, evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"train_user_ids": evidence.train_user_ids[::-1]}


PLANTED = {
    late_row: "1 training rows are at or after the boundary",
    early_test_row: "1 test rows are before the boundary",
    user_on_both_sides: "1 users are in training and test",
    item_of_the_test: "not exactly those of the training rows",
    popularity_of_the_test: "popularity does not come from the training rows alone",
    validation_after_test: "rows of a test user are not in order of time",
    items_swapped: "item ids are not in their order, each once",
    item_doubled: "item ids are not in their order, each once",
    renamed_tester: "ids of evaluated users are not in their order, each once",
    trainers_reversed: "ids of training users are not in their order, each once",
}


@pytest.mark.parametrize(("violation", "words"), PLANTED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_every_trial_looks_for_leaks(paths: RunPaths, violation: Any, words: str) -> None:
    """The folder's fingerprint is right, so that only the checks can tell."""
    context = RunContext(paths=paths)
    assert len(list(train_trial(SPEC, context))) == 1
    plant(violation, paths)
    with pytest.raises(LeakError, match=words):
        list(train_trial(SPEC, context))


@pytest.mark.parametrize(("violation", "words"), PLANTED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_first_trial_looks_for_leaks(paths: RunPaths, violation: Any, words: str) -> None:
    """Also where the sweep has said which folder it is."""
    plant(violation, paths)
    for prepared in ({}, {DATA: prepared_folder(DATA, paths)}):
        with pytest.raises(LeakError, match=words):
            list(train_trial(SPEC, RunContext(paths=paths, prepared=prepared)))


def first_late(split: Split, arrays: dict[str, Any]) -> None:
    arrays["train_times"][0] = split.boundary


def first_early(split: Split, arrays: dict[str, Any]) -> None:
    arrays["test_times"][0] = split.boundary - 1


def one_user_on_both_sides(split: Split, arrays: dict[str, Any]) -> None:
    trained, tester = arrays["train_user_ids"], split.user_ids[0]
    trained[int(np.searchsorted(trained.astype(np.int64), int(tester)))] = tester


def unseen_item(split: Split, arrays: dict[str, Any]) -> None:
    arrays["test_items"][0] = split.n_items


def popularity_raised(split: Split, arrays: dict[str, Any]) -> None:
    arrays["popularity"][0] += 1


def order_reversed(split: Split, arrays: dict[str, Any]) -> None:
    last = split.test_offsets[1] - 1
    arrays["test_times"][last - 1] = arrays["test_times"][last] + 1


IN_PLACE = {
    first_late: "1 training rows are at or after the boundary",
    first_early: "1 test rows are before the boundary",
    one_user_on_both_sides: "1 users are in training and test",
    unseen_item: "test rows hold items that no training row has",
    popularity_raised: "popularity does not come from the training rows alone",
    order_reversed: "rows of a test user are not in order of time",
}


@pytest.mark.parametrize(("violation", "words"), IN_PLACE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_worker_opens_the_data_once_and_looks_for_leaks_each_time(
    paths: RunPaths, violation: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the raw file, in the arrays that the trial before has opened."""
    split = prepare(DATA, paths)
    folder = prepared_folder(DATA, paths)
    context = RunContext(paths=paths, prepared={DATA: folder})
    assert paths.data_dir is not None
    shutil.rmtree(paths.data_dir)
    assert len(list(train_trial(SPEC, context))) == 1
    monkeypatch.setattr(module, "_open", None)
    assert len(list(train_trial(SPEC, context))) == 1
    names = ("train_times", "test_times", "train_user_ids", "test_items", "popularity")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in names}
    violation(split, arrays)
    for array in arrays.values():
        array.flush()
    with pytest.raises(LeakError, match=words):
        list(train_trial(SPEC, context))


def rename_tester(arrays: dict[str, Any]) -> None:
    """Still the last in order, and no training user."""
    arrays["user_ids"][-1] = "9" * (arrays["user_ids"].itemsize // 4)


def other_bucket(arrays: dict[str, Any]) -> None:
    arrays["bucket"][0] = 4 - arrays["bucket"][0]


def other_input(arrays: dict[str, Any]) -> None:
    """Of a test user, an item that training has; no promise is broken."""
    arrays["test_items"][0] = (arrays["test_items"][0] + 1) % arrays["item_ids"].size


@pytest.mark.parametrize("damage", [rename_tester, other_bucket, other_input])
def test_damage_that_breaks_no_promise_is_made_good(paths: RunPaths, damage: Any) -> None:
    """In the arrays that the trial before has opened: the fingerprint tells; without the raw file it is an error."""
    split = prepare(DATA, paths)
    folder = prepared_folder(DATA, paths)
    sound = {name: np.load(folder / f"{name}.npy") for name in module._SPLIT_ARRAYS}
    assert for_trial(DATA, paths, folder).fingerprint == split.fingerprint

    def damaged() -> None:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in module._SPLIT_ARRAYS}
        damage(arrays)
        for array in arrays.values():
            array.flush()

    damaged()
    healed = for_trial(DATA, paths, folder)
    assert all(np.array_equal(getattr(healed, name), array) for name, array in sound.items())
    damaged()
    assert paths.data_dir is not None
    shutil.rmtree(paths.data_dir)
    with pytest.raises(DataError, match="is not what its fingerprint says.*no such folder"):
        for_trial(DATA, paths, folder)


def test_data_that_are_gone_are_prepared_anew(paths: RunPaths) -> None:
    prepare(DATA, paths)
    folder = prepared_folder(DATA, paths)
    context = RunContext(paths=paths, prepared={DATA: folder})
    assert len(list(train_trial(SPEC, context))) == 1
    (folder / "split.json").write_text("{")
    assert len(list(train_trial(SPEC, context))) == 1
    shutil.rmtree(folder)
    assert len(list(train_trial(SPEC, context))) == 1 and folder.is_dir()


def plant(violation: Any, paths: RunPaths) -> None:
    """Put data with this violation, and a fingerprint that is right, in the place of the prepared ones."""
    split, evidence = split_rows(generate(users=400, items=60), DATA)
    assert prepare(DATA, paths).fingerprint == split.fingerprint
    in_split, in_evidence = violation(split, evidence)
    split, evidence = replace(split, **in_split), replace(evidence, **in_evidence)
    arrays = {name: getattr(split, name) for name in module._SPLIT_ARRAYS}
    arrays |= {name: getattr(evidence, name) for name in module._EVIDENCE_ARRAYS}
    split = replace(split, n_items=len(split.item_ids), fingerprint=fingerprint(DATA, split.boundary, arrays))
    folder = prepared_folder(DATA, paths)
    shutil.rmtree(folder)
    module._save(folder, split, evidence, distributions(keep_rows(generate(users=400, items=60), DATA)))
