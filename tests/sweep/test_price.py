"""What a calibration measures is known to later plans and starts, without a database of half a study."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import executors
from harness.choices import DataChoices
from harness.config import Study, StudyOptions, TrialSpec
from harness.errors import ConfigError
from harness.executors import RunContext, processors
from harness.launch import at_once, check_shared, idle_gpu
from harness.local_executor import LocalExecutor
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.plan import Plan, current_plan
from harness.prepare import prepare
from harness.price import CALIBRATION_EPOCHS, calibrate, from_calibration, from_past, price
from harness.ray_cluster import Cluster
from harness.store import open_store
from harness.trial import trial_steps
from harness.values import Cell, EpochLog, Estimate
from studies.profiles import trial
from tests.store import fake
from tests.sweep.test_cli import TINY, sweep

CELLS: tuple[Cell, ...] = tuple(("synthetic", method, "released") for method in ("sasrec_ce", "bt_sr"))


def plan(paths: RunPaths, *, max_epochs: int = 1, **asked: Any) -> Plan:
    options = StudyOptions(datasets=("synthetic",), max_epochs=max_epochs, **asked)
    specs = tuple(trial(method, "synthetic", options, 1235) for _, method, _ in CELLS)
    return current_plan(Study(name="tiny", title="Tiny", specs=specs), paths, SweepOptions())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunContext, dict[Cell, Estimate]]:
    context = RunContext(paths=RunPaths(work_dir=tmp_path_factory.mktemp("price")))
    return context, calibrate(plan(context.paths), context, CELLS[1:], print)


def test_what_was_measured_is_known_where_it_holds(measured: tuple[RunContext, dict[Cell, Estimate]]) -> None:
    context, found = measured
    assert list(found) == [CELLS[0]], "what is known is not measured"
    assert from_calibration(plan(context.paths), context) == found
    longer = from_calibration(plan(context.paths, max_epochs=7), context)
    assert longer[CELLS[0]].seconds == pytest.approx(7 * found[CELLS[0]].seconds)
    assert from_calibration(plan(context.paths), replace(context, threads=2)) == {}
    assert from_calibration(plan(context.paths), replace(context, device="cuda")) == {}
    for other in ({"data": DataChoices(min_user=3)}, {"precision": "bf16"}):
        assert from_calibration(plan(context.paths, **other), context) == {}


@pytest.mark.parametrize(("every", "validations"), [(1, 7), (3, 3), (7, 1), (10, 1)])
def test_a_price_has_the_validations_that_the_training_makes(
    every: int, validations: int, measured: tuple[RunContext, dict[Cell, Estimate]]
) -> None:
    """Every so many epochs, and after the last; what was measured holds for all cadences."""
    context, _ = measured
    (note,) = json.loads((context.paths.work_dir / "prices.json").read_text())
    assert note["seconds_train"] > 0 and note["seconds_valid"] > 0
    asked = plan(context.paths, max_epochs=7, validate_every=every)
    wanted = 7 * note["seconds_train"] + validations * note["seconds_valid"]
    assert from_calibration(asked, context)[CELLS[0]].seconds == pytest.approx(wanted)
    spec = asked.upcoming[0]
    logs = list(trial_steps(spec, prepare(spec.data, context.paths)))
    assert sum(bool(log.valid) for log in logs) == validations


def test_a_calibration_sees_validations_whatever_the_cadence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.price.CALIBRATION_SECONDS", math.inf)
    context = RunContext(paths=RunPaths(work_dir=tmp_path))
    said: list[str] = []
    monkeypatch.setattr("harness.memory.give_back_gpu", lambda: said.append("what its GPU held is given back"))
    found = calibrate(plan(context.paths, max_epochs=20, validate_every=10), context, CELLS[1:], said.append)
    assert said == [
        "measuring 1 of 1: synthetic sasrec_ce, 5 epochs or two minutes",
        "what its GPU held is given back",
    ]
    (note,) = json.loads((tmp_path / "prices.json").read_text())
    assert note["seconds_valid"] > 0 and note["epochs"] == CALIBRATION_EPOCHS
    assert found[CELLS[0]].seconds == pytest.approx(20 * note["seconds_train"] + 2 * note["seconds_valid"])


def test_a_calibration_sees_a_term_that_begins_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC4SRec's begins with epoch 15; a calibration has five."""
    paths = RunPaths(work_dir=tmp_path)
    late = trial("ec4srec", "synthetic", StudyOptions(datasets=("synthetic",)), 1235)
    assert late.aux.first_epoch > CALIBRATION_EPOCHS
    logs = []

    def watched(spec: TrialSpec, *words: Any, **options: Any) -> Iterator[EpochLog]:
        for log in trial_steps(spec, *words, **options):
            logs.append(log)
            yield log

    monkeypatch.setattr("harness.trial.trial_steps", watched)
    monkeypatch.setattr("harness.price.CALIBRATION_SECONDS", math.inf)
    asked = current_plan(Study(name="late", title="Late", specs=(late,)), paths, SweepOptions())
    calibrate(asked, RunContext(paths=paths), (), print)
    assert len(logs) == CALIBRATION_EPOCHS and all("auxiliary" in log.parts for log in logs)
    assert asked.upcoming == (late,)


def test_a_new_measurement_takes_the_place_of_the_former(measured: tuple[RunContext, dict[Cell, Estimate]]) -> None:
    context, _ = measured
    again = calibrate(plan(context.paths), context, CELLS[1:], print)
    assert from_calibration(plan(context.paths), context) == again
    assert len(json.loads((context.paths.work_dir / "prices.json").read_text())) == 1


def test_finished_trials_tell_the_price_of_their_kind_alone(tmp_path: Path) -> None:
    """Data that are filtered otherwise, another precision, fewer epochs, or fewer validations, cost otherwise."""
    split = fake.split()
    done = trial("sasrec_ce", "synthetic", StudyOptions(datasets=("synthetic",)), 1235)
    most = done.train.max_epochs
    asked: dict[str, Any] = {"max_epochs": most}
    paths = RunPaths(work_dir=tmp_path / "other")
    with open_store(tmp_path / "btsr.db", create=True) as store, store.driver_lock():
        store.record_data(split)
        store.record(fake.result(done, split))
        assert list(from_past(store, plan(paths, **asked))) == [CELLS[0]]
        others = (
            {"data": DataChoices(min_user=3)},
            {"precision": "bf16"},
            {"max_epochs": most - 1},
            {"validate_every": 2},
        )
        for other in others:
            assert from_past(store, plan(paths, **asked | other)) == {}


def test_the_end_is_no_sooner_than_the_workers_and_the_longest_trial_allow(tmp_path: Path) -> None:
    todo = plan(RunPaths(work_dir=tmp_path))
    seconds = (1800.0, 3600.0)
    known = {
        cell: Estimate(
            dataset=cell[0], method=cell[1], profile=cell[2], seconds=each, peak_mib=100.0 * each, source="told"
        )
        for cell, each in zip(CELLS, seconds, strict=True)
    }
    cost = price(todo, known)
    assert (cost.hours, cost.peak_mib, cost.unknown) == (1.5, 360_000.0, ())
    assert [cost.hours_with(workers) for workers in (1, 2, 100)] == [1.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("asked", "gpus_here", "trials"),
    [
        ({"workers": None, "cpus": 1, "gpus": 0.0}, 0, 8),
        ({"workers": None, "cpus": 3, "gpus": 0.0}, 0, 2),
        ({"workers": 20, "cpus": 1, "gpus": 0.0}, 0, 20),
        ({"workers": None, "cpus": 1, "gpus": 0.25}, 1, 4),
        ({"workers": None, "cpus": 1, "gpus": 0.25}, 4, 8),
        ({"workers": 3, "cpus": 1, "gpus": 0.25}, 1, 3),
        ({"workers": None, "cpus": 1, "gpus": 0.5}, 0, 2),
        ({"workers": None, "cpus": 1, "gpus": 1.0}, 3, 3),
    ],
)
def test_as_many_trials_at_once_as_a_start_would_run(
    asked: dict[str, Any], gpus_here: int, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_MINE", set(range(8)))
    monkeypatch.setattr("harness.launch.unbind", lambda: None)
    monkeypatch.setattr("harness.device.gpu_count", lambda: gpus_here)
    assert at_once(Cluster(**asked)) == trials


def test_processors_that_this_process_may_not_use_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(executors, "_MINE", {3, 5, 7})
    assert processors() == at_once(Cluster()) == LocalExecutor()._workers == 3
    monkeypatch.setattr(executors, "_MINE", None)
    assert processors() == 64, "where the system does not say"


@pytest.mark.parametrize(
    ("kind", "device", "room", "says"),
    [
        ("ray", "cuda", Cluster(), "--device cuda: add --gpus-per-trial 0.25 \\(or 1\\), or --workers N"),
        ("ray", "cuda:1", Cluster(), "--device cuda:1: add --workers N"),
        ("local", "cuda", Cluster(), "--device cuda: add --workers N"),
        ("ray", "cuda", Cluster(gpus=0.25), None),
        ("local", "cuda", Cluster(workers=1), None),
        ("ray", "cpu", Cluster(), None),
    ],
)
def test_cores_do_not_say_how_many_trials_share_a_card(kind: Any, device: str, room: Cluster, says: str | None) -> None:
    if says is None:
        check_shared(kind, room, device=device)
    else:
        with pytest.raises(ConfigError, match=says):
            check_shared(kind, room, device=device)


def test_a_gpu_that_is_left_alone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.device.gpu_count", lambda: 1)
    monkeypatch.setattr("harness.launch.GPU_FILES", (str(tmp_path / "driver"),))
    assert idle_gpu("ray", Cluster(), device=None) is None, "no driver, torch is not asked"
    (tmp_path / "driver").touch()
    words = "training on the processor; this machine has a GPU: add "
    assert idle_gpu("ray", Cluster(), device=None) == words + "--gpus-per-trial 0.25"
    assert idle_gpu("local", Cluster(), device=None) == words + "--device cuda --workers N"
    assert idle_gpu("ray", Cluster(), device="cpu") is None, "it was asked for"
    assert idle_gpu("ray", Cluster(gpus=0.5), device=None) is None
    assert idle_gpu("ray", Cluster(address="auto"), device=None) is None, "the cluster's are not known"
    monkeypatch.setattr("harness.device.gpu_count", lambda: 0)
    assert idle_gpu("ray", Cluster(), device=None) is None


@pytest.mark.parametrize("words", ["[{", "7", "[7]", '[{"dataset": "synthetic"}]'])
def test_a_torn_note_says_nothing(words: str, tmp_path: Path) -> None:
    context = RunContext(paths=RunPaths(work_dir=tmp_path))
    (tmp_path / "prices.json").write_text(words)
    assert from_calibration(plan(context.paths), context) == {}


def test_a_note_without_validations_of_their_own_says_nothing(
    measured: tuple[RunContext, dict[Cell, Estimate]], tmp_path: Path
) -> None:
    """As earlier versions wrote it: an epoch with whatever validations fell into the calibration."""
    (row,) = json.loads((measured[0].paths.work_dir / "prices.json").read_text())
    former = {name: value for name, value in row.items() if not name.startswith("seconds_")}
    (tmp_path / "prices.json").write_text(json.dumps([former | {"seconds_each": 1.0}]))
    context = RunContext(paths=RunPaths(work_dir=tmp_path))
    assert from_calibration(plan(context.paths), context) == {}


@pytest.mark.slow
def test_a_calibrated_plan_is_known_to_the_next_and_to_the_start(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    words = ("--study", "tiny.py", "--workers", "1", "--out", "here")
    assert "no price for synthetic sasrec_ce, synthetic bt_sr" in sweep(tmp_path, *words, "--dry-run").stdout
    assert not (tmp_path / "here").exists()
    first = sweep(tmp_path, *words, "--dry-run", "--calibrate")
    assert first.returncode == 0 and "no price" not in first.stdout, first.stderr
    assert first.stderr.splitlines() == [
        f"measuring {n} of 2: synthetic {method}, 1 epochs or two minutes" for n, (_, method, _) in enumerate(CELLS, 1)
    ]
    assert not (tmp_path / "here" / "btsr.db").exists()
    again = sweep(tmp_path, *words, "--dry-run")
    rows = [[line for line in shown.stdout.splitlines() if " sasrec_ce " in line] for shown in (first, again)]
    assert rows[0] == rows[1] and "no price" not in again.stdout
    assert sweep(tmp_path, *words).returncode == 0
    with open_store(tmp_path / "here" / "btsr.db", read_only=True) as store:
        known = {estimate.cell: estimate.source for estimate in store.estimates("tiny")}
    assert set(known) == set(CELLS) and all(source.startswith("1 epochs here on ") for source in known.values())
