"""Figure 2: what it shows against the samples, and that its words neither overlap nor leave the page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.geometry import effective_rank, overlap_hist, overlap_kde
from harness.store import open_store
from harness.values import Sample, TrialResult
from reports.figures import FIGURES
from reports.results import Request, gather
from reports.separation import separation
from tests.reports.legible import assert_legible
from tests.reports.world import data_config, result, spec, split_of, write

USERS, WIDTH = 40, 12


def sample(quality: float, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    spectrum = np.sort(rng.random(WIDTH))[::-1].astype(np.float32)
    return Sample(
        users=np.arange(USERS, dtype=np.int32),
        states=rng.standard_normal((USERS, WIDTH)).astype(np.float16),
        positive=(10 * (rng.standard_normal(USERS) + quality)).astype(np.float32),
        negative=(10 * rng.standard_normal((USERS, 30))).astype(np.float16),
        spectrum=spectrum,
        spectrum_centred=spectrum,
    )


def run(of: TrialSpec, quality: float) -> TrialResult:
    split = split_of(data_config(of.data.dataset), 90)
    return replace(result(of, split, valid=1, test=quality), sample=sample(quality, of.seed))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = [run(spec("bt_sr", alpha=0.2, seed=seed), 3.0) for seed in (1235, 37)]
    runs += [run(spec("sasrec_ce"), 2.0), run(spec("sasrec_sce", loss="sce"), 1.0), run(spec("duorec"), 1.0)]
    runs += [run(spec("sasrec_ce", dataset="yelp"), 2.0)]
    splits = [split_of(data_config(name), 90, letter * 32) for name, letter in (("ml1m", "a"), ("yelp", "b"))]
    runs = [replace(one, fingerprint={"ml1m": "a", "yelp": "b"}[one.spec.data.dataset] * 32) for one in runs]
    return write(tmp_path_factory.mktemp("two") / "btsr.db", "table2", [one.spec for one in runs], runs, splits)


def test_numbers_are_those_of_the_samples(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        evidence = gather(store, Request(study="table2"))
        found = [separation(evidence, dataset) for dataset in ("ml1m", "yelp")]
    assert [one.title for one in found] == ["ML 1M", "YELP"]
    models = {model.key: model for model in found[0].models}
    assert list(models) == ["bt_sr", "sasrec_ce", "sasrec_sce", "duorec"]
    mine = [sample(3.0, seed) for seed in (1235, 37)]
    bt = models["bt_sr"]
    assert bt.overlap_kde is not None and bt.overlap_hist is not None and bt.overlap_kde.n == 2
    assert bt.overlap_kde.mean == pytest.approx(np.mean([overlap_kde(s.positive, s.negative) for s in mine]))  # type: ignore[arg-type]
    assert bt.overlap_hist.mean == pytest.approx(np.mean([overlap_hist(s.positive, s.negative) for s in mine]))  # type: ignore[arg-type]
    assert bt.erank.mean == pytest.approx(np.mean([effective_rank(s.spectrum) for s in mine]))
    assert bt.spectrum == pytest.approx(np.mean([s.spectrum / s.spectrum[0] for s in mine], axis=0))
    assert bt.curves is not None and models["duorec"].curves is None
    centre = np.trapezoid(bt.curves.grid * bt.curves.negative, bt.curves.grid)
    assert centre == pytest.approx(0, abs=0.05), "scores are in standard deviations of the negatives"
    assert bt.curves.positive[-1] < 0.005 * bt.curves.positive.max(), "the density runs out"
    assert bt.overlap_kde.mean < models["sasrec_ce"].overlap_kde.mean < models["sasrec_sce"].overlap_kde.mean  # type: ignore[union-attr]
    assert "DuoRec not run" in found[1].caption


def test_figure_is_legible(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        (picture,) = FIGURES[2].draw(gather(store, Request(study="table2")), ("ml1m", "yelp")).pictures
    assert picture.stem == "figure2"
    assert_legible(picture.figure, 10)


def test_nothing_run_names_the_command(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        evidence = gather(store, Request(study="table2"))
        with pytest.raises(ConfigError, match="beauty: no finished trial of BT-SR, .*run `btsr-sweep --study table2"):
            FIGURES[2].draw(evidence, ("beauty",))


def test_what_was_not_computed_alike_says_so(tmp_path: Path) -> None:
    runs = [run(spec(seed=seed), 1.0) for seed in (1235, 37)] + [run(spec("duorec", precision="bf16"), 1.0)]
    splits = [split_of(data_config(), 90)]
    file = write(tmp_path / "btsr.db", "table2", [one.spec for one in runs], runs, splits)
    with open_store(file, read_only=True) as store:
        caption = separation(gather(store, Request(study="table2")), "ml1m").caption
    assert "DuoRec n = 1, CE, B 256, cpu bf16" in caption and caption.count("cpu") == 1
