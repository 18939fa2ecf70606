"""Sensitivity lines (spec 7.4, rows 3, 4 and 6): how the metrics move with alpha at a fixed lambda."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from harness.config import TrialSpec
from harness.errors import ConfigError
from reports.names import dataset_title
from reports.results import SELECT_ON, Evidence, Group, choose
from reports.stats import summarise

METHOD = "bt_sr"
CAPTION_CHARACTERS = 92
NO_BREAK = "\u00a0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A metric at one alpha."""

    alpha: float
    mean: float
    std: float | None
    """Sample standard deviation over seeds; None for one seed."""
    n: int
    """Seeds."""
    complete: bool
    """As many seeds as the line's best covered points have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaLine:
    """One data set's sensitivity to alpha."""

    dataset: str
    lam: float
    optimum: float
    """The alpha with the best mean validation ndcg@10 among the complete points."""
    metrics: Mapping[tuple[str, int, int], tuple[Point, ...]]
    """Test points by (name, k, bucket), alpha ascending; empty where the bucket has no targets."""
    title: str
    caption: tuple[str, ...]

    def points(self, name: str, k: int, bucket: int) -> tuple[Point, ...]:
        """The line of one metric."""
        return self.metrics.get((name, k, bucket), ())


def _family(spec: TrialSpec) -> str:
    """Everything of a specification but the seed, alpha and lambda: only within one family are points comparable."""
    still = spec.aux.model_copy(update={"alpha": 0.0, "lam": 0.0})
    return spec.model_copy(update={"aux": still, "seed": 0}).canonical_json()


def _centre(groups: Sequence[Group]) -> list[Group]:
    """The groups of the line: the lambda with most alphas (then most trials, then the smaller), alpha ascending.

    With alpha = 0 lambda has no effect: such a group joins the line whatever its lambda is.
    """
    lams = sorted({group.spec.aux.lam for group in groups if group.spec.aux.alpha > 0})
    lines: list[list[Group]] = []
    for lam in lams or [0.0]:
        at_alpha: dict[float, Group] = {}
        for group in groups:
            aux = group.spec.aux
            if aux.lam == lam or (aux.alpha == 0 and 0.0 not in at_alpha):
                at_alpha[aux.alpha] = group
        lines.append([at_alpha[alpha] for alpha in sorted(at_alpha)])
    return max(lines, key=lambda line: (len(line), sum(len(group.runs) for group in line)))


def alpha_line(evidence: Evidence, dataset: str) -> AlphaLine:
    """The line of one data set from what its study has finished so far.

    Raises ConfigError (with the command to run) where fewer than two alphas are there.
    """
    families: dict[str, list[Group]] = {}
    for group in evidence.groups(dataset, METHOD):
        families.setdefault(_family(group.spec), []).append(group)
    line = max((_centre(groups) for groups in families.values()), key=len, default=[])
    if len(line) < 2:
        raise ConfigError(
            f"study {evidence.study} has {len(line)} finished values of alpha on {dataset} with profile "
            f"{evidence.profile}, a line needs two: run `{evidence.command((dataset,))}`"
        )
    most = max(len(group.runs) for group in line)
    complete = [group for group in line if len(group.runs) == most]
    optimum = choose(complete, evidence.store.validation()).group
    return AlphaLine(
        dataset=dataset,
        lam=line[-1].spec.aux.lam,
        optimum=optimum.spec.aux.alpha,
        metrics=_points(evidence, line, most),
        title=f"{dataset_title(dataset)}: sensitivity to alpha",
        caption=_caption(evidence, line, optimum, most, len(families)),
    )


def _points(evidence: Evidence, line: Sequence[Group], most: int) -> dict[tuple[str, int, int], tuple[Point, ...]]:
    points: dict[tuple[str, int, int], tuple[Point, ...]] = {}
    for group in line:
        for place, values in evidence.test_metrics(group).items():
            if values:
                spread = summarise(values)
                point = Point(
                    alpha=group.spec.aux.alpha,
                    mean=spread.mean,
                    std=spread.std,
                    n=spread.n,
                    complete=len(group.runs) == most,
                )
                points[place] = (*points.get(place, ()), point)
    return points


def _caption(evidence: Evidence, line: Sequence[Group], optimum: Group, most: int, families: int) -> tuple[str, ...]:
    """Profile, data, lambda, B, base loss, reduction, seeds, how the optimum was found: never an alpha without them."""
    spec, data = line[-1].spec, evidence.data(optimum)
    sentences = [
        f"study {evidence.study}, profile {evidence.profile}",
        f"data {data.fingerprint[:8]} ({data.n_test_users:,} test users, ties {data.config.tie})",
        f"lambda {spec.aux.lam:g}, B {spec.train.batch_size}, base loss {spec.loss.kind.upper()}, "
        f"bt_reduction {spec.aux.bt_reduction}, bt_std {spec.aux.bt_std}",
        f"n = {most} seed{'s' if most > 1 else ''} ({', '.join(map(str, optimum.seeds))})",
    ]
    if most > 1:
        sentences.append("band: one sample std over seeds")
    if any(len(group.runs) < most for group in line):
        sentences.append("hollow: fewer seeds")
    sentences.append(f"dashed: best mean validation {SELECT_ON} (alpha {optimum.spec.aux.alpha:g})")
    if families > 1:
        sentences.append(f"{families} configurations exist, the one with most alphas is shown")
    whole = "; ".join(sentences).replace("B ", f"B{NO_BREAK}").replace("lambda ", f"lambda{NO_BREAK}")
    return tuple(wrap(whole, CAPTION_CHARACTERS))
