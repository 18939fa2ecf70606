"""Command line of the comparison."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from harness.config import SEEDS
from harness.errors import BtsrError, ConfigError
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.values import Split
from tests.bench.datasets import ROOT, research_folder
from tests.bench.runner import revision
from tests.bench.sources import Digests, machine
from tests.peers import ours
from tests.peers.job import Fit, Fitted, Loss, Place, Trained, lists_file
from tests.peers.report import TOLERANCE, Agreement, render

LOSSES: tuple[Loss, ...] = ("ce", "bce")
PROGRAMS: tuple[Trained, ...] = ("rectools", "btsr")


class PeerFailed(Exception):
    """RecTools' process ended with an error; the message is its last line."""


@contextmanager
def rectools(python: Path, folder: Path, *words: str) -> Iterator[None]:
    """Run RecTools' driver in its own environment during the ``with`` block; it has ended when the block has."""
    command = [str(python), "-m", "tests.peers.drive_rectools", words[0], str(folder), *words[1:]]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (
        TemporaryFile("w+") as stderr,
        subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=stderr) as process,
    ):
        try:
            yield
            if process.wait():
                stderr.seek(0)
                raise PeerFailed((stderr.read().strip() or "no message").splitlines()[-1])
        finally:
            process.kill()


def train(fits: Sequence[Fit], split: Split, folder: Path, peers: Path, console: Console) -> list[Fitted]:
    """All trainings, RecTools' beside ours and beside each other; what an earlier run has left is taken up."""
    missing = [fit for fit in fits if Fitted.load(folder, fit) is None]
    with ExitStack() as running:
        for fit in missing:
            if fit.program == "rectools":
                running.enter_context(rectools(peers, folder, "fit", json.dumps(asdict(fit))))
        for fit in missing:
            if fit.program == "btsr":
                ours.train(fit, split, folder)
                console.print(f"{fit.name} is trained")
        console.print("waiting for RecTools")
    done = [fitted for fit in fits if (fitted := Fitted.load(folder, fit))]
    assert len(done) == len(fits)
    return done


def theirs(folder: Path, name: str) -> dict[Place, float]:
    """RecTools' values of a list's metrics."""
    rows = json.loads((folder / f"{name}.metrics.json").read_text())
    return {(metric, k, bucket): value for metric, k, bucket, value in rows}


def main(
    epochs: Annotated[int, typer.Option(min=1, help="of every training")] = 10,
    seeds: Annotated[int, typer.Option(min=1, max=len(SEEDS), help="trainings of each program and loss")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="torch threads of each training")] = 1,
    out: Annotated[Path, typer.Option(help="folder of prepared data, lists and seconds")] = Path("runs/peers"),
    report: Annotated[Path | None, typer.Option(help="Markdown file to write; default: report.md in --out")] = None,
    peers: Annotated[Path, typer.Option(help="Python of the peers' environment")] = Path(".venv-peers/bin/python"),
) -> None:
    """Compare with RecTools; ends with code 1 where metrics differ. What an interrupted run has trained is kept."""
    console = Console(highlight=False, stderr=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that RecTools is ended too
    out = out.resolve()
    try:
        if not peers.is_file():
            raise ConfigError(f"no Python at {peers}: run 'make peers', or name it with --peers")
        paths = RunPaths(work_dir=out, data_dir=research_folder())
        split = prepare(ours.data(), paths)
        digests = Digests(own=Path(sys.executable), peers=peers.absolute())
        code = {program: ours.code_of(program, digests) for program in PROGRAMS}
        fits = [
            Fit(
                program=program,
                loss=loss,
                seed=seed,
                epochs=epochs,
                data=split.fingerprint,
                code=code[program],
                threads=threads,
            )
            for seed in SEEDS[:seeds]
            for loss in LOSSES
            for program in PROGRAMS
        ]
    except BtsrError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        raise typer.Exit(2) from None
    ours.save_split(split, out)
    python = peers.absolute()
    try:
        done = train(fits, split, out, python, console)
        with rectools(python, out, "metrics", *(fit.name for fit in fits)):
            console.print("RecTools' metrics")
    except PeerFailed as error:
        console.print(f"error: RecTools failed: {error}", style="red", soft_wrap=True)
        raise typer.Exit(1) from None
    lists = {fit.name: np.load(lists_file(out, fit.name)) for fit in fits}
    agreements = [Agreement(name=n, ours=ours.measured(split, top), theirs=theirs(out, n)) for n, top in lists.items()]
    target = report or out / "report.md"
    target.write_text(
        render(
            split,
            sorted(done, key=lambda one: (one.fit.loss, one.fit.seed, one.fit.program)),
            agreements,
            machine=machine(),
            command=f"python -m tests.peers --epochs {epochs} --seeds {seeds} --threads {threads}",
            date=datetime.now(UTC).date().isoformat(),
            revision=revision(),
        )
    )
    console.print(f"wrote {target}", soft_wrap=True)
    bad = [agreement.name for agreement in agreements if agreement.worst > TOLERANCE]
    if bad:
        console.print(f"error: metrics of {', '.join(bad)} differ by more than {TOLERANCE:g}", style="red")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
