"""What of an earlier run of the benchmark counts: the same code, versions and jobs, and whole rounds."""

import io
import json
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from harness.errors import ConfigError
from tests.bench import __main__ as command
from tests.bench import sources
from tests.bench.__main__ import LINES, Measurement, measure
from tests.bench.cases import CASES, PROGRAMS
from tests.bench.datasets import ROOT
from tests.bench.job import Answer, Job
from tests.bench.runner import Line, Runner, append_line, read_lines
from tests.bench.sources import Digests, machine
from tests.bench_lines import line_of

VERSIONS = {"own": {"torch": "2", "ray": "2"}, "peers": {"torch": "2", "recbole": "1"}}


def digests_with(versions: dict[str, dict[str, str]]) -> Digests:
    digests = Digests(own=Path("none"), peers=Path("none"))
    digests.versions = versions
    return digests


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {case for case in before if before[case] != after[case]}


def every(digests: Digests) -> dict[str, str]:
    return {case: digests.of(case) for case in CASES}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the sources in the place of the real ones."""
    for folder in ("harness", "models", "studies", "reports", "tests/bench", "tests/data"):
        keep = shutil.ignore_patterns("__pycache__", "*.png", "golden")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=keep)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    sources.sources.cache_clear()
    yield tmp_path
    sources.sources.cache_clear()


@pytest.mark.parametrize(
    ("file", "works", "unchanged"),
    [
        ("harness/adam.py", {"ml1m-ce", "ml1m-bt", "ml1m-sweep", "overhead-each"}, {"gowalla-prepare"}),
        ("models/kernels/tile.h", {"ml1m-ce", "overhead-idle"}, {"gowalla-prepare"}),
        ("harness/data/parse.py", {"gowalla-prepare", "overhead-start"}, {"ml1m-ce", "ml1m-sweep"}),
        ("harness/evaluate.py", {"ml1m-eval", "ml1m-sweep", "overhead-each"}, {"ml1m-ce", "ml1m-profile"}),
        ("harness/local_executor.py", {"overhead-each"}, {"ml1m-sweep", "gowalla-prepare"}),
        ("tests/bench/reference.py", {"ml1m-ce", "ml1m-bt", "items-1e6"}, {"gowalla-prepare", "overhead-each"}),
        ("tests/bench/drive_reference.py", {"ml1m-ce", "beauty-sweep"}, {"gowalla-prepare", "ml1m-profile"}),
        ("tests/bench/drive_recbole.py", {"ml1m-ce", "items-1e4", "gowalla-prepare"}, {"ml1m-bt", "ml1m-sweep"}),
        ("tests/bench/task.py", {"ml1m-ce", "ml1m-profile"}, set()),
        ("tests/bench/profiled.py", {"ml1m-profile"}, {"ml1m-ce", "overhead-each"}),
        ("tests/bench/report.py", set(), set(CASES)),
    ],
)
def test_a_change_of_a_source_makes_the_cases_that_run_it_out_of_date(
    file: str, works: set[str], unchanged: set[str], checkout: Path
) -> None:
    digests = digests_with(VERSIONS)
    before = {case: digests.of(case) for case in works | unchanged}
    with (checkout / file).open("a") as text:
        text.write("\n")
    assert changed(before, {case: digests.of(case) for case in before}) == works


def test_new_versions_and_another_processor_make_measurements_out_of_date(monkeypatch: pytest.MonkeyPatch) -> None:
    before = every(digests_with(VERSIONS))
    newer = digests_with(VERSIONS | {"peers": {"torch": "2", "recbole": "2"}})
    assert changed(before, every(newer)) == {name for name, case in CASES.items() if "recbole" in case.programs}
    newer = digests_with(VERSIONS | {"own": {"torch": "2", "ray": "3"}})
    assert changed(before, every(newer)) == {name for name in CASES if name.startswith("overhead")}
    monkeypatch.setattr(sources, "machine", lambda: machine() | {"processor": "another"})
    assert changed(before, every(digests_with(VERSIONS))) == set(CASES)


def test_versions_are_asked_of_the_interpreter(tmp_path: Path) -> None:
    found = Digests(own=Path(sys.executable), peers=tmp_path / "none").versions
    assert found["own"]["numpy"] == np.__version__ and found["peers"] == {}
    assert all(program.distributions for program in PROGRAMS.values())


def test_a_line_that_was_cut_off_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    first, second = line_of("ml1m-ce", "btsr", 0, 1.0), line_of("ml1m-ce", "btsr", 1, 2.0)
    append_line(path, first)
    with path.open("a") as file:
        file.write(json.dumps(asdict(second))[:40])
    assert read_lines(path) == [first]
    append_line(path, second)
    assert read_lines(path) == [first, second]
    assert read_lines(tmp_path / "none") == []
    path.write_text('{"case": "ml1m-ce", "engine": "e"}\n')
    with pytest.raises(ConfigError, match="another version of the benchmark"):
        read_lines(path)


class Named:
    """Stands for digests: one for every case, which a test may change."""

    def __init__(self, name: str = "a") -> None:
        self.name = name

    def of(self, case: str) -> str:
        return f"{self.name} of {case}"


class Stand:
    """Stands for a runner: every program gives a number but those that fail or refuse."""

    def __init__(self, out: Path, digests: Named, *, fails: str = "", refuses: str = "") -> None:
        self.out, self.digests, self.fails, self.refuses = out, digests, fails, refuses
        self.asked: list[tuple[str, int]] = []

    def measure(self, case: str, program: str, round_: int, job: Job) -> Line:
        self.asked.append((program, round_))
        line = replace(line_of(case, program, round_, 1.0), job=asdict(job), digest=self.digests.of(case))
        if program == self.refuses:
            line = replace(line, answer=asdict(Answer(skipped="no")))
        return replace(line, error="DriverFailed: no") if program == self.fails else line


def plan_for(rounds: int) -> list[Measurement]:
    job = Job(data="d", work="train")
    return [("ml1m-ce", program, round_, job) for round_ in range(rounds) for program in ("btsr", "reference")]


CONSOLE = Console(file=io.StringIO())


def test_a_run_goes_on_where_it_stopped_and_gives_up_on_what_fails(tmp_path: Path) -> None:
    runner = Stand(tmp_path, Named(), fails="reference")
    measure(plan_for(3)[:3], runner, [], CONSOLE)
    assert runner.asked == [("btsr", 0), ("reference", 0), ("btsr", 1)]
    again = Stand(tmp_path, Named(), fails="reference")
    measure(plan_for(3), again, read_lines(tmp_path / LINES), CONSOLE)
    assert again.asked == [("reference", 0), ("btsr", 2)]


def test_what_refused_is_asked_again_by_the_next_run_alone(tmp_path: Path) -> None:
    """There may have been less free memory than now."""
    first = Stand(tmp_path, Named(), refuses="reference")
    measure(plan_for(2), first, [], CONSOLE)
    assert first.asked == [("btsr", 0), ("reference", 0), ("btsr", 1)]
    again = Stand(tmp_path, Named())
    measure(plan_for(2), again, read_lines(tmp_path / LINES), CONSOLE)
    assert again.asked == [("reference", 0), ("reference", 1)]


def test_what_others_took_is_no_reason_to_repeat_a_program_that_starts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noisy(self: Runner, case: str, program: str, round_: int, job: Job) -> Line:
        asked.append(program)
        return replace(line_of(case, program, round_, 1.0), others_cpu=0.5)

    monkeypatch.setattr(Runner, "_once", noisy)
    runner = Runner(
        out=tmp_path,
        own_python=Path(sys.executable),
        peers_python=Path(sys.executable),
        digests=digests_with(VERSIONS),
        command="",
        timeout_seconds=1,
        idle_seconds=0,
        most_others=0.12,
    )
    for program in ("sweep-ray", "sweep-local"):
        runner.measure("overhead-each", program, 0, Job(data="", work="each"))
    assert asked == ["sweep-ray", "sweep-local", "sweep-local"]


def test_brackets_in_the_last_words_of_a_driver_are_no_markup(tmp_path: Path) -> None:
    class Words(Stand):
        def measure(self, case: str, program: str, round_: int, job: Job) -> Line:
            return replace(super().measure(case, program, round_, job), error="DriverFailed: [/enforce fail]")

    said = io.StringIO()
    measure(plan_for(1)[:1], Words(tmp_path, Named()), [], Console(file=said, width=200))
    assert "no number, DriverFailed: [/enforce fail]" in said.getvalue()


def test_a_change_repeats_whole_rounds_and_an_interruption_does_not(tmp_path: Path) -> None:
    measure(plan_for(2), Stand(tmp_path, Named("old")), [], CONSOLE)
    anew = Stand(tmp_path, Named("new"))
    measure(plan_for(2)[:3], anew, read_lines(tmp_path / LINES), CONSOLE)
    assert anew.asked == [("btsr", 0), ("reference", 0), ("btsr", 1)]
    rest = Stand(tmp_path, Named("new"))
    measure(plan_for(2), rest, read_lines(tmp_path / LINES), CONSOLE)
    assert rest.asked == [("reference", 1)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Named, "Bench"]:
    named = Named()
    monkeypatch.setattr(Digests, "of", lambda self, case: named.of(case))
    monkeypatch.setattr(command, "best_rates", lambda path, processor: {})

    def measured(self: Runner, case: str, program: str, round_: int, job: Job) -> Line:
        line = line_of(case, program, round_, 1.0)
        return replace(line, job=asdict(job), digest=named.of(case), command=self.command)

    monkeypatch.setattr(Runner, "measure", measured)
    return named, Bench(tmp_path)


class Bench:
    """The command, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str) -> Result:
        app = typer.Typer()
        app.command()(command.main)
        return CliRunner().invoke(app, ["--out", str(self.folder), *words])

    def run(self, case: str) -> str:
        done = self("--only", case, "--programs", "btsr,reference", "--alternations", "2")
        assert done.exit_code == 0, done.output
        return self.report()

    def report(self) -> str:
        return (self.folder / "report.md").read_text()


def test_runs_of_different_cases_make_one_report_that_names_their_commands(bench: tuple[Named, Bench]) -> None:
    named, run = bench
    run.run("length-50")
    page = run.run("items-1e4")
    for case in ("items-1e4", "length-50"):
        options = f"--only {case} --programs btsr,reference --alternations 2"
        assert f"| `python -m tests.bench {options}` | {case} | 2026-01-01 | abc |" in page
    assert page.index("### Growth in items") < page.index("### Growth in length"), "in the order of the cases"
    assert "Not measured: ml1m-ce, ml1m-profile" in page and "Left out" not in page
    assert run("--render-only", "--peers", "/bin/sh").exit_code == 0
    assert run.report() == page


def test_a_report_leaves_out_what_is_out_of_date_and_says_so(bench: tuple[Named, Bench]) -> None:
    named, run = bench
    run.run("length-50")
    named.name = "b"
    page = run.run("items-1e4")
    assert "have changed since (measurements): length-50 (4)." in page and "### Growth in length" not in page
    assert "Not measured: ml1m-ce" in page and "length-50," in page[page.index("Not measured") :].partition("\n")[0]


def test_the_command_leaves_no_signal_handler_behind(bench: tuple[Named, Bench]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    bench[1].run("length-50")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_report_of_everything_takes_no_choice(bench: tuple[Named, Bench]) -> None:
    done = bench[1]("--render-only", "--only", "ml1m-ce", "--peers", "/bin/sh")
    assert done.exit_code == 2 and "leave out --only and --programs" in done.output
