"""The studies: how many trials, which ones, and the same keys from wherever they are asked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from harness.asked import study_asked
from harness.choices import DataChoices, Tie
from harness.config import PAPER_DATASETS, SEEDS, Study, StudyOptions, TrialSpec
from harness.data.catalogue import DATASETS
from harness.errors import ConfigError
from studies import DEFAULT_DATASETS, STUDIES, default_datasets, study_function
from studies.alpha_lambda import GRID, LINE, alphas, lines
from studies.augmentation import VIEWS
from studies.points import MORE, ORIGINAL_ENCODER, POINTS, TABLE2
from studies.profiles import trial, varied
from studies.table1 import EVERY, methods, pairs
from studies.tune import AXES, tuned_as

ALL = StudyOptions(datasets=PAPER_DATASETS)


def build(name: str, **changes: object) -> Study:
    options = {"datasets": default_datasets(name), **changes}
    return STUDIES[name](StudyOptions.model_validate(options))


def test_the_number_of_trials() -> None:
    assert len(build("smoke").specs) == 10
    assert len(build("smoke", reduced=True).specs) == 5
    assert len(build("table2").specs) == 5 * 7 * 5
    assert len(build("table2", reduced=True).specs) == 5 * 7 * 2
    assert len(build("table1").specs) == 5 * 6 * 5
    assert len(build("augmentation").specs) == 2 * 6 * 5
    assert len(build("protocol").specs) == 2 * 2 * 6 * 5
    assert len(build("precision").specs) == 2 * 2 * 2 * 5
    assert len(build("originals").specs) == 2 * 3 * 2 * 5
    assert len(build("tune").specs) == 5 * 7 * 9
    assert len(build("tune", reduced=True).specs) == 5 * 7 * 4
    # ml1m: centre (0.2, 0.05): 6 + 7 - 1 cells, five seeds; a grid of 100 of which the first seed's lines hold 10
    assert len(build("alpha_lambda", datasets=("ml1m",)).specs) == 12 * 5 + 100 - 10
    assert len(build("alpha_lambda", datasets=("ml1m",), reduced=True).specs) == 12 * 2
    assert len(build("alpha_lambda", datasets=("ml1m",), seeds=SEEDS[:1], reduced=True).specs) == 12


def test_the_grid_has_the_first_seed_and_the_lines_all() -> None:
    specs = build("alpha_lambda", datasets=("beauty",)).specs
    by_seed = {seed: {(s.aux.alpha, s.aux.lam) for s in specs if s.seed == seed} for seed in SEEDS}
    assert by_seed[SEEDS[0]] >= {(alpha, lam) for alpha in GRID for lam in GRID}
    assert all(by_seed[seed] == set(lines("beauty")) for seed in SEEDS[1:])
    assert set(lines("beauty")) == {(a, 0.05) for a in (*LINE, 0.25)} | {(0.25, lam) for lam in (*LINE, 0.05)}
    assert (0.08, 0.07) in lines("kindle_store") and len(lines("kindle_store")) == len(set(lines("kindle_store"))) == 13


def test_floats_are_as_written() -> None:
    assert [repr(value) for value in GRID] == [
        "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.35", "0.4", "0.45", "0.5",
    ]  # fmt: skip


def test_profiles_follow_the_released_files_and_the_text() -> None:
    released = trial("bt_sr", "ml1m", ALL, 37)
    assert (released.train.batch_size, released.encoder.dropout, released.encoder.max_len) == (256, 0.1, 200)
    assert (released.train.max_epochs, released.train.patience, released.train.weight_decay) == (200, 30, 0.0)
    assert (released.aux.alpha, released.aux.lam, released.aux.bt_std) == (0.2, 0.05, "unbiased")
    assert (released.data.filter, released.data.min_item, released.data.min_user) == ("none", 1, 1)
    yelp = trial("sasrec_ce", "yelp", ALL, 37)
    assert (yelp.data.filter, yelp.data.min_item, yelp.data.min_user) == ("one_pass", 5, 20)
    assert (yelp.train.batch_size, yelp.train.patience, yelp.aux.kind) == (64, 20, "none")
    paper = trial("bt_sr", "kindle_store", StudyOptions(datasets=("kindle_store",), profile="paper"), 37)
    assert (paper.encoder.max_len, paper.train.weight_decay, paper.aux.bt_std) == (50, 1e-5, "population")
    assert (paper.data.filter, paper.data.min_item, paper.data.min_user) == ("iterative", 5, 5)
    assert not paper.aux.extra_dropout_view and trial("bt_sr", "kindle_store", ALL, 37).aux.extra_dropout_view
    assert paper.profile == "paper" and paper.key != trial("bt_sr", "kindle_store", ALL, 37).key


def test_options_reach_every_trial() -> None:
    for name in STUDIES:
        options = {"max_epochs": 3, "validate_every": 2, "tie": "random", "precision": "bf16"}
        for spec in build(name, profile="paper", seeds=(37,), **options).specs:
            assert (spec.train.max_epochs, spec.train.validate_every) == (3, 2)
            assert spec.train.precision == "bf16" or name == "precision"
            assert spec.data.tie == "random" or name == "protocol"
            assert spec.profile == "paper" and spec.seed == 37
    choices = DataChoices(filter="at_once", min_item=2, min_user=3, count="partners", repeats="last", quantile=0.9)
    for name in STUDIES:
        study = build(name, data=choices)
        for spec in (*study.specs, *(space.base for space in study.search)):
            assert choices.said == {field: getattr(spec.data, field) for field in choices.said}
    assert {spec.train.max_epochs for spec in build("table2", datasets=("ml1m",), max_epochs=150).specs} == {50, 150}
    for method in ("cl4srec", "duorec", "ec4srec"):
        train = trial(method, "ml1m", ALL, 37).train
        assert (train.max_epochs, train.patience) == (200, 30), "as much time as BT-SR has"


def test_every_data_set_has_every_method_in_every_profile() -> None:
    assert all(set(rows) == set(DATASETS) for rows in POINTS.values())
    for name in STUDIES:
        for profile in ("paper", "released"):
            assert build(name, datasets=tuple(DATASETS), profile=profile).specs
    assert set(DEFAULT_DATASETS) <= set(STUDIES)


def test_a_file_is_a_data_set_with_its_columns() -> None:
    options = StudyOptions(datasets=("/x/mine.csv", "ml1m"), columns=("who", "what", "when"))
    of = {name: trial("bt_sr", name, options, 37).data for name in options.datasets}
    assert of["/x/mine.csv"].columns == ("who", "what", "when") and of["ml1m"].columns == ("", "", "")
    assert (of["/x/mine.csv"].filter, of["/x/mine.csv"].min_user) == ("one_pass", 20)


def test_every_study_takes_a_file() -> None:
    for name in STUDIES:
        specs = build(name, datasets=("/x/mine.csv",), columns=("who", "what", "when")).specs
        assert specs and {spec.data.dataset for spec in specs} == {"/x/mine.csv"}
    assert methods("/x/mine.csv") == methods("yelp")


def test_smoke_feeds_a_table_and_a_line() -> None:
    specs = build("smoke").specs
    assert {spec.method for spec in specs} == {"sasrec_ce", "bt_sr"}
    line = {(spec.aux.alpha, spec.aux.lam) for spec in specs if spec.method == "bt_sr"}
    assert {lam for _, lam in line} == {0.05} and 0.0 in {alpha for alpha, _ in line} and len(line) >= 4
    assert len({spec.seed for spec in specs}) == 2


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'alpha_lambda'"):
        study_function("alpha_lamda")
    with pytest.raises(ConfigError, match="unknown data set 'beaty': did you mean 'beauty'"):
        build("table2", datasets=("beaty",))
    with pytest.raises(ConfigError, match="unknown method 'bt_rs': did you mean 'bt_sr'"):
        trial("bt_rs", "ml1m", ALL, 1)


def test_keys_are_the_same_from_another_entry_point(tmp_path: Path) -> None:
    """A study file outside the repository that calls ours in another process, against this process."""
    code = (
        "import json\nfrom harness.config import StudyOptions, PAPER_DATASETS, SEEDS, Study\n"
        "from studies.alpha_lambda import study\n"
        "options = StudyOptions.model_validate_json(json.dumps({'datasets': PAPER_DATASETS, 'seeds': SEEDS}))\n"
        "built = Study.model_validate_json(study(options).model_dump_json())\n"
        "print(json.dumps([spec.key for spec in built.specs]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [spec.key for spec in build("alpha_lambda").specs]


def test_the_released_rows() -> None:
    """Spot checks against the table of released files (spec 1.6)."""
    for method, dataset, batch, loss, epochs, patience in (
        ("sasrec_bce", "kindle_store", 64, ("bce", 1024), 1000, 10),
        ("sasrec_gbce", "yelp", 4, ("gbce", 64), 1000, 10),
        ("sasrec_ce_sampled", "yelp", 16, ("ce_sampled", 4096), 1000, 10),
        ("sasrec_sce", "yelp", 1024, ("sce", 1024), 300, 10),
        ("sasrec_sce", "ml1m", 256, ("sce", 256), 200, 10),
        ("duorec_released", "gowalla", 256, ("bce", 256), 300, 10),
        ("bt_sr", "gowalla", 2048, ("sce", 256), 300, 10),
        ("sasrec_sce+bt", "beauty", 1024, ("sce", 256), 300, 30),
        ("sasrec_ce+bt", "kindle_store", 64, ("ce", None), 300, 10),
        ("bt_sr", "yelp", 64, ("ce", None), 300, 20),
        ("sasrec_ce_sampled+bt", "kindle_store", 64, ("ce_sampled", 1024), 300, 10),
    ):
        spec = trial(method, dataset, ALL, 37)
        sampled = spec.loss.negatives or spec.loss.sce_b_y
        assert (spec.train.batch_size, (spec.loss.kind, sampled)) == (batch, loss), method
        assert (spec.train.max_epochs, spec.train.patience) == (epochs, patience), method
    assert trial("sasrec_sce", "kindle_store", ALL, 37).loss.sce_mix_x
    kindle = trial("bt_sr", "kindle_store", ALL, 37).aux
    assert (kindle.alpha, kindle.lam, kindle.extra_dropout_view) == (0.08, 0.07, True)
    assert trial("sasrec_sce+bt", "beauty", ALL, 37).aux.lam == 0.1
    for dataset, alpha, lam, extra in (("beauty", 0.25, 0.1, False), ("kindle_store", 0.05, 0.2, True)):
        aux = trial("sasrec_ce_sampled+bt", dataset, ALL, 37).aux
        assert (aux.alpha, aux.lam, aux.extra_dropout_view) == (alpha, lam, extra)


def test_the_two_tables_share_their_trials() -> None:
    one, two = ({spec.key: spec for spec in build(name).specs} for name in ("table1", "table2"))
    shared = {spec.method for key, spec in one.items() if key in two}
    assert shared == {"sasrec_bce", "sasrec_ce", "sasrec_sce", "bt_sr"}
    assert methods("gowalla")[3:] == ("sasrec_bce+bt", "sasrec_ce+bt", "bt_sr")
    assert methods("yelp")[3:] == ("sasrec_bce+bt", "bt_sr", "sasrec_sce+bt")


def test_alpha_beside_bce_is_that_beside_one_of_its_terms() -> None:
    for dataset in DATASETS:
        bce, ce = (trial(f"sasrec_{loss}+bt", dataset, ALL, 37) for loss in ("bce", "ce"))
        terms = 1 + (bce.loss.negatives or 0)
        assert bce.aux.alpha * terms == pytest.approx(ce.aux.alpha, rel=0.05) and bce.aux.lam == ce.aux.lam
    assert alphas((0.0, 0.25), "beauty", "sasrec_bce+bt") == (0.0, 0.00097)
    assert alphas((0.0, 0.25), "beauty", "sasrec_sce+bt") == (0.0, 0.25)


def test_only_some_methods() -> None:
    some = build("table2", datasets=("beauty",), methods=("bt_sr", "sasrec_ce")).specs
    assert [spec.method for spec in some[:2]] == ["sasrec_ce", "bt_sr"] and len(some) == 10
    with pytest.raises(ConfigError, match="unknown method of this study 'sasrec_bt': did you mean"):
        build("table2", methods=("sasrec_bt",))


def test_every_method_is_tuned_equally_around_its_row() -> None:
    """On every data set, in both profiles: three values each of two settings, the row's among them."""
    every = (*TABLE2, *MORE, "sasrec_bce+bt", "sasrec_ce+bt", "sasrec_sce+bt", "sasrec_ce_sampled+bt")
    for profile in ("paper", "released"):
        for dataset in DATASETS:
            built = build("tune", datasets=(dataset,), profile=profile, methods=every)
            by_method: dict[str, list[TrialSpec]] = {}
            for spec in built.specs:
                by_method.setdefault(spec.method, []).append(spec)
            assert {*by_method} == {*TABLE2, *MORE, *pairs(dataset, EVERY).values()}
            options = StudyOptions(datasets=(dataset,), profile=profile)
            for method, specs in by_method.items():
                assert len({spec.key for spec in specs}) == len(specs) == 9, (dataset, method)
                assert specs[0] == trial(method, dataset, options, SEEDS[0]), "untuned, it is a candidate"
                path, _ = AXES[tuned_as(method)]
                points = {(spec.encoder.dropout, spec.flat()[path]) for spec in specs}
                assert len({dropout for dropout, _ in points}) == len({value for _, value in points}) == 3
                (space,) = [space for space in built.search if space.base.method == method]
                assert not [spec for spec in specs if space.strays(spec)], "a search can find what the grid has"
    most = build("tune", datasets=("yelp",), methods=("sasrec_ce_sampled",)).specs
    assert {spec.loss.negatives for spec in most} == {256, 1024, 4096}


def test_a_file_is_tuned_with_no_more_negatives_than_its_row_has() -> None:
    """It may have few items, and more negatives than items are refused."""
    of_a_file = build("tune", datasets=("plays.csv",), methods=("sasrec_bce",))
    assert {spec.loss.negatives for spec in of_a_file.specs} == {16, 64, 256}
    (space,) = of_a_file.search
    assert space.ranges["loss.negatives"].high == 256


def test_a_setting_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValidationError, match="alpha"):
        trial("bt_sr", "ml1m", ALL, 37, alpha=-1.0)
    for method, named in (("sasrec_ce", {"alpha": 0.1}), ("duorec", {"lam": 0.1})):
        with pytest.raises(ConfigError, match="alpha and lam are for methods with a Barlow Twins term"):
            trial(method, "ml1m", ALL, 37, **named)
    base = trial("bt_sr", "ml1m", ALL, 37)
    with pytest.raises(ConfigError, match="unknown field of train 'le': did you mean 'lr'"):
        varied(base, train={"le": 0.1})
    with pytest.raises(ConfigError, match="unknown part of a trial 'trian': did you mean 'train'"):
        varied(base, trian={"lr": 0.1})


def test_a_baseline_on_the_encoder_of_its_own_program() -> None:
    base = trial("duorec", "beauty", ALL, 37)
    own = varied(base, encoder=ORIGINAL_ENCODER)
    assert set(ORIGINAL_ENCODER) == {name for name, value in own.encoder if value != getattr(base.encoder, name)}
    assert (own.encoder.norm, own.encoder.heads, own.encoder.inner_dim, own.encoder.dim) == ("post", 2, 256, 64)


def test_the_protocol_switches_one_thing_at_a_time() -> None:
    base, *others = build("protocol", datasets=("ml1m",), seeds=(37,), methods=("sasrec_ce",)).specs
    differences = []
    for spec in others:
        a, b = base.model_dump(), spec.model_dump()
        differences.append([
            (part, n) for part in ("data", "encoder", "train") for n in a[part] if a[part][n] != b[part][n]
        ])
    assert {base.data.tie, *(spec.data.tie for spec in others)} == {*get_args(Tie)}
    assert differences == [
        [("data", "tie")],
        [("data", "tie")],
        [("encoder", "mask_pad_keys")],
        [("encoder", "rank_non_items")],
        [("encoder", "max_len")],
    ]


def test_the_originals_switch_encoder_and_batch() -> None:
    specs = build("originals", datasets=("beauty",), seeds=(37,)).specs
    table = {spec.key for spec in build("table2", datasets=("beauty",), seeds=(37,)).specs}
    assert [spec.method for spec in specs] == [name for name in ("cl4srec", "duorec", "ec4srec") for _ in range(2)]
    for base, own in zip(specs[::2], specs[1::2], strict=True):
        assert base.key in table and own == varied(base, encoder=ORIGINAL_ENCODER, train={"batch_size": 256})
        assert base.train.batch_size == 512 and own.key != base.key


def test_the_grid_is_had_of_every_base_loss() -> None:
    """BT-SR is SCE+BT on Gowalla and CE+BT on ML-1M."""
    assert {spec.method for spec in build("alpha_lambda", datasets=("ml1m", "gowalla")).specs} == {"bt_sr"}
    named = ("sasrec_bce+bt", "sasrec_ce+bt")
    options = StudyOptions(datasets=("ml1m", "gowalla"), methods=named)
    built = study_asked(STUDIES["alpha_lambda"], options, "alpha_lambda")
    there = {(spec.data.dataset, spec.method) for spec in built.specs}
    assert there == {("ml1m", "sasrec_bce+bt"), ("ml1m", "bt_sr"), *(("gowalla", name) for name in named)}
    for dataset, method in there:
        mine = [s for s in built.specs if (s.data.dataset, s.method, s.seed) == (dataset, method, SEEDS[0])]
        points = {(spec.aux.alpha, spec.aux.lam) for spec in mine}
        grid = {(alpha, lam) for alpha in alphas(GRID, dataset, method) for lam in GRID}
        assert points == {*lines(dataset, method), *grid} and len(grid) == 100
    assert {space.place for space in built.search} == {f"{dataset}/{method}" for dataset, method in there}
    alone = build("alpha_lambda", datasets=("ml1m",), methods=("bt_sr",))
    by_loss = build("alpha_lambda", datasets=("ml1m",), methods=("sasrec_ce+bt",))
    assert alone == by_loss == build("alpha_lambda", datasets=("ml1m",))
    with pytest.raises(ConfigError, match="unknown method of this study 'sasrec_ce'"):
        build("alpha_lambda", methods=("sasrec_ce",))


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_the_precision_asked_for_is_the_base_of_the_other(asked: str) -> None:
    base, other = build("precision", datasets=("ml1m",), seeds=(37,), methods=("bt_sr",), precision=asked).specs
    assert base == trial("bt_sr", "ml1m", ALL.model_copy(update={"precision": asked}), 37)
    assert (base.train.precision, {base.train.precision, other.train.precision}) == (asked, {"fp32", "bf16"})
    assert varied(other, train={"precision": asked}) == base


def test_the_views_differ_in_nothing_else() -> None:
    specs = build("augmentation", datasets=("kindle_store",), seeds=(37,)).specs
    assert [spec.aux.bt_view for spec in specs] == list(VIEWS) and VIEWS[0] == "supervised"
    same = {
        spec.model_copy(update={"aux": spec.aux.model_copy(update={"bt_view": "supervised"})}).key for spec in specs
    }
    assert len(same) == 1


def test_methods_beyond_the_papers_are_run_where_they_are_named() -> None:
    for study in ("table2", "tune"):
        assert {spec.method for spec in build(study, datasets=("ml1m",)).specs} == set(TABLE2)
        for method in MORE:
            built = build(study, datasets=("ml1m",), methods=(method, "bt_sr"))
            counts = {name: sum(spec.method == name for spec in built.specs) for name in (method, "bt_sr")}
            assert len(set(counts.values())) == 1 and sum(counts.values()) == len(built.specs)
            assert {space.base.method for space in built.search} == ({method, "bt_sr"} if study == "tune" else set())
    specs = build("table1", datasets=("beauty",), methods=("sasrec_ce_sampled", "sasrec_ce_sampled+bt")).specs
    assert {spec.method for spec in specs} == {"sasrec_ce_sampled", "sasrec_ce_sampled+bt"}


def test_bt_sr_is_known_by_its_base_loss_too() -> None:
    """It is SCE+BT on Gowalla and CE+BT on ML-1M."""
    options = StudyOptions(datasets=("ml1m", "gowalla"), seeds=SEEDS[:1], methods=("sasrec_sce+bt",))
    built = study_asked(STUDIES["table1"], options, "table1")
    assert [(s.data.dataset, s.method) for s in built.specs] == [("ml1m", "sasrec_sce+bt"), ("gowalla", "bt_sr")]
    counted = StudyOptions(datasets=("yelp", "beauty"), seeds=SEEDS[:1], data=DataChoices(count="partners"))
    assert len(study_asked(STUDIES["table2"], counted, "table2").specs) == 14, "Beauty's filter counts rows"
    both = options.model_copy(update={"methods": ("bt_sr", "sasrec_sce")})
    assert len(study_asked(STUDIES["table1"], both, "table1").specs) == 4
    with pytest.raises(ConfigError, match="unknown method of this study 'sasrec_bt'"):
        study_asked(STUDIES["table1"], options.model_copy(update={"methods": ("sasrec_bt",)}), "table1")
