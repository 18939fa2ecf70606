"""The command that runs what is missing plans exactly those trials, or a plan that holds them."""

import shlex
from typing import Any

import pytest

from harness.choices import DataChoices
from harness.config import SEEDS, StudyOptions
from models.config import Precision
from reports.commands import exact_command, sweep_command, unplanned
from studies import STUDIES
from tests.reports.world import spec

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
        told = exact_command(study, "released", ("ml1m",), some, DB)
        assert told == (words and f"{words} --out 'runs/a b'"), study


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
    for study, method in (("table2", "sasrec_gbce"), ("tune", "duorec_released"), ("table1", "sasrec_ce_sampled+bt")):
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
    assert sweep_command("mine", "released", ("ml1m",), [spec()], DB) == plain.format("mine")
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
