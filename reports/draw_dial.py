"""The pictures of the dial: Pareto front and interaction of alpha and lambda."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from harness.rules import DIVERSITY, PRECISION, PRESETS, rule_of
from reports.dial import Dial, grid, importance
from reports.draw import Colors, framed, legend_below, panels
from reports.measure import Measurer
from reports.names import dataset_title
from reports.ran import mixed_words
from reports.results import Evidence
from reports.stats import RESAMPLES_PER_CELL, interval, same
from reports.width import TEXT, Width

LEAST_DOT, MOST_DOT = 6.0, 28.0
"""Square points of a setting's dot at lambda 0 and at the largest lambda."""
MOST_NAMES = 14
"""Along an axis of a heat map."""
MARKERS: tuple[tuple[str, int], ...] = (("D", 40), ("s", 75), ("^", 150))
"""Sign and size in square points of each rule with a name: one fits around the other where they pick the same."""


def _base_caption(evidence: Evidence, found: Dial) -> list[str]:
    spec = found.settings[-1].spec
    return [
        f"study {evidence.study}, profile {evidence.profile}, data {found.settings[0].group.fingerprint[:8]}, "
        f"base loss {spec.loss.kind.upper()}, B {spec.train.batch_size}, bt_reduction {spec.aux.bt_reduction}",
        f"{len(found.settings)} settings, validation on seed{'s' if len(found.seeds) > 1 else ''} "
        f"{', '.join(map(str, found.seeds))}",
        *([found.which] if found.which else []),
        *mixed_words(evidence.store, (setting.group for setting in found.settings)),
    ]


def draw_front(evidence: Evidence, found: Dial, width: Width = TEXT) -> Figure:
    """ndcg@10 against cov@10 of every setting: on validation with its Pareto front, and on test, where the members of
    that front have 95 % intervals."""
    measure = Measurer(evidence.store)
    alphas = np.array([setting.spec.aux.alpha for setting in found.settings])
    lams = np.array([setting.spec.aux.lam for setting in found.settings])
    sizes = LEAST_DOT + (MOST_DOT - LEAST_DOT) * lams / (lams.max() or 1.0)
    named = {rule: found.pick(rule_of(rule)) for rule in PRESETS}
    test = []
    for place, setting in enumerate(found.settings):
        whole = [measure(setting.group, *metric) for metric in (PRECISION, DIVERSITY)]
        pair = [m.of(found.seeds) for m in whole if m is not None]
        assert len(pair) == 2, "bucket 0 has all users"
        spans = [interval(m, resamples=RESAMPLES_PER_CELL) if place in found.front else None for m in pair]
        test.append((pair[0].by_seed.mean(), pair[1].by_seed.mean(), spans))

    def fill(figure: SubFigure, colors: Colors) -> None:
        axes = panels(figure, width)
        values = [(found.valid(PRECISION), found.valid(DIVERSITY))]
        values.append((np.array([t[0] for t in test]), np.array([t[1] for t in test])))
        for ax, (x, y), part in zip(axes, values, ("validation", "test"), strict=True):
            if part == "test":
                for place in found.front:
                    across, up = test[place][2]
                    if across is not None:
                        ax.hlines(y[place], across.low, across.high, color="0.6", linewidth=0.7, zorder=1)
                    if up is not None:
                        ax.vlines(x[place], up.low, up.high, color="0.6", linewidth=0.7, zorder=1)
            else:
                ax.plot(x[list(found.front)], y[list(found.front)], color="0.3", linewidth=0.9, zorder=1)
            drawn = ax.scatter(x, y, c=alphas, cmap="viridis", s=sizes, linewidths=0, zorder=2)
            for (rule, place), (marker, size) in zip(named.items(), MARKERS, strict=True):
                ax.scatter(
                    x[place], y[place], s=size, marker=marker, facecolors="none", edgecolors=colors[3], label=rule
                )
            ax.set(xlabel="NDCG@10", ylabel="COV@10" if ax is axes[0] or width.narrow else "", title=part)
            ax.margins(y=0.12)  # room for the signs of the rules
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.yaxis.set_major_locator(MaxNLocator(5))
        figure.colorbar(drawn, ax=axes, label=r"$\alpha$", shrink=0.9, pad=0.02)
        for place in dict.fromkeys((int(lams.argmin()), int(lams.argmax()))):
            words = rf"$\lambda$ = {lams[place]:g}"
            axes[0].scatter([], [], s=sizes[place], linewidths=0, color="0.4", label=words)
        handles, labels = axes[0].get_legend_handles_labels()
        legend_below(figure, handles, labels, 5, math=True)

    caption = [
        *_base_caption(evidence, found),
        "test on the same seeds; line: Pareto front on validation; cross hairs: 95 % intervals of its members on test "
        "(ndcg: seeds and users, of one seed users alone; cov: seeds, none of one seed)",
        *(f"{rule} ({rule_of(rule).words}): {found.settings[place].name}" for rule, place in named.items()),
    ]
    title = f"{dataset_title(found.dataset)}: precision against coverage"
    return framed(4.2 if width.narrow else 2.9, title, ("; ".join(caption),), fill, width)


def _thinned(values: Sequence[float]) -> list[str]:
    """Names of ticks: of many values every second, or third, so that they stay apart."""
    step = -(-len(values) // MOST_NAMES)
    return ["" if place % step else f"{value:g}" for place, value in enumerate(values)]


def draw_interaction(evidence: Evidence, found: Dial, width: Width = TEXT) -> Figure | None:
    """Heat maps of validation ndcg@10 and cov@10 over the complete grid; None where there is no grid."""
    grids = [grid(found, metric) for metric in (PRECISION, DIVERSITY)]
    if grids[0] is None or grids[1] is None:
        return None
    shares = [importance(g[2]) for g in grids if g is not None]

    def fill(figure: SubFigure, colors: Colors) -> None:
        for ax, made, (name, k) in zip(panels(figure, width), grids, (PRECISION, DIVERSITY), strict=True):
            assert made is not None
            alphas, lams, values = made
            sns.heatmap(
                values[::-1],
                ax=ax,
                cmap="viridis",
                xticklabels=_thinned(lams),
                yticklabels=_thinned(alphas)[::-1],
                cbar_kws={"shrink": 0.9},
            )
            best = np.argwhere(values[::-1] == values.max()) + 0.5
            if not same(values):
                ax.scatter(best[:, 1], best[:, 0], s=28, marker="*", color="white", edgecolors="0.1", linewidths=0.5)
            ax.set(title=f"{name.upper()}@{k}", xlabel=r"$\lambda$", ylabel=r"$\alpha$")
            ax.tick_params(axis="x", rotation=90)
            ax.tick_params(axis="y", rotation=0)

    caption = [*_base_caption(evidence, found), "star: largest"]
    for (name, k), (alpha, lam, both) in zip((PRECISION, DIVERSITY), shares, strict=True):
        caption.append(
            f"variance of {name}@{k} over the grid: alpha alone {alpha:.0%}, lambda alone {lam:.0%}, together and "
            f"noise {both:.0%}"
            if alpha or lam or both
            else f"{name}@{k} does not vary over the grid"
        )
    title = f"{dataset_title(found.dataset)}: alpha and lambda on validation"
    return framed(4.6 if width.narrow else 2.9, title, ("; ".join(caption),), fill, width)
