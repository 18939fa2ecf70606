"""Command line of the benchmark."""

import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.errors import BtsrError, ConfigError, unknown_name
from tests.bench.cases import CASES, PROGRAMS
from tests.bench.datasets import folder_of
from tests.bench.job import CannotMeasure, Job
from tests.bench.limits import peak_rates
from tests.bench.report import render
from tests.bench.runner import Line, Runner, append_line, engine_digest, key, machine, read_lines

Measurement = tuple[str, str, int, Job]
"""Case, program, round, and what the program is asked to do."""
LINES = "lines.jsonl"
"""Raw measurements below `--out`, one JSON value a line."""
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
            data = case.quick_data if quick and case.quick_data else case.data
            folder = str(folder_of(data, out).resolve()) if data else ""
        except CannotMeasure as error:
            say(f"skipped {name}: {error}")
            continue
        job = case.quick_job if quick else case.job
        plan += [
            (name, program, round_, job(program, folder))
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
    render_only: Annotated[bool, typer.Option(help="measure nothing; report every line there is")] = False,
    list_cases: Annotated[bool, typer.Option("--list", help="print the cases and programs and stop")] = False,
) -> None:
    """Measure btsr and its peers in turn on this machine, and write the report.

    An interrupted run keeps what is finished and goes on from there when started again with the same options.
    """
    console = Console(highlight=False)
    if list_cases:
        for name, case in CASES.items():
            console.print(f"{name:14} {case.title}: {', '.join(case.programs)}", soft_wrap=True)
        return
    try:
        cases = chosen(only, list(CASES), "case")
        wanted = chosen(programs, list(PROGRAMS), "program")
        if any(PROGRAMS[p].environment == "peers" for p in wanted) and not peers.is_file():
            raise ConfigError(f"no Python at {peers}: run 'make bench', or name it with --peers")
    except BtsrError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        raise typer.Exit(2) from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that drivers are ended too
    out = (out / "quick" if quick else out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    rounds = min(alternations, QUICK_ROUNDS) if quick else alternations
    lines = read_lines(out / LINES)
    if not render_only:
        runner = Runner(
            out=out,
            own_python=Path(sys.executable),
            peers_python=peers.absolute(),
            timeout_seconds=timeout,
            idle_seconds=idle,
            most_others=most_others,
        )
        plan = plan_of(cases, wanted, rounds=rounds, quick=quick, out=out, say=console.print)
        lines = measure(plan, runner, {line.key: line for line in lines if not line.error}, console)
    options = [f"--only {only}"] * bool(only) + [f"--programs {programs}"] * bool(programs) + ["--quick"] * quick
    page = render(
        lines,
        machine=machine(),
        rates=peak_rates(),
        command=" ".join(["python -m tests.bench", *options, f"--alternations {rounds}"]),
        date=datetime.now(UTC).date().isoformat(),
        revisions=sorted({line.revision for line in lines}),
    )
    target = report or out / "report.md"
    target.write_text(page)
    console.print(f"wrote {target}", soft_wrap=True)


def measure(plan: list[Measurement], runner: Runner, done: dict[str, Line], console: Console) -> list[Line]:
    """Make the measurements that are not done yet, and return the lines of the plan.

    A program that has no number in one round of a case is not tried in the case's later rounds.
    """
    engines = {work: engine_digest(work) for work in {job.work for *_, job in plan}}
    keys = [key(case, program, round_, asdict(job), engines[job.work]) for case, program, round_, job in plan]
    given_up: set[tuple[str, str]] = set()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(plan))
        for name, (case, program, round_, job) in zip(keys, plan, strict=True):
            if name not in done and (case, program) not in given_up:
                progress.update(bar, description=f"{case} {program} {round_ + 1}")
                line = runner.measure(case, program, round_, job)
                append_line(runner.out / LINES, line)
                done[name] = line
                progress.console.print(in_words(line), soft_wrap=True)
                if line.error or line.answer["skipped"]:
                    given_up.add((case, program))
            progress.advance(bar)
    return [done[name] for name in keys if name in done]


def in_words(line: Line) -> str:
    """One finished measurement for a person who watches."""
    what = f"{line.case} round {line.round + 1} {line.program}"
    if line.error or line.answer["skipped"]:
        return f"{what}: no number, {line.error or line.answer['skipped']}"
    seconds = ", ".join(f"{value:.3g}" for value in line.answer["seconds"])
    return f"{what}: {seconds} s, peak {line.answer['peak_mib']:.0f} MiB, others {100 * line.others_cpu:.0f} %"


if __name__ == "__main__":
    typer.run(main)
