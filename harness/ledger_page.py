"""What the dashboard shows of a study beside its trials: a note in Markdown and a heat map; pure text, no Optuna."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.config import SearchSpace, TrialSpec
from harness.rules import family
from harness.values import EpochLog, Metric, Provenance

BUCKETS = ("", " head", " mid", " tail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the ledger tells of a finished trial: validation numbers and circumstances, never a test number."""

    spec: TrialSpec
    ndcg: float
    cov: float
    curve: Mapping[int, float]
    """Epoch -> validation NDCG@10."""
    attributes: Mapping[str, Any]
    started: str
    """ISO 8601, UTC."""
    seconds: float


Draw = Callable[[str, Sequence[Facts]], Mapping[str, bytes]]
"""Makes pictures (file name -> PNG) of a study's name and its finished trials."""


def labels(spec: TrialSpec) -> dict[str, Any]:
    """The attributes that a trial has from the beginning."""
    return {
        "key": spec.key,
        "dataset": spec.data.dataset,
        "method": spec.method,
        "profile": spec.profile,
        "seed": spec.seed,
        "group": spec.group,
    }


def facts(
    spec: TrialSpec,
    metrics: Sequence[Metric],
    epochs: Sequence[EpochLog],
    best_epoch: int,
    provenance: Provenance,
) -> Facts:
    """The facts of a finished trial; `metrics` may hold test numbers, which are left out."""
    numbers = {
        f"{m.name}@{m.k}{BUCKETS[m.bucket]}": m.value
        for m in metrics
        if m.part == "valid" and m.name in {"hr", "ndcg", "cov"} and m.k == 10 and m.value is not None
    }
    seconds = provenance.seconds.get("total", 0.0)
    circumstances = {
        "best epoch": best_epoch,
        "epochs": len(epochs),
        "seconds": round(seconds, 2),
        "seconds per epoch": round(fmean(log.seconds_train for log in epochs), 3),
        "peak MiB": round(provenance.peak_mib),
        "GPU peak MiB": provenance.gpu_peak_mib,
        "joules": provenance.joules,
        "git": (provenance.git_revision or "none")[:10] + ("+changes" if provenance.git_dirty else ""),
        "host": provenance.host,
        "device": provenance.device,
    }
    shown = {f"valid {name}": value for name, value in numbers.items()} | circumstances
    return Facts(
        spec=spec,
        ndcg=numbers["ndcg@10"],
        cov=numbers.get("cov@10", 0.0),
        curve=curve(epochs),
        attributes={name: value for name, value in shown.items() if value is not None},
        started=provenance.started,
        seconds=seconds,
    )


def curve(epochs: Sequence[EpochLog]) -> dict[int, float]:
    """Epoch -> validation NDCG@10, where it was validated."""
    return {log.epoch: log.valid["ndcg@10"] for log in epochs if "ndcg@10" in log.valid}


def groups(done: Sequence[Facts]) -> list[tuple[TrialSpec, int, float, float]]:
    """One of its trials, number of seeds, mean NDCG@10 and mean cov@10 of every group, best first."""
    mine: defaultdict[str, list[Facts]] = defaultdict(list)
    for fact in done:
        mine[fact.spec.group].append(fact)
    rows = [
        (found[0].spec, len(found), fmean(f.ndcg for f in found), fmean(f.cov for f in found))
        for found in mine.values()
    ]
    return sorted(rows, key=lambda row: -row[2])


def note(
    title: str,
    name: str,
    done: Sequence[Facts],
    counts: Mapping[str, int],
    command: str,
    *,
    space: SearchSpace | None = None,
) -> str:
    """Progress, the best groups by validation at their alpha and lambda or point of the space, and the command.

    Markdown.
    """
    columns = list(space.ranges) if space else ["alpha", "lambda"]
    total = sum(counts.values())
    lines = [
        f"# {title}: {name}",
        "",
        f"**{counts.get('done', 0)} of {total} trials are done**"
        + "".join(f", {count} {word}" for word, count in counts.items() if word != "done" and count),
        "",
        "Best by validation NDCG@10 (mean over seeds); test values are not shown here: see `btsr-report`.",
        "",
        f"| method | {' | '.join(columns)} | seeds | NDCG@10 | cov@10 |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for spec, seeds, ndcg, cov in groups(done)[:10]:
        if space:
            point = [f"{value:.4g}" for value in space.point(spec).values()]
        else:
            alpha = "" if spec.aux.kind == "none" else f"{spec.aux.alpha:g}"
            point = [alpha, f"{spec.aux.lam:g}" if spec.aux.kind == "barlow_twins" else ""]
        lines.append(f"| {spec.method} | {' | '.join(point)} | {seeds} | {ndcg:.4f} | {cov:.4f} |")
    return "\n".join([*lines, "", f"`{command}`" if command else ""])


def cells(done: Sequence[Facts]) -> tuple[dict[tuple[float, float], tuple[int, float, float]], str]:
    """(alpha, lambda) -> seeds, mean NDCG@10 and cov@10 of every such setting, and in words of which family they are.

    Settings of other methods, losses or precisions (see `harness.rules.family`) never share a picture: of several
    families it is the one with most settings, of equals that with most trials. No words where there is one alone.
    """
    families: defaultdict[str, list[tuple[TrialSpec, int, float, float]]] = defaultdict(list)
    for row in groups(done):
        if row[0].aux.kind == "barlow_twins":
            families[family(row[0])].append(row)
    mine = max(families.values(), key=lambda rows: (len(rows), sum(row[1] for row in rows)), default=[])
    words = ""
    if len(families) > 1:
        of = mine[0][0]
        words = (
            f"the largest of {len(families)} families of settings: {of.method}, {of.loss.kind.upper()}, "
            f"B {of.train.batch_size}, T {of.encoder.max_len}, {of.train.precision}, {of.profile}"
        )
    return {(spec.aux.alpha, spec.aux.lam): (seeds, ndcg, cov) for spec, seeds, ndcg, cov in mine}, words


def heat_map(done: Sequence[Facts]) -> str | None:
    """A plotly figure as JSON: mean validation NDCG@10 of every (alpha, lambda) of `cells`, gaps where none was run.

    None where there is no grid to show.
    """
    found, which = cells(done)
    alphas, lams = (sorted({cell[axis] for cell in found}) for axis in (0, 1))
    if len(alphas) < 2 or len(lams) < 2:
        return None
    grid = [[found.get((alpha, lam)) for alpha in alphas] for lam in lams]
    words = [[f"{c[1]:.4f}<br>{c[0]} seed{'s' if c[0] > 1 else ''}" if c else "" for c in row] for row in grid]
    axis = {"type": "category"}
    figure = {
        "data": [
            {
                "type": "heatmap",
                "x": [f"{alpha:g}" for alpha in alphas],
                "y": [f"{lam:g}" for lam in lams],
                "z": [[c[1] if c else None for c in row] for row in grid],
                "text": words,
                "texttemplate": "%{text}",
                "hoverongaps": False,
                "colorscale": "Viridis",
                "colorbar": {"title": {"text": "NDCG@10"}},
            }
        ],
        "layout": {
            "title": {"text": "Validation NDCG@10 over alpha and lambda" + (f"<br>{which}" if which else "")},
            "xaxis": {**axis, "title": {"text": "alpha"}},
            "yaxis": {**axis, "title": {"text": "lambda"}},
        },
    }
    return json.dumps(figure)
