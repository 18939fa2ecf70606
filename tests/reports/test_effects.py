"""What one switched setting is worth: bases found from specifications, effects computed by hand, and who is paired."""

import os
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from harness.config import StudyOptions, TrialSpec
from harness.errors import ConfigError, StoreError
from harness.metrics import evaluate
from harness.store import open_store
from harness.values import Split, TrialResult, UserRanks
from reports.effects import Effect, designs, effects, same_users
from reports.effects_sheet import effects_sheet
from reports.results import Request, gather
from reports.sheet import Sheet, sheet_csv, sheet_html, sheet_latex, sheet_markdown, sheet_text
from reports.stats import Comparison, Measured, bootstrap_means, compare, compare_apart
from studies import augmentation, originals
from studies.profiles import varied
from tests.reports.latex import check
from tests.reports.world import data_config, failure, result, spec, split_of, write

GOLDEN = Path(__file__).parent / "golden"
SEEDS = (1235, 37)
STABLE = split_of(data_config(), 4)


def tied(split: Split, moved: int) -> Split:
    """The same users under the other tie rule: the first ones have validation and test target exchanged."""
    rows = split.test_items.reshape(-1, 3).copy()
    rows[:moved, 1:] = rows[:moved, :0:-1]
    config = split.config.model_copy(update={"tie": "random"})
    return replace(split, config=config, fingerprint="b" * 32, test_items=rows.ravel())


RANDOM = tied(STABLE, 3)


def ranked(of: TrialSpec, split: Split, ranks: Sequence[int]) -> TrialResult:
    """A finished trial whose test targets have these ranks."""
    made = result(of, split, valid=1.0, test=1.0)
    targets = split.targets("test")
    top = np.stack([
        np.insert(np.setdiff1d(np.arange(split.n_items), [target]), rank - 1, target)[:50]
        for target, rank in zip(targets, ranks, strict=True)
    ]).astype(np.int32)
    test = UserRanks(rank=np.array(ranks, np.int32), top=top)
    metrics = evaluate(test, targets=targets, bucket=split.bucket, part="test")
    valid = [metric for metric in made.metrics if metric.part == "valid"]
    return replace(made, test=test, metrics=(*valid, *metrics))


def arms(seed: int, method: str = "sasrec_ce") -> tuple[TrialSpec, ...]:
    """As study protocol has them: base, other ties, masked keys, and two settings at once."""
    base = spec(method, seed=seed, alpha=0.1 if method == "bt_sr" else None)
    return (
        base,
        varied(base, data={"tie": "random"}),
        varied(base, encoder={"mask_pad_keys": True}),
        varied(base, encoder={"max_len": 50, "dropout": 0.5}),
    )


RANKS: dict[tuple[int, int], tuple[int, ...]] = {
    # (arm, seed): ranks of the four users; hr@10 of the base 3/4 and 2/4
    (0, 1235): (1, 2, 3, 20),
    (0, 37): (1, 2, 30, 20),
    (1, 1235): (1, 20, 30, 40),  # hr@10 1/4
    (1, 37): (20, 20, 3, 40),  # 1/4
    (2, 1235): (1, 2, 3, 4),  # 4/4
    (2, 37): (1, 2, 30, 4),  # 3/4
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CE with everything but the arm of two switches; of BT-SR one seed of the base, and a failure."""
    specs = [arm for method in ("sasrec_ce", "bt_sr") for seed in SEEDS for arm in arms(seed, method)]
    runs = [ranked(arms(seed)[arm], RANDOM if arm == 1 else STABLE, ranks) for (arm, seed), ranks in RANKS.items()]
    bt, masked = arms(1235, "bt_sr")[0], arms(1235, "bt_sr")[2]
    one = [ranked(bt, STABLE, (1, 2, 3, 4)), ranked(masked, STABLE, (1, 2, 3, 20)), failure(arms(37, "bt_sr")[0])]
    return write(tmp_path_factory.mktemp("effects") / "btsr.db", "protocol", specs, [*runs, *one], [STABLE, RANDOM])


def found(database: Path, **request: object) -> tuple[Effect, ...]:
    with open_store(database, read_only=True) as store:
        evidence = gather(store, Request(study="protocol", every_version=True, **request))  # type: ignore[arg-type]
        return effects(evidence, designs(evidence), (("hr", 10), ("cov", 10)))


def sheet(database: Path, study: str = "protocol", **request: object) -> Sheet:
    with open_store(database, read_only=True) as store:
        return effects_sheet(store, Request(study=study, **request), (("hr", 10), ("cov", 10)))  # type: ignore[arg-type]


def test_effects_by_hand(database: Path) -> None:
    ties, ties_cov, masked, masked_cov, *_ = found(database)
    assert ties.switch.words == "tie: stable -> random" and ties.switch.setting == "data.tie"
    assert masked.switch.words == "mask_pad_keys: off -> on"
    assert ties.base == masked.base == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert ties.comparison and masked.comparison and masked_cov.comparison and ties_cov.comparison
    # ties: -2/4 and -1/4
    assert ties.comparison.difference == pytest.approx(-0.375) and ties.comparison.n == 2
    # of a base of 5/8 in the mean: the ratios of the runs would be -2/3 and -1/2
    assert ties.relative and ties.relative.mean == pytest.approx(-100 * 0.375 / 0.625) and ties.relative.n == 2
    assert ties.relative.std == pytest.approx(100 * 0.25 / np.sqrt(2) / 0.625)
    assert ties.comparison.p_seeds == pytest.approx(scipy_stats.ttest_1samp([-0.5, -0.25], 0).pvalue)
    # user by user over both seeds: -1, -2, 0, 0: of four sign patterns two are as far from 0 as -3
    assert ties.comparison.p_users == pytest.approx(0.5, abs=0.02)
    # masked: user 4 gains in both runs: the differences over seeds have no variance
    assert masked.comparison.difference == pytest.approx(0.25) and masked.comparison.p_seeds == 0.5
    assert masked.comparison.p == masked.comparison.p_users == pytest.approx(1.0)
    assert masked.relative and masked.relative.mean == pytest.approx(40) and masked.relative.std == 0
    assert masked.comparison.interval and masked.comparison.interval.over == "seeds and users"
    assert masked_cov.by_user is False and masked_cov.comparison.p_users is None


def test_holm_is_over_all_effects(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: four times 0.01, three times 0.02, no less than that, once 0.2."""
    given = iter((0.02, 0.2, 0.01, 0.025))

    def measured(ours: Measured, theirs: Measured) -> Comparison:
        made = compare(ours, theirs)
        return made if made.n < 2 else replace(made, p_seeds=next(given), p_users=None)

    monkeypatch.setattr("reports.effects.compare", measured)
    adjusted = [effect.p_holm for effect in found(database) if effect.p_holm is not None]
    assert adjusted == pytest.approx([0.06, 0.2, 0.04, 0.06])


def test_percents_have_the_sign_of_the_effect(tmp_path: Path) -> None:
    """Base 1/4 and 4/4, variant 2/4 and 2/4: run by run +100 % and -50 %, in the mean less."""
    base = [spec(seed=seed) for seed in SEEDS]
    masked = [varied(one, encoder={"mask_pad_keys": True}) for one in base]
    ranks = ((1, 20, 20, 20), (1, 1, 1, 1), (1, 1, 20, 20), (1, 1, 20, 20))
    runs = [ranked(one, STABLE, places) for one, places in zip((*base, *masked), ranks, strict=True)]
    hit = sheet(write(tmp_path / "btsr.db", "mine", [*base, *masked], runs, [STABLE]), "mine").rows[0]
    assert hit[5:7] == ("-0.1250", "-20.0 ±84.9")


def test_a_number_that_runs_do_not_have_is_not_defined(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        rows = effects_sheet(store, Request(study="protocol"), (("erank", 0),)).rows
    assert {(row[3], row[-1]) for row in rows} == {
        ("erank", "not defined"),
        ("erank", "not run: base 1 of 2, variant 0 of 2"),
    }


def test_the_base_is_what_most_others_are_one_switch_away_from(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        there = designs(gather(store, Request(study="protocol", every_version=True)))
    assert [design.base.spec.method for design in there] == ["sasrec_ce", "bt_sr"]
    for design in there:
        assert design.base.spec.group == arms(1235, design.base.spec.method)[0].group
        assert [switch.setting for switch, _ in design.variants] == ["data.tie", "encoder.mask_pad_keys"]
        assert design.left_out == 1


def test_what_is_missing_does_not_make_another_arm_the_base(tmp_path: Path) -> None:
    """Where all differ in one setting, where the base alone was run, and where a variant alone was."""
    views = [varied(spec("bt_sr", alpha=0.1), aux={"bt_view": view}) for view in augmentation.VIEWS]
    arms = [views[0], varied(views[0], data={"tie": "random"}), varied(views[0], encoder={"mask_pad_keys": True})]
    for number, (specs, run) in enumerate([(views, [0, 1, 2, 3, 5]), (arms, [0]), (arms, [1])]):
        ended = [ranked(specs[i], STABLE, (1, 2, 3, 4)) for i in run]
        database = write(tmp_path / f"{number}.db", "mine", specs, ended, [STABLE])
        with open_store(database, read_only=True) as store:
            (design,) = designs(gather(store, Request(study="mine", every_version=True)))
        assert design.base.spec == specs[0] and len(design.variants) == len(specs) - 1


def test_golden_text(database: Path) -> None:
    """The whole report as text. Set BTSR_WRITE_GOLDEN to accept a wanted change."""
    text = sheet_text(sheet(database)).replace(str(database.parent), "runs")
    file = GOLDEN / "effects.txt"
    if os.environ.get("BTSR_WRITE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_format(database: Path) -> None:
    report = sheet(database)
    frame = pd.read_csv(StringIO(sheet_csv(report)))
    assert list(frame.method.unique()) == ["sasrec_ce", "bt_sr"] and len(frame) == 8
    first = frame.iloc[0]
    assert (first.setting, first["from"], first.to, first.metric) == ("data.tie", "stable", "random", "hr@10")
    assert first.effect == pytest.approx(-0.375) and first.fingerprint == "b" * 32 != first.base_fingerprint
    assert first.low <= first.effect <= first.high
    assert "tie: stable -\\> random" in sheet_markdown(report) and "mask\\_pad\\_keys: off -\\> on" in sheet_markdown(
        report
    )
    assert "<td>tie: stable -&gt; random</td>" in sheet_html(report)
    check(sheet_latex(report))


def test_a_single_run_and_a_variant_that_was_not_run_say_so(database: Path) -> None:
    rows = {(row[1], row[2], row[3]): row for row in sheet(database).rows}
    alone = rows["BT-SR", "mask_pad_keys: off -> on", "hr@10"]
    assert alone[5] == "-0.2500" and alone[8:] == ("—", "—", "user, seed; n = 1: not enough runs")
    assert alone[7] != "—", "over users there is an interval"
    absent = rows["BT-SR", "tie: stable -> random", "hr@10"]
    assert absent[4:] == ("—",) * 6 + ("not run: base 1 of 2, variant 0 of 2",)
    notes = "\n".join(sheet(database).footnotes)
    assert "the same test users as in data a0000004, 3 of them (75%) with another test target" in notes
    assert "incomplete: 8 of 16 trials done (1 failed)" in notes
    assert "unlike profile released, whose row has train.max_epochs 50 (here 51)" in notes
    assert "btsr-sweep --study protocol" in sheet(database).commands[0]


def test_a_tie_rule_narrows_and_other_reports_still_refuse_to_mix(database: Path) -> None:
    assert {effect.switch.setting for effect in found(database, tie="stable")} == {"encoder.mask_pad_keys"}
    assert {effect.switch.setting for effect in found(database, fingerprints=("a000",))} == {"encoder.mask_pad_keys"}
    with open_store(database, read_only=True) as store:
        with pytest.raises(ConfigError, match="2 versions of its data, which never mix"):
            gather(store, Request(study="protocol"))
        with pytest.raises(ConfigError, match="no results on data c"):
            gather(store, Request(study="protocol", every_version=True, fingerprints=("c",)))


def test_users_of_another_filter_are_not_paired(tmp_path: Path) -> None:
    """Three users of their own with hr@10 3/3 and 1/3 against 3/4 and 2/4."""
    wide = varied(spec(), data={"filter": "iterative", "min_item": 2, "min_user": 1})
    narrow = {seed: varied(wide, data={"min_user": 3}).model_copy(update={"seed": seed}) for seed in SEEDS}
    base = {seed: wide.model_copy(update={"seed": seed}) for seed in SEEDS}
    all_users = replace(STABLE, config=wide.data)
    some = split_of(narrow[37].data, 3)
    runs = [ranked(base[seed], all_users, RANKS[0, seed]) for seed in SEEDS]
    runs += [ranked(narrow[1235], some, (1, 1, 1)), ranked(narrow[37], some, (1, 20, 20))]
    database = write(tmp_path / "btsr.db", "mine", [*base.values(), *narrow.values()], runs, [all_users, some])
    report = sheet(database, "mine")
    hit = report.rows[0]
    assert hit[2] == "min_user: 1 -> 3" and hit[10] == "seed, users apart; n = 2"
    assert hit[5] == f"{(1 - 3 / 4 + 1 / 3 - 2 / 4) / 2:+.4f}"
    p_seeds = scipy_stats.ttest_1samp([1 / 4, 1 / 3 - 2 / 4], 0).pvalue
    p_users = scipy_stats.ttest_ind([1, 0.5, 0.5], [1, 1, 0.5, 0], equal_var=False).pvalue
    assert float(hit[8]) == pytest.approx(max(p_seeds, p_users), abs=1e-4)
    assert any("are not known to be those of data a0000004" in note for note in report.footnotes)
    cov = report.rows[1]
    assert cov[3] == "cov@10" and cov[4] != "—" and cov[5:] == ("—",) * 5 + ("other test users",)
    assert hit[9] == hit[8], "one test alone is corrected"
    assert any(note.startswith("Other test users: ") for note in report.footnotes)


def test_what_was_not_computed_alike_is_marked(tmp_path: Path) -> None:
    """Masked keys on another device; bf16, which is switched, with other kernels."""
    base, masked, rounded = (
        [varied(spec(seed=seed), **changes) for seed in SEEDS]
        for changes in ({}, {"encoder": {"mask_pad_keys": True}}, {"train": {"precision": "bf16"}})
    )
    runs = [ranked(one, STABLE, (1, 2, 3, 20)) for one in (*base, *masked, *rounded)]
    where = [("cpu", "torch")] * 2 + [("A100", "torch")] * 2 + [("cpu", "torch"), ("cpu", "x")]
    runs = [
        replace(run, provenance=replace(run.provenance, device=device, kernels=kernels))
        for run, (device, kernels) in zip(runs, where, strict=True)
    ]
    database = write(tmp_path / "btsr.db", "mine", [*base, *masked, *rounded], runs, [STABLE])
    report = sheet(database, "mine")
    assert {row[2] for row in report.rows} == {"mask_pad_keys: off -> on ‡", "precision: fp32 -> bf16"}
    (note,) = [note for note in report.footnotes if note.startswith("‡")]
    assert note.startswith("‡ ML 1M, SASRec (CE), mask_pad_keys: off -> on: ") and "(devices: A100, cpu)" in note
    assert [record["apart"] for record in report.records] == ["devices: A100, cpu"] * 2 + [""] * 2


def test_a_base_that_is_not_the_profiles_row_is_said_so(tmp_path: Path) -> None:
    """Kindle Store's released row has an extra dropout view, which study augmentation switches off."""
    specs = augmentation.study(StudyOptions(datasets=("kindle_store",), seeds=SEEDS)).specs
    split = split_of(specs[0].data, 20)
    runs = [result(of, split, valid=1.0, test=1.0 + (of.aux.bt_view == "supervised")) for of in specs]
    report = sheet(write(tmp_path / "btsr.db", "augmentation", specs, runs, [split]), "augmentation")
    views = ("mask", "crop", "reorder", "substitute", "dropout")
    assert [row[2] for row in report.rows[::2]] == [f"bt_view: supervised -> {view}" for view in views]
    assert any(note.endswith("whose row has aux.extra_dropout_view on (here off).") for note in report.footnotes)


def test_two_configurations_may_differ_in_several_settings(tmp_path: Path) -> None:
    """Then the first is the base, whichever was run; of three the pair in one setting stays."""
    options = StudyOptions(datasets=("beauty",), seeds=SEEDS, methods=("duorec",))
    specs = originals.study(options).specs
    split = split_of(specs[0].data, 60)
    runs = [result(of, split, valid=1.0, test=1.0 + of.encoder.heads) for of in specs]
    report = sheet(write(tmp_path / "btsr.db", "originals", specs, runs, [split]), "originals")
    assert {row[2] for row in report.rows} == {"8 settings at once"} and "settings switched at once" in report.title
    assert report.records[0]["effect"] > 0
    assert "train.batch_size" in str(report.records[0]["setting"])
    (note,) = [note for note in report.footnotes if "Switched at once: " in note]
    assert all(word in note for word in ("max_len: 200 -> 50", "norm: reference -> post", "batch_size: 512 -> 256"))
    late = write(tmp_path / "late.db", "originals", specs, runs[1::2], [split])
    with open_store(late, read_only=True) as store:
        (design,) = designs(gather(store, Request(study="originals")))
    assert design.base.spec.encoder.heads == 1 and design.left_out == 0


def test_the_same_users_are_recognised(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        one, other = store.data(STABLE.fingerprint), store.data(RANDOM.fingerprint)
    assert same_users(one, one) and same_users(one, other)
    assert not same_users(one, replace(other, popularity=other.popularity + 1))
    assert other.input_buckets is not None
    assert not same_users(one, replace(other, input_buckets=other.input_buckets[::-1] + 1)), "other users"
    assert same_users(one, replace(other, input_buckets=None)), "recorded by an earlier version"
    assert not same_users(one, replace(other, config=varied(spec(), data={"quantile": 0.9}).data))


def test_apart_the_bootstrap_draws_each_sides_users() -> None:
    """Against the theory: the variance of the difference is the sum of both means' variances."""
    rng = np.random.default_rng(5)
    a, b = rng.random((1, 300)), rng.random((1, 50)) + 0.2
    gaps = bootstrap_means(a, b)
    assert gaps.mean() == pytest.approx(a.mean() - b.mean(), abs=0.003)
    assert gaps.std() == pytest.approx(np.sqrt(a.var() / 300 + b.var() / 50), rel=0.05)
    ours = Measured(seeds=(1,), by_seed=a.mean(axis=1), by_user=a)
    theirs = Measured(seeds=(1,), by_seed=b.mean(axis=1), by_user=b)
    apart = compare_apart(ours, theirs)
    assert apart.interval and apart.interval.over == "users" and apart.p is None
    assert apart.p_users == pytest.approx(scipy_stats.ttest_ind(a[0], b[0], equal_var=False).pvalue)
    constant = Measured(seeds=(1,), by_seed=np.ones(1), by_user=np.ones((1, 5)))
    assert compare_apart(constant, constant).p_users == 1.0
    assert compare_apart(constant, replace(constant, by_user=np.zeros((1, 7)), by_seed=np.zeros(1))).p_users == 0.0
    listed = replace(ours, by_user=None, seeds=(1, 2), by_seed=np.array([0.1, 0.3]))
    other = replace(listed, by_seed=np.array([0.2, 0.2]))
    assert compare_apart(listed, other) == compare(listed, other), "coverage pairs by seed anyhow"
    assert compare_apart(ours, replace(theirs, seeds=(2,))).n == 0


def test_an_option_that_leaves_one_side_says_so(tmp_path: Path) -> None:
    split = split_of(data_config(), 60)
    runs = [result(spec(precision=p), split, valid=1, test=1) for p in ("fp32", "bf16")]
    file = write(tmp_path / "btsr.db", "precision", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store, pytest.raises(ConfigError, match="one side of what it switches"):
        effects_sheet(store, Request(study="precision", precision="fp32"))


def test_a_study_without_switches_or_runs_is_one_line(tmp_path: Path) -> None:
    run = result(spec(), STABLE, valid=1.0, test=1.0)
    database = write(tmp_path / "btsr.db", "table2", [run.spec, spec("bt_sr", alpha=0.2)], [run], [STABLE])
    with pytest.raises(
        ConfigError, match="study table2 switches no single setting.* protocol, precision or augmentation"
    ):
        sheet(database, "table2")
    with pytest.raises(StoreError, match="run `btsr-sweep --study augmentation --dataset "):
        sheet(database, "augmentation")
