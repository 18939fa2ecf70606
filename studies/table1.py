"""Table 1 (spec 7.1): three prediction losses, each with and without the Barlow Twins term."""

from harness.config import Study, StudyOptions
from studies.profiles import point, trial

BASES: tuple[str, ...] = ("sasrec_bce", "sasrec_ce", "sasrec_sce")


def methods(dataset: str) -> tuple[str, ...]:
    """The six columns; what table 2 runs as BT-SR on this data set is the same trial here, and so is run once."""
    ours = point("bt_sr", dataset)
    pairs = (f"{base}+bt" for base in BASES)
    return (*BASES, *("bt_sr" if point(pair, dataset) == ours else pair for pair in pairs))


def study(options: StudyOptions) -> Study:
    """Data sets x losses x with and without BT x seeds; `reduced` keeps the first two seeds."""
    return Study(
        name="table1",
        title="Prediction losses with and without BT (table 1)",
        specs=tuple(
            trial(method, dataset, options, seed)
            for dataset in options.datasets
            for seed in options.trial_seeds
            for method in options.chosen(methods(dataset))
        ),
    )
