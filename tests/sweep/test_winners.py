"""The best setting of each method of a study that ran, with all seeds."""

from pathlib import Path

import numpy as np
import pytest

from harness.choices import DataChoices
from harness.config import SEEDS, Study, StudyOptions, TrialSpec
from harness.errors import ConfigError, StoreError
from harness.store import open_store
from harness.winners import winners
from reports.commands import sweep_command
from tests.reports import world
from tests.store import fake
from tests.sweep.test_cli import refused, sweep

SPLIT = fake.split()
ALPHAS = (0.05, 0.1, 0.2, 0.3)


def other(spec: TrialSpec) -> TrialSpec:
    """The same under the name of another method."""
    return spec.model_copy(update={"method": "sasrec_ce+bt"})


def database(folder: Path, specs: list[TrialSpec], done: int | None = None) -> Path:
    """A study `tune` with these trials, the first `done` of them finished."""
    finished = [fake.result(spec, SPLIT) for spec in specs[:done]]
    return world.write(folder / "btsr.db", "tune", specs, finished, [SPLIT])


def found(path: Path, **asked: object) -> Study:
    options = StudyOptions.model_validate({"datasets": ()} | asked)
    with open_store(path, read_only=True) as store:
        return winners(store, "tune", options)


def test_each_methods_best_by_validation_with_all_seeds(tmp_path: Path) -> None:
    specs = [fake.spec(alpha=alpha) for alpha in ALPHAS]
    specs += [other(spec) for spec in specs]
    path = database(tmp_path, specs)
    with open_store(path, read_only=True) as store:
        reader = store.validation()
        score = {spec.key: reader.value(spec.key, "ndcg", 10) for spec in specs}
        tested = {spec.key: store.metrics((spec.key,), part="test", names=("ndcg",))[spec.key] for spec in specs}
    best = [max(half, key=lambda spec: score[spec.key]) for half in (specs[:4], specs[4:])]
    by_test = [
        max(half, key=lambda spec: next(m.value or 0 for m in tested[spec.key] if (m.k, m.bucket) == (10, 0)))
        for half in (specs[:4], specs[4:])
    ]
    assert best != by_test, "these invented ranks have other winners on test"
    study = found(path)
    assert study.name == "tune_winners" and len(study.specs) == 10
    assert {spec.seed for spec in study.specs} == set(SEEDS)
    for spec in best:
        same = [each for each in study.specs if each.method == spec.method]
        assert {each.group for each in same} == {spec.group} and spec.key in {each.key for each in same}
    assert len(found(path, seeds=SEEDS[:2], methods=("bt_sr",)).specs) == 2


def test_settings_compare_on_the_seeds_that_all_have(tmp_path: Path) -> None:
    specs = [fake.spec(alpha=alpha, seed=seed) for alpha in ALPHAS[:2] for seed in SEEDS[:3]] + [fake.spec(alpha=0.2)]
    path = database(tmp_path, specs)
    with open_store(path, read_only=True) as store:
        reader = store.validation()
        score = {alpha: reader.value(fake.spec(alpha=alpha).key, "ndcg", 10) for alpha in ALPHAS[:3]}
    assert found(path).specs[0].aux.alpha == max(score, key=lambda alpha: score[alpha])


def test_what_is_asked_for_in_vain_is_refused(tmp_path: Path) -> None:
    path = database(tmp_path, [fake.spec(alpha=alpha) for alpha in ALPHAS])
    for asked, says in (
        ({"precision": "bf16"}, "as they are: drop --precision"),
        ({"max_epochs": 3}, "drop --max-epochs"),
        ({"validate_every": 3}, "drop --validate-every"),
        ({"data": DataChoices(min_item=3)}, "drop --min-item"),
        ({"columns": ("who", "", "")}, "drop --user-col, --item-col and --time-col"),
        ({"methods": ("duorec",)}, "unknown method of this study 'duorec'"),
        ({"datasets": ("ml1m",)}, "unknown data set of this study 'ml1m'"),
    ):
        with pytest.raises(ConfigError, match=says):
            found(path, **asked)
    with open_store(path, read_only=True) as store, pytest.raises(StoreError, match="has no study 'table2'"):
        winners(store, "table2", StudyOptions(datasets=()))


def test_nothing_finished_and_several_versions(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no finished trial: run it first"):
        found(database(tmp_path / "empty", [fake.spec()], done=0))
    paper = fake.spec().model_copy(update={"profile": "paper"})
    with pytest.raises(ConfigError, match="in 2 profiles or versions of its data.*it has no winners"):
        found(database(tmp_path, [fake.spec(), paper]))


def test_reports_name_the_command(tmp_path: Path) -> None:
    missing = [fake.spec(seed=seed) for seed in SEEDS[1:3]]
    command = sweep_command("tune_winners", "released", ("synthetic",), missing, str(tmp_path / "btsr.db"))
    assert command == f"btsr-sweep --winners-of tune --dataset synthetic --seeds 3 --out {tmp_path}"


STUDY = """
from harness.config import Study, StudyOptions
from studies.profiles import trial

DATASETS = ("synthetic",)

def study(options: StudyOptions) -> Study:
    specs = tuple(
        trial("bt_sr", dataset, options, options.seeds[0], alpha=alpha, max_epochs=1)
        for dataset in options.datasets for alpha in (0.1, 0.4)
    )
    return Study(name="two", title="Two", specs=specs)
"""


def test_a_sweep_of_winners_runs_only_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(STUDY)
    assert "run btsr-sweep" in refused(tmp_path, "--winners-of", "two")
    first = sweep(tmp_path, "--study", "two.py", "--quiet")
    assert first.returncode == 0, first.stderr
    again = sweep(tmp_path, "--winners-of", "two", "--seeds", "2", "--quiet")
    assert again.returncode == 0, again.stderr
    assert "two_winners: 2 of 2 trials are done (1 now, 1 before)" in again.stdout
    with open_store(tmp_path / "runs" / "btsr.db", read_only=True) as store:
        ndcg = [store.validation().value(spec.key, "ndcg", 10) for spec in store.study("two_winners").specs]
    assert len(ndcg) == 2 and np.isfinite(ndcg).all()
    both = sweep(tmp_path, "--winners-of", "two", "--study", "smoke")
    assert both.returncode == 2 and "--winners-of stands in place of --study" in both.stderr
