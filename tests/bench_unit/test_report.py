"""The benchmark's report: ratios within rounds, targets, reasons, profile and what it is made of."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tests.bench.__main__ import plan_of
from tests.bench.job import Answer, Job
from tests.bench.limits import products
from tests.bench.report import case_table, render, targets_table
from tests.bench.results import Results
from tests.bench.runner import append_line, read_lines
from tests.bench.task import Task
from tests.bench_lines import line_of

SMALL = Task(items=np.array([3, 1, 0, 2, 4, 0, 1, 2, 3], np.int32), offsets=np.array([0, 5, 9], np.int64), n_items=5)


def test_an_overhead_is_a_bound_on_seconds_and_shows_processor_time(tmp_path: Path) -> None:
    [(case, program, _, job)] = plan_of(
        ["overhead-each"], ["sweep-ray"], rounds=1, quick=False, out=tmp_path, say=print
    )
    assert (job.work, job.trials, job.threads, job.data) == ("each", 100, 1, "") and not list(tmp_path.iterdir())
    slow = line_of(case, "sweep-local", 0, 0.3)
    slow = replace(slow, answer=slow.answer | {"cpu_seconds": 0.125})
    results = Results([line_of(case, program, 0, 0.1), slow])
    assert "| seconds | btsr-sweep, Ray | <= 0.2 s |  | 0.1 s (0.1 to 0.1) | kept |" in targets_table(results)
    assert "| seconds | btsr-sweep, plain processes | <= 0.2 s |  | 0.3 s (0.3 to 0.3) | **missed** |" in targets_table(
        results
    )
    table = case_table(results, case)
    assert "| trials | CPU seconds |\n" in table and "peak MiB" not in table, "the driver's memory is not the sweep's"
    assert "| btsr-sweep, plain processes | 1 | 0.3 s (0.3 to 0.3) | all | 10 | 0.125 |" in table
    assert "| btsr-sweep, Ray | 1 | 0.1 s (0.1 to 0.1) | all | 10 |  |" in table, "its processes are not seen"


def test_processes_of_ray_are_nobody_elses() -> None:
    lines = [replace(line_of("overhead-each", p, 0, 0.1), others_cpu=0.3) for p in ("sweep-ray", "sweep-local")]
    page = render(lines[:1], outdated={}, machine={}, rates={}, date="2026-01-01")
    assert "0 % during the noisiest one" in page
    page = render(lines, outdated={}, machine={}, rates={}, date="2026-01-01")
    assert "30 % during the noisiest one" in page


def test_ratios_are_taken_within_a_round_and_judged() -> None:
    lines = [
        *(line_of("ml1m-ce", "btsr", round_, seconds) for round_, seconds in enumerate([1.0, 2.0, 4.0])),
        *(line_of("ml1m-ce", "reference", round_, seconds) for round_, seconds in enumerate([7.0, 14.0, 20.0])),
        line_of("ml1m-ce", "btsr-kernels", 0, 0.5, peak=250),
    ]
    ratio = Results(lines).ratio("ml1m-ce", "reference", "btsr")
    assert ratio is not None and ratio.values == (7.0, 7.0, 5.0) and ratio.middle == 7.0
    text = targets_table(Results(lines))
    assert "| btsr, torch, fp32 | >= 6x |  | 7x (5 to 7) | kept |" in text
    assert "| btsr, kernels, fp32 | >= 12x | >= 20x | 14x (14 to 14) | kept |" in text
    assert "| btsr, kernels, fp32 | <= 450 MiB | <= 300 MiB | 250 MiB (250 to 250) | aim reached |" in text
    assert "no number: not run" in text and "Beauty" not in text


def test_an_epoch_is_compared_with_the_rate_of_the_processor(tmp_path: Path) -> None:
    SMALL.save(tmp_path)
    per_target = 3 * 2 * 64 * 5 + 2 * 6 * 64 * 64 * 2 * 3
    job = Job(data=str(tmp_path), work="train")
    assert products(job, 10) == 10 * per_target
    second_pass = 6 * 64 * 64 * 2 * 3 + 2 * 64 * 64 * 2 * 3  # a whole block, then keys and values alone
    assert products(replace(job, loss="bt"), 10) == pytest.approx(10 * (per_target + second_pass))
    lines = [replace(line_of("ml1m-ce", program, 0, 3.0), job=asdict(job)) for program in ("btsr", "btsr-kernels-bf16")]
    page = case_table(Results(lines), "ml1m-ce", {"fp32": 10 * per_target / 2, "bf16": 10 * per_target})
    assert "2 s in fp32, 1 s in bf16" in page
    assert "btsr, torch, fp32 1.5 times, btsr, kernels, bf16 3 times." in page
    assert "matrix products" not in case_table(Results(lines), "ml1m-ce", {})
    assert products(replace(job, data=str(tmp_path / "gone")), 10) is None


def test_the_report_says_why_a_number_is_missing() -> None:
    failed = replace(line_of("ml1m-ce", "recbole", 0, 1.0), error="ValueError: boom")
    skipped = replace(line_of("items-1e6", "reference", 0, 1.0), answer=asdict(Answer(skipped="needs 77 GiB")))
    lines = [line_of("ml1m-ce", "btsr", 0, 1.0), failed, skipped, line_of("items-1e5", "btsr", 0, 2.0)]
    lines += [line_of("items-1e6", "btsr", 0, 20.0)]
    page = render(lines, outdated={"beauty-ce": 3}, machine={"cores": "2"}, rates={}, date="2026-01-01")
    assert "no number: ValueError: boom" in page and "needs 77 GiB" in page
    assert "| btsr, torch, fp32 | 1,000,000 | 20 s (20 to 20) | all | 10 | 400 | 1.00 |" in page
    assert "changed since (measurements): beauty-ce (3)." in page


def test_a_ratio_stands_beside_both_references_and_what_the_products_allow(tmp_path: Path) -> None:
    SMALL.save(tmp_path)
    job = asdict(Job(data=str(tmp_path), work="train"))
    seconds = {"btsr": 1.0, "rectools": 9.0, "reference": 7.0, "reference-tuned": 3.0}
    lines = [replace(line_of("ml1m-ce", name, 0, value), job=job) for name, value in seconds.items()]
    need = products(Job(**job), 10)
    assert need is not None
    text = targets_table(Results(lines), {"fp32": need / 0.5})
    assert "against RecTools | btsr, torch, fp32 | >= 6x |  | 9x (9 to 9) | kept | 7x | 3x | 18x |" in text
    assert "peak memory | btsr, torch, fp32 | <= 450 MiB |  | 400 MiB (400 to 400) | kept |  |  |  |" in text


def test_a_profile_shows_shares_and_memory_of_every_program(tmp_path: Path) -> None:
    one = Answer(seconds=[2.0], profile={"loss": 1.5, "rest": 0.5}, resident={"import": 200.0, "epoch": 350.0})
    two = Answer(seconds=[4.0], profile={"loss": 1.0, "rest": 3.0}, resident={"import": 200.0, "epoch": 500.0})
    lines = [
        replace(line_of("ml1m-profile", program, 0, 1.0), answer=asdict(answer))
        for program, answer in (("btsr-kernels-bf16", one), ("btsr", two))
    ]
    for line in lines:
        append_line(tmp_path / "lines.jsonl", line)
    page = render(
        read_lines(tmp_path / "lines.jsonl"), outdated={}, machine={"cores": "2"}, rates={}, date="2026-01-01"
    )
    assert "| share of an epoch | btsr, torch, fp32 | btsr, kernels, bf16 |" in page
    assert "| loss | 25.0 % | 75.0 % |" in page and "| all, under the profiler | 4 s | 2 s |" in page
    assert "| import | 200 MiB | 200 MiB |\n| epoch | 500 MiB | 350 MiB |" in page, "in the order of the training"
    assert page.count("`ml1m-profile`") == 2, "its section, and how far apart its programs began"


def test_a_report_says_how_far_apart_the_programs_of_a_round_began() -> None:
    lines = [line_of("ml1m-ce", program, 0, 1.0) for program in ("btsr", "reference")]
    lines[1] = replace(lines[1], started="2026-01-01T12:05:00+00:00")
    page = render(lines, outdated={}, machine={"cores": "2"}, rates={}, date="2026-01-01")
    assert "Programs of one round began at most 125 minutes apart (`ml1m-ce`)." in page
    assert "Programs of one round" not in render([], outdated={}, machine={}, rates={}, date="2026-01-01")
