"""The Markdown report of finished measurements: targets, one table per case, growth, method."""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from statistics import median
from typing import Any

from models.config import Precision
from tests.bench.cases import CASES, OURS, PADDED, PROGRAMS, SWEEP_WORKERS, TARGETS, Case, Target
from tests.bench.job import OVERHEADS, Answer
from tests.bench.method import METHOD
from tests.bench.results import Results, Spread, number
from tests.bench.runner import Line

QUANTITIES = {"MiB": "peak memory", "s": "seconds"}
NOTES = """\
Ratios are against peers as shipped; the columns behind the verdict are for information, medians. "Products alone": the
ratio of a program that does nothing but the epoch's matrix products, at this processor's measured rate; a target beyond
it is out of reach here.
"""
QUICK = "**Quick run: few users, batches and rounds. It shows that every driver works; its numbers measure nothing.**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _verdict(target: Target, value: float) -> str:
    def holds(bound: float) -> bool:
        return value >= bound if target.peer else value <= bound

    if target.aim is not None and holds(target.aim):
        return "aim reached"
    if target.least is not None:
        return "kept" if holds(target.least) else "**missed**"
    return "aim missed"


def _bound(target: Target, value: float | None) -> str:
    if value is None:
        return ""
    return f">= {value:g}x" if target.peer else f"<= {value:g} {target.unit}"


def _information(results: Results, target: Target, ours: str, rates: Mapping[Precision, float]) -> list[str]:
    """Of a ratio: those of both padded references, and the one of a program that does nothing but the products."""
    if not target.peer:
        return ["", "", ""]
    found = [results.ratio(target.case, program, ours) for program in PADDED]
    theirs, need = results.seconds(target.case, target.peer), results.products(target.case, ours)
    rate = rates.get(PROGRAMS[ours].precision)
    most = f"{number(theirs.middle / (need / rate))}x" if theirs and need and rate else ""
    return [*(f"{number(ratio.middle)}x" if ratio else "" for ratio in found), most]


def targets_table(results: Results, rates: Mapping[Precision, float] | None = None) -> str:
    """Every target of the cases that were run, with what each of the programs it is about has reached."""
    rows = []
    for target in [target for target in TARGETS if target.case in results.cases()]:
        for ours in target.ours:
            if target.peer:
                spread, unit = results.ratio(target.case, target.peer, ours), "x"
            elif target.unit == "s":
                spread, unit = results.seconds(target.case, ours), " s"
            else:
                spread, unit = results.peak(target.case, ours), " MiB"
            missing = [p for p in (ours, target.peer) if p and not results.rounds(target.case, p)]
            rows.append([
                CASES[target.case].title,
                f"against {PROGRAMS[target.peer].title}" if target.peer else QUANTITIES[target.unit],
                PROGRAMS[ours].title,
                _bound(target, target.least),
                _bound(target, target.aim),
                spread.text(unit) if spread else f"no number: {results.why_not(target.case, missing[0])}",
                _verdict(target, spread.middle) if spread else "",
                *_information(results, target, ours, rates or {}),
            ])
    head = ["work", "quantity", "program", "target", "aim", "reached, median (least to greatest)", "verdict"]
    return _table([*head, *(f"against the {PROGRAMS[program].title}" for program in PADDED), "products alone"], rows)


def limit_words(results: Results, name: str, rates: Mapping[Precision, float]) -> str:
    """What the products of an epoch take at the processor's own rate, and how near our programs come to that."""
    if not rates or CASES[name].work != "train":
        return ""
    near, need = [], None
    for program in OURS:
        seconds, rate = results.seconds(name, program), rates.get(PROGRAMS[program].precision)
        if seconds and rate:
            need = results.products(name, program)
            if need:
                near.append(f"{PROGRAMS[program].title} {seconds.middle / (need / rate):.2g} times")
    if not need:
        return ""
    floors = ", ".join(f"{need / rate:.3g} s in {precision}" for precision, rate in rates.items())
    return (
        f"\nThe matrix products alone are {need / 1e9:,.0f} GFLOP, at the rate of this processor {floors}. "
        f"Of that an epoch takes: {', '.join(near)}.\n"
    )


def _cpu_seconds(program: str, answers: Iterable[Answer]) -> str:
    return "" if PROGRAMS[program].detached else f"{median(answer.cpu_seconds for answer in answers):.3g}"


def case_table(results: Results, name: str, rates: Mapping[Precision, float] | None = None) -> str:
    """Seconds, memory and ratios of every program of a case."""
    case = CASES[name]
    with_cpu = case.work == "prepare" or case.work in OVERHEADS
    with_peak = case.work not in OVERHEADS
    ours = [program for program in case.programs if program in OURS and results.rounds(name, program)]
    rows = []
    for program in case.programs:
        seconds, peak = results.seconds(name, program), results.peak(name, program)
        if seconds is None or peak is None:
            cells = ["", f"no number: {results.why_not(name, program)}", "", "", *[""] * with_cpu, *[""] * with_peak]
            rows.append([PROGRAMS[program].title, *cells, *[""] * len(ours)])
            continue
        answers = results.rounds(name, program)
        last = answers[max(answers)]
        ratios = [results.ratio(name, program, mine) if program != mine else None for mine in ours]
        rows.append([
            PROGRAMS[program].title,
            str(len(answers)),
            seconds.text(" s"),
            f"{last.ran} of {last.full}" if last.ran < last.full else "all",
            f"{last.users if case.work == 'evaluate' else last.targets:,}",
            *([_cpu_seconds(program, answers.values())] if with_cpu else []),
            *([f"{peak.middle:,.0f}"] if with_peak else []),
            *[ratio.text("x") if ratio else "" for ratio in ratios],
        ])
    of = {"evaluate": "users", "prepare": "rows kept", **dict.fromkeys(OVERHEADS, "trials")}.get(case.work, "targets")
    head = ["program", "rounds", "seconds", "batches", of, *["CPU seconds"] * with_cpu, *["peak MiB"] * with_peak]
    head += [f"vs {PROGRAMS[p].title}" for p in ours]
    text = f"### {case.title} (`{name}`)\n\n{_table(head, rows)}\n"
    text += limit_words(results, name, rates or {})
    return text + (f"\n{throughput_table(results, name, case)}\n" if case.work == "sweep" else "")


def throughput_table(results: Results, name: str, case: Case) -> str:
    """Trial-epochs per hour over all workers of a sweep."""
    rows = []
    for program in case.programs:
        seconds = results.seconds(name, program)
        if seconds:
            per_hour = Spread(values=tuple(SWEEP_WORKERS * 3600 / value for value in seconds.values))
            rows.append([PROGRAMS[program].title, per_hour.text()])
    return _table(["program", f"trial-epochs per hour, {SWEEP_WORKERS} workers"], rows)


def growth_table(results: Results, scale: str) -> str:
    """Seconds and memory along a growing size; the exponent is 1 where cost is linear in that size."""
    names = [name for name in results.cases() if CASES[name].scale == scale]
    programs = [p for p in PROGRAMS if any(p in CASES[name].programs for name in names)]
    rows = []
    for program in programs:
        before: tuple[float, float] | None = None
        for name in names:
            value = _size(name)
            seconds, peak = results.seconds(name, program), results.peak(name, program)
            if not seconds or not peak:
                rows.append([PROGRAMS[program].title, f"{value:,.0f}", results.why_not(name, program), "", "", "", ""])
                continue
            answers = results.rounds(name, program)
            last = answers[max(answers)]
            growth = log(seconds.middle / before[1]) / log(value / before[0]) if before else None
            rows.append([
                PROGRAMS[program].title,
                f"{value:,.0f}",
                seconds.text(" s"),
                f"{last.ran} of {last.full}" if last.ran < last.full else "all",
                f"{last.targets:,}",
                f"{peak.middle:,.0f}",
                f"{growth:.2f}" if growth is not None else "",
            ])
            before = (value, seconds.middle)
    head = ["program", scale, "seconds per epoch", "batches", "targets", "peak MiB", "exponent"]
    return f"### Growth in {scale}\n\n{_table(head, rows)}\n"


def profile_tables(results: Results, name: str) -> str:
    """Where an epoch's time goes and what is resident, a column for every program."""
    found = {
        program: answers[max(answers)] for program in CASES[name].programs if (answers := results.rounds(name, program))
    }
    if not found:
        return "\n".join(f"{PROGRAMS[p].title}: no number, {results.why_not(name, p)}" for p in CASES[name].programs)
    titles = [PROGRAMS[program].title for program in found]
    operations = list(dict.fromkeys(operation for answer in found.values() for operation in answer.profile))
    moments = list(dict.fromkeys(moment for answer in found.values() for moment in answer.resident))
    shares = [
        [
            operation,
            *(
                f"{100 * s / sum(a.profile.values()):.1f} %" if (s := a.profile.get(operation)) else ""
                for a in found.values()
            ),
        ]
        for operation in operations
    ]
    shares.append(["all, under the profiler", *(f"{answer.seconds[0]:.3g} s" for answer in found.values())])
    sizes = [[moment, *(f"{a.resident[moment]:,.0f} MiB" for a in found.values())] for moment in moments]
    tables = _table(["share of an epoch", *titles], shares), _table(["peak resident memory after", *titles], sizes)
    return "\n\n".join([f"### {CASES[name].title} (`{name}`)", *tables])


def made_by(lines: Sequence[Line], results: Results, outdated: Mapping[str, int]) -> str:
    """Which commands measured what and when; what is missing, and what is left out because it is out of date."""
    commands: dict[str, dict[str, None]] = {}
    for line in lines:
        commands.setdefault(line.command, {})[line.case] = None
    rows = [
        [
            f"`{command}`",
            ", ".join(name for name in CASES if name in cases),
            " to ".join(sorted({min(days), max(days)})),
            ", ".join(dict.fromkeys(line.revision for line in lines if line.command == command)),
        ]
        for command, cases in commands.items()
        if (days := [line.started[:10] for line in lines if line.command == command])
    ]
    parts = [_table(["command", "cases", "on", "revision"], rows)]
    if lines:
        apart, name = max((results.minutes_apart(name), name) for name in results.cases())
        parts.append(f"Programs of one round began at most {apart:.0f} minutes apart (`{name}`).")
    if missing := [name for name in CASES if name not in results.cases()]:
        parts.append(f"Not measured: {', '.join(missing)}.")
    if outdated:
        counts = ", ".join(f"{name} ({count})" for name, count in outdated.items())
        parts.append(f"Left out, since code, versions or cases have changed since (measurements): {counts}.")
    return "\n\n".join(parts)


def _size(name: str) -> float:
    """The number at the end of a growth case's name: length-50, items-1e5."""
    return float(name.rpartition("-")[2])


def _has_table(name: str) -> bool:
    return not CASES[name].scale and CASES[name].work != "profile"


def render(
    lines: Sequence[Line],
    *,
    outdated: Mapping[str, int],
    machine: Mapping[str, str],
    rates: Mapping[Precision, float],
    date: str,
) -> str:
    """The whole report of current lines; outdated: how many others there are, by case; rates: operations a second."""
    results = Results(lines)
    versions: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.answer["detail"]:
            versions[PROGRAMS[line.program].title] = line.answer["detail"]
    others = [line.others_cpu for line in lines if not PROGRAMS[line.program].detached] or [0.0]
    profiles = [name for name in results.cases() if CASES[name].work == "profile"]
    scales = [scale for scale in dict.fromkeys(CASES[name].scale for name in results.cases()) if scale]
    parts = [
        "# Benchmarks",
        f"Written by `python -m tests.bench` on {date} from these measurements. Do not edit.",
        made_by(lines, results, outdated),
        "## Machine and versions",
        _table(
            ["what", "value"],
            [
                *([name, value] for name, value in machine.items()),
                *(
                    [f"multiply-adds in {name}", f"{rate / 1e9:,.0f} GFLOP/s on all cores"]
                    for name, rate in rates.items()
                ),
            ],
        ),
        _table(
            ["program", "versions and settings"],
            [[title, ", ".join(f"{n} {v}" for n, v in found.items())] for title, found in versions.items()],
        ),
        *([QUICK] if any(line.job["users"] for line in lines) else []),
        f"Other processes took {100 * median(others):.0f} % of the processor time during the median measurement, "
        f"{100 * max(others):.0f} % during the noisiest one.",
        "## Targets",
        targets_table(results, rates),
        NOTES,
        "## Measurements",
        *[case_table(results, name, rates) for name in results.cases() if _has_table(name)],
        *(["## Growth of cost"] if scales else []),
        *[growth_table(results, scale) for scale in scales],
        *(["## Where the time and the memory go"] if profiles else []),
        *[profile_tables(results, name) for name in profiles],
        "## Method",
        METHOD,
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
