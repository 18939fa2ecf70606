"""The alpha line: its points against the trials (apart from drawing), and the files that drawing leaves."""

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.store import open_store
from harness.values import Split, TrialResult
from reports.bars import FIGURE1_COLUMNS, FIGURE5_COLUMNS, bars
from reports.draw import draw_line, save
from reports.figures import FIGURES
from reports.lines import Axis, Line
from reports.lines import line as line_of
from reports.results import Request, gather
from reports.width import COLUMN, TEXT, Width
from studies.alpha_lambda import LINE, alphas
from tests.reports.legible import assert_legible, boxes
from tests.reports.world import data_config, result, spec, split_of, write

VALID = {0.0: 1.0, 0.1: 1.3, 0.2: 1.6, 0.5: 1.1}
TEST = {0.0: 1.5, 0.1: 1.2, 0.2: 1.0, 0.5: 0.6}


def _runs(split: Split) -> list[TrialResult]:
    """A line at lambda 0.05 with two seeds, one point with one seed, and two points of another lambda."""
    line = [
        result(spec("bt_sr", alpha=alpha, seed=seed), split, valid=VALID[alpha], test=TEST[alpha])
        for alpha in VALID
        for seed in (1235, 37)
    ]
    single = [result(spec("bt_sr", alpha=0.3, seed=2451), split, valid=5.0, test=5.0)]
    other = [
        result(spec("bt_sr", alpha=a, lam=0.3, seed=s), split, valid=9, test=9) for a in (0.1, 0.2) for s in (1, 2)
    ]
    return [*line, *single, *other]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = split_of(data_config(), 200)
    runs = _runs(split)
    missing = [spec("bt_sr", alpha=0.4, seed=seed) for seed in (1235, 37)]
    file = tmp_path_factory.mktemp("figures") / "btsr.db"
    return write(file, "alpha_lambda", [*(run.spec for run in runs), *missing], runs, [split])


def _line(database: Path, dataset: str = "ml1m", axis: Axis = "alpha", study: str = "alpha_lambda") -> Line:
    with open_store(database, read_only=True) as store:
        return line_of(gather(store, Request(study=study)), dataset, axis)


def _words(line: Line) -> str:
    return line.caption


def _values(of: TrialSpec, quality: float, name: str, k: int, bucket: int) -> float:
    run = result(of, split_of(data_config(), 200), valid=0, test=quality)
    (value,) = [m.value for m in run.metrics if (m.part, m.name, m.k, m.bucket) == ("test", name, k, bucket)]
    assert value is not None
    return value


def test_points_are_means_of_the_test_values_over_seeds(database: Path) -> None:
    line = _line(database)
    assert line.fixed == 0.05
    for name, k, bucket in (("hr", 1, 0), ("hr", 10, 3), ("cov", 10, 1), ("cov", 5, 0)):
        points = line.points(name, k, bucket)
        assert [point.x for point in points] == [0.0, 0.1, 0.2, 0.3, 0.5]
        assert [point.n for point in points] == [2, 2, 2, 1, 2]
        assert [point.complete for point in points] == [True, True, True, False, True]
        for point in points:
            if point.complete:
                values = [
                    _values(spec("bt_sr", alpha=point.x, seed=seed), TEST[point.x], name, k, bucket)
                    for seed in (1235, 37)
                ]
                assert point.mean == pytest.approx(np.mean(values))
                assert point.std == pytest.approx(np.std(values, ddof=1))
            else:
                assert point.std is None


def test_the_optimum_is_that_of_validation(database: Path) -> None:
    """On test alpha 0 is best; the run at 0.3 has another seed and does not compete."""
    assert _line(database).optimum == 0.2


def test_a_lucky_point_with_fewer_seeds_is_not_the_optimum(tmp_path: Path) -> None:
    """A grid of one seed beside a line of two: its best point is best of many draws, not in the mean."""
    split = split_of(data_config(), 60)
    runs = [
        result(spec("bt_sr", alpha=a, seed=seed), split, valid=1 + a, test=1) for a in (0.0, 0.4) for seed in (1235, 37)
    ]
    runs.append(result(spec("bt_sr", alpha=0.2), split, valid=9, test=1))
    line = _line(write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split]))
    assert line.optimum == 0.4
    assert "dashed: best mean validation ndcg@10 of the filled points (alpha 0.4)" in _words(line)


def test_the_caption_tells_what_an_alpha_depends_on(database: Path) -> None:
    caption = _words(_line(database))
    for words in (
        "profile released",
        "lambda 0.05",
        "B 256",
        "base loss CE",
        "bt_reduction mean_d",
        "n = 2 seeds (1235, 37)",
        "hollow: fewer seeds",
        "best mean validation ndcg@10 of the filled points (alpha 0.2)",
        "200 test users",
    ):
        assert words in caption


def test_a_line_whose_points_ran_on_several_devices_says_so(tmp_path: Path) -> None:
    split = split_of(data_config(), 40)
    devices = {0.1: "cpu", 0.2: "A100"}
    runs = [result(spec("bt_sr", alpha=a), split, valid=1, test=1, device=name) for a, name in devices.items()]
    line = _line(write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split]))
    assert "; mixes devices: A100, cpu" in _words(line)


def test_only_one_family_is_on_a_line(tmp_path: Path) -> None:
    split = split_of(data_config(), 40)
    runs = [result(spec("bt_sr", alpha=a), split, valid=1, test=1) for a in (0.0, 0.1, 0.2)]
    runs += [result(spec("bt_sr", alpha=a, batch_size=64), split, valid=2, test=2) for a in (0.1, 0.2)]
    line = _line(write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split]))
    assert [point.x for point in line.points("hr", 1, 0)] == [0.0, 0.1, 0.2]
    assert "B 256" in _words(line) and "2 configurations exist" in _words(line)


def test_alpha_zero_joins_whatever_its_lambda(tmp_path: Path) -> None:
    split = split_of(data_config(), 40)
    runs = [result(spec("bt_sr", alpha=a), split, valid=1, test=1) for a in (0.1, 0.2)]
    runs += [result(spec("bt_sr", alpha=0.0, lam=0.0), split, valid=2, test=2)]
    line = _line(write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split]))
    assert [point.x for point in line.points("hr", 1, 0)] == [0.0, 0.1, 0.2]
    assert (line.fixed, line.optimum) == (0.05, 0.0)


def test_too_few_alphas_name_the_command(tmp_path: Path) -> None:
    split = split_of(data_config(), 40)
    runs = [result(spec("bt_sr", alpha=0.1), split, valid=1, test=1), result(spec(), split, valid=1, test=1)]
    database = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split])
    with pytest.raises(ConfigError, match="has 1 finished value of alpha on ml1m .* run `btsr-sweep --study alpha_l"):
        _line(database)
    with pytest.raises(ConfigError, match="has 0 finished values of alpha on beauty .*--dataset beauty"):
        _line(database, "beauty")
    complete = write(tmp_path / "other.db", "table2", [run.spec for run in runs], runs, [split])
    with pytest.raises(
        ConfigError, match="ask with --study alpha_lambda after `btsr-sweep --study alpha_lambda --data"
    ):
        _line(complete, study="table2")


def test_the_drawing_shows_the_points(database: Path) -> None:
    before = dict(mpl.rcParams)
    line = _line(database)
    figure = draw_line(line)
    axes = [a for a in figure.findobj(match=mpl.axes.Axes) if isinstance(a, mpl.axes.Axes)]
    titles = {a.get_title(): a for a in axes}
    assert set(titles) == {
        *(f"{name}@{k}" for name in ("HR", "COV") for k in (1, 5, 10)),
        *(f"{name} by bucket" for name in ("HR@1", "HR@10", "COV@10")),
    }
    drawn = titles["HR@10"].lines[0].get_xydata()
    shown = [(p.x, p.mean) for p in line.points("hr", 10, 0) if p.complete]
    assert np.allclose(np.asarray(drawn), shown)
    hollow = titles["HR@10"].lines[1].get_xydata()
    assert np.allclose(np.asarray(hollow), [(p.x, p.mean) for p in line.points("hr", 10, 0) if not p.complete])
    assert list(titles["HR@10"].lines[2].get_xdata()) == [0.2, 0.2]
    assert dict(mpl.rcParams) == before, "drawing leaves no global state"


def test_no_labels_overlap_and_none_leaves_the_page(database: Path) -> None:
    assert_legible(draw_line(_line(database)), 50)


@pytest.mark.parametrize("width", [TEXT, COLUMN])
def test_alphas_beside_bce_have_room_for_their_digits(width: Width, tmp_path: Path) -> None:
    """They are some hundred times smaller (`studies.points.beside`)."""
    split = split_of(data_config(), 60)
    runs = [
        result(spec("sasrec_bce+bt", loss="bce", alpha=alpha, seed=seed), split, valid=1, test=1 + 100 * alpha)
        for alpha in alphas(LINE, "beauty", "sasrec_bce+bt")
        for seed in (1235, 37)
    ]
    database = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split])
    assert_legible(draw_line(_line(database), width), 40)


def test_a_line_over_lambda(tmp_path: Path) -> None:
    """At the alpha with most lambdas; lambda = 0 is on it, alpha = 0 is not."""
    split = split_of(data_config(), 60)
    runs = [
        result(spec("bt_sr", alpha=0.2, lam=lam, seed=seed), split, valid=1 + lam, test=1)
        for lam in (0.0, 0.05, 0.3)
        for seed in (1235, 37)
    ]
    runs += [result(spec("bt_sr", alpha=alpha), split, valid=9, test=9) for alpha in (0.0, 0.4)]
    database = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split])
    found = _line(database, axis="lambda")
    assert [point.x for point in found.points("hr", 1, 0)] == [0.0, 0.05, 0.3]
    assert (found.fixed, found.optimum, found.axis) == (0.2, 0.3, "lambda")
    assert "alpha 0.2, B 256" in _words(found) and "(lambda 0.3)" in _words(found)
    assert "sensitivity to lambda" in found.title


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets of the paper with lines over alpha and lambda, and baselines in table2."""
    file = tmp_path_factory.mktemp("several") / "btsr.db"
    for name, users in (("ml1m", 120), ("yelp", 90)):
        split = split_of(data_config(name), users)
        points = [(a, 0.05) for a in (0.0, 0.1, 0.4)] + [(0.1, lam) for lam in (0.0, 0.5)]
        runs = [
            result(spec("bt_sr", dataset=name, alpha=a, lam=lam, seed=seed), split, valid=1 + a, test=1 + a)
            for a, lam in points
            for seed in (1235, 37)
        ]
        others = [
            result(spec("sasrec_bce", dataset=name, loss="bce"), split, valid=1, test=0.5),
            result(spec(dataset=name), split, valid=1, test=0.7),
        ]
        write(file, "alpha_lambda", [run.spec for run in runs], [*runs, *others], [split])
        write(file, "table2", [run.spec for run in (*others, *runs[2:4])])
    return file


@pytest.mark.parametrize(
    ("number", "stems", "words"),
    [
        (1, ["figure1"], ["HR@1", "SASRec (BCE)", "head", "not run: SASRec (SCE), DuoRec"]),
        (4, ["figure4_ml1m"], ["ML 1M: sensitivity to alpha"]),
        (5, ["figure5"], ["BT-SR (alpha = 0.4)", "SASRec (BCE)", "HR@10"]),
        (6, ["figure6"], ["HR@K", "COV@K", "K = 10", "ML 1M", "YELP"]),
        (7, ["figure7"], ["Sensitivity to lambda", "K = 1"]),
        (8, ["figure8"], ["COV@10 by bucket", "target in tail bucket"]),
        (9, ["figure9"], ["HR@1 by bucket"]),
    ],
)
def test_every_figure_of_the_paper(number: int, stems: list[str], words: list[str], several: Path) -> None:
    plan = FIGURES[number]
    with open_store(several, read_only=True) as store:
        evidence = gather(store, Request(study=plan.study))
        shown = tuple(name for name in plan.datasets if name in evidence.finished) or evidence.finished
        drawn = plan.draw(evidence, shown).pictures
    assert [picture.stem for picture in drawn] == stems
    for picture in drawn:
        assert_legible(picture.figure, 10)
        said = " ".join(words for words, _ in boxes(picture.figure)).replace("\u00a0", " ").replace("\n", " ")
        assert all(word in said for word in words), said
        assert "profile released" in said and "B 256" in said


def test_a_method_has_one_colour_in_every_figure(several: Path) -> None:
    def colour(number: int, study: str, title: str) -> object:
        with open_store(several, read_only=True) as store:
            (picture,) = FIGURES[number].draw(gather(store, Request(study=study)), ("yelp",)).pictures
        (legend,) = picture.figure.subfigs[0].legends
        names = [text.get_text() for text in legend.get_texts()]
        return legend.get_patches()[names.index(title)].get_facecolor()

    assert colour(1, "table2", "SASRec (BCE)") == colour(5, "alpha_lambda", "SASRec (BCE)")
    assert colour(1, "table2", "BT-SR") != colour(1, "table2", "SASRec (BCE)")


def test_bars_tell_the_standard_error_over_users(several: Path) -> None:
    with open_store(several, read_only=True) as store:
        found = bars(gather(store, Request(study="alpha_lambda")), "yelp", FIGURE5_COLUMNS)
    said = re.search(r"over them up to (0\.\d{3}) \(hr@1\), (0\.\d{3}) \(hr@10\)", found.caption)
    assert said is not None
    split = split_of(data_config("yelp"), 90)
    sizes = [int((split.bucket[split.targets("test")] == bucket).sum()) for bucket in (1, 2, 3)]
    assert 0 < float(said[2]) <= 0.5 / min(sizes) ** 0.5 * 1.05, "no share has a larger one"


def test_bars_are_means_per_bucket(several: Path) -> None:
    with open_store(several, read_only=True) as store:
        found = bars(gather(store, Request(study="alpha_lambda")), "yelp", FIGURE5_COLUMNS)
    split = split_of(data_config("yelp"), 90)
    runs = [
        result(spec("bt_sr", dataset="yelp", alpha=0.4, seed=seed), split, valid=0, test=1.4) for seed in (1235, 37)
    ]
    panel = found.panels[1]
    assert [series.title for series in panel] == ["SASRec (BCE)", "BT-SR (alpha = 0.1)", "BT-SR (alpha = 0.4)"]
    for bucket in (1, 2, 3):
        values = [
            m.value for r in runs for m in r.metrics if (m.part, m.name, m.k, m.bucket) == ("test", "hr", 10, bucket)
        ]
        spread = panel[2].buckets[bucket - 1]
        assert spread is not None and spread.mean == pytest.approx(np.mean(values)) and spread.n == 2  # type: ignore[arg-type]


def test_a_bar_of_one_seed_has_no_whisker(tmp_path: Path) -> None:
    """A whisker of length 0 would say that runs do not differ."""
    split = split_of(data_config(), 60)
    runs = [result(spec("sasrec_ce", seed=seed), split, valid=1, test=1) for seed in (1235, 37)]
    runs.append(result(spec("bt_sr", alpha=0.2), split, valid=1, test=1))
    file = write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store:
        (picture,) = FIGURES[1].draw(gather(store, Request(study="table2")), ("ml1m",)).pictures
    for axes in picture.figure.subfigs[0].axes:
        whiskers = [any(len(part) for part in lines.get_segments()) for lines in axes.collections]
        assert whiskers == [False, True], "BT-SR was run once, SASRec (CE) twice"


def test_a_figure_that_cannot_be_made_says_why(several: Path) -> None:
    with open_store(several, read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        with pytest.raises(ConfigError, match="kept no states and scores, .*another folder by --out"):
            FIGURES[2].draw(evidence, ("ml1m",))
        with pytest.raises(ConfigError, match="no finished trial of BT-SR, .* on beauty .*run `btsr-sweep"):
            FIGURES[1].draw(evidence, ("beauty",))
        with pytest.raises(ConfigError, match="0 finished values of lambda on beauty"):
            FIGURES[9].draw(evidence, ("beauty",))
        drawn = FIGURES[6].draw(evidence, ("ml1m", "beauty"))
        assert [picture.stem for picture in drawn.pictures] == ["figure6"], "what is there is shown"
        assert ["on beauty" in str(error) for error in drawn.absent] == [True], "the rest is named"


def test_files(database: Path, tmp_path: Path) -> None:
    with open_store(database, read_only=True) as store:
        (picture,) = FIGURES[3].draw(gather(store, Request(study="alpha_lambda")), ("ml1m",)).pictures
    figure = picture.figure
    assert picture.stem == "figure3_ml1m"
    assert isinstance(figure, Figure)
    png, svg, pdf = save(figure, tmp_path / "figure3_ml1m")
    image = mpl.image.imread(png)
    assert min(image.shape[:2]) > 800 and 0.02 < (image[..., :3].min(axis=2) < 0.9).mean() < 0.5
    words = " ".join(ElementTree.parse(svg).getroot().itertext())
    assert "COV@10 by bucket" in words and "ML 1M: sensitivity to alpha" in words
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size > 5000
    again = save(draw_line(_line(database)), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in (png, svg, pdf)]


def test_bars_that_were_not_computed_alike_say_so(tmp_path: Path) -> None:
    split = split_of(data_config(), 40)
    specs = [spec(seed=seed) for seed in (1235, 37)] + [spec("bt_sr", alpha=0.2, precision="bf16")]
    runs = [result(one, split, valid=1, test=1) for one in specs]
    with open_store(write(tmp_path / "a.db", "table2", specs, runs, [split]), read_only=True) as store:
        found = bars(gather(store, Request(study="table2")), "ml1m", FIGURE1_COLUMNS)
    assert "0.05, mean_d, cpu bf16" in found.caption and found.caption.count("cpu") == 1
