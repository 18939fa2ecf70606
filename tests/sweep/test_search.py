"""Searches: every method in its own space, with the same number of trials, none twice, whatever comes between."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError
from rich.console import Console

from harness.config import SEEDS, Range, SearchSpace, Study, StudyOptions, TrialSpec
from harness.errors import ConfigError
from harness.executors import RunContext, Work
from harness.ledger_storage import open_storage
from harness.options import SweepOptions, is_search, searched
from harness.paths import RunPaths
from harness.plan import Plan, PlanRow, current_plan
from harness.prepare import prepare
from harness.store import open_store
from harness.sweep import run_study
from studies import STUDIES
from studies.points import MORE, TABLE2
from studies.profiles import trial, varied
from studies.tune import AXES, OWN
from tests.store import fake
from tests.sweep.inline import FakeExecutor
from tests.sweep.work import Steps

OPTIONS = StudyOptions(datasets=("synthetic",))
TUNE = STUDIES["tune"](OPTIONS)
SOME = STUDIES["tune"](OPTIONS.model_copy(update={"methods": ("sasrec_bce", "cl4srec", "bt_sr")}))
BASE = trial("bt_sr", "synthetic", OPTIONS, SEEDS[0])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(BASE.data, RunPaths(work_dir=folder))
    return folder / "prepared"


@pytest.fixture
def paths(tmp_path: Path, prepared: Path) -> RunPaths:
    (tmp_path / "prepared").symlink_to(prepared)
    return RunPaths(work_dir=tmp_path)


class Trains:
    """Makes results, remembers what ran, and is killed at the given runs."""

    def __init__(self, *, killed_at: Sequence[int] = ()) -> None:
        self.runs: list[TrialSpec] = []
        self.killed_at = killed_at

    def __call__(self, spec: TrialSpec, context: RunContext) -> Steps:
        self.runs.append(spec)
        yield fake.epoch(1, 0.25)
        if len(self.runs) in self.killed_at:
            raise KeyboardInterrupt
        return fake.result(spec, prepare(spec.data, context.paths))

    def counts(self) -> Counter[str]:
        return Counter(spec.method for spec in {spec.key: spec for spec in self.runs}.values())


def sweep(paths: RunPaths, of: Work, study: Study = SOME, **options: Any) -> Plan:
    context = RunContext(paths=paths, ask_each_epoch="prune" in options)
    console = Console(file=io.StringIO())
    return run_study(study, FakeExecutor(of), context, console=console, options=SweepOptions(**options))


def planned(paths: RunPaths, study: Study = SOME, **options: Any) -> Plan:
    return current_plan(study, paths, SweepOptions(**options))


def of_space(values: dict[str, Range], base: TrialSpec = BASE) -> Study:
    """A study that searches one method."""
    return Study(name="mine", title="Mine", specs=(base,), search=(SearchSpace(base=base, ranges=values),))


def test_tune_gives_every_method_a_space_that_holds_its_row() -> None:
    assert tuple(space.base.method for space in TUNE.search) == TABLE2
    assert tuple(OWN) == tuple(AXES) == (*TABLE2, *MORE, "sasrec_bce+bt")
    for name in ("paper", "released"):
        datasets = ("ml1m", "yelp", "gowalla", "beauty", "kindle_store", "ml100k")
        for space in STUDIES["tune"](StudyOptions(datasets=datasets, profile=name, methods=tuple(OWN))).search:
            assert not space.strays(space.base), space.place
            assert space.ranges.keys() == {"encoder.dropout", "train.lr", *OWN[space.base.method]} | (
                {"train.weight_decay"} if name == "paper" else set()
            )
            with_bt = space.base.aux.kind == "barlow_twins"
            assert not with_bt or space.ranges["aux.alpha"].low > 0, "alpha = 0 is the base loss"


@pytest.mark.parametrize("search", ["random", "tpe", "nsga2"])
def test_every_method_gets_as_many_trials_whatever_kills_the_search(search: str, paths: RunPaths) -> None:
    of, spaces = Trains(killed_at=(2, 8, 9)), {space.place: space for space in SOME.search}
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            sweep(paths, of, search=search, trials=4)
    after = sweep(paths, of, search=search, trials=4)
    assert of.counts() == {"sasrec_bce": 4, "cl4srec": 4, "bt_sr": 4}
    assert len(of.runs) == 12 + 3, "only what was killed begins again"
    assert after.complete and after.done == after.total == 12 and after.study.name == f"tune_{search}"
    assert {space.base.key for space in SOME.search} <= {spec.key for spec in of.runs}, "the rows are candidates"
    for spec in of.runs:
        assert spaces[spec.place].strays(spec) == {}
    sweep(paths, of, search=search, trials=4)
    assert len(of.runs) == 15, "nothing is left to run"
    sweep(paths, of, search=search, trials=5)
    assert of.counts() == {"sasrec_bce": 5, "cl4srec": 5, "bt_sr": 5} and len(of.runs) == 18
    studies = {study.study_name: len(study.trials) for study in map(loaded(paths), spaces)}
    assert set(studies) == {f"tune_tpe/{place}".replace("tpe", search) for place in spaces}


def loaded(paths: RunPaths) -> Any:
    storage = open_storage(paths.results)
    names = optuna.get_all_study_names(storage)

    def of(place: str) -> optuna.Study:
        return optuna.load_study(study_name=next(name for name in names if name.endswith(place)), storage=storage)

    return of


def test_a_sampler_learns_from_its_own_method_alone(paths: RunPaths) -> None:
    of = Trains()
    sweep(paths, of, search="tpe", trials=4)
    for space in SOME.search:
        shown = [t for t in loaded(paths)(space.place).trials if t.state.name == "COMPLETE"]
        assert {t.user_attrs["method"] for t in shown} == {space.base.method} and len(shown) == 4
        assert all(t.params.keys() == space.ranges.keys() for t in shown)


def test_the_plan_of_a_search_counts_what_is_not_chosen_yet(paths: RunPaths) -> None:
    rows = planned(paths, search="tpe", trials=4).rows
    assert rows == tuple(
        PlanRow(dataset="synthetic", method=m, profile="released", trials=4, done=0, failed=0, missing=4)
        for m in ("sasrec_bce", "cl4srec", "bt_sr")
    )
    assert not paths.results.exists()
    with pytest.raises(KeyboardInterrupt):
        sweep(paths, Trains(killed_at=(6,)), search="tpe", trials=4)
    plan = planned(paths, search="tpe", trials=4)
    assert [(row.trials, row.done, row.missing) for row in plan.rows] == [(4, 2, 2), (4, 2, 2), (4, 1, 3)]
    assert (plan.done, plan.total, plan.waiting, plan.complete) == (5, 12, 7, False)
    assert len(plan.upcoming) == 1 + 3 and planned(paths, search="tpe", trials=2).waiting == 1
    assert planned(paths).total == 27, "the grid is another study"


def test_methods_that_join_later_catch_up(paths: RunPaths) -> None:
    of = Trains()
    alone = STUDIES["tune"](OPTIONS.model_copy(update={"methods": ("bt_sr",)}))
    sweep(paths, of, alone, search="random", trials=3)
    sweep(paths, of, search="random", trials=3)
    assert of.counts() == {"sasrec_bce": 3, "cl4srec": 3, "bt_sr": 3} and len(of.runs) == 9


def test_what_another_study_has_run_counts_and_is_not_run_again(paths: RunPaths) -> None:
    of = Trains()
    few = of_space({"train.batch_size": Range(low=16, high=20, integer=True)}, base=BASE)
    sizes = [BASE.model_copy(update={"train": BASE.train.model_copy(update={"batch_size": b})}) for b in range(16, 21)]
    sweep(paths, of, Study(name="grid", title="Grid", specs=tuple(sizes[:3])))
    after = sweep(paths, of, few, search="random", trials=5)
    assert after.done == after.total == 5 and {spec.key for spec in after.study.specs} == {s.key for s in sizes}
    assert len(of.runs) == 5, "each once"
    sweep(paths, of, STUDIES["table2"](OPTIONS.model_copy(update={"seeds": SEEDS[:1]})))
    before = len(of.runs)
    sweep(paths, of, search="random", trials=2)
    assert len(of.runs) == before + 3, "the rows of table 2 are done"


@pytest.mark.parametrize(
    ("study", "trials", "says"),
    [
        (
            STUDIES["table2"](OPTIONS),
            3,
            "study table2 declares no search space for --search tpe: use grid, or --study tune",
        ),
        (
            Study(name="mine", title="Mine", specs=(BASE, TUNE.specs[0]), search=(TUNE.search[-1],)),
            3,
            "study mine has no search space for synthetic/sasrec_bce, which --search tpe would leave out",
        ),
        (
            of_space({"train.batch_size": Range(low=16, high=20, integer=True)}),
            6,
            "--trials 6: the space of synthetic/bt_sr in study mine has 5 points",
        ),
    ],
)
def test_searches_that_cannot_be(study: Study, trials: int, says: str, paths: RunPaths) -> None:
    of = Trains()
    for run in (sweep, lambda paths, of, study, **options: planned(paths, study, **options)):
        with pytest.raises(ConfigError, match=says):
            run(paths, of, study, search="tpe", trials=trials)
    assert of.runs == [] and not paths.results.exists()


def test_a_search_is_known_by_the_end_of_its_name() -> None:
    assert searched("tune_tpe") == ("tune", "tpe") and searched("my_own_nsga2") == ("my_own", "nsga2")
    for name in ("alpha_lambda", "my_grid", "tune_tpe_winners", "tpe"):
        assert searched(name) == (name, "") and not is_search(name)


def test_two_spaces_for_one_method_are_refused() -> None:
    space = TUNE.search[0]
    with pytest.raises(ValidationError, match="2 search spaces for synthetic/sasrec_bce"):
        Study(name="mine", title="Mine", specs=(), search=(space, space))


def test_a_fraction_between_whole_numbers_is_found_at_once() -> None:
    """Both ends are widths; what a search would choose between them is none."""
    with pytest.raises(ValidationError, match="valid integer"):
        SearchSpace(base=BASE, ranges={"encoder.dim": Range(low=16, high=32), "aux.alpha": Range(low=0, high=1)})


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_points_that_no_trial_can_have_are_passed_over(search: str, paths: RunPaths) -> None:
    """Four heads divide 16 and 20, not 17, 18 and 19."""
    of, base = Trains(), varied(BASE, encoder={"dim": 16, "heads": 4})
    study = of_space({"encoder.dim": Range(low=16, high=20, integer=True)}, base=base)
    after = sweep(paths, of, study, search=search, trials=2)
    assert after.complete and {spec.encoder.dim for spec in of.runs} == {16, 20}
    assert not sweep(paths, of, study, search=search, trials=3).complete and len(of.runs) == 2
    failed = [t for t in loaded(paths)("synthetic/bt_sr").trials if t.state.name == "FAIL"]
    assert any("does not divide" in t.user_attrs["error"] for t in failed)


def test_a_space_that_changed_is_shown_and_needs_extend(paths: RunPaths) -> None:
    of = Trains()
    wide, narrow = Range(low=0.0, high=0.5), Range(low=0.4, high=0.5)
    sweep(paths, of, of_space({"aux.alpha": wide}), search="tpe", trials=6)
    longer = BASE.model_copy(update={"train": BASE.train.model_copy(update={"max_epochs": 9})})
    for changed, says in (
        (of_space({"aux.alpha": narrow}), r"of its trials are in another space.* \(aux.alpha .*, now 0.4 to 0.5\)"),
        (of_space({"aux.alpha": wide}, longer), r"6 of its trials .*\(train.max_epochs 30, now 9\): add --extend"),
        (of_space({"aux.lam": wide}), r"of its trials are in another space.*\(aux.alpha .*, now 0.1\)"),
    ):
        with pytest.raises(ConfigError, match=says):
            sweep(paths, of, changed, search="tpe", trials=6)
    assert len(of.runs) == 6
    after = sweep(paths, of, of_space({"aux.alpha": wide}, longer), search="tpe", trials=3, extend=True)
    assert len(of.runs) == 9 and after.done == after.total == 3 and after.complete
    shown = [t for t in loaded(paths)("synthetic/bt_sr").trials if t.state.name == "COMPLETE"]
    assert {t.user_attrs["key"] for t in shown} == {spec.key for spec in of.runs[6:]}, "of this space alone"
    with open_store(paths.results, read_only=True) as store:
        assert len(store.study("mine_tpe").specs) == 9, "what was searched before stays"


def test_profiles_are_searched_apart(paths: RunPaths) -> None:
    of = Trains()
    paper = STUDIES["tune"](OPTIONS.model_copy(update={"methods": ("bt_sr",), "profile": "paper"}))
    released = STUDIES["tune"](OPTIONS.model_copy(update={"methods": ("bt_sr",)}))
    for study in (released, paper, released):
        assert sweep(paths, of, study, search="random", trials=3).done == 3
    assert Counter(spec.profile for spec in of.runs) == {"released": 3, "paper": 3}


def test_a_search_of_an_earlier_version_goes_on(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """One Optuna study for each data set, and no base among the points."""
    study, of = of_space({"aux.alpha": Range(low=0.0, high=0.5)}), Trains()
    with monkeypatch.context() as patch:
        patch.setattr("harness.ledger_study.study_name", lambda storage, name, place, space: f"{name}/synthetic")
        patch.setattr("harness.plan.search_of", without_base)
        sweep(paths, of, study, search="tpe", trials=4)
    assert len(of.runs) == 4 and study.search[0].base not in of.runs
    assert sweep(paths, of, study, search="tpe", trials=4).complete and len(of.runs) == 4
    assert sweep(paths, of, study, search="tpe", trials=6).done == 6 and len(of.runs) == 6
    storage = open_storage(paths.results)
    assert optuna.get_all_study_names(storage) == ["mine_tpe/synthetic"]


def without_base(study: Study, store: Any, options: SweepOptions) -> Study:
    from harness.search import search_of

    found = search_of(study, store, options)
    stored = store.study(found.name).specs if store is not None and found.name in store.studies() else ()
    return found.model_copy(update={"specs": tuple(stored)})


def test_a_search_that_finds_no_new_point_says_so(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness import show
    from harness.ledger import Ledger

    propose = Ledger.propose

    def stuck(self: Ledger, place: str) -> TrialSpec | None:
        return None if place.endswith("cl4srec") else propose(self, place)

    monkeypatch.setattr(Ledger, "propose", stuck)
    of = Trains()
    after = sweep(paths, of, search="random", trials=3)
    assert of.counts() == {"sasrec_bce": 3, "cl4srec": 1, "bt_sr": 3} and not after.complete
    show.failures(after, paths)
    told = capsys.readouterr().err
    assert told == "synthetic/cl4srec: no new point was found for 2 of 3 trials: its space is (nearly) used up\n"


def test_estimates_are_kept_with_a_search_that_has_no_trial_yet(paths: RunPaths) -> None:
    from harness.values import Estimate

    estimate = Estimate(
        dataset="synthetic", method="bt_sr", profile="released", seconds=1.0, peak_mib=1.0, source="a guess"
    )
    context, of = RunContext(paths=paths), Trains(killed_at=(1,))
    beside = BASE.model_copy(update={"aux": BASE.aux.model_copy(update={"alpha": 0.9})})
    study = of_space({"aux.alpha": Range(low=0.0, high=0.5)}, base=beside)
    with pytest.raises(KeyboardInterrupt):
        run_study(
            study,
            FakeExecutor(of),
            context,
            console=Console(file=io.StringIO()),
            options=SweepOptions(search="tpe", trials=2),
            estimates=(estimate,),
        )
    with open_store(paths.results, read_only=True) as store:
        assert store.estimates("mine_tpe") == (estimate,)


def test_the_best_on_validation_is_reported(paths: RunPaths) -> None:
    """Table 2 of the search: every method's best of the same number of configurations."""
    from reports.results import Request
    from reports.tables import table

    score: dict[str, float] = {}

    def trains(spec: TrialSpec, context: RunContext) -> Steps:
        result = fake.result(spec, prepare(spec.data, context.paths))
        score[spec.key] = next(
            m.value or 0.0 for m in result.metrics if (m.part, m.name, m.k, m.bucket) == ("valid", "ndcg", 10, 0)
        )
        yield from result.epochs
        return replace(result)

    sweep(paths, trains, search="random", trials=4)
    with open_store(paths.results, read_only=True) as store:
        specs = {spec.key: spec for spec in store.study("tune_random").specs}
        built = table(2, store, Request(study="tune_random", datasets=("synthetic",)))
        keys = {row.spec.method: row.key for row in store.trials(study="tune_random") if score[row.key] == max(
            value for key, value in score.items() if specs[key].method == row.spec.method
        )}  # fmt: skip
        metrics = store.metrics(list(keys.values()), part="test")
    columns = [column.key for column in built.columns]
    line = next(cells for row, cells in zip(built.rows, built.cells, strict=True) if row.metric == "ndcg@10")
    for method, key in keys.items():
        wanted = next(m.value for m in metrics[key] if (m.name, m.k, m.bucket) == ("ndcg", 10, 0))
        assert line[columns.index(method)].value == pytest.approx(wanted, abs=1e-12)
    assert sum("best of 4 configurations" in note for note in built.footnotes) == 3


def test_a_report_names_the_command_of_a_search() -> None:
    from reports.commands import sweep_command

    asked = [spec.model_copy(update={"seed": n}) for spec in (BASE, TUNE.specs[0]) for n in range(4)]
    words = sweep_command("tune_tpe", "released", ["synthetic"], [], "runs/btsr.db", asked)
    assert words == (
        "btsr-sweep --study tune --dataset synthetic --profile released --search tpe --trials 4 "
        "--methods bt_sr,sasrec_bce --out runs"
    ), "the study has a space of other methods, too"
    assert sweep_command("mine_tpe", "released", ["synthetic"], [], "runs/btsr.db") == "", "of a file that is not known"
    typed = "btsr-sweep --study a/mine.py --search tpe --trials 9 --precision bf16"
    words = sweep_command("mine_tpe", "released", ["synthetic"], [], "runs/btsr.db", asked, typed=typed)
    assert words == (
        "btsr-sweep --study a/mine.py --dataset synthetic --profile released --search tpe --trials 4 --precision bf16 "
        "--out runs"
    )
