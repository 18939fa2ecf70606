"""Metrics from ranks run by run, against what the evaluation stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import ConfigError
from harness.exposure import EXPOSURE
from harness.geometry import GEOMETRY, geometry
from harness.metrics import CUTOFFS, METRICS
from harness.rules import LOWER_IS_BETTER, metric_name, metric_of
from harness.store import open_store
from harness.values import Split, TrialResult
from reports.groups import Group
from reports.measure import Measurer, metrics_of
from reports.render import RENDERERS, latex
from reports.results import Request, gather
from reports.tables import table
from tests.reports.latex import check
from tests.reports.test_separation import sample
from tests.reports.world import data_config, result, spec, split_of, write


def test_every_stored_metric_is_measured_again_from_ranks(tmp_path: Path) -> None:
    split = split_of(data_config(), 80)
    runs = [result(spec(seed=seed), split, valid=1, test=1) for seed in (1235, 37)]
    file = write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store:
        (group,) = gather(store, Request(study="table2")).groups("ml1m", lambda spec: True)
        measurer = Measurer(store)
        for name in METRICS:
            for k in CUTOFFS:
                for bucket in (0, 1, 2, 3):
                    found = measurer(group, name, k, bucket)
                    stored = [
                        m.value
                        for run in runs
                        for m in run.metrics
                        if (m.part, m.name, m.k, m.bucket) == ("test", name, k, bucket)
                    ]
                    assert found is not None and found.seeds == (1235, 37)
                    assert found.by_seed.tolist() == pytest.approx(stored), (name, k, bucket)
                    assert (found.by_user is not None) == (name in {"hr", "ndcg", "mrr"})
        for name in EXPOSURE:
            found = measurer(group, name, 10)
            assert found is not None and (found.by_user is None) == (name == "gini")
            if found.by_user is not None:
                assert found.by_user.shape == (2, 80)
                assert found.by_user.mean(axis=1).tolist() == pytest.approx(found.by_seed.tolist())
        assert measurer(group, "hr", 7) is not None, "a K between the stored metrics"
        assert isinstance(group, Group)


def test_metric_names() -> None:
    assert metric_of("ndcg@10") == ("ndcg", 10)
    for words in ("ndcg@10", "erank", "overlap_kde", "uniformity_ref"):
        assert metric_name(metric_of(words)) == words
    assert metrics_of(["hr@1,cov@7", " NDCG@50 ", "hr@1"]) == (("hr", 1), ("cov", 7), ("ndcg", 50))
    for words, expected in (
        ("ndgc@10", "did you mean 'ndcg'"),
        ("ndcg", "write it as ndcg@10"),
        ("hr@100", "K = 100 is not stored"),
        ("hr@0", "use a K from 1 to 50"),
        ("erank@10", "has no K: write it as erank"),
        ("hr@10:tail", "of one popularity bucket .* btsr-report --sql"),
    ):
        with pytest.raises(ConfigError, match=expected):
            metric_of(words)


def _with_geometry(made: TrialResult, split: Split, quality: float) -> TrialResult:
    kept = sample(quality, made.spec.seed)
    return replace(made, sample=kept, metrics=(*made.metrics, *geometry(kept, split.targets("test"))))


def test_numbers_without_k_are_those_that_were_stored(tmp_path: Path) -> None:
    """Of BT-SR and CE two seeds; of SCE, which an earlier version ran, none."""
    split = split_of(data_config(), 80)
    runs = [
        _with_geometry(result(spec(method, alpha=alpha, seed=seed), split, valid=1, test=1), split, quality)
        for method, alpha, quality in (("bt_sr", 0.2, 3.0), ("sasrec_ce", None, 1.0))
        for seed in (1235, 37)
    ]
    runs += [result(spec("sasrec_sce", loss="sce"), split, valid=1, test=1)]
    file = write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [split])
    asked = metrics_of(["overlap_hist,erank", "hr@10"])
    assert asked == (("overlap_hist", 0), ("erank", 0), ("hr", 10))
    with open_store(file, read_only=True) as store:
        made = table(2, store, Request(study="table2", datasets=("ml1m",)), asked)
    assert [row.metric for row in made.rows] == ["overlap_hist", "erank", "hr@10"]
    keys = [column.key for column in made.columns]
    cells = dict(zip(keys, made.cells[0], strict=True))
    for key, of in (("bt_sr", runs[:2]), ("sasrec_ce", runs[2:4])):
        values = [m.value for run in of for m in run.metrics if m.name == "overlap_hist"]
        assert None not in values and cells[key].value == pytest.approx(np.mean(np.array(values, float)))
    test = cells["bt_sr"].test
    assert test is not None and test.lower and test.comparison.difference < 0
    assert test.comparison.p_users is None and test.comparison.p == test.comparison.p_seeds is not None
    assert cells["bt_sr"].mark == "best" and (cells["improve"].value or 0) > 0
    assert cells["sasrec_sce"].undefined and not cells["duorec"].undefined
    assert made.cells[2][keys.index("sasrec_sce")].value is not None
    notes = " ".join(made.footnotes)
    assert "tests are over seeds alone" in notes and "Positive is better: of overlap_hist less is." in notes
    for _, render in RENDERERS.values():
        assert "overlap" in render(made)
    check(latex(made))


def test_less_is_better_of_all_but_effective_ranks() -> None:
    assert {*GEOMETRY} - LOWER_IS_BETTER == {"erank", "erank_centred"}
    assert {"gini", "arp", "popcal"} < LOWER_IS_BETTER and not {*METRICS} & LOWER_IS_BETTER
