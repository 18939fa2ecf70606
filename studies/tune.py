"""Tuning on validation with the same number of trials for every method of table 2 (others too, named), first seed.

As a grid, nine: three values of dropout times three of what matters most to the method, the row of `studies.points`
among them and first. As a search (`--search tpe --trials N`), N points of the method's own space, the row first.
`btsr-report --table 2 --study tune` (or `tune_tpe`) shows the winners, chosen on validation alone; with `--table 1`
those of the base losses with BT that are named, which are tuned as BT-SR is, but for the range of BCE's alpha.
"""

from collections.abc import Callable, Mapping, Sequence

from harness.config import Range, SearchSpace, Study, StudyOptions, TrialSpec, is_file
from studies.points import MORE, TABLE2
from studies.profiles import trial, varied
from studies.table1 import EVERY, named, pairs

Three = Callable[[float], Sequence[float]]
"""Of the row's value, the three that are tried."""


def among(*usual: float) -> Three:
    """The usual values, the nearest of which gives place to the row's where it is none of them.

    >>> among(0.1, 0.3, 0.5)(0.6)
    (0.1, 0.3, 0.6)
    """

    def three(row: float) -> tuple[float, ...]:
        nearest = min(usual, key=lambda value: abs(value - row))
        return tuple(row if value == nearest else value for value in usual)

    return three


def around(row: float) -> tuple[float, ...]:
    """Half, once and twice the row's value, for what has no usual ones."""
    return (row / 2, row, 2 * row)


DROPOUT = among(0.1, 0.3, 0.5)

CONTRAST = among(0.0001, 0.001, 0.01)
"""Weights of a contrastive term, see `studies.points.CONTRAST_WEIGHT`."""

NEGATIVES: Mapping[float, tuple[int, ...]] = {
    64: (16, 64, 256),
    256: (64, 256, 1024),
    1024: (64, 256, 1024),
    4096: (256, 1024, 4096),
}
"""Of the row's number of negatives: a quarter, as many and four times as many, but no more than 1,024 where the row has
no more: ML-1M has 3,411 items. On a user's file, whose items nobody knows here, none has more than the row."""

NUMBER = "loss.negatives"
"""The field that the number of items bounds."""

AXES: Mapping[str, tuple[str, Three]] = {
    "sasrec_bce": (NUMBER, NEGATIVES.__getitem__),
    "sasrec_ce": ("train.weight_decay", among(0.0, 1e-5, 1e-4)),
    "sasrec_sce": ("loss.sce_b_y", among(64, 256, 1024)),
    "cl4srec": ("aux.alpha", CONTRAST),
    "duorec": ("aux.alpha", CONTRAST),
    "ec4srec": ("aux.alpha", CONTRAST),
    "bt_sr": ("aux.alpha", among(0.1, 0.2, 0.4)),
    "sasrec_gbce": ("loss.gbce_t", among(0.5, 0.75, 0.9)),
    "sasrec_ce_sampled": (NUMBER, NEGATIVES.__getitem__),
    "duorec_released": ("aux.alpha", CONTRAST),
    "sasrec_bce+bt": ("aux.alpha", around),
}
"""Method -> what matters most to it, and its three values."""

SHARED: Mapping[str, Range] = {
    "encoder.dropout": Range(low=0.1, high=0.7),
    "train.lr": Range(low=0.0003, high=0.003, log=True),
}
"""What a search varies of every method."""

PAPER: Mapping[str, Range] = {"train.weight_decay": Range(low=1e-5, high=1e-4, log=True)}
"""And with profile `paper`, whose text tunes it (spec 1.5)."""

WEIGHT = Range(low=0.01, high=0.5, log=True)
"""Of an auxiliary term; never 0, which would be another method."""

LAMBDA = Range(low=0.0, high=0.5)

CONTRAST_RANGE = Range(low=0.00005, high=0.2, log=True)
"""Up to the originals' 0.1 and 0.2, which suit their prefixes."""

SHARE, TEMPERATURE = Range(low=0.1, high=0.9), Range(low=0.05, high=2.0, log=True)

OWN: Mapping[str, Mapping[str, Range]] = {
    "sasrec_bce": {"loss.negatives": Range(low=16, high=256, log=True, integer=True)},
    "sasrec_ce": {"train.weight_decay": Range(low=0.0, high=0.0001)},
    "sasrec_sce": {"loss.sce_b_y": Range(low=64, high=1024, log=True, integer=True)},
    "cl4srec": {
        "aux.alpha": CONTRAST_RANGE,
        "aux.tau": TEMPERATURE,
        "aux.crop_eta": SHARE,
        "aux.mask_gamma": SHARE,
        "aux.reorder_beta": SHARE,
    },
    "duorec": {"aux.alpha": CONTRAST_RANGE, "aux.tau": TEMPERATURE},
    "ec4srec": {
        "aux.alpha": CONTRAST_RANGE,
        "aux.tau": TEMPERATURE,
        "aux.r_plus": SHARE,
        "aux.r_minus": SHARE,
        "aux.negative_weight": Range(low=0.005, high=0.5, log=True),
        "aux.tau_negative": TEMPERATURE,
    },
    "bt_sr": {"aux.alpha": WEIGHT, "aux.lam": LAMBDA},
    "sasrec_gbce": {
        "loss.negatives": Range(low=16, high=256, log=True, integer=True),
        "loss.gbce_t": Range(low=0.0, high=1.0),
    },
    "sasrec_ce_sampled": {"loss.negatives": Range(low=16, high=256, log=True, integer=True)},
    "duorec_released": {"aux.alpha": CONTRAST_RANGE, "aux.tau": TEMPERATURE},
    "sasrec_bce+bt": {"aux.alpha": Range(low=0.00005, high=0.005, log=True), "aux.lam": LAMBDA},
}
"""Method -> what a search varies of it alone (spec 4.1 to 4.3 for the baselines)."""


def tuned_as(method: str) -> str:
    """The method whose axis and space a method has: a base loss with BT those of BT-SR, but for BCE's alpha."""
    return method if method in AXES else "bt_sr"


def fewer(row: int) -> tuple[int, ...]:
    """A row's number of negatives, a quarter and a sixteenth of it."""
    return (row // 16, row // 4, row)


def grid(base: TrialSpec) -> tuple[TrialSpec, ...]:
    """The row and the eight other points around it."""
    row, (path, three) = base.flat(), AXES[tuned_as(base.method)]
    part, _, name = path.partition(".")
    unknown = path == NUMBER and is_file(base.data.dataset)
    values = fewer(row[path]) if unknown else three(row[path])
    points = (
        varied(base, encoder={"dropout": dropout}, **{part: {name: value}})
        for dropout in DROPOUT(row["encoder.dropout"])
        for value in values
    )
    return (base, *[spec for spec in points if spec.key != base.key])


def space(base: TrialSpec) -> SearchSpace:
    """Where a method is searched around its row; a range that would leave out a point of the grid is widened to it."""
    own = OWN[tuned_as(base.method)]
    ranges = {**SHARED, **(PAPER if base.profile == "paper" else {}), **own}
    points = [spec.flat() for spec in grid(base)]
    return SearchSpace(
        base=base,
        ranges={
            path: wanted.model_copy(
                update={
                    "low": min(wanted.low, *(point[path] for point in points)),
                    "high": max(wanted.high, *(point[path] for point in points)),
                }
            )
            for path, wanted in ranges.items()
        },
    )


def chosen(dataset: str, options: StudyOptions) -> tuple[str, ...]:
    """The methods of table 2, or those that are named, BT-SR also by its base loss. Raises ConfigError for others."""
    if not options.methods:
        return TABLE2
    return named({**{method: method for method in (*TABLE2, *MORE)}, **pairs(dataset, EVERY)}, options)


def study(options: StudyOptions) -> Study:
    """Data sets x methods x nine settings; `reduced`: the row and three others. A search takes the methods' spaces."""
    bases = [
        trial(method, dataset, options, options.seeds[0])
        for dataset in options.datasets
        for method in chosen(dataset, options)
    ]
    return Study(
        name="tune",
        title="Tuning on validation, equal numbers of trials",
        specs=tuple(spec for base in bases for spec in grid(base)[: 4 if options.reduced else None]),
        search=tuple(map(space, bases)),
    )
