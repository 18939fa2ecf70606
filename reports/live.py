"""Pictures of a sweep for its dashboard, from validation numbers alone."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from harness.ledger_page import Facts, cells, groups
from harness.rules import pareto
from reports.draw import Colors, colors_of, framed, legend_below
from reports.names import method_title

HEIGHT_INCHES = 2.9


def pictures(title: str, done: Sequence[Facts]) -> Mapping[str, bytes]:
    """File name -> PNG: learning curves, NDCG@10 against cov@10, and heat maps where there is a grid.

    `done` are the finished trials of one study on one data set.
    """
    if not done:
        return {}
    found = {
        "learning_curves.png": _curves(title, done),
        "ndcg_cov.png": _front(title, done),
        "alpha_lambda.png": _heat_maps(title, done),
    }
    return {name: _png(figure) for name, figure in found.items() if figure is not None}


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", metadata={})
    return out.getvalue()


def _methods(done: Sequence[Facts]) -> list[str]:
    return list(dict.fromkeys(fact.spec.method for fact in done))


def _curves(title: str, done: Sequence[Facts]) -> Figure:
    def fill(figure: SubFigure, colors: Colors) -> None:
        axes = figure.subplots()
        for method, color in colors_of(_methods(done), colors).items():
            label = method_title(method)
            for fact in (fact for fact in done if fact.spec.method == method):
                epochs, values = list(fact.curve), list(fact.curve.values())
                axes.plot(epochs, values, color=color, linewidth=0.7, alpha=0.7, marker=".", markersize=2, label=label)
                label = "_"
        axes.set(xlabel="epoch", ylabel="validation NDCG@10")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(figure, *axes.get_legend_handles_labels(), 4)

    return framed(HEIGHT_INCHES, f"{title}: learning curves", (f"{len(done)} finished trials, a line each",), fill)


def _front(title: str, done: Sequence[Facts]) -> Figure:
    rows = groups(done)
    ndcg, cov = (np.array([row[place] for row in rows]) for place in (2, 3))
    best = list(pareto(ndcg, cov))

    def fill(figure: SubFigure, colors: Colors) -> None:
        axes = figure.subplots()
        axes.plot(ndcg[best], cov[best], color="0.3", linewidth=0.9, zorder=1)
        methods = _methods(done)
        for place, (method, color) in enumerate(colors_of(methods, colors).items()):
            size = 14 + 12 * (len(methods) - 1 - place)  # equals, such as alpha = 0 and its base, both show
            mine = np.array([row[0].method == method for row in rows])
            axes.scatter(ndcg[mine], cov[mine], s=size, linewidths=0, color=color, label=method_title(method), zorder=2)
        axes.set(xlabel="validation NDCG@10", ylabel="validation cov@10")
        legend_below(figure, *axes.get_legend_handles_labels(), 4)

    seeds = sorted({row[1] for row in rows})
    caption = f"{len(rows)} settings, mean over {' to '.join(map(str, seeds[:: max(1, len(seeds) - 1)]))} seeds"
    return framed(HEIGHT_INCHES, f"{title}: precision against coverage", (f"{caption}; line: Pareto front",), fill)


def _heat_maps(title: str, done: Sequence[Facts]) -> Figure | None:
    """None where fewer than two alphas or lambdas were run."""
    found, which = cells(done)
    alphas, lams = (sorted({cell[axis] for cell in found}) for axis in (0, 1))
    if len(alphas) < 2 or len(lams) < 2:
        return None

    def fill(figure: SubFigure, colors: Colors) -> None:
        for axes, place, name in zip(figure.subplots(1, 2), (1, 2), ("NDCG@10", "cov@10"), strict=True):
            grid = [[found[a, lam][place] if (a, lam) in found else np.nan for lam in lams] for a in alphas[::-1]]
            names = [f"{lam:g}" for lam in lams], [f"{alpha:g}" for alpha in alphas[::-1]]
            sns.heatmap(grid, ax=axes, cmap="viridis", xticklabels=names[0], yticklabels=names[1])
            axes.set(title=name, xlabel=r"$\lambda$", ylabel=r"$\alpha$")
            axes.tick_params(axis="x", rotation=90)
            axes.tick_params(axis="y", rotation=0)

    caption = "mean over the seeds that have ended; blank: none has" + (f"; {which}" if which else "")
    return framed(HEIGHT_INCHES, f"{title}: alpha and lambda on validation", (caption,), fill)
