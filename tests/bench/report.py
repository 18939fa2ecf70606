"""The Markdown report of finished measurements: targets, one table per case, growth, method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Any

from models.config import Precision
from tests.bench.cases import CASES, OURS, PROGRAMS, SWEEP_WORKERS, TARGETS, Case, Target
from tests.bench.job import OVERHEADS, Answer, Job
from tests.bench.limits import products
from tests.bench.runner import Line

METHOD = f"""\
- Common task: leave-one-out (last interaction of a user: test, last but one: validation, the rest: training), full
  catalogue, D = 64, 2 blocks, 1 head, dropout 0.2, Adam 1e-3, batch 128, T = 50 unless a table says otherwise. Every
  program reads the same two flat arrays.
- Every number comes from a process of its own. Programs take turns (A B C A B C ...); a ratio is taken within a round,
  and its median, least and greatest value over the rounds are given. Two threads; a sweep has {SWEEP_WORKERS} worker
  processes of one thread each.
- The clock starts after a warm-up: a whole epoch (btsr), a few batches (the others, whose batches all have one shape).
  "k of n" marks epochs extrapolated from k batches; loader start-up is then not counted, to the peers' advantage. A
  bounded btsr epoch is one over the first k x 128 users.
- Peak memory is the highest resident size (VmHWM) of the measuring process, Python and torch included, loader
  processes not.
- The padded reference is the paper's design in plain torch: left-padded batches through a DataLoader with two workers,
  logits at every position, Barlow Twins by a second full pass; "tuned" adds glibc malloc settings against page faults
  and bf16 matrix products.
- RecBole trains on one target per sample, with its default batch of 2,048 samples, and its epoch holds every prefix
  (see "targets"); its evaluation does not mask seen items (its default for sequential models). RecTools' evaluation
  is its `recommend` alone, without metrics. btsr's evaluation includes target ranks, top 50 and all metrics, with seen
  items masked.
- A sweep's number is the time of one trial-epoch with validation of all users while the other worker does the same;
  ours includes everything that `run_trial` does within an epoch.
- A preparation goes from a text file of check-ins to what training reads, once, without a warm-up. btsr: one thread,
  SNAP's file; parsing, iterative 5-core filter, time order, temporal split, leak checks and statistics, written to
  disk and loaded. RecTools: SNAP's file by `pandas.read_csv`, `Dataset.construct`, leave-one-out by `LastNSplitter`,
  sequences by `SASRecDataPreparator`; it has no 5-core filter, so it keeps every row. RecBole: its own atomic file of
  the same rows (written beforehand, not counted), its 5-core filter, its augmentation to one sample per prefix in time
  order, leave-one-out, loaders. Peak memory counts imports, torch among them, for all three.
- An overhead is what the command `btsr-sweep` takes beyond the bare `run_trial` of the same trials in one process, with
  one worker, so that nothing hides behind another trial: per trial, (sweep of 100 - sweep of one - bare seconds of the
  other 99) / 99; the start, a sweep of one trial less its bare seconds. Data are prepared beforehand. Nothing to do:
  the same command again, all trials being done. CPU seconds are the same sums over processor time, which other
  programs on a busy machine disturb less.
- The rate of multiply-adds is measured when the report is written: independent sums in registers on all cores, the best
  of some tries. An epoch's products: three with the item table for every target, six maps of every block for every
  token, forward and twice backward, with Barlow Twins once more but for what the last token does not need. Attention,
  exponentials, norms, dropout and the optimiser are not in it.
- btsr programs: "torch" has native kernels switched off (`BTSR_KERNELS=off`), "kernels" on where the processor has
  what they need; "bf16" is `TrainConfig.precision`, fp32 otherwise.
"""


QUANTITIES = {"MiB": "peak memory", "s": "seconds"}
QUICK = "**Quick run: few users, batches and rounds. It shows that every driver works; its numbers measure nothing.**"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, least and greatest of some numbers."""

    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        return median(self.values)

    def text(self, unit: str = "") -> str:
        low, high = min(self.values), max(self.values)
        return f"{_number(self.middle)}{unit} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


class Results:
    """The latest good line of every (case, program, round)."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = {(line.case, line.program, line.round): line for line in lines}

    def rounds(self, case: str, program: str) -> dict[int, Answer]:
        """Answers by round, of the measurements that gave a number."""
        return {
            round_: Answer(**line.answer)
            for (c, p, round_), line in self.lines.items()
            if (c, p) == (case, program) and not line.error and line.answer["seconds"]
        }

    def seconds(self, case: str, program: str) -> Spread | None:
        found = tuple(median(answer.seconds) for answer in self.rounds(case, program).values())
        return Spread(values=found) if found else None

    def peak(self, case: str, program: str) -> Spread | None:
        found = tuple(answer.peak_mib for answer in self.rounds(case, program).values())
        return Spread(values=found) if found else None

    def ratio(self, case: str, peer: str, ours: str) -> Spread | None:
        """How many times longer the peer takes, round by round."""
        theirs, mine = self.rounds(case, peer), self.rounds(case, ours)
        common = sorted(theirs.keys() & mine.keys())
        found = tuple(median(theirs[r].seconds) / median(mine[r].seconds) for r in common)
        return Spread(values=found) if found else None

    def why_not(self, case: str, program: str) -> str:
        """Why a program has no number."""
        reasons = [
            line.error or line.answer["skipped"] for (c, p, _), line in self.lines.items() if (c, p) == (case, program)
        ]
        return reasons[-1] if reasons else "not run"

    def cases(self) -> list[str]:
        """Cases with at least one line, in their order."""
        seen = {case for case, _, _ in self.lines}
        return [name for name in CASES if name in seen]


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


def targets_table(results: Results) -> str:
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
            ])
    return _table(["work", "quantity", "program", "target", "aim", "reached, median (least to greatest)", ""], rows)


def limit_words(results: Results, name: str, rates: Mapping[Precision, float]) -> str:
    """What the products of an epoch take at the processor's own rate, and how near our programs come to that."""
    if not rates or CASES[name].work != "train":
        return ""
    near, need = [], None
    for program in OURS:
        seconds, rate = results.seconds(name, program), rates.get(PROGRAMS[program].precision)
        if seconds and rate:
            line = next(line for (c, p, _), line in results.lines.items() if (c, p) == (name, program))
            need = products(Job(**line.job), line.answer["targets"])
            if need:
                near.append(f"{PROGRAMS[program].title} {seconds.middle / (need / rate):.2g} times")
    if not need:
        return ""
    floors = ", ".join(f"{need / rate:.3g} s in {precision}" for precision, rate in rates.items())
    return (
        f"\nThe matrix products alone are {need / 1e9:,.0f} GFLOP, at the rate of this processor {floors}. "
        f"Of that an epoch takes: {', '.join(near)}.\n"
    )


def case_table(results: Results, name: str, rates: Mapping[Precision, float] | None = None) -> str:
    """Seconds, memory and ratios of every program of a case."""
    case = CASES[name]
    with_cpu = case.work == "prepare" or case.work in OVERHEADS
    ours = [program for program in case.programs if program in OURS and results.rounds(name, program)]
    rows = []
    for program in case.programs:
        seconds, peak = results.seconds(name, program), results.peak(name, program)
        if seconds is None or peak is None:
            cells = ["", f"no number: {results.why_not(name, program)}", "", "", "", *[""] * with_cpu]
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
            *([f"{median(answer.cpu_seconds for answer in answers.values()):.3g}"] if with_cpu else []),
            f"{peak.middle:,.0f}",
            *[ratio.text("x") if ratio else "" for ratio in ratios],
        ])
    of = {"evaluate": "users", "prepare": "rows kept", **dict.fromkeys(OVERHEADS, "trials")}.get(case.work, "targets")
    head = ["program", "rounds", "seconds", "batches", of, *["CPU seconds"] * with_cpu, "peak MiB"]
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


def _size(name: str) -> float:
    """The number at the end of a growth case's name: length-50, items-1e5."""
    return float(name.rpartition("-")[2])


def render(
    lines: Sequence[Line],
    *,
    machine: Mapping[str, str],
    rates: Mapping[Precision, float],
    command: str,
    date: str,
    revisions: Sequence[str],
) -> str:
    """The whole report; rates: operations a second of all cores."""
    results = Results(lines)
    versions: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.answer["detail"]:
            versions[PROGRAMS[line.program].title] = line.answer["detail"]
    others = [line.others_cpu for line in lines] or [0.0]
    scales = [scale for scale in dict.fromkeys(CASES[name].scale for name in results.cases()) if scale]
    parts = [
        "# Benchmarks",
        f"Made by `{command}` on {date}, revision {', '.join(revisions) or 'none'}. Do not edit.",
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
        targets_table(results),
        "## Measurements",
        *[case_table(results, name, rates) for name in results.cases() if not CASES[name].scale],
        *(["## Growth of cost"] if scales else []),
        *[growth_table(results, scale) for scale in scales],
        "## Method",
        METHOD,
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
