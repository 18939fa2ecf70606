"""Measurements of the benchmark that nobody made, for its tests."""

from dataclasses import asdict

from tests.bench.job import Answer, Job
from tests.bench.runner import Line


def line_of(case: str, program: str, round_: int, seconds: float, peak: float = 400) -> Line:
    """A measurement with a number."""
    answer = Answer(seconds=[seconds], ran=5, full=5, targets=10, users=4, peak_mib=peak, detail={"torch": "2"})
    return Line(
        case=case,
        program=program,
        round=round_,
        job=asdict(Job(data="d", work="train")),
        answer=asdict(answer),
        revision="abc",
        digest="d",
        command="python -m tests.bench",
        started=f"2026-01-01T10:{round_:02}:00+00:00",
        wall_seconds=1,
        others_cpu=0.01,
    )
