"""Outcomes of trials without training: numbers that follow from the trial's key alone."""

import numpy as np

from harness.config import SEEDS, DataConfig, TrialSpec
from harness.metrics import evaluate
from harness.values import TOP_K, EpochLog, Provenance, Split, TrialFailure, TrialResult, UserRanks
from models.config import AuxConfig
from tests.splits import markov_split

DATA = DataConfig(dataset="synthetic")


def split() -> Split:
    """A small data set."""
    return markov_split()


def spec(alpha: float = 0.1, lam: float = 0.05, seed: int = SEEDS[0], dataset: str = "synthetic") -> TrialSpec:
    """A Barlow Twins trial."""
    return TrialSpec(
        method="bt_sr",
        data=DataConfig(dataset=dataset),
        aux=AuxConfig(kind="barlow_twins", alpha=alpha, lam=lam),
        seed=seed,
    )


def epoch(number: int, score: float) -> EpochLog:
    """One epoch that scored this."""
    return EpochLog(
        epoch=number,
        loss=5.0 / number,
        parts={"prediction": 4.0 / number, "auxiliary": 1.0 / number},
        valid={"ndcg@10": score},
        seconds_train=0.5,
        seconds_valid=0.1,
    )


def result(of: TrialSpec, data: Split, *, epochs: int = 3) -> TrialResult:
    """A finished trial with ranks drawn from its key."""
    rng = np.random.default_rng(int(of.key[:8], 16))

    def users() -> UserRanks:
        top = np.stack([rng.permutation(data.n_items)[:TOP_K] for _ in range(data.n_test_users)]).astype(np.int32)
        return UserRanks(rank=rng.integers(0, data.n_items, data.n_test_users).astype(np.int32), top=top)

    valid, test = users(), users()
    return TrialResult(
        spec=of,
        fingerprint=data.fingerprint,
        metrics=(
            *evaluate(valid, targets=data.targets("valid"), bucket=data.bucket, part="valid"),
            *evaluate(test, targets=data.targets("test"), bucket=data.bucket, part="test"),
        ),
        epochs=tuple(epoch(number, number / 10) for number in range(1, epochs + 1)),
        best_epoch=epochs,
        valid=valid,
        test=test,
        provenance=Provenance(
            git_revision=None,
            git_dirty=None,
            versions={"python": "3.11"},
            host="here",
            device="cpu",
            threads=1,
            precision="fp32",
            kernels="torch",
            command="btsr-sweep",
            started="2026-01-01T00:00:00+00:00",
            seconds={"train": 1.5, "total": 2.0},
            peak_mib=100.0,
            batch_size=128,
        ),
    )


def failure(of: TrialSpec) -> TrialFailure:
    """A trial that ended in an error."""
    return TrialFailure(spec=of, error="ValueError: no luck", traceback="Traceback ...", last_epoch=2)
