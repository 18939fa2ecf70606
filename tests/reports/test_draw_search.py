"""The front of a search, over points that differ in more than alpha and lambda."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from harness.config import Study, TrialSpec
from harness.errors import ConfigError
from harness.options import is_search
from harness.store import Store, open_store
from reports import draw_search
from reports.page import page
from reports.results import Request, gather
from tests.store import fake
from tests.sweep.test_cli import REPORT, typed

POINTS = tuple(
    fake.spec(alpha=alpha).model_copy(update={"train": fake.spec().train.model_copy(update={"lr": lr})})
    for alpha, lr in ((0.1, 0.001), (0.2, 0.002), (0.3, 0.004), (0.4, 0.003))
)
PLAIN = POINTS[0].model_copy(update={"method": "sasrec_ce", "aux": TrialSpec.model_fields["aux"].default})

SCORES = ((0.1, 0.9), (0.3, 0.5), (0.2, 0.4), (0.4, 0.2), (0.05, 0.95))


def recorded(store: Store, specs: tuple[TrialSpec, ...]) -> None:
    split = fake.split()
    store.record_data(split)
    store.register_study(Study(name="mine_nsga2", title="Mine", specs=(*POINTS, PLAIN)))
    for spec, scores in zip(specs, SCORES, strict=False):
        valid = dict(zip(("ndcg", "cov"), scores, strict=True))
        result = fake.result(spec, split)
        metrics = [
            replace(m, value=valid[m.name]) if m.part == "valid" and m.name in valid and not m.bucket else m
            for m in result.metrics
        ]
        store.record(replace(result, metrics=tuple(metrics)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "btsr.db", create=True) as opened:
        yield opened


def front_of(store: Store) -> Figure:
    evidence = gather(store, Request(study="mine_nsga2", datasets=("synthetic",)))
    return draw_search.draw_search(evidence, "synthetic")


def test_every_point_is_shown_and_the_front_is_that_of_validation(store: Store) -> None:
    recorded(store, (*POINTS, PLAIN))
    valid, test = front_of(store).subfigs[0].axes
    shown = [tuple(place) for drawn in valid.collections for place in drawn.get_offsets().tolist()]  # type: ignore[union-attr]
    assert sorted(shown) == sorted(SCORES), "validation ndcg@10 and cov@10"
    (line,) = valid.lines
    assert list(line.get_xdata()) == [0.05, 0.1, 0.3, 0.4], "one point is dominated"
    assert sum(len(drawn.get_offsets()) for drawn in test.collections) == 4  # type: ignore[arg-type]


def test_one_point_is_no_front(store: Store) -> None:
    recorded(store, POINTS[:1])
    with pytest.raises(ConfigError, match="1 finished point on synthetic .* a front needs two"):
        front_of(store)


def test_the_command_draws_it(store: Store, tmp_path: Path) -> None:
    recorded(store, POINTS)
    words = ("--pareto", "--study", "mine_nsga2", "--dataset", "synthetic", "--db", "btsr.db", "--out", "here")
    ended = typed(tmp_path, *words, code=REPORT)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "here" / "pareto_synthetic.png").read_bytes().startswith(b"\x89PNG")
    assert is_search("tune_tpe") and not is_search("alpha_lambda")


def test_the_page_has_it(store: Store) -> None:
    recorded(store, POINTS)
    made = page(store, lambda study: Request(study="mine_nsga2"), "page")
    dial = made[made.index('<section id="dial"') :]
    dial = dial[: dial.index("</section>")]
    assert dial.count("<img") == 1 and "Front of the search" in dial and "No study here varies" not in dial


def test_the_page_prefers_the_dial_of_any_study_to_the_front_of_a_search(store: Store) -> None:
    recorded(store, POINTS)
    settings = tuple(fake.spec(alpha=alpha) for alpha in (0.6, 0.7))
    store.register_study(Study(name="zeta", title="Zeta", specs=settings))
    for one in settings:
        store.record(fake.result(one, fake.split()))
    made = page(store, lambda study: Request(study=study), "page")
    assert "What the rules pick: study zeta" in made and "Front of the search" not in made
