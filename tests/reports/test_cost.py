"""Expected beside actual cost."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import SEEDS
from harness.store import open_store
from harness.values import Estimate
from reports.cost import HEADER, costs
from reports.page import page
from reports.results import Request
from tests.reports.world import data_config, result, spec, split_of, write


def test_estimates_stand_beside_what_trials_took(tmp_path: Path) -> None:
    split = split_of(data_config(), 60)
    runs = [result(spec(seed=seed), split, valid=1, test=1) for seed in SEEDS[:3]]
    database = write(tmp_path / "btsr.db", "table2", [r.spec for r in runs], runs, [split])
    first = runs[0].spec
    cell = {"dataset": first.data.dataset, "method": first.method, "profile": first.profile}
    known = Estimate(**cell, seconds=2.0, peak_mib=100.0, source="here")
    with open_store(database, read_only=True) as store:
        assert costs(store).rows == ()
        assert "text-costs" not in page(store, lambda study: Request(study=study), "page")
    with open_store(database) as store:
        store.record_estimates("table2", [known, replace(known, method="never_run")])
        took = [store.provenance(run.spec.key) for run in runs]
        found, other = (dict(zip(HEADER, row, strict=True)) for row in sorted(costs(store).rows))
        if found["trials"] == "0":
            found, other = other, found
        made = page(store, lambda study: Request(study=study), "page")
    seconds = sorted(each.seconds["total"] for each in took)[1]
    assert found["trials"] == "3" and found["expected s"] == "2.0" and found["took s (median)"] == f"{seconds:,.1f}"
    assert float(found["took / expected"]) == pytest.approx(seconds / 2, abs=0.006)
    assert found["expected MiB"] == "100" and found["expected from"] == "here"
    assert found["took MiB (most)"] == f"{max(each.peak_mib for each in took):,.0f}"
    assert other["trials"] == "0" and other["took s (median)"] == other["took / expected"] == ""
    assert "text-costs" in made and "took / expected" in made
