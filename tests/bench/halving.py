"""What successive halving saves and costs: finished trials of a study are gone through again under a pruner.

A trial that is given up has, epoch for epoch, the numbers of the same trial run whole. So the learning curves of a grid
that was run whole say exactly what a pruner would have done with its trials, in any order and for any number of
workers that take equally long for an epoch, without training anything again:

    make halving HALVING="--db runs/btsr.db --study alpha_lambda --dataset ml1m"
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner

from harness.errors import BtsrError, ConfigError
from harness.ledger_page import curve
from harness.ledger_storage import pruner
from harness.store import Store, open_store

SHIPPED = {"--prune halving": lambda: pruner("halving"), "--prune median": lambda: pruner("median")}
OTHERS = {
    f"halving from epoch {first}, 1 in {factor}": lambda first=first, factor=factor: SuccessiveHalvingPruner(
        min_resource=first, reduction_factor=factor
    )
    for first in (1, 4, 8)
    for factor in (2, 4)
} | {"median from epoch 8": lambda: MedianPruner(n_warmup_steps=8)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A trial that was run whole."""

    key: str
    name: str
    curve: dict[int, float]
    """Epoch -> validation NDCG@10."""
    seconds: tuple[float, ...]
    """Of each epoch: training and validation."""
    valid: float
    """Best validation NDCG@10."""
    test: float
    """Test NDCG@10 of those weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The same trials under a pruner."""

    epochs: int
    seconds: float
    pruned: int
    winner: Run
    """By validation, of those that were not given up."""


def runs_of(store: Store, study: str, dataset: str) -> dict[tuple[str, int], list[Run]]:
    """Finished trials by method and seed, as a sweep prunes them. Raises ConfigError where all have too few."""
    found: dict[tuple[str, int], list[Run]] = {}
    for row in store.trials(study=study, dataset=dataset):
        logs = store.epochs(row.key)
        numbers = [
            next(m.value for m in store.metrics((row.key,), part=part, names=("ndcg",))[row.key] if _is_main(m))
            for part in ("valid", "test")
        ]
        assert numbers[0] is not None and numbers[1] is not None
        found.setdefault((row.spec.method, row.spec.seed), []).append(
            Run(
                key=row.key,
                name=f"{row.spec.method} alpha {row.spec.aux.alpha:g} lambda {row.spec.aux.lam:g}",
                curve=curve(logs),
                seconds=tuple(log.seconds_train + log.seconds_valid for log in logs),
                valid=numbers[0],
                test=numbers[1],
            )
        )
    some = {which: runs for which, runs in found.items() if len(runs) >= 4}
    if not some:
        raise ConfigError(
            f"study {study} has fewer than four finished trials of a method and seed on {dataset}: run it first"
        )
    return some


def _is_main(metric: object) -> bool:
    return (getattr(metric, "k", None), getattr(metric, "bucket", None)) == (10, 0)


def replay(runs: Sequence[Run], chosen: BasePruner, workers: int) -> Outcome:
    """Run them in this order, `workers` at a time, an epoch of each in turn, as the sweep's driver does."""
    study = optuna.create_study(direction="maximize", pruner=chosen)
    waiting = iter(runs)
    busy: list[tuple[optuna.Trial, Run, Iterator[int]]] = []
    epochs, seconds, pruned, done = 0, 0.0, 0, []
    while True:
        while len(busy) < workers and (run := next(waiting, None)):
            busy.append((study.ask(), run, iter(range(1, len(run.seconds) + 1))))
        if not busy:
            break
        for slot in tuple(busy):
            trial, run, left = slot
            epoch = next(left, None)
            if epoch is None:
                study.tell(trial, run.valid)
                done.append(run)
                busy.remove(slot)
                continue
            epochs, seconds = epochs + 1, seconds + run.seconds[epoch - 1]
            if epoch in run.curve:
                trial.report(run.curve[epoch], epoch)
                if trial.should_prune():
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    pruned += 1
                    busy.remove(slot)
    return Outcome(epochs=epochs, seconds=seconds, pruned=pruned, winner=max(done, key=lambda run: run.valid))


def compare(runs: Sequence[Run], orders: int, workers: int) -> Iterator[str]:
    """A Markdown table: every pruner over random orders of the trials, against all of them run whole."""
    whole, best = sum(len(run.seconds) for run in runs), max(runs, key=lambda run: run.valid)
    seconds = sum(sum(run.seconds) for run in runs)
    yield f"{len(runs)} trials, {whole} trial-epochs, {seconds:.0f} s; {workers} at a time, {orders} random orders."
    yield f"Best of all by validation: {best.name}, validation {best.valid:.4f}, test {best.test:.4f}."
    yield ""
    titles = ("option", "given up", "trial-epochs saved (min / median / max)", "time saved", "same winner")
    yield f"| {' | '.join((*titles, 'validation lost', 'test of the winner'))} |"
    yield "|---|---|---|---|---|---|---|"
    for name, make in (SHIPPED | OTHERS).items():
        random = np.random.default_rng(0)
        found = [replay([runs[i] for i in random.permutation(len(runs))], make(), workers) for _ in range(orders)]
        saved = [1 - outcome.epochs / whole for outcome in found]
        lost = [best.valid - outcome.winner.valid for outcome in found]
        yield (
            f"| {name} | {median(o.pruned for o in found):.0f} of {len(runs)} "
            f"| {min(saved):.0%} / {median(saved):.0%} / {max(saved):.0%} "
            f"| {median(1 - o.seconds / seconds for o in found):.0%} "
            f"| {sum(o.winner is best for o in found)} of {orders} "
            f"| median {median(lost):.4f}, worst {max(lost):.4f} | median {median(o.winner.test for o in found):.4f} |"
        )


def main() -> None:
    """Read a results database and print one table for each method and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, required=True, help="results of a sweep that was run whole; only read")
    parser.add_argument("--study", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--orders", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with open_store(given.db, read_only=True) as store:
            runs = runs_of(store, given.study, given.dataset)
    except BtsrError as error:
        print(f"halving: {error}", file=sys.stderr)
        sys.exit(2)
    for (method, seed), mine in sorted(runs.items()):
        title = f"\n{given.study}, {given.dataset}, {method}, seed {seed}\n"
        print(title, *compare(mine, given.orders, given.workers), sep="\n")


if __name__ == "__main__":
    main()
