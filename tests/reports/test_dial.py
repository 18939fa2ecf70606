"""The dial: rules, Pareto front, common seeds, and that no test value takes part."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from harness.config import SEEDS
from harness.errors import ConfigError
from harness.rules import PRESETS, pareto, pick, rule_of
from harness.store import open_store
from reports.claims import claims
from reports.dial import Dial, dial, grid, importance, picks, presets
from reports.draw_dial import draw_front, draw_interaction
from reports.figures import FIGURES
from reports.lines import line
from reports.measure import Measurer
from reports.results import Request, gather
from reports.sheet import sheet_csv
from tests.reports.legible import assert_legible
from tests.reports.typed import typed
from tests.reports.world import data_config, result, spec, split_of, write


def test_rules() -> None:
    rule = rule_of("max cov@10 subject to ndcg@10 >= 0.99*best")
    assert (rule.sign, rule.metric, rule.limited, rule.at_least) == (1, ("cov", 10), ("ndcg", 10), True)
    assert rule.of_best and rule.limit == 0.99
    assert rule_of("balanced") == rule
    plain = rule_of("min  cov@5 subject to hr@1<=.02")
    assert (plain.sign, plain.limit, plain.of_best, plain.at_least) == (-1, 0.02, False, False)
    assert rule_of("max hr@1").limited is None
    assert rule_of("max hr@1 subject to cov@1 >= best").limit == 1.0
    for words, expected in (
        ("best cov", "write it as 'max cov@10 subject to"),
        ("max cov@11", "not kept for validation"),
        ("max cove@10", "did you mean 'cov'"),
    ):
        with pytest.raises(ConfigError, match=expected):
            rule_of(words)


def test_front_by_hand() -> None:
    first = np.array([1.0, 2.0, 3.0, 2.0, 0.5])
    second = np.array([3.0, 2.0, 1.0, 1.5, 3.0])
    assert pareto(first, second) == (0, 1, 2)
    assert pareto(np.array([1.0, 1.0]), np.array([2.0, 2.0])) == (0, 1), "equal places do not dominate"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_front_against_the_definition(points: list[tuple[int, int]]) -> None:
    x, y = (np.array(values, float) for values in zip(*points, strict=True))
    plain = {i for i, (a, b) in enumerate(points) if not any(c >= a and d >= b and (c, d) != (a, b) for c, d in points)}
    assert set(pareto(x, y)) == plain


def test_importance_by_hand() -> None:
    rows = np.array([[1.0, 1.0], [3.0, 3.0]])
    assert importance(rows) == (1.0, 0.0, 0.0)
    assert importance(rows.T) == (0.0, 1.0, 0.0)
    assert importance(np.array([[1.0, -1.0], [-1.0, 1.0]])) == (0.0, 0.0, 1.0)
    for value in (1.0, 0.1, -0.1, 0.0):  # 0.1 is not exact in binary: the mean of equal ones differs from them
        assert importance(np.full((2, 3), value)) == (0.0, 0.0, 0.0)


def test_best_is_the_least_where_less_is_better() -> None:
    """Of a Gini index 1.1 times the worst is no limit at all."""
    cov, gini = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.44, 0.4])
    values = {("cov", 10): cov, ("gini", 10): gini, ("arp", 10): gini}
    for name in ("gini", "arp"):
        assert pick(rule_of(f"max cov@10 subject to {name}@10 <= 1.2*best"), values.__getitem__, "ml1m") == 1
        assert pick(rule_of(f"max cov@10 subject to {name}@10 <= best"), values.__getitem__, "ml1m") == 2
    assert pick(rule_of("max gini@10 subject to cov@10 >= 0.5*best"), values.__getitem__, "ml1m") == 0


def test_of_equals_none_that_another_dominates_is_picked() -> None:
    """Coverage is a count: the last two have the same, and the limit is 0.198."""
    values = {("cov", 10): np.array([0.3, 0.5, 0.5]), ("ndcg", 10): np.array([0.2, 0.1985, 0.199])}
    assert pick(rule_of("balanced"), values.__getitem__, "ml1m") == 2
    values[("gini", 10)] = np.array([0.7, 0.8, 0.75])
    assert pick(rule_of("max cov@10 subject to gini@10 <= 0.9"), values.__getitem__, "ml1m") == 2
    assert pick(rule_of("max cov@10"), values.__getitem__, "ml1m") == 1


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid with the first seed, a line with two; on test the order of the settings is turned around."""
    split = split_of(data_config(), 300)

    def quality(alpha: float, lam: float) -> float:
        return 0.5 + alpha - lam / 2

    line = [(a, 0.1) for a in (0.0, 0.1, 0.3)]
    points = {(a, lam, SEEDS[0]) for a in (0.1, 0.2, 0.3) for lam in (0.1, 0.2)}
    points |= {(a, lam, seed) for a, lam in line for seed in SEEDS[:2]} | {(0.4, 0.4, SEEDS[1])}
    runs = [
        result(spec("bt_sr", alpha=a, lam=lam, seed=s), split, valid=quality(a, lam), test=1 - quality(a, lam))
        for a, lam, s in sorted(points)
    ]
    file = tmp_path_factory.mktemp("dial") / "btsr.db"
    return write(file, "alpha_lambda", [run.spec for run in runs], runs, [split])


def _dial(store: object) -> Dial:
    return dial(gather(store, Request(study="alpha_lambda")), "ml1m")  # type: ignore[arg-type]


def test_settings_compare_on_common_seeds(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        found = _dial(store)
        assert found.seeds == (SEEDS[0],) and found.left_out == 1
        assert len(found.settings) == 7 and all(len(setting.keys) == 1 for setting in found.settings)
        stored = store.validation().value(found.settings[0].keys[0], "ndcg", 10)
        assert found.valid(("ndcg", 10))[0] == stored


def test_the_rule_sees_validation_only(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(database, read_only=True) as store:
        found = _dial(store)
        monkeypatch.setattr(type(store), "ranks", lambda *_: pytest.fail("test ranks were read"))
        precise = found.settings[found.pick(rule_of("precise"))]
        assert (precise.spec.aux.alpha, precise.spec.aux.lam) == (0.3, 0.1), "best on validation, worst on test"
        with pytest.raises(ConfigError, match=r"no setting on ml1m satisfies .*hr@1 on validation is 0\.\d+ to"):
            found.pick(rule_of("max cov@10 subject to hr@1 >= 0.99"))


def test_limits_hold(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        found = _dial(store)
        for words in (*PRESETS, "max cov@1 subject to ndcg@10 >= 0.8*best", "min hr@10 subject to hr@1 >= 0.05"):
            rule = rule_of(words)
            place = found.pick(rule)
            if rule.limited:
                values = found.valid(rule.limited)
                limit = rule.limit * (values.max() if rule.of_best else 1)
                assert values[place] >= limit - 1e-12
                others = rule.sign * found.valid(rule.metric)[values >= limit - 1e-12]
                assert rule.sign * found.valid(rule.metric)[place] == others.max()


def test_the_sheet_tells_the_outcome_on_test(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        sheet = picks(evidence, [dial(evidence, "ml1m")], rule_of("balanced"))
    assert [row[1] for row in sheet.rows] == ["picked", "most precise"]
    assert sheet.rows[1][2] == "alpha 0.3, lambda 0.1" and "test ndcg@10" in sheet.header
    assert "seeds and users" in sheet.rows[1][-1] and "1 setting without these seeds left out" in sheet.footnotes[1]


def test_the_sheet_as_csv_has_the_numbers(database: Path) -> None:
    """A line for each metric of each setting that was picked."""
    with open_store(database, read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        sheet = picks(evidence, [dial(evidence, "ml1m")], rule_of("balanced"))
    frame = pd.read_csv(StringIO(sheet_csv(sheet)))
    assert list(frame["metric"]) == ["cov@10", "ndcg@10"] * 2 and frame["n"].dtype == np.int64
    assert list(frame["setting"]) == ["picked"] * 2 + ["most precise"] * 2
    bounded = frame.dropna(subset=["low"])  # coverage of one seed has no interval
    assert len(bounded) >= 2 and (bounded["low"] <= bounded["test"]).all()
    assert (bounded["low"] >= 0).all() and (bounded["high"] <= 1).all()
    for at, row in enumerate(sheet.rows):
        for place, (_, record) in enumerate(frame[2 * at : 2 * at + 2].iterrows()):
            assert row[3 + 2 * place] == f"{record['validation']:.4f}"
            around = "one seed)" if pd.isna(record["low"]) else f"{record['low']:.4f} to "
            assert row[4 + 2 * place].startswith(f"{record['test']:.4f} ({around}")


def test_every_rule_with_a_name_in_one_sheet(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        found = dial(evidence, "ml1m")
        sheet = presets(evidence, [found])
        alone = {name: picks(evidence, [found], rule_of(name)).rows[0] for name in PRESETS}
    assert [row[1] for row in sheet.rows] == [f"{name}: {words}" for name, words in PRESETS.items()]
    for row, name in zip(sheet.rows, PRESETS, strict=True):
        assert row[2] == alone[name][2] and set(row[3:]) == set(alone[name][3:])


def test_pictures(database: Path, tmp_path: Path) -> None:
    with open_store(database, read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        found = dial(evidence, "ml1m")
        made = grid(found, ("ndcg", 10))
        assert made is not None and made[:2] == ([0.1, 0.2, 0.3], [0.1, 0.2]) and made[2].shape == (3, 2)
        figures = [draw_front(evidence, found), draw_interaction(evidence, found)]
        measure = Measurer(store)
        tested = [[measure(s.group, name, 10) for name in ("ndcg", "cov")] for s in found.settings]
    for figure in figures:
        assert isinstance(figure, Figure)
        assert_legible(figure, 15)
    assert isinstance(figures[0], Figure) and isinstance(figures[1], Figure)
    dots = figures[0].subfigs[0].axes[0].collections[0]
    assert isinstance(dots, PathCollection)
    lams_of = [setting.spec.aux.lam for setting in found.settings]
    assert dict(zip(lams_of, dots.get_sizes().round(2), strict=True)) == {0.1: 17.0, 0.2: 28.0}, "larger with lambda"
    dots = next(c for c in figures[0].subfigs[0].axes[1].collections if isinstance(c, PathCollection))
    same_seeds = [[m.of(found.seeds).by_seed.mean() for m in pair if m] for pair in tested]
    np.testing.assert_allclose(dots.get_offsets(), same_seeds, err_msg="single runs beside means of two")
    (star,) = figures[1].subfigs[0].axes[0].collections[1].get_offsets()
    x, y = star - 0.5
    alphas, lams, values = made
    assert values[len(alphas) - 1 - int(y), int(x)] == values.max() and len(lams) > x


def test_too_few_settings_name_the_command(tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    runs = [result(spec("bt_sr", alpha=0.1), split, valid=1, test=1)]
    file = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store:
        with pytest.raises(ConfigError, match="has 1 finished setting of alpha and lambda on ml1m .* run `btsr-sweep"):
            _dial(store)


def test_of_several_families_the_largest_is_shown_and_named(tmp_path: Path) -> None:
    """Lines of two seeds beside a grid of one in bf16: figures 3 to 9 follow the lines, the dial needs the grid."""
    split = split_of(data_config(), 60)
    specs = [spec("bt_sr", alpha=a, seed=s) for a in (0.1, 0.2, 0.3) for s in SEEDS[:2]]
    specs += [spec("bt_sr", alpha=a, lam=lam, precision="bf16") for a in (0.1, 0.2) for lam in (0.1, 0.2)]
    runs = [result(one, split, valid=1, test=1) for one in specs]
    file = write(tmp_path / "a.db", "alpha_lambda", specs, runs, [split])
    with open_store(file, read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        found = dial(evidence, "ml1m")
        assert {setting.spec.train.precision for setting in found.settings} == {"bf16"}
        captions = [draw_front(evidence, found), draw_interaction(evidence, found)]
        words = "2 configurations exist, that with most settings is shown"
        for figure in captions:
            assert figure is not None
            said = " ".join(" ".join(text.get_text() for text in part.texts) for part in figure.subfigs)
            assert words in " ".join(said.split()) and "precision bf16" in " ".join(said.split())
        assert words in presets(evidence, [found]).footnotes[1]
        along = line(evidence, "ml1m", "alpha").caption
        words = "of n = 2, that with most values of alpha is shown (precision fp32)"
        assert words in along
        (overview,) = FIGURES[6].draw(evidence, ("ml1m",)).pictures
        said = " ".join(" ".join(text.get_text() for text in part.texts) for part in overview.figure.subfigs)
        assert words in " ".join(said.split())
    write(file, "alpha_lambda", specs, [])
    zero = [spec("bt_sr", alpha=0.0, seed=s) for s in SEEDS[:2]]
    write(file, "alpha_lambda", zero, [result(one, split, valid=1, test=1) for one in zero])
    with open_store(file, read_only=True) as store:
        about = [row for row in claims(gather(store, Request(study="alpha_lambda"))).rows if "alpha" in row[1]]
        assert all("2 configurations exist" in row[4] for row in about if row[2] != "not run")
        assert sum(row[2] != "not run" for row in about) == 5


@pytest.mark.parametrize(("fuller", "other"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_of_families_of_one_size_that_with_most_trials_is_shown(fuller: str, other: str, tmp_path: Path) -> None:
    split = split_of(data_config(), 60)
    specs = [spec("bt_sr", alpha=a, precision=other) for a in (0.1, 0.2)]
    specs += [spec("bt_sr", alpha=a, seed=s, precision=fuller) for a in (0.1, 0.2) for s in SEEDS[:2]]
    runs = [result(one, split, valid=1, test=1) for one in specs]
    file = write(tmp_path / "a.db", "alpha_lambda", specs, runs, [split])
    with open_store(file, read_only=True) as store:
        assert {setting.spec.train.precision for setting in _dial(store).settings} == {fuller}


def test_a_limit_that_one_data_set_does_not_reach_takes_nothing_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, quality, users in (("ml1m", 2.0, 40), ("yelp", 0.0, 41)):
        split = split_of(data_config(name), users)
        specs = [spec("bt_sr", dataset=name, alpha=alpha) for alpha in (0.1, 0.2)]
        runs = [result(one, split, valid=quality, test=1) for one in specs]
        write(tmp_path / "btsr.db", "alpha_lambda", specs, runs, [split])
    words = ("--pick", "max cov@10 subject to hr@10 >= 0.5", "--db", tmp_path / "btsr.db")
    assert typed(monkeypatch, *words) == 0
    said = capsys.readouterr()
    assert "ML 1M" in said.out and "YELP" not in said.out and "no setting on yelp satisfies" in said.err
    assert typed(monkeypatch, *words, "--dataset", "ml1m,yelp") == 2


def test_a_rule_cannot_see_what_is_kept_for_test_alone() -> None:
    with pytest.raises(ConfigError, match="'popcal@10' is kept for test alone"):
        rule_of("min popcal@10 subject to ndcg@10 >= 0.99*best")
