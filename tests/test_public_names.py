"""The names that the README promises."""

import importlib

import pytest

NAMES = {
    "harness": ["TrialSpec", "open_store", "recommend", "run_study", "run_trial"],
    "models.sasrec": ["SASRec"],
    "models.barlow": ["barlow_twins"],
    "models.objective": ["Objective"],
    "reports.tables": ["table"],
}


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in NAMES.items() for n in names])
def test_promised_names_exist(module: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(module), name))


def test_harness_promises_nothing_else() -> None:
    import harness

    assert sorted(harness.__all__) == sorted(NAMES["harness"])
    with pytest.raises(AttributeError, match="no attribute 'recomend'"):
        _ = harness.recomend
