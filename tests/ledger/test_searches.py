"""Searches: how many points, given up early, and what their spaces refuse."""

from collections import Counter

import optuna
import pytest

from harness import show
from harness.config import Range, SearchSpace, TrialSpec
from harness.executors import RunContext
from harness.paths import RunPaths
from harness.store import open_store
from tests.ledger.world import EPOCHS, SMOKE, shown, states, storage, sweep, trains, valid
from tests.sweep.work import Steps


@pytest.mark.parametrize("search", ["random", "tpe", "nsga2"])
def test_a_search_tries_as_many_points_as_were_asked_for_and_goes_on(search: str, paths: RunPaths) -> None:
    runs: list[TrialSpec] = []

    def counted(spec: TrialSpec, context: RunContext) -> Steps:
        runs.append(spec)
        if len(runs) == 7:
            raise KeyboardInterrupt
        return (yield from trains(spec, context))

    with pytest.raises(KeyboardInterrupt):
        sweep(paths, counted, search=search, trials=8)
    after = sweep(paths, counted, search=search, trials=8)
    assert after.complete and len(after.study.specs) == 16 and after.study.name == f"smoke_{search}"
    assert len(runs) == 17 and runs[6] == runs[7], "the one that was stopped goes first"
    once = {spec.key: spec for spec in runs}
    assert Counter(spec.method for spec in once.values()) == {"sasrec_ce": 8, "bt_sr": 8}
    assert {spec.seed for spec in runs} == {SMOKE.search[0].base.seed}, "seeds are not searched"
    assert set(runs[:2]) == {space.base for space in SMOKE.search}, "what is not tuned is the first point"
    for space in SMOKE.search:
        mine = {spec.key: spec for spec in runs if spec.method == space.base.method}
        assert not any(space.strays(spec) for spec in mine.values())
        name = f"smoke_{search}/synthetic/{space.base.method}"
        finished = [trial for trial in shown(paths, name).trials if trial.state.name == "COMPLETE"]
        assert {trial.user_attrs["key"] for trial in finished} == set(mine) and len(finished) == 8
        for trial in finished:
            spec = mine[trial.user_attrs["key"]]
            assert trial.params == space.point(spec) and trial.params.keys() == space.ranges.keys()
            scores = [valid(spec, paths), valid(spec, paths, "cov")]
            assert trial.values == scores[: 2 if search == "nsga2" else 1]
    optuna.delete_study(study_name=f"smoke_{search}/synthetic/bt_sr", storage=storage(paths))
    assert len(sweep(paths, counted, search=search, trials=9).study.specs) == 18
    assert len(runs) == 19
    assert states(shown(paths, f"smoke_{search}/synthetic/bt_sr"))["COMPLETE"] == 9


def test_trials_that_fall_behind_are_given_up_and_stay_so(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    after = sweep(paths, search="random", trials=14, prune="median")
    counts = Counter(after.statuses.values())
    assert after.complete and counts["pruned"] >= 1 and counts["done"] >= 5
    capsys.readouterr()
    show.status_of_all(paths)
    told = f"smoke_random: {counts['done']} of 28 done, 0 failed, 0 missing, {counts['pruned']} pruned by a search"
    assert capsys.readouterr().out == f"{told} (of the points chosen so far)\nnothing runs now\n"
    pages = [states(shown(paths, f"smoke_random/synthetic/{method}")) for method in ("sasrec_ce", "bt_sr")]
    assert pages[0] == {"COMPLETE": 14}, "its trials are equals, and are compared with each other alone"
    assert pages[0] + pages[1] == {"COMPLETE": counts["done"], "PRUNED": counts["pruned"]}
    with open_store(paths.results, read_only=True) as store:
        pruned = store.trials(status="pruned")
        assert len(pruned) == counts["pruned"]
        assert all(len(store.epochs(row.key)) == row.last_epoch <= EPOCHS for row in pruned)

    def never(spec: TrialSpec, context: RunContext) -> Steps:
        raise AssertionError("nothing is to run")
        yield

    assert sweep(paths, never, search="random", trials=14, prune="median").complete


def test_a_space_refuses_what_cannot_be() -> None:
    base = SMOKE.search[0].base
    for ranges in (
        {"seed": Range(low=1, high=5)},
        {"aux.alhpa": Range(low=0, high=1)},
        {"train.lr.x": Range(low=1, high=2)},
    ):
        with pytest.raises(ValueError, match="a search cannot vary"):
            SearchSpace(base=base, ranges=ranges)
    with pytest.raises(ValueError, match="greater than 0"):
        SearchSpace(base=base, ranges={"train.lr": Range(low=-1, high=1)})
    with pytest.raises(ValueError, match="low must be below high"):
        Range(low=2, high=1)
    space = SearchSpace(base=base, ranges={"train.batch_size": Range(low=16, high=64, integer=True)})
    spec = space.at({"train.batch_size": 32})
    assert (
        spec.train.batch_size == 32 and spec.train.lr == base.train.lr and space.point(spec) == {"train.batch_size": 32}
    )
