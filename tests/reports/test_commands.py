"""The command that runs what is missing plans exactly those trials, or a plan that holds them."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.choices import DataChoices
from harness.config import SEEDS, StudyOptions, TrialSpec
from harness.errors import ConfigError, StoreError
from harness.options import said
from harness.store import open_store
from harness.values import TrialResult
from models.config import Precision
from reports.commands import exact_plan, options_like, sweep_command, unplanned
from reports.lines import line
from reports.results import Request, gather
from reports.tables import table
from studies import STUDIES
from studies.profiles import varied
from tests.reports.typed import typed
from tests.reports.world import data_config, failure, result, spec, split_of, write

DB = "runs/a b/btsr.db"


def _command(study: str, missing_from: StudyOptions, **more: Any) -> str:
    specs = STUDIES[study](missing_from).specs
    return sweep_command(study, missing_from.profile, missing_from.datasets, specs, more.get("where", DB))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"seeds": SEEDS[:3]}, "--seeds 3"),
        ({"tie": "random"}, "--tie random"),
        ({"max_epochs": 3}, "--max-epochs 3"),
        ({"max_epochs": 3, "seeds": SEEDS[:1], "tie": "random"}, "--seeds 1 --tie random --max-epochs 3"),
        ({"precision": "bf16"}, "--precision bf16"),
        ({"validate_every": 5, "seeds": SEEDS[:3]}, "--seeds 3 --validate-every 5"),
        ({"data": DataChoices(split="leave_one_out")}, "--split leave_one_out"),
        (
            {"data": DataChoices(filter="none", repeats="first"), "tie": "random"},
            "--tie random --filter none --repeats first",
        ),
        (
            {"data": DataChoices(filter="at_once", min_user=7, quantile=0.9), "max_epochs": 3},
            "--max-epochs 3 --filter at_once --min-user 7 --quantile 0.9",
        ),
    ],
    ids=str,
)
def test_options_are_recognised_by_the_keys(options: dict[str, Any], words: str) -> None:
    for study in ("table2", "alpha_lambda"):
        asked = StudyOptions(datasets=("ml1m", "beauty"), profile="paper", **options)
        expected = f"btsr-sweep --study {study} --dataset ml1m,beauty --profile paper {words}".strip()
        assert _command(study, asked) == f"{expected} --out 'runs/a b'"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_study_of_both_precisions_has_fp32_as_its_base(precision: Precision) -> None:
    """Its plan has the same trials with either, but what an effect is measured against is the one asked for."""
    options = StudyOptions(datasets=("ml1m",), precision=precision, seeds=SEEDS[:2])
    assert "--profile released --seeds 2 --out" in _command("precision", options)
    half = [one for one in STUDIES["precision"](options).specs if one.train.precision == "bf16"]
    assert "--profile released --seeds 2 --out" in sweep_command("precision", "released", ("ml1m",), half, DB)


def test_a_search_keeps_the_settings_of_its_points() -> None:
    options = StudyOptions(
        datasets=("ml1m",), precision="bf16", validate_every=3, data=DataChoices(repeats="first"), tie="random"
    )
    tried = STUDIES["table2"](options).specs
    words = "--search tpe --trials 5 --tie random --precision bf16 --validate-every 3 --repeats first --out 'runs/a b'"
    told = sweep_command("table2_tpe", "released", ("ml1m",), tried[:1], DB, tried)
    assert told == f"btsr-sweep --study table2 --dataset ml1m --profile released {words}"
    for asked, trials in ((tried, 20), (tried * 3, 30)):
        told = sweep_command("table2_tpe", "released", ("ml1m",), (), DB, asked, more=True)
        assert told.endswith(words.replace("--trials 5", f"--trials {trials}")), "more than there are"


def test_a_search_of_some_methods() -> None:
    """Without --methods it would search the others, too."""
    some = STUDIES["tune"](StudyOptions(datasets=("ml1m",), methods=("bt_sr",))).specs
    every = STUDIES["tune"](StudyOptions(datasets=("ml1m",))).specs
    more = STUDIES["tune"](StudyOptions(datasets=("ml1m",), methods=("sasrec_gbce",))).specs
    named = ",".join(dict.fromkeys(spec.method for spec in (*every, *more)))
    for tried, words in ((some, "--methods bt_sr "), (every, ""), ((*every, *more), f"--methods {named} ")):
        told = sweep_command("tune_tpe", "released", ("ml1m",), tried[:1], DB, tried)
        assert told == (
            f"btsr-sweep --study tune --dataset ml1m --profile released --search tpe --trials 9 {words}--out 'runs/a b'"
        )


def test_what_was_typed_is_read() -> None:
    command = "btsr-sweep --study mine.py --methods sasrec_ce --seeds=2 --methods=bt_sr --seeds 3"
    assert (said(command, "--methods"), said(command, "--seeds")) == ("sasrec_ce,bt_sr", "3")
    assert said(command, "--tie") is None and said("bob's sweep", "--study") is None, "any text may be kept"


def test_exact_commands_hold_all_that_is_asked_for() -> None:
    options = StudyOptions(datasets=("ml1m",), precision="bf16", seeds=SEEDS[:1])
    specs = STUDIES["table2"](options).specs
    for study, some, words in (
        ("table2", specs, "btsr-sweep --study table2 --dataset ml1m --profile released --seeds 1 --precision bf16"),
        ("table2", [*specs, spec()], None),
        ("table2_tpe", specs, None),
        ("table2_winners", specs, None),
        ("mine", specs, None),
    ):
        told = exact_plan(study, "released", ("ml1m",), some, DB)
        assert told == (words and (f"{words} --out 'runs/a b'", {spec.key for spec in specs})), study


def test_reduced_is_recognised() -> None:
    options = StudyOptions(datasets=("ml1m",), reduced=True)
    assert "--reduced" in shlex.split(_command("alpha_lambda", options))


def test_a_profile_without_a_filter_gives_way_to_all_of_one() -> None:
    options = StudyOptions(datasets=("ml1m",), data=DataChoices(min_item=3))
    assert "--filter iterative --min-item 3 --min-user 5 --out" in _command("table2", options)
    options = StudyOptions(datasets=("yelp",), data=DataChoices(filter="none"))
    assert "--profile released --filter none --out" in _command("table2", options)


def test_columns_of_a_file_are_recognised() -> None:
    options = StudyOptions(datasets=("/x/mine.csv",), columns=("who", "", "when"), seeds=SEEDS[:2])
    assert "--seeds 2 --user-col who --time-col when --out" in _command("table2", options)


def test_methods_are_recognised() -> None:
    options = StudyOptions(datasets=("ml1m",), methods=("sasrec_ce", "bt_sr"), seeds=SEEDS[:2])
    words = "--methods sasrec_ce,bt_sr --seeds 2 --out 'runs/a b'"
    assert _command("table2", options) == f"btsr-sweep --study table2 --dataset ml1m --profile released {words}"
    only = StudyOptions(datasets=("ml1m", "beauty"), methods=("sasrec_ce",))
    assert "--methods sasrec_ce --out" in _command("table1", only), "all data sets have it"
    for study, method in (
        *(("table2", "sasrec_gbce"), ("tune", "duorec_released"), ("tune", "sasrec_bce+bt")),
        *(("table1", "sasrec_ce_sampled+bt"), ("alpha_lambda", "sasrec_bce+bt")),
    ):
        named = StudyOptions(datasets=("ml1m",), methods=(method,), seeds=SEEDS[:1])
        words = f"--methods {method} " + ("--out" if study == "tune" else "--seeds 1 --out")  # tune has one seed
        assert words in _command(study, named), "which only --methods asks for"
        specs = STUDIES[study](named).specs
        assert unplanned(study, "released", specs) == ()
        other = specs[0].model_copy(update={"encoder": specs[0].encoder.model_copy(update={"dropout": 0.77})})
        assert (
            unplanned(study, "released", [*specs, other]) == (other,) and unplanned("mine", "released", [other]) == ()
        )
    both = StudyOptions(datasets=("ml1m", "gowalla"), methods=("sasrec_sce+bt",), seeds=SEEDS[:1])
    assert "--dataset ml1m,gowalla --profile released --methods sasrec_sce+bt,bt_sr --seeds 1" in _command(
        "table1", both
    )


def test_trials_that_no_call_plans_get_the_plain_command() -> None:
    plain = "btsr-sweep --study {} --dataset ml1m --profile released --out 'runs/a b'"
    assert sweep_command("table2", "released", ("ml1m",), [spec()], DB) == plain.format("table2")
    assert sweep_command("mine", "released", ("ml1m",), [spec()], DB) == "", "no command is known to name its file"
    assert sweep_command("table2", "released", ("ml1m",), [], DB) == plain.format("table2")


def test_a_data_set_that_the_study_does_not_know_gets_the_plain_command() -> None:
    strange = spec(dataset="my_own")
    assert "--dataset my_own --profile released --out" in sweep_command(
        "table2", "released", ("my_own",), [strange], DB
    )


def test_the_database_is_the_one_that_was_read() -> None:
    options = StudyOptions(datasets=("ml1m",))
    for where, words in (
        ("runs/btsr.db", "--out runs"),
        ("sqlite:////data/btsr.db", "--out /data"),
        ("runs/mine.db", "--db runs/mine.db"),
        ("postgresql://host/btsr", "--db postgresql://host/btsr"),
        ("postgresql://me:***@host:5432/btsr", "--db 'postgresql://me:***@host:5432/btsr'"),
    ):
        assert _command("table2", options, where=where).endswith(f"--profile released {words}")


def test_winners_of_some_methods(tmp_path: Path) -> None:
    """Without --methods the command would run those of all methods of the study."""
    split, tuned = split_of(data_config(), 20), [spec(), spec("bt_sr", alpha=0.2)]
    runs = [result(one, split, valid=1, test=1) for one in tuned]
    file = write(tmp_path / "btsr.db", "tune", tuned, runs, [split])
    for methods, words in ((("bt_sr",), " --methods bt_sr"), (("sasrec_ce", "bt_sr"), "")):
        again = [one.model_copy(update={"seed": s}) for one in tuned if one.method in methods for s in SEEDS[:2]]
        write(file, "tune_winners", again)
        with open_store(file, read_only=True) as store:
            told = gather(store, Request(study="tune_winners", datasets=("ml1m",))).command(("ml1m",))
        assert told == f"btsr-sweep --winners-of tune --dataset ml1m{words} --seeds 2 --out {tmp_path}"
    with open_store(file, read_only=True) as store:
        evidence = gather(store, Request(study="tune_winners"))
        assert evidence.command(("ml1m", "yelp")) == told, "winners there are only of data sets that were searched"
        assert evidence.command(("yelp",)).startswith("btsr-sweep --study tune --dataset yelp ")


def test_a_study_file_is_named_as_it_was_typed(tmp_path: Path) -> None:
    """With the options that decide its trials; where no command is known, in words."""
    split = split_of(data_config(), 20)

    def ran(one: TrialSpec, command: str) -> TrialResult:
        run = result(one, split, valid=1, test=1)
        return replace(run, provenance=replace(run.provenance, command=command))

    words = "--dataset yelp --seeds 2 --precision=bf16 --reduced --workers 3 --out elsewhere"
    point = spec("bt_sr", alpha=0.2)
    file = write(
        tmp_path / "btsr.db",
        "mine",
        [spec(), spec(seed=37)],
        [ran(spec(), f"btsr-sweep --study my/mine.py {words}")],
        [split],
    )
    searched = "btsr-sweep --study=my/mine.py --search tpe --trials 9"
    write(file, "mine_tpe", [point, point.model_copy(update={"seed": 37})], [ran(point, searched)])
    write(file, "lost", [spec(seed=12), spec(seed=37)], [result(spec(seed=12), split, valid=1, test=1)])
    write(file, "failed", [spec(seed=2451)], [failure(spec(seed=2451))])
    start = "btsr-sweep --study my/mine.py --dataset ml1m --profile released"
    again = "give the btsr-sweep command of the file of study {} again"
    with open_store(file, read_only=True) as store:
        told = {name: gather(store, Request(study=name, datasets=("ml1m",))) for name in ("mine", "mine_tpe", "lost")}
        assert told["mine"].command(("ml1m",)) == f"{start} --reduced --seeds 2 --precision bf16 --out {tmp_path}"
        assert told["mine_tpe"].to_run(("ml1m",)) == f"run `{start} --search tpe --trials 2 --out {tmp_path}`"
        made = table(2, store, Request(study="lost", datasets=("ml1m",)))
        assert made.commands == () and f"To run what is missing, {again.format('lost')}." in made.footnotes
        with pytest.raises(ConfigError, match=again.format("failed")):
            gather(store, Request(study="failed", datasets=("ml1m",)))


def test_of_commands_of_a_study_file_the_one_on_the_same_data_counts(tmp_path: Path) -> None:
    plays = varied(spec(dataset=str(tmp_path / "plays.csv")), data={"user_col": "who"})
    runs = []
    for one, words in ((plays, "plays.csv --user-col who"), (spec(tie="random"), "ml1m --tie random")):
        run = result(one, split_of(one.data, 20), valid=1, test=1)
        typed = f"btsr-sweep --study mine.py --dataset {words}"
        runs.append(replace(run, provenance=replace(run.provenance, command=typed)))
    left = plays.model_copy(update={"seed": 37})
    splits = [split_of(run.spec.data, 20) for run in runs]
    file = write(tmp_path / "btsr.db", "mine", [*(run.spec for run in runs), left], runs, splits)
    with open_store(file, read_only=True) as store:
        told = gather(store, Request(study="mine")).command((plays.data.dataset,))
    start = f"btsr-sweep --study mine.py --dataset {plays.data.dataset} --profile released"
    assert told == f"{start} --user-col who --out {tmp_path}"


def test_a_study_that_was_begun_on_the_data_is_not_told_to_run_anew(tmp_path: Path) -> None:
    split, runs = split_of(data_config(), 20), []
    for study, one in (("table2", spec()), ("alpha_lambda", spec("bt_sr", alpha=0.1, precision="bf16"))):
        runs.append(result(one, split, valid=1, test=1))
        file = write(tmp_path / "btsr.db", study, [one], runs[-1:], [split])
    with open_store(file, read_only=True) as store:
        assert gather(store, Request(study="table2")).remedy("ml1m") == "ask with --study alpha_lambda"


def test_what_a_study_lacks_is_asked_of_the_data_as_others_have_them(tmp_path: Path) -> None:
    """A file with columns and choices of its own, on which table 2 and the line over alpha were never begun."""
    plays = str(tmp_path / "plays.csv")
    one = varied(
        spec("bt_sr", alpha=0.1, dataset=plays, precision="bf16"), data={"user_col": "who", "time_col": "when"}
    )
    split = split_of(one.data, 20)
    file = write(tmp_path / "btsr.db", "smoke", [one], [result(one, split, valid=1, test=1)], [split])
    columns = ["--user-col", "who", "--time-col", "when"]
    words = f"--dataset {plays} --profile released --precision bf16 --filter none {' '.join(columns)} --out {tmp_path}"
    with open_store(file, read_only=True) as store:
        with pytest.raises(StoreError) as stop:
            gather(store, Request(study="table2", datasets=(plays,)))
        assert f"run `btsr-sweep --study table2 {words}`" in str(stop.value)
        evidence = gather(store, Request(study="smoke", datasets=(plays,)))
        with pytest.raises(ConfigError) as refused:
            line(evidence, plays, "alpha")
        assert f"ask with --study alpha_lambda after `btsr-sweep --study alpha_lambda {words}`" in str(refused.value)
    assert options_like("released", (plays, "ml1m"), [one]) == columns, "the other data set may be as it likes"


def test_the_grid_that_a_reduced_study_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = StudyOptions(datasets=("ml1m",), reduced=True, seeds=SEEDS[:1], precision="bf16")
    specs = STUDIES["alpha_lambda"](options).specs
    split = split_of(specs[0].data, 20)
    runs = [result(one, split, valid=1 + one.aux.alpha, test=1) for one in specs]
    write(tmp_path / "btsr.db", "alpha_lambda", specs, runs, [split])
    assert typed(monkeypatch, "--pareto", "--db", tmp_path / "btsr.db") == 0
    words = "--dataset ml1m --profile released --seeds 1 --precision bf16"
    assert (
        "ml1m: no complete grid of alpha and lambda yet, hence no heat map: run `btsr-sweep --study alpha_lambda "
        f"{words} --out {tmp_path} --extend`\n"
    ) in capsys.readouterr().err


def test_one_precision_of_a_study_of_both(tmp_path: Path) -> None:
    """The other is better on validation."""
    split = split_of(data_config(), 60)
    runs = [result(spec(precision=p), split, valid=q, test=q) for p, q in (("fp32", 0.5), ("bf16", 2.0))]
    file = write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store:
        notes = {
            precision: "\n".join(table(2, store, Request(study="table2", precision=precision)).footnotes)
            for precision in (None, "fp32", "bf16")
        }
    assert "precision fp32" in notes[None] and "best of 2 configurations" not in notes[None], "as the first"
    assert "SASRec (CE) also ran in bf16, which takes no part in the choice: --precision bf16 shows it." in notes[None]
    for precision in ("fp32", "bf16"):
        assert f"precision {precision}" in notes[precision] and "best of 2" not in notes[precision]
