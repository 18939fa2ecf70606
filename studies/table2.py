"""Table 2 (spec 7.2): every method at its own hyperparameters, all seeds; further ones where they are named."""

from harness.config import Study, StudyOptions
from studies.points import MORE, TABLE2
from studies.profiles import trial


def study(options: StudyOptions) -> Study:
    """Data sets x methods x seeds; `reduced` keeps the first two seeds."""
    methods = options.chosen((*TABLE2, *MORE)) if options.methods else TABLE2
    return Study(
        name="table2",
        title="Methods compared (table 2)",
        specs=tuple(
            trial(method, dataset, options, seed)
            for dataset in options.datasets
            for seed in options.trial_seeds
            for method in methods
        ),
    )
