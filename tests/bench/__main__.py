"""Command line of the benchmark."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.errors import BtsrError, ConfigError, unknown_name
from tests.bench.cases import CASES, PROGRAMS
from tests.bench.datasets import data_folder, folder_of
from tests.bench.job import CannotMeasure, Job
from tests.bench.limits import best_rates
from tests.bench.report import render
from tests.bench.runner import Line, Runner, append_line, key, read_lines
from tests.bench.sources import Digests, machine

Measurement = tuple[str, str, int, Job]
"""Case, program, round, and what the program is asked to do."""
LINES = "lines.jsonl"
"""Raw measurements below `--out`, one JSON value a line."""
RATES = "rates.json"
"""The processor's best rates so far, below `--out`."""
QUICK_ROUNDS = 2


def chosen(only: str, names: list[str], kind: str) -> list[str]:
    """The names of a comma-separated list, or all of them; raises ConfigError for an unknown one."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise unknown_name(kind, name, names)
    return [name for name in names if not wanted or name in wanted]


def plan_of(
    cases: list[str], programs: list[str], *, rounds: int, quick: bool, out: Path, say: Callable[[str], None]
) -> list[Measurement]:
    """Every measurement in its order, case by case with the programs in turn; says which cases have no data."""
    plan: list[Measurement] = []
    for name in cases:
        case = CASES[name]
        try:
            data = case.data_name(quick=quick)
            folder = str(folder_of(data, out)) if data else ""
        except CannotMeasure as error:
            say(f"skipped {name}: {error}")
            continue
        plan += [
            (name, program, round_, case.job(program, folder, quick=quick))
            for round_ in range(min(rounds, case.most_rounds))
            for program in case.programs
            if program in programs
        ]
    return plan


def main(
    only: Annotated[str, typer.Option(help="cases, comma-separated; all without it")] = "",
    programs: Annotated[str, typer.Option(help="programs, comma-separated; all without it")] = "",
    alternations: Annotated[int, typer.Option(min=1, help="rounds in which the programs take turns")] = 5,
    quick: Annotated[bool, typer.Option(help="two rounds, few users and batches: does it work at all?")] = False,
    out: Annotated[Path, typer.Option(help="folder of data, raw lines and scratch files")] = Path("runs/bench"),
    report: Annotated[Path | None, typer.Option(help="Markdown file to write; default: report.md in --out")] = None,
    peers: Annotated[Path, typer.Option(help="Python of the peers' environment")] = Path(".venv-peers/bin/python"),
    timeout: Annotated[float, typer.Option(min=1, help="seconds after which a measurement is given up")] = 1_200,
    idle: Annotated[float, typer.Option(min=0, help="longest wait for a quiet machine, seconds")] = 15,
    most_others: Annotated[
        float, typer.Option(min=0, help="share of others' processor time above which a measurement is made again")
    ] = 0.12,
    render_only: Annotated[bool, typer.Option(help="measure nothing; write the report")] = False,
    list_cases: Annotated[bool, typer.Option("--list", help="print the cases and programs and stop")] = False,
) -> None:
    """Measure btsr and its peers in turn on this machine, and write the report; all cases take four to five hours.

    An interrupted run keeps what is finished and goes on from there when started again with the same options. The
    report has everything in --out that was measured with the present code and versions, by this run or earlier ones;
    a case of which a program has changed since is measured anew, all its programs.
    """
    console = Console(highlight=False)
    if list_cases:
        for name, case in CASES.items():
            console.print(f"{name:14} {case.title}: {', '.join(case.programs)}", markup=False, soft_wrap=True)
        return
    try:
        cases = chosen(only, list(CASES), "case")
        wanted = chosen(programs, list(PROGRAMS), "program")
        if any(PROGRAMS[p].environment == "peers" for p in wanted) and not peers.is_file():
            raise ConfigError(f"no Python at {peers}: run 'make bench', or name it with --peers")
        if render_only and (only or programs):
            raise ConfigError("--render-only reports everything that was measured: leave out --only and --programs")
        out = (out / "quick" if quick else out).resolve()
        out.mkdir(parents=True, exist_ok=True)
        rounds = min(alternations, QUICK_ROUNDS) if quick else alternations
        lines = read_lines(out / LINES)
    except BtsrError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    digests = Digests(own=Path(sys.executable), peers=peers.absolute())
    if not render_only:
        runner = Runner(
            out=out,
            own_python=Path(sys.executable),
            peers_python=peers.absolute(),
            digests=digests,
            command=command_of(only, programs, rounds, quick=quick),
            timeout_seconds=timeout,
            idle_seconds=idle,
            most_others=most_others,
        )
        with ended_by_sigterm():
            plan = plan_of(cases, wanted, rounds=rounds, quick=quick, out=out, say=partial(console.print, markup=False))
            measure(plan, runner, lines, console)
        lines = read_lines(out / LINES)
    current, outdated = sorted_out(lines, digests, quick=quick, out=out)
    hardware = machine()
    rates = best_rates(out / RATES, hardware["processor"])
    page = render(current, outdated=outdated, machine=hardware, rates=rates, date=datetime.now(UTC).date().isoformat())
    target = report or out / "report.md"
    target.write_text(page)
    console.print(f"wrote {target}", markup=False, soft_wrap=True)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what runs meanwhile as an exit does, so that drivers are ended too; then it does what it did."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def command_of(only: str, programs: str, rounds: int, *, quick: bool) -> str:
    """The command that makes the same measurements."""
    options = [f"--only {only}"] * bool(only) + [f"--programs {programs}"] * bool(programs) + ["--quick"] * quick
    return " ".join(["python -m tests.bench", *options, f"--alternations {rounds}"])


def sorted_out(lines: list[Line], digests: Digests, *, quick: bool, out: Path) -> tuple[list[Line], dict[str, int]]:
    """Lines of the present code, versions, cases and processor; and how many others there are, by case."""
    wanted: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {}
    for name, case in CASES.items():
        folder = data_folder(case.data_name(quick=quick), out)
        jobs = {program: asdict(case.job(program, folder, quick=quick)) for program in case.programs}
        wanted[name] = digests.of(name), jobs
    current: list[Line] = []
    outdated: dict[str, int] = {}
    for line in lines:
        digest, jobs = wanted.get(line.case, ("", {}))
        if line.digest == digest and line.job == jobs.get(line.program):
            current.append(line)
        else:
            outdated[line.case] = outdated.get(line.case, 0) + 1
    return current, outdated


def measure(plan: list[Measurement], runner: Runner, lines: list[Line], console: Console) -> None:
    """Make the measurements of the plan that are not among the lines yet; what was refused for lack of memory, again.

    A program that has no number in one round of a case is not tried in the case's later rounds.
    """
    done = {line.key: line for line in lines if not line.error and not line.answer["skipped"]}
    digests = {case: runner.digests.of(case) for case in dict.fromkeys(case for case, *_ in plan)}
    given_up: set[tuple[str, str]] = set()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(plan))
        for case, program, round_, job in plan:
            line = done.get(key(case, program, round_, asdict(job), digests[case]))
            if line is None and (case, program) not in given_up:
                progress.update(bar, description=f"{case} {program} {round_ + 1}")
                line = runner.measure(case, program, round_, job)
                append_line(runner.out / LINES, line)
                progress.console.print(in_words(line), markup=False, soft_wrap=True)
            if line and (line.error or line.answer["skipped"]):
                given_up.add((case, program))
            progress.advance(bar)


def in_words(line: Line) -> str:
    """One finished measurement for a person who watches."""
    what = f"{line.case} round {line.round + 1} {line.program}"
    if line.error or line.answer["skipped"]:
        return f"{what}: no number, {line.error or line.answer['skipped']}"
    seconds = ", ".join(f"{value:.3g}" for value in line.answer["seconds"])
    return f"{what}: {seconds} s, peak {line.answer['peak_mib']:.0f} MiB, others {100 * line.others_cpu:.0f} %"


if __name__ == "__main__":
    typer.run(main)
