"""What is called how on paper."""

from harness.data.catalogue import DATASETS
from reports.names import DATASET_TITLES


def test_every_data_set_of_the_catalogue_has_a_title() -> None:
    assert set(DATASETS) <= set(DATASET_TITLES)
