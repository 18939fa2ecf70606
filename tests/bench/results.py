"""Finished measurements by case, program and round, and what is computed from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from tests.bench.cases import CASES
from tests.bench.job import Answer, Job
from tests.bench.limits import products
from tests.bench.runner import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, least and greatest of some numbers."""

    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        return median(self.values)

    def text(self, unit: str = "") -> str:
        low, high = min(self.values), max(self.values)
        return f"{number(self.middle)}{unit} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Three digits, more of large ones."""
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

    def products(self, case: str, program: str) -> float | None:
        """Operations of the matrix products of an epoch of the case; None for other work or where its data are gone."""
        answers = list(self.rounds(case, program).items())
        if CASES[case].work != "train" or not answers:
            return None
        return products(Job(**self.lines[case, program, answers[0][0]].job), answers[0][1].targets)

    def why_not(self, case: str, program: str) -> str:
        """Why a program has no number."""
        reasons = [
            line.error or line.answer["skipped"] for (c, p, _), line in self.lines.items() if (c, p) == (case, program)
        ]
        return reasons[-1] if reasons else "not run"

    def minutes_apart(self, case: str) -> float:
        """Longest time between the first and the last start of a round's measurements."""
        begun: dict[int, list[datetime]] = {}
        for (name, _, round_), line in self.lines.items():
            if name == case:
                begun.setdefault(round_, []).append(datetime.fromisoformat(line.started))
        return max((max(times) - min(times)).total_seconds() / 60 for times in begun.values())

    def cases(self) -> list[str]:
        """Cases with at least one line, in their order."""
        seen = {case for case, _, _ in self.lines}
        return [name for name in CASES if name in seen]
