"""A results database made by the store's own functions from invented ranks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config import DataConfig, Study, TrainConfig, TrialSpec
from harness.metrics import evaluate
from harness.store import open_store
from harness.values import EpochLog, Outcome, Provenance, Split, TrialFailure, TrialResult, UserRanks
from models.config import AuxConfig, EncoderConfig, LossConfig

N_ITEMS = 60


def data_config(dataset: str = "ml1m", tie: str = "stable") -> DataConfig:
    return DataConfig.model_validate({"dataset": dataset, "filter": "none", "min_item": 1, "min_user": 1, "tie": tie})


def spec(
    method: str = "sasrec_ce",
    *,
    dataset: str = "ml1m",
    alpha: float | None = None,
    lam: float = 0.05,
    seed: int = 1235,
    profile: str = "released",
    tie: str = "stable",
    batch_size: int = 256,
    loss: str = "ce",
    precision: str = "fp32",
) -> TrialSpec:
    losses = {
        "ce": LossConfig(),
        "bce": LossConfig(kind="bce", negatives=1),
        "sce": LossConfig(kind="sce", sce_b_y=10),
    }
    aux = AuxConfig() if alpha is None else AuxConfig(kind="barlow_twins", alpha=alpha, lam=lam, bt_std="unbiased")
    return TrialSpec.model_validate({
        "method": method,
        "profile": profile,
        "data": data_config(dataset, tie),
        "encoder": EncoderConfig(max_len=200, dropout=0.3),
        "loss": losses[loss],
        "aux": aux,
        "train": TrainConfig.model_validate({"batch_size": batch_size, "max_epochs": 51, "precision": precision}),
        "seed": seed,
    })


def split_of(config: DataConfig, n_test: int, fingerprint: str | None = None) -> Split:
    """`n_test` users of three rows each: one input, one validation target, one test target."""
    rng = np.random.default_rng(n_test)
    test = np.stack([rng.permutation(N_ITEMS)[:3] for _ in range(n_test)]).astype(np.int32)
    train = np.tile(np.arange(N_ITEMS, dtype=np.int32), 3)
    letter = "a" if config.tie == "stable" else "b"
    return Split(
        config=config,
        fingerprint=fingerprint or (letter + format(n_test, "07x")) * 4,
        boundary=993073637,
        n_items=N_ITEMS,
        train_items=train,
        train_offsets=np.arange(0, len(train) + 1, N_ITEMS).astype(np.int64),
        test_items=test.ravel(),
        test_offsets=np.arange(0, 3 * n_test + 1, 3).astype(np.int64),
        popularity=np.full(N_ITEMS, 3, np.int32),
        bucket=(1 + np.arange(N_ITEMS) * 3 // N_ITEMS).astype(np.int8),
        item_ids=np.arange(N_ITEMS).astype(str),
        user_ids=np.arange(n_test).astype(str),
        report={"rows": float(len(train))},
    )


def invented_ranks(split: Split, part: str, quality: float, seed: int) -> UserRanks:
    """Targets get a head start of `quality` standard deviations over normal scores."""
    rng = np.random.default_rng((seed, part == "test"))
    targets = split.targets("test" if part == "test" else "valid")
    scores = rng.standard_normal((len(targets), split.n_items))
    scores[np.arange(len(targets)), targets] += quality
    order = np.argsort(-scores, axis=1, kind="stable").astype(np.int32)
    rank = (np.argmax(order == targets[:, None], axis=1) + 1).astype(np.int32)
    return UserRanks(rank=rank, top=np.ascontiguousarray(order[:, :50]))


def result(
    of: TrialSpec, split: Split, *, valid: float, test: float, device: str = "cpu", batch_size: int | None = None
) -> TrialResult:
    """A finished trial of one epoch whose validation and test ranks have these qualities."""
    ranks = {
        "valid": invented_ranks(split, "valid", valid, of.seed),
        "test": invented_ranks(split, "test", test, of.seed),
    }
    metrics = [
        evaluate(ranks[part], targets=split.targets(part), bucket=split.bucket, part=part) for part in ("valid", "test")
    ]
    return TrialResult(
        spec=of,
        fingerprint=split.fingerprint,
        metrics=(*metrics[0], *metrics[1]),
        epochs=(EpochLog(epoch=1, loss=1.0, parts={}, valid={}, seconds_train=1.0, seconds_valid=0.1),),
        best_epoch=1,
        valid=ranks["valid"],
        test=ranks["test"],
        provenance=Provenance(
            git_revision=None,
            git_dirty=None,
            versions={},
            host="here",
            device=device,
            threads=1,
            precision=of.train.precision,
            kernels="torch",
            command="btsr-sweep",
            started="2026-01-01T00:00:00+00:00",
            seconds={"total": 1.0},
            peak_mib=1.0,
            batch_size=batch_size or of.train.batch_size,
        ),
    )


def failure(of: TrialSpec) -> TrialFailure:
    return TrialFailure(spec=of, error="RuntimeError: out of memory", traceback="", last_epoch=1)


def write(
    database: Path,
    study: str,
    specs: Sequence[TrialSpec],
    outcomes: Sequence[Outcome] = (),
    splits: Sequence[Split] = (),
) -> Path:
    """Register the study and record what ended; may be called again for more."""
    with open_store(database, create=True) as store:
        store.register_study(Study(name=study, title=study, specs=tuple(specs)))
        for split in splits:
            store.record_data(split)
        for outcome in outcomes:
            store.record(outcome)
    return database
