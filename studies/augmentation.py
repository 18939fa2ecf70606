"""Which second view the Barlow Twins term needs (spec 5): a same-target partner, or the sequence itself made noisy.

The extra dropout view is off in all of them: it is a second view beside the one in question, so Kindle Store, whose
released row has it on, is not that row here.
"""

from typing import get_args

from harness.config import Study, StudyOptions
from models.config import AuxConfig
from studies.profiles import trial, varied

DATASETS: tuple[str, ...] = ("yelp", "kindle_store")
"""The paper's."""

VIEWS: tuple[str, ...] = get_args(AuxConfig.model_fields["bt_view"].annotation)


def study(options: StudyOptions) -> Study:
    """BT-SR with each view, all else equal; `reduced` keeps the first two seeds."""
    return Study(
        name="augmentation",
        title="Second view of the Barlow Twins term, the only one (no extra dropout view)",
        specs=tuple(
            varied(trial("bt_sr", dataset, options, seed), aux={"bt_view": view, "extra_dropout_view": False})
            for dataset in options.datasets
            for seed in options.trial_seeds
            for view in VIEWS
        ),
    )
