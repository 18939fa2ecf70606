"""Metrics from ranks run by run, against what the evaluation stored."""

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.metrics import CUTOFFS, METRICS
from harness.rules import metric_of
from harness.store import open_store
from reports.groups import Group
from reports.measure import Measurer, metrics_of
from reports.results import Request, gather
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
        assert measurer(group, "hr", 7) is not None, "a K between the stored metrics"
        assert isinstance(group, Group)


def test_metric_names() -> None:
    assert metric_of("ndcg@10") == ("ndcg", 10)
    assert metrics_of(["hr@1,cov@7", " NDCG@50 ", "hr@1"]) == (("hr", 1), ("cov", 7), ("ndcg", 50))
    for words, expected in (
        ("ndgc@10", "did you mean 'ndcg'"),
        ("ndcg", "write it as ndcg@10"),
        ("hr@100", "K = 100 is not stored"),
        ("hr@0", "use a K from 1 to 50"),
    ):
        with pytest.raises(ConfigError, match=expected):
            metric_of(words)
