"""Which line a sensitivity figure shows, of what the study alpha_lambda itself asks for."""

from pathlib import Path

import pytest

from harness.config import SEEDS, StudyOptions, TrialSpec
from harness.store import open_store
from harness.stored import TrialRow
from reports.groups import Group
from reports.lines import Axis, clearest, families
from reports.results import Request, gather
from studies import STUDIES
from tests.reports.world import data_config, result, spec, split_of, write


def _group(specs: list[TrialSpec]) -> Group:
    """Finished trials that differ in nothing but the seed."""
    rows = [
        TrialRow(
            key=one.key,
            group=one.group,
            spec=one,
            status="done",
            attempt=1,
            fingerprint="a" * 32,
            best_epoch=1,
            last_epoch=1,
            error=None,
            traceback=None,
            recorded_at="2026-01-01T00:00:00+00:00",
        )
        for one in specs
    ]
    return Group(key=rows[0].group, fingerprint="a" * 32, runs=tuple(rows))


def _groups(specs: list[TrialSpec]) -> list[Group]:
    found: dict[str, list[TrialSpec]] = {}
    for one in specs:
        found.setdefault(one.group, []).append(one)
    return [_group(mine) for mine in found.values()]


@pytest.mark.parametrize(
    ("dataset", "alpha", "lam"),
    [
        ("ml1m", 0.2, 0.05),
        ("yelp", 0.1, 0.05),
        ("gowalla", 0.25, 0.05),
        ("beauty", 0.25, 0.05),
        ("kindle_store", 0.08, 0.07),
    ],
)
def test_the_whole_study_is_drawn_along_its_replicated_lines(dataset: str, alpha: float, lam: float) -> None:
    """Kindle Store's centre is on no line of the grid, which has more points than its lines, of one seed each."""
    study = STUDIES["alpha_lambda"](StudyOptions(datasets=(dataset,)))
    groups = _groups(list(study.specs))
    axes: tuple[tuple[Axis, float], ...] = (("alpha", lam), ("lambda", alpha))
    for axis, fixed in axes:
        line = clearest([groups], axis)
        auxes = [group.spec.aux for group in line]
        moving = [aux.alpha if axis == "alpha" else aux.lam for aux in auxes]
        assert {aux.lam if axis == "alpha" else aux.alpha for aux in auxes} == {fixed}
        assert moving == sorted({*moving})
        full = [x for x, group in zip(moving, line, strict=True) if len(group.runs) == len(SEEDS)]
        assert {0.0, 0.1, 0.2, 0.3, 0.4, 0.5} <= {*full}


def test_a_line_that_has_just_begun_its_second_seed_is_not_given_up() -> None:
    """alpha = 0 joins every line, so that its second seed speaks for none but its own."""
    first, second = SEEDS[:2]
    centre = [spec("bt_sr", alpha=a, lam=0.07, seed=first) for a in (0.0, 0.1, 0.2)]
    grid = [spec("bt_sr", alpha=a, lam=0.1, seed=first) for a in (0.1, 0.2, 0.3, 0.4)]
    begun = [*centre, *grid, spec("bt_sr", alpha=0.0, lam=0.07, seed=second)]
    line = clearest([_groups(begun)], "alpha")
    assert {group.spec.aux.lam for group in line} == {0.07}


def test_a_family_of_one_seed_takes_no_line_from_one_of_five() -> None:
    """Else the grid in another precision would be drawn in place of the lines."""
    line = [_groups([spec("bt_sr", alpha=a, seed=s) for s in SEEDS])[0] for a in (0.0, 0.1, 0.2)]
    other = [_group([spec("bt_sr", alpha=a, precision="bf16")]) for a in (0.0, 0.1, 0.2, 0.3)]
    assert clearest([other, line], "alpha") == line


def test_methods_never_share_a_line_and_another_than_bt_sr_has_one_where_it_alone_is_varied(tmp_path: Path) -> None:
    split = split_of(data_config(), 20)
    others = [spec("sasrec_bce+bt", loss="bce", alpha=alpha) for alpha in (0.1, 0.2)]
    for name, specs, method in (
        ("alone", others, "sasrec_bce+bt"),
        ("beside", [*others, spec("bt_sr", alpha=0.1)], "bt_sr"),
        ("several", [*others, spec("sasrec_sce+bt", loss="sce", alpha=0.1)], None),
    ):
        runs = [result(one, split, valid=1, test=1) for one in specs]
        with open_store(write(tmp_path / f"{name}.db", "alpha_lambda", specs, runs, [split]), read_only=True) as store:
            found = families(gather(store, Request(study="alpha_lambda")), "ml1m")
        assert {group.spec.method for mine in found for group in mine} == ({method} if method else set())
