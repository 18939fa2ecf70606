"""The comparison with RecTools, as far as it goes without RecTools."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bench.datasets import ROOT
from tests.bench.sources import Digests, imported_files
from tests.peers import ours
from tests.peers.job import Fit, Fitted, lists_file
from tests.peers.report import Agreement, render
from tests.splits import markov_split

FIT = Fit(program="btsr", loss="bce", seed=1235, epochs=3, data="d" * 32, code="c" * 12)
DONE = Fitted(fit=FIT, cpu_seconds=1.0, seconds=2.0, items=40, versions={"torch": "2"})


def test_places_of_targets_in_lists() -> None:
    top = np.array([[5, 3, 9], [1, 2, 0], [7, -1, -1]], np.int32)
    assert ours.ranks_of(top, np.array([9, 4, 7], np.int32)).rank.tolist() == [3, 0, 1]


def test_both_programs_get_the_same_budget() -> None:
    spec = ours.spec_of(FIT)
    assert (spec.loss.kind, spec.loss.negatives) == ("bce", FIT.negatives)
    assert (spec.train.max_epochs, spec.train.validate_every, spec.train.batch_size) == (3, 3, FIT.batch_size)
    assert (spec.encoder.dim, spec.encoder.blocks, spec.encoder.heads) == (FIT.dim, FIT.blocks, FIT.heads)
    assert (spec.encoder.max_len, spec.encoder.dropout, spec.train.lr) == (FIT.max_len, FIT.dropout, FIT.lr)


def test_a_training_is_taken_up_again_only_with_the_same_settings_data_and_code(tmp_path: Path) -> None:
    DONE.save(tmp_path)
    assert Fitted.load(tmp_path, FIT) is None, "its lists are not there"
    np.save(lists_file(tmp_path, FIT.name), np.zeros((2, 50), np.int32))
    assert Fitted.load(tmp_path, FIT) == DONE
    for other in (replace(FIT, epochs=4), replace(FIT, data="e" * 32), replace(FIT, code="d" * 12)):
        assert Fitted.load(tmp_path, other) is None


def test_the_code_of_a_training_is_its_sources_and_installed_versions() -> None:
    def digests() -> Digests:
        return Digests(own=Path("none"), peers=Path("none"))

    codes = {program: ours.code_of(program, digests()) for program in ours.DRIVERS}
    assert codes == {program: ours.code_of(program, digests()) for program in ours.DRIVERS}
    other = digests()
    other.versions["peers"]["torch"] = "9"
    assert ours.code_of("btsr", other) == codes["btsr"] and ours.code_of("rectools", other) != codes["rectools"]
    files = {path.relative_to(ROOT).as_posix() for path in imported_files([ours.DRIVERS["btsr"]], without=ours.IDLE)}
    assert {"harness/train.py", "models/sasrec.py", "studies/points.py", "tests/peers/ours.py"} <= files
    assert not any(name.startswith("tests/bench/") for name in files), "the benchmark trains nothing here"


def test_the_report_shows_the_largest_difference_and_both_programs() -> None:
    split = markov_split()
    top = np.tile(np.arange(50, dtype=np.int32), (split.n_test_users, 1)) % split.n_items
    values = ours.measured(split, top)
    theirs = {place: value for place, value in values.items() if place[0] in {"hr", "ndcg"}}
    theirs["hr", 10, 0] += 0.25
    peer = replace(DONE, fit=replace(FIT, program="rectools"))
    found = [Agreement(name=one.fit.name, ours=values, theirs=theirs) for one in (DONE, peer)]
    assert found[0].worst == pytest.approx(0.25) and max(found[0].differences("ndcg")) == 0
    page = render(
        split,
        [DONE, peer],
        found,
        machine={"processor": "P", "cores": "2"},
        command="c",
        date="today",
        revision="r",
    )
    assert "| btsr-bce-1235 | 2.5e-01 | 0.0e+00 |" in page and "| BCE | RecTools | 1235 |" in page
    with pytest.raises(AssertionError, match="were not measured by us"):
        Agreement(name="x", ours={}, theirs=theirs)
