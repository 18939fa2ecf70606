"""The studies by name: each is a function from options to a set of trials. Imports no heavy library."""

from collections.abc import Callable, Mapping

from harness.config import PAPER_DATASETS, Study, StudyOptions
from harness.errors import unknown_name
from studies import alpha_lambda, augmentation, originals, precision, protocol, smoke, table1, table2, tune

StudyFunction = Callable[[StudyOptions], Study]

STUDIES: dict[str, StudyFunction] = {
    "smoke": smoke.study,
    "table1": table1.study,
    "table2": table2.study,
    "alpha_lambda": alpha_lambda.study,
    "augmentation": augmentation.study,
    "protocol": protocol.study,
    "precision": precision.study,
    "originals": originals.study,
    "tune": tune.study,
}

DEFAULT_DATASETS: Mapping[str, tuple[str, ...]] = {
    "smoke": ("synthetic",),
    "augmentation": augmentation.DATASETS,
    "protocol": protocol.DATASETS,
    "precision": precision.DATASETS,
    "originals": originals.DATASETS,
}
"""Data sets of a study where the command line names none; a study that is not here takes the paper's five."""


def study_function(name: str) -> StudyFunction:
    """The study of that name. Raises ConfigError with the nearest spelling for an unknown one."""
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return STUDIES[name]


def default_datasets(name: str) -> tuple[str, ...]:
    """The data sets that a study runs on where none are named."""
    return DEFAULT_DATASETS.get(name, PAPER_DATASETS)
