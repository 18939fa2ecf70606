"""Runs one measurement in a process of its own, and keeps every finished one as a line of JSON."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

from harness.errors import ConfigError
from tests.bench.cases import PROGRAMS, SWEEP_WORKERS, Program
from tests.bench.datasets import ROOT
from tests.bench.job import Answer, Job
from tests.bench.sources import Digests

TICKS = os.sysconf("SC_CLK_TCK")
IDLE_CORES = 0.2
"""The machine counts as idle while others use less than this many cores."""


class DriverFailed(Exception):
    """A driver ended without an answer: its exit code and last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One finished measurement."""

    case: str
    program: str
    round: int
    job: dict[str, Any]
    """The `Job`; of a sweep, that of each worker."""
    answer: dict[str, Any]
    """The `Answer`; of a sweep, both workers' together."""
    revision: str
    """Of this checkout, with "+" when it has changes."""
    digest: str
    """Of the code and versions of all programs of the case, see `Digests`."""
    command: str
    """The command whose run made it."""
    started: str
    wall_seconds: float
    others_cpu: float
    """Share of the machine's processor time that other processes took meanwhile, those of a `detached` program too."""
    error: str = ""

    @property
    def key(self) -> str:
        """What a resumed run compares: the same key needs no second measurement."""
        return key(self.case, self.program, self.round, self.job, self.digest)


def key(case: str, program: str, round_: int, job: dict[str, Any], digest: str) -> str:
    """Names a measurement; with the digest, that of every program of the case changes."""
    return json.dumps([case, program, round_, job, digest], sort_keys=True)


def revision() -> str:
    """The checkout's revision, with "+" when tracked files have changes; "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _busy_seconds() -> float:
    """Processor seconds that all processes of the machine have used."""
    user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / TICKS


def _own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(r.ru_utime + r.ru_stime for r in used)


def wait_until_idle(limit_seconds: float) -> None:
    """Wait until other processes are quiet for a second, at most `limit_seconds`."""
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        before = _busy_seconds()
        time.sleep(1)
        if _busy_seconds() - before < IDLE_CORES:
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Where the interpreters are and how patient to be."""

    out: Path
    own_python: Path
    peers_python: Path
    digests: Digests
    command: str
    """What was typed."""
    timeout_seconds: float
    idle_seconds: float
    """How long to wait for a quiet machine before each measurement."""
    most_others: float
    """A measurement during which other processes took more than this share is made again, once.

    Unless the program is `detached`, so that some of the others are its own.
    """

    def measure(self, case: str, program: str, round_: int, job: Job) -> Line:
        """One measurement; what goes wrong in the driver is in the line's `error`."""
        line = self._once(case, program, round_, job)
        if PROGRAMS[program].detached:
            return line
        if line.others_cpu > self.most_others and not line.error and not line.answer["skipped"]:
            again = self._once(case, program, round_, job)
            line = min(line, again, key=lambda found: (bool(found.error), found.others_cpu))
        return line

    def _once(self, case: str, program: str, round_: int, job: Job) -> Line:
        wait_until_idle(self.idle_seconds)
        begin, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()
        digest = self.digests.of(case)  # before it runs: sources that change meanwhile make it out of date
        started = datetime.now(UTC).isoformat(timespec="seconds")
        answer, error = Answer(), ""
        try:
            answer = self._answer(PROGRAMS[program], job)
        except (subprocess.SubprocessError, OSError, DriverFailed) as problem:
            error = f"{type(problem).__name__}: {problem}"
        wall = time.perf_counter() - begin
        others = (_busy_seconds() - busy - (_own_seconds() - own)) / (wall * (os.cpu_count() or 1))
        return Line(
            case=case,
            program=program,
            round=round_,
            job=asdict(job),
            answer=asdict(answer),
            revision=revision(),
            digest=digest,
            command=self.command,
            started=started,
            wall_seconds=round(wall, 2),
            others_cpu=round(max(others, 0.0), 3),
            error=error,
        )

    def _answer(self, program: Program, job: Job) -> Answer:
        workers = SWEEP_WORKERS if job.work == "sweep" else 1
        with ExitStack() as stack:
            drivers = [stack.enter_context(self._driver(program, job, number)) for number in range(workers)]
            if job.work == "sweep":
                refusals = [refusal for driver in drivers if (refusal := driver.refusal())]
                if refusals:
                    return refusals[0]
                for driver in drivers:
                    driver.go()
            return together([driver.answer(self.timeout_seconds) for driver in drivers])

    @contextmanager
    def _driver(self, program: Program, job: Job, number: int) -> "Iterator[_Driver]":
        """A driver in a session of its own, ended with all its children when the block is left."""
        scratch = self.out / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        threads = str(job.threads)
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
        variables |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        python = self.own_python if program.environment == "own" else self.peers_python
        path = scratch / f"stderr{number}.txt"
        with (
            path.open("w") as stderr,
            subprocess.Popen(
                [python, "-m", program.module, job.to_json()],
                cwd=scratch,
                env=variables | program.variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield _Driver(process=process, stderr=path)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Driver:
    process: "subprocess.Popen[str]"
    stderr: Path

    def refusal(self) -> Answer | None:
        """None once a sweep worker says READY; its answer where it cannot measure."""
        assert self.process.stdout
        for text in self.process.stdout:
            if text.strip() == "READY":
                return None
            if text.startswith("{"):
                return Answer(**json.loads(text))
        raise self._failure()

    def go(self) -> None:
        """Start the work of a sweep worker that is ready."""
        assert self.process.stdin
        self.process.stdin.write("GO\n")
        self.process.stdin.flush()

    def answer(self, timeout_seconds: float) -> Answer:
        """The answer in the last line of standard output."""
        output, _ = self.process.communicate(timeout=timeout_seconds)
        if self.process.returncode != 0:
            raise self._failure()
        return Answer(**json.loads(output.strip().splitlines()[-1]))

    def _failure(self) -> DriverFailed:
        words = self.stderr.read_text().strip().splitlines() or ["no message"]
        return DriverFailed(f"exit code {self.process.wait()}: {words[-1]}")


def together(answers: list[Answer]) -> Answer:
    """The workers of a sweep as one: the mean seconds of a trial-epoch, the largest memory of a worker."""
    refused = [answer for answer in answers if answer.skipped]
    if refused:
        return refused[0]
    if len(answers) == 1:
        return answers[0]
    return replace(
        answers[0],
        seconds=[mean(s for answer in answers for s in answer.seconds)],
        start_mib=max(answer.start_mib for answer in answers),
        peak_mib=max(answer.peak_mib for answer in answers),
    )


def read_lines(path: Path) -> list[Line]:
    """Finished measurements of earlier runs; a last line that was cut off is removed from the file.

    Raises ConfigError for a file of another version of this benchmark.
    """
    if not path.is_file():
        return []
    whole, newline, cut_off = path.read_text().rpartition("\n")
    if cut_off:
        path.write_text(whole + newline)
    try:
        return [Line(**json.loads(text)) for text in whole.splitlines()]
    except TypeError:
        raise ConfigError(
            f"{path} is of another version of the benchmark: move it away, or name another --out"
        ) from None


def append_line(path: Path, line: Line) -> None:
    """Keep a measurement for good."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(line)) + "\n")
        file.flush()
        os.fsync(file.fileno())
