"""The benchmark measures what it says: the common task, the reference's mathematics, the runner, the report."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from harness.config import StudyOptions
from harness.errors import ConfigError
from harness.evaluate import evaluate as evaluate_ours
from models.barlow import barlow_twins as barlow_twins_ours
from models.config import EncoderConfig
from models.kernels.build import KernelUnavailable, load
from models.packed import pack
from models.sasrec import SASRec
from tests.bench import limits, reference
from tests.bench.__main__ import chosen, plan_of
from tests.bench.cases import CASES, PROGRAMS, TARGETS
from tests.bench.datasets import TASKS, Checkins, Shape, real
from tests.bench.drive_ours import leave_one_out
from tests.bench.drive_overhead import tiny
from tests.bench.job import ATOMIC, CHECKINS, Answer, CannotMeasure, Job
from tests.bench.limits import peak_rates
from tests.bench.report import case_table
from tests.bench.results import Results
from tests.bench.runner import Runner, together
from tests.bench.sources import Digests
from tests.bench.task import Task

SMALL = Task(items=np.array([3, 1, 0, 2, 4, 0, 1, 2, 3], np.int32), offsets=np.array([0, 5, 9], np.int64), n_items=5)
SHAPE = Shape(users=300, items=60, mean_length=9)


def test_task_counts_by_hand(tmp_path: Path) -> None:
    assert SMALL.place_of_row().tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert SMALL.left_of_row().tolist() == [4, 3, 2, 1, 0, 3, 2, 1, 0]
    assert SMALL.user_of_row().tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert SMALL.targets(50) == 3 and SMALL.targets(1) == 2
    assert SMALL.head(1).items.tolist() == [3, 1, 0, 2, 4] and SMALL.head(0) is SMALL
    SMALL.save(tmp_path)
    again = Task.load(tmp_path)
    assert again.items.tolist() == SMALL.items.tolist() and again.n_items == 5


def test_leave_one_out_trains_on_all_but_the_last_two() -> None:
    split = leave_one_out(SMALL)
    assert split.train_items.tolist() == [3, 1, 0, 0, 1] and split.train_offsets.tolist() == [0, 3, 5]
    assert split.targets("test").tolist() == [4, 3] and split.targets("valid").tolist() == [2, 2]
    assert split.popularity.tolist() == [2, 2, 0, 1, 0]


def test_synthetic_data_has_its_shape_and_no_repeats() -> None:
    task = SHAPE.make()
    lengths = np.diff(task.offsets)
    assert task.n_users == 300 and lengths.min() >= 5 and 8 < lengths.mean() < 10
    assert all(len(np.unique(sequence)) == len(sequence) for sequence in task.sequences())
    assert (SHAPE.make().items == task.items).all() and (SHAPE.make(seed=1).items[:50] != task.items[:50]).any()
    counts = np.sort(np.bincount(task.items, minlength=60))
    assert counts[-6:].sum() > 3 * counts[:6].sum()


def test_missing_real_data_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BTSR_TEST_DATA", str(tmp_path))
    with pytest.raises(CannotMeasure, match="BTSR_TEST_DATA"):
        real("ml-1m.parquet")


@pytest.mark.realdata
def test_real_data_is_chronological(research_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTSR_TEST_DATA", str(research_data))
    task = real("amazon-beauty-2014-5core.parquet")
    assert (task.n_users, task.n_items, len(task.items)) == (22_363, 12_101, 198_502)
    assert task.targets(50) == 128_031


def twins(n_items: int, max_len: int) -> tuple[SASRec, reference.PaddedSASRec]:
    """The engine's model and the padded reference with the same weights, without dropout."""
    config = EncoderConfig(dim=16, max_len=max_len, dropout=0.0)
    ours = SASRec(config, n_items, torch.Generator().manual_seed(1))
    padded = reference.PaddedSASRec(n_items, dim=16, blocks=2, max_len=max_len, dropout=0.0)
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        padded.table.weight[:-1] = ours.table
        padded.positions.weight.copy_(ours.positions)
        for theirs, own in zip(padded.blocks, ours.blocks, strict=True):
            theirs.norm_attention.load_state_dict(own.norm_attention.state_dict())
            theirs.norm_forward.load_state_dict(own.norm_forward.state_dict())
            theirs.attention.in_proj_weight.copy_(torch.cat([own.query.weight, own.key_value.weight]))
            theirs.attention.in_proj_bias.copy_(torch.cat([own.query.bias, own.key_value.bias]))
            theirs.attention.out_proj.load_state_dict(own.output.state_dict())
            for conv, linear in ((theirs.inner, own.inner), (theirs.outer, own.outer)):
                conv.weight.copy_(linear.weight[:, :, None])
                conv.bias.copy_(linear.bias)
        padded.norm_last.load_state_dict(ours.norm_last.state_dict())
    return ours, padded


def test_reference_computes_what_the_engine_computes() -> None:
    task = SHAPE.make()
    ours, padded = twins(task.n_items, 8)
    data = reference.UserSequences(task, 8, partners=True)
    users = sorted(range(40), key=lambda user: -len(data.sequences[user]))
    inputs, targets, partners = (torch.stack(rows) for rows in zip(*(data[user] for user in users), strict=True))
    hidden = padded(inputs)
    flat = task.items.astype(np.int32)
    lengths = np.array([min(len(data.sequences[user]) - 1, 8) for user in users])
    ends = task.offsets[1:][users] - 3
    packed = ours(pack(flat, ends - lengths, lengths, max_len=8, device=torch.device("cpu")))
    real_rows = targets != padded.pad
    torch.testing.assert_close(hidden[real_rows], packed, atol=1e-5, rtol=1e-4)
    expected = F.cross_entropy(packed @ padded.table.weight.t(), targets[real_rows])
    torch.testing.assert_close(padded.prediction_loss(hidden, targets), expected)
    views = hidden[:, -1], padded(partners)[:, -1]
    torch.testing.assert_close(
        reference.barlow_twins(*views, 0.05), barlow_twins_ours(*views, 0.05, std="unbiased").total
    )


def test_reference_partners_share_the_final_training_item() -> None:
    data = reference.UserSequences(SHAPE.make(), 8, partners=True)
    for user in range(50):
        pool = data.pool[int(data.sequences[user][-1])]
        seen = {tuple(data[user][2].tolist()) for _ in range(20)}
        own = tuple(data.padded(data.sequences[user][:-1]).tolist())
        others = {tuple(data.padded(data.sequences[other][:-1]).tolist()) for other in pool if other != user}
        assert seen <= (others or {own})


def test_reference_ranks_as_the_engine_does() -> None:
    task = SHAPE.make()
    ours, padded = twins(task.n_items, 8)
    for held_out, part in ((1, "test"), (2, "valid")):
        theirs = reference.evaluate(padded, task, held_out=held_out, k=10, batch_size=64)
        ranks = evaluate_ours(ours, leave_one_out(task), part, device=torch.device("cpu"))
        assert (theirs.top == ranks.top[:, :10]).mean() > 0.999
        hits = (ranks.rank >= 1) & (ranks.rank <= 10)
        assert theirs.ndcg10 == pytest.approx((hits / np.log2(ranks.rank + 1.0)).mean(), abs=1e-3)


def runner_of(folder: Path, timeout_seconds: float = 500) -> Runner:
    python = Path(sys.executable)
    return Runner(
        out=folder,
        own_python=python,
        peers_python=python,
        digests=Digests(own=python, peers=python),
        command="",
        timeout_seconds=timeout_seconds,
        idle_seconds=0,
        most_others=1,
    )


def test_a_sweep_of_two_workers_comes_back_as_one_line(tmp_path: Path) -> None:
    SHAPE.make().save(tmp_path / "data")
    job = Job(data=str(tmp_path / "data"), work="sweep", loss="bt", max_len=8, threads=1, trials=2, eval_users=100)
    line = runner_of(tmp_path).measure("ml1m-sweep", "reference", 0, job)
    assert line.error == "" and len(line.answer["seconds"]) == 1 and line.answer["seconds"][0] > 0
    assert line.answer["full"] == 2 and line.answer["peak_mib"] > line.answer["start_mib"] > 50


def commands() -> Iterator[bytes]:
    """Of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


def test_a_driver_that_takes_too_long_is_ended_and_reported(tmp_path: Path) -> None:
    SHAPE.make().save(tmp_path / "data")
    job = Job(data=str(tmp_path / "data"), work="train")
    line = runner_of(tmp_path, timeout_seconds=0.05).measure("ml1m-ce", "reference", 0, job)
    assert line.error.startswith("TimeoutExpired")
    assert not any(str(tmp_path).encode() in command for command in commands()), "the driver outlives its measurement"


def test_a_driver_that_fails_leaves_its_last_words(tmp_path: Path) -> None:
    line = runner_of(tmp_path).measure("ml1m-ce", "reference", 0, Job(data=str(tmp_path / "none"), work="train"))
    assert line.error.startswith("DriverFailed: exit code 1: FileNotFoundError") and "items.npy" in line.error


def test_a_preparation_gives_every_program_the_same_rows(tmp_path: Path) -> None:
    """SNAP's file and RecBole's hold the same (user, item, second) in the same order."""
    Checkins(rows=3_000).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKINS, ATOMIC}
    snap = pd.read_csv(tmp_path / CHECKINS, sep="\t", header=None, usecols=[0, 1, 4], names=["user", "time", "item"])
    atomic = pd.read_csv(tmp_path / ATOMIC / f"{ATOMIC}.inter", sep="\t")
    assert list(atomic) == ["user_id:token", "item_id:token", "timestamp:float"] and len(atomic) == 3_000
    seconds = pd.to_datetime(snap["time"]).dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype("int64")
    theirs = np.column_stack([snap["user"], snap["item"], seconds])
    assert (atomic.to_numpy() == theirs).all()


def test_our_preparation_comes_back_as_a_line_with_its_processor_time(tmp_path: Path) -> None:
    Checkins(rows=3_000).save(tmp_path / "data")
    job = CASES["gowalla-prepare"].job("btsr", str(tmp_path / "data"))
    line = runner_of(tmp_path).measure("gowalla-prepare", "btsr", 0, job)
    answer = Answer(**line.answer)
    rows = pd.read_csv(tmp_path / "data" / ATOMIC / f"{ATOMIC}.inter", sep="\t").iloc[:, :2]
    rows.columns = ["user", "item"]
    while True:  # the 5-core, counted again
        kept = rows[(rows.groupby("user").transform("size") >= 5) & (rows.groupby("item").transform("size") >= 5)]
        if len(kept) == len(rows):
            break
        rows = kept
    assert line.error == "" and (answer.targets, answer.users) == (len(rows), rows["user"].nunique())
    assert answer.seconds[0] > 0 and answer.cpu_seconds > 0 and answer.peak_mib >= answer.start_mib > 50
    page = case_table(Results([line]), "gowalla-prepare")
    assert "| rows kept | CPU seconds | peak MiB |" in page
    assert f"| {len(rows):,} | {answer.cpu_seconds:.3g} | {answer.peak_mib:,.0f} |" in page
    assert "| RecBole |  | no number: not run |  |  |  |  |  |" in page


def test_a_quick_run_prepares_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "checkins644289", partial(Checkins, rows=1_000))
    monkeypatch.setitem(TASKS, "checkins20000", partial(Checkins, rows=100))
    for quick, rows in ((True, 100), (False, 1_000)):
        [(*_, job)] = plan_of(["gowalla-tenth-prepare"], ["btsr"], rounds=1, quick=quick, out=tmp_path, say=print)
        assert len((Path(job.data) / CHECKINS).read_text().splitlines()) == rows


def test_workers_of_a_sweep_are_averaged() -> None:
    one, two = Answer(seconds=[1.0, 3.0], peak_mib=5), Answer(seconds=[4.0, 4.0], peak_mib=7)
    assert together([one, two]).seconds == [3.0] and together([one, two]).peak_mib == 7
    assert together([one]) == one
    assert together([one, Answer(skipped="no")]).skipped == "no"


def test_programs_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTSR_TEST_DATA", str(tmp_path))
    said: list[str] = []
    plan = plan_of(["ml1m-ce", "items-1e4"], ["btsr", "reference"], rounds=2, quick=True, out=tmp_path, say=said.append)
    assert [(program, round_) for _, program, round_, _ in plan] == [
        ("btsr", 0),
        ("reference", 0),
        ("btsr", 1),
        ("reference", 1),
    ]
    assert said == ["skipped ml1m-ce: ml-1m.parquet not found: set BTSR_TEST_DATA to the folder that holds it"]


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown case 'ml1m-cee': did you mean 'ml1m-ce'"):
        chosen("ml1m-cee", list(CASES), "case")
    assert chosen("", ["a", "b"], "case") == ["a", "b"] and chosen("b, a", ["a", "b"], "case") == ["a", "b"]


def test_tables_of_cases_agree() -> None:
    for case in CASES.values():
        assert set(case.programs) <= set(PROGRAMS) and set(case.batches) <= set(case.programs)
        assert {case.data, case.quick_data or case.data} <= {*TASKS, ""}
    for target in TARGETS:
        assert {*target.ours, target.peer} <= {*CASES[target.case].programs, ""}


def test_tiny_trials_differ_and_are_those_of_a_smaller_study() -> None:
    options = StudyOptions(datasets=("synthetic",))
    keys = [spec.key for spec in tiny(options, 100).specs]
    assert len(set(keys)) == 100 and [spec.key for spec in tiny(options, 1).specs] == keys[:1]


def test_the_rate_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        variant = load().variant
    except KernelUnavailable as missing:
        pytest.skip(str(missing))
    monkeypatch.setattr("tests.bench.limits.TRIES", 1)
    monkeypatch.setattr("tests.bench.limits.ROUNDS", 1_000)
    monkeypatch.setenv("CXX", "env c++")
    rates = peak_rates()
    assert set(rates) == {"fp32"} | ({"bf16"} if variant.bf16 else set()) and min(rates.values()) > 0
    for none in ("no-such-compiler", "", "'c++"):
        monkeypatch.setenv("CXX", none)
        assert peak_rates() == {}


def test_the_best_rate_so_far_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for measured, best in ((5.0, 5.0), (3.0, 5.0), (6.0, 6.0)):
        monkeypatch.setattr(limits, "peak_rates", lambda: {"fp32": measured})  # noqa: B023
        assert limits.best_rates(tmp_path / "rates.json", "this") == {"fp32": best}
    assert limits.best_rates(tmp_path / "rates.json", "another") == {"fp32": 6.0}
    for now in ({}, {"bf16": 9.0}):
        monkeypatch.setattr(limits, "peak_rates", lambda: now)  # noqa: B023
        assert limits.best_rates(tmp_path / "rates.json", "this") == {"fp32": 6.0} | now


def test_a_completed_task_has_the_whole_catalogue_behind_the_same_users() -> None:
    task = Shape(users=40, items=900, mean_length=9).make()
    for max_len in (5, 50):
        more = task.completed(max_len)
        left = more.left_of_row()
        trained = more.items[(left >= 2) & (left <= 2 + max_len)]
        assert len(np.unique(trained)) == 900 and more.n_items == 900
        assert np.diff(more.offsets)[40:].tolist() == [max_len + 3] * (more.n_users - 40)
        assert (more.items[: len(task.items)] == task.items).all() and (more.offsets[:41] == task.offsets).all()
        assert more.completed(max_len) is more


def test_a_driver_that_asks_for_more_than_there_is_says_so() -> None:
    code = """
from tests.bench import job
def greedy(_):
    {}
job.available_mib = lambda: 4096
job.serve(greedy)
"""
    asked = Job(data="", work="train").to_json()
    for wish in ("bytearray(2**34)", "import torch; torch.empty(2**34)", "import numpy; numpy.ones(2**34)"):
        done = subprocess.run([sys.executable, "-c", code.format(wish), asked], capture_output=True, text=True)
        answer = Answer(**json.loads(done.stdout.splitlines()[-1]))
        assert answer.skipped == "it takes more than 4 GiB, nine tenths of what is free", done.stderr
    done = subprocess.run([sys.executable, "-c", code.format("raise RuntimeError('boom')"), asked], capture_output=True)
    assert done.returncode == 1 and b"boom" in done.stderr


def test_a_profile_says_what_takes_time_and_memory(tmp_path: Path) -> None:
    SHAPE.make().save(tmp_path / "data")
    job = Job(data=str(tmp_path / "data"), work="profile", max_len=8)
    line = runner_of(tmp_path).measure("ml1m-profile", "btsr", 0, job)
    assert line.error == ""
    answer = Answer(**line.answer)
    assert sum(answer.profile.values()) == pytest.approx(answer.seconds[0])
    assert {"cross-entropy with its gradients", "attention, forward", "attention, backward"} <= set(answer.profile)
    alone, *own = answer.resident.values()
    assert 50 < alone < own[0] and own == sorted(own), "every moment adds to the memory of those before"
    assert answer.start_mib < answer.peak_mib == own[-1]
