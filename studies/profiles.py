"""A method on a data set as a profile has it (spec 0.3, 1.5): the rows of `studies.points`, made into trials.

`released` is what the authors' configuration files say; `paper` follows the paper's text where it says something
(T = 50, 5-core, weight decay 1e-5; in the Barlow Twins term population std and no dropout view, which Kindle Store's
file has) and the files where it is silent; the text's grid of alpha and lambda is that of study `alpha_lambda`.

Two things of the released program are in neither: it ranks two rows that are no items (`rank_non_items`, spec 1.7), and
it chooses among runs on test data (spec 0.3).
"""

from collections.abc import Callable, Mapping
from typing import Any

from harness.config import DataConfig, Profile, StudyOptions, TrainConfig, TrialSpec, is_file
from harness.errors import ConfigError, unknown_name
from harness.profiles import profile_data
from models.config import AuxConfig, EncoderConfig
from studies.points import POINTS, Point

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
    """The data set as the profile filters and splits it, with what the options say of that in its place.

    Columns are those of files. Raises ConfigError for options that this data set cannot have.
    """
    columns = options.columns if is_file(dataset) else ("", "", "")
    return profile_data(dataset, options.profile, options.data, tie=options.tie, columns=columns)


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
        loss=row.loss,
        aux=_auxiliary(row.aux, options, alpha, lam),
        train=TrainConfig(
            batch_size=row.batch_size,
            max_epochs=min(epochs),
            patience=row.patience,
            validate_every=options.validate_every,
            weight_decay=WEIGHT_DECAY[options.profile],
            precision=options.precision,
        ),
        seed=seed,
    )


def switched_trials(
    methods: tuple[str, ...], options: StudyOptions, switched: Callable[[TrialSpec], tuple[TrialSpec, ...]]
) -> tuple[TrialSpec, ...]:
    """The trials of a study that switches settings: `switched` of each data set, seed and method that is asked for."""
    return tuple(
        spec
        for dataset in options.datasets
        for seed in options.trial_seeds
        for method in options.chosen(methods)
        for spec in switched(trial(method, dataset, options, seed))
    )


def _auxiliary(aux: AuxConfig, options: StudyOptions, alpha: float | None, lam: float | None) -> AuxConfig:
    if aux.kind != "barlow_twins":
        if alpha is not None or lam is not None:
            raise ConfigError(
                f"alpha and lam are for methods with a Barlow Twins term, and this one has aux.kind='{aux.kind}': "
                "leave them out; varied(trial, aux={'alpha': ...}) weighs another term"
            )
        return aux
    return AuxConfig.model_validate(
        aux.model_dump()
        | {
            "alpha": aux.alpha if alpha is None else alpha,
            "lam": aux.lam if lam is None else lam,
            "bt_std": "unbiased" if options.profile == "released" else "population",
            "extra_dropout_view": aux.extra_dropout_view and options.profile == "released",
        }
    )


def varied(spec: TrialSpec, **changes: Mapping[str, Any]) -> TrialSpec:
    """The trial with other values: varied(spec, train={"lr": 0.01}, data={"tie": "random"}).

    Raises ConfigError for a part or a field that there is not.
    """
    content = spec.model_dump()
    parts = [name for name, fields in content.items() if isinstance(fields, dict)]
    for part, fields in changes.items():
        if part not in parts:
            raise unknown_name("part of a trial", part, parts)
        for name in fields:
            if name not in content[part]:
                raise unknown_name(f"field of {part}", name, content[part])
        content[part] |= fields
    return TrialSpec.model_validate(content)
