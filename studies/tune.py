"""Tuning on validation with the same number of trials for every method of table 2 (others too, named), first seed.

As a grid, nine: the row of `studies.points`, and eight points of three values of dropout times three of what matters
most to the method. As a search (`--search tpe --trials N`), N points of the method's own space, the row first.
`btsr-report --table 2 --study tune` (or `tune_tpe`) shows the winners, chosen on validation alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config import Range, SearchSpace, Study, StudyOptions, TrialSpec
from studies.points import MORE, TABLE2
from studies.profiles import trial, varied

DROPOUT: tuple[float, ...] = (0.1, 0.3, 0.5)

CONTRAST: tuple[float, ...] = (0.001, 0.01, 0.1)
"""Weights of a contrastive term: the authors' on this core and the originals', see `studies.points.CONTRAST_WEIGHT`."""

AXES: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] = {
    "sasrec_bce": [("loss", {"negatives": k}) for k in (16, 64, 256)],
    "sasrec_ce": [("train", {"weight_decay": w}) for w in (0.0, 1e-5, 1e-4)],
    "sasrec_sce": [("loss", {"sce_b_y": b}) for b in (64, 256, 1024)],
    "cl4srec": [("aux", {"alpha": a}) for a in CONTRAST],
    "duorec": [("aux", {"alpha": a}) for a in CONTRAST],
    "ec4srec": [("aux", {"alpha": a}) for a in CONTRAST],
    "bt_sr": [("aux", {"alpha": a}) for a in (0.1, 0.2, 0.4)],
    "sasrec_gbce": [("loss", {"gbce_t": t}) for t in (0.5, 0.75, 0.9)],
    "sasrec_ce_sampled": [("loss", {"negatives": k}) for k in (16, 64, 256)],
    "duorec_released": [("aux", {"alpha": a}) for a in CONTRAST],
}
"""Method -> part of the specification and its three values."""

SHARED: Mapping[str, Range] = {
    "encoder.dropout": Range(low=0.1, high=0.7),
    "train.lr": Range(low=0.0003, high=0.003, log=True),
}
"""What a search varies of every method."""

PAPER: Mapping[str, Range] = {"train.weight_decay": Range(low=1e-5, high=1e-4, log=True)}
"""And with profile `paper`, whose text tunes it (spec 1.5)."""

WEIGHT = Range(low=0.01, high=0.5, log=True)
"""Of an auxiliary term; never 0, which would be another method."""

CONTRAST_RANGE = Range(low=0.0005, high=0.5, log=True)

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
    "bt_sr": {"aux.alpha": WEIGHT, "aux.lam": Range(low=0.0, high=0.5)},
    "sasrec_gbce": {
        "loss.negatives": Range(low=16, high=256, log=True, integer=True),
        "loss.gbce_t": Range(low=0.0, high=1.0),
    },
    "sasrec_ce_sampled": {"loss.negatives": Range(low=16, high=256, log=True, integer=True)},
    "duorec_released": {"aux.alpha": CONTRAST_RANGE, "aux.tau": TEMPERATURE},
}
"""Method -> what a search varies of it alone (spec 4.1 to 4.3 for the baselines)."""


def space(base: TrialSpec) -> SearchSpace:
    """Where a method is searched around its row; a range that would leave the row out is widened to it."""
    row, own = base.flat(), OWN[base.method]
    ranges = {**SHARED, **(PAPER if base.profile == "paper" else {}), **own}
    return SearchSpace(
        base=base,
        ranges={
            path: wanted.model_copy(update={"low": min(wanted.low, row[path]), "high": max(wanted.high, row[path])})
            for path, wanted in ranges.items()
        },
    )


def study(options: StudyOptions) -> Study:
    """Data sets x methods x nine settings; `reduced`: the row and three others. A search takes the methods' spaces."""
    seed = options.seeds[0]
    methods = options.chosen((*TABLE2, *MORE)) if options.methods else TABLE2
    specs, spaces = [], []
    for dataset in options.datasets:
        for method in methods:
            base = trial(method, dataset, options, seed)
            grid = (
                varied(varied(base, encoder={"dropout": dropout}), **{part: values})
                for dropout in DROPOUT
                for part, values in AXES[method]
            )
            specs += [base, *[spec for spec in grid if spec.key != base.key][: 3 if options.reduced else 8]]
            spaces.append(space(base))
    title = "Tuning on validation, equal numbers of trials"
    return Study(name="tune", title=title, specs=tuple(specs), search=tuple(spaces))
