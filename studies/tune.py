"""Tuning on validation with the same number of trials for every method of table 2: nine, on the first seed.

The row of `studies.points`, and eight points of a grid: three values of dropout times three of what matters most to the
method. `btsr-report --table 2 --study tune` shows the winners, chosen on validation alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config import Study, StudyOptions
from studies.points import TABLE2
from studies.profiles import trial, varied

DROPOUT: tuple[float, ...] = (0.1, 0.3, 0.5)

AXES: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] = {
    "sasrec_bce": [("loss", {"negatives": k}) for k in (16, 64, 256)],
    "sasrec_ce": [("train", {"weight_decay": w}) for w in (0.0, 1e-5, 1e-4)],
    "sasrec_sce": [("loss", {"sce_b_y": b}) for b in (64, 256, 1024)],
    "cl4srec": [("aux", {"alpha": a}) for a in (0.05, 0.1, 0.2)],
    "duorec": [("aux", {"alpha": a}) for a in (0.1, 0.2, 0.5)],
    "ec4srec": [("aux", {"alpha": a}) for a in (0.05, 0.1, 0.2)],
    "bt_sr": [("aux", {"alpha": a}) for a in (0.1, 0.2, 0.4)],
}
"""Method -> part of the specification and its three values."""


def study(options: StudyOptions) -> Study:
    """Data sets x methods x nine settings; `reduced`: the row and three others."""
    seed = options.seeds[0]
    specs = []
    for dataset in options.datasets:
        for method in options.chosen(TABLE2):
            base = trial(method, dataset, options, seed)
            grid = (
                varied(varied(base, encoder={"dropout": dropout}), **{part: values})
                for dropout in DROPOUT
                for part, values in AXES[method]
            )
            specs += [base, *[spec for spec in grid if spec.key != base.key][: 3 if options.reduced else 8]]
    return Study(name="tune", title="Tuning on validation, equal numbers of trials", specs=tuple(specs))
