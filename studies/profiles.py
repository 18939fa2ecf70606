"""The hyperparameters of every data set, method and profile, in one place (spec 0.3, 1.5 and 1.6).

`released` is what the authors' configuration files say; `paper` follows the paper's text where it says something
(T = 50, 5-core, weight decay 1e-5, population std in the Barlow Twins term) and the files where it is silent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.config import DataConfig, Profile, StudyOptions, TrainConfig, TrialSpec, is_file, profile_data
from harness.errors import unknown_name
from models.config import AuxConfig, EncoderConfig, LossConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row of the table of released configurations (spec 1.6)."""

    batch_size: int
    dropout: float
    epochs: int
    patience: int
    alpha: float | None = None
    lam: float | None = None


def _point(
    batch_size: int, dropout: float, epochs: int, patience: int, alpha: float | None = None, lam: float | None = None
) -> Point:
    return Point(batch_size=batch_size, dropout=dropout, epochs=epochs, patience=patience, alpha=alpha, lam=lam)


POINTS: Mapping[str, Mapping[str, Point]] = {
    "sasrec_ce": {
        #                     B   dropout  epochs patience
        "ml1m": _point(256, 0.3, 50, 10),
        "yelp": _point(64, 0.3, 300, 20),
        "gowalla": _point(32, 0.3, 300, 10),
        "beauty": _point(512, 0.6, 300, 10),
        "kindle_store": _point(64, 0.3, 300, 10),
        "behance": _point(64, 0.3, 300, 10),
        "beeradvocate": _point(64, 0.3, 300, 10),
        "ml100k": _point(64, 0.3, 50, 5),
        "synthetic": _point(128, 0.2, 30, 5),
    },
    "bt_sr": {
        #                     B   dropout  epochs patience alpha lambda
        "ml1m": _point(256, 0.1, 200, 30, 0.2, 0.05),
        "yelp": _point(64, 0.3, 300, 10, 0.1, 0.05),
        "gowalla": _point(32, 0.3, 300, 10, 0.25, 0.05),
        "beauty": _point(512, 0.6, 300, 50, 0.25, 0.05),
        "kindle_store": _point(64, 0.3, 300, 10, 1.0, 0.05),
        "behance": _point(64, 0.3, 300, 10, 0.1, 0.05),
        "beeradvocate": _point(64, 0.3, 300, 10, 0.1, 0.05),
        "ml100k": _point(64, 0.3, 50, 5, 0.2, 0.05),
        "synthetic": _point(128, 0.2, 30, 5, 0.1, 0.05),
    },
}
"""Method -> data set -> its row. The base loss is CE throughout: the released yelp and gowalla files for BT-SR use SCE
with B = 512 and 2048; here they keep their alpha and lambda and take the batch size of the CE file. The last four data
sets are not in the paper's tables; their values are ours, and a file of the user's takes those of yelp."""

OWN_FILE = "yelp"
"""The data set whose rows a file of the user's takes."""

MAX_LEN: Mapping[Profile, int] = {"paper": 50, "released": 200}

OWN_MAX_LEN: Mapping[str, int] = {"synthetic": 25}
"""Data sets whose longest sequence is shorter than any profile's T: no transition is cut off."""

WEIGHT_DECAY: Mapping[Profile, float] = {"paper": 1e-5, "released": 0.0}


def point(method: str, dataset: str) -> Point:
    """The row of a method and data set. Raises ConfigError for one that has none."""
    if method not in POINTS:
        raise unknown_name("method", method, POINTS)
    known = OWN_FILE if is_file(dataset) else dataset
    if known not in POINTS[method]:
        raise unknown_name("data set", dataset, POINTS[method])
    return POINTS[method][known]


def data_config(dataset: str, options: StudyOptions) -> DataConfig:
    """The data set as the profile filters it, with the tie rule and, for a file, the columns that were asked for."""
    base = profile_data(dataset, options.profile)
    user_col, item_col, time_col = options.columns if is_file(dataset) else ("", "", "")
    changes = {"tie": options.tie, "user_col": user_col, "item_col": item_col, "time_col": time_col}
    return DataConfig.model_validate(base.model_dump() | changes)


def trial(
    method: str,
    dataset: str,
    options: StudyOptions,
    seed: int,
    *,
    alpha: float | None = None,
    lam: float | None = None,
    max_epochs: int | None = None,
) -> TrialSpec:
    """One trial of a method as the profile has it; `alpha`, `lam` and `max_epochs` replace the row's values.

    `options.max_epochs` caps the epochs whatever they are.
    """
    row = point(method, dataset)
    epochs = [row.epochs if max_epochs is None else max_epochs]
    if options.max_epochs is not None:
        epochs.append(options.max_epochs)
    return TrialSpec(
        method=method,
        profile=options.profile,
        data=data_config(dataset, options),
        encoder=EncoderConfig(max_len=OWN_MAX_LEN.get(dataset, MAX_LEN[options.profile]), dropout=row.dropout),
        loss=LossConfig(kind="ce"),
        aux=_auxiliary(row, options, alpha, lam),
        train=TrainConfig(
            batch_size=row.batch_size,
            max_epochs=min(epochs),
            patience=row.patience,
            weight_decay=WEIGHT_DECAY[options.profile],
        ),
        seed=seed,
    )


def _auxiliary(row: Point, options: StudyOptions, alpha: float | None, lam: float | None) -> AuxConfig:
    if row.alpha is None or row.lam is None:
        assert alpha is None and lam is None, "this method has no auxiliary term"
        return AuxConfig()
    return AuxConfig(
        kind="barlow_twins",
        alpha=row.alpha if alpha is None else alpha,
        lam=row.lam if lam is None else lam,
        bt_std="unbiased" if options.profile == "released" else "population",
    )
