"""The front of a search: every point that it tried, NDCG@10 against cov@10."""

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from harness.errors import ConfigError
from harness.rules import DIVERSITY, PRECISION, pareto
from reports.draw import Colors, colors_of, framed, legend_below, panels
from reports.groups import Group
from reports.measure import Measurer
from reports.names import count, dataset_title, method_title
from reports.ran import mixed_words
from reports.results import Evidence
from reports.width import TEXT, Width


def draw_search(evidence: Evidence, dataset: str, width: Width = TEXT) -> Figure:
    """Validation with its Pareto front over all methods, and the test values of that front's members.

    Raises ConfigError (with the command to run) for fewer than two points.
    """
    groups = evidence.groups(dataset, lambda spec: True)
    if len(groups) < 2:
        raise ConfigError(
            f"study {evidence.study} has {count(len(groups), 'finished point')} on {dataset} with profile "
            f"{evidence.profile}, a front needs two: {evidence.to_run((dataset,), more=True)}"
        )
    methods = list(dict.fromkeys(group.spec.method for group in groups))
    x, y = (np.array([_valid(evidence, group, *metric) for group in groups]) for metric in (PRECISION, DIVERSITY))
    front = pareto(x, y)
    measure = Measurer(evidence.store)

    def fill(figure: SubFigure, colors: Colors) -> None:
        axes = panels(figure, width)
        axes[0].plot(x[list(front)], y[list(front)], color="0.3", linewidth=0.9, zorder=1)
        for method, color in colors_of(methods, colors).items():
            mine = np.array([group.spec.method == method for group in groups])
            axes[0].scatter(x[mine], y[mine], s=14, linewidths=0, color=color, label=method_title(method), zorder=2)
            tested = [[measure(groups[i], *m) for m in (PRECISION, DIVERSITY)] for i in front if mine[i]]
            values = np.array([[m.by_seed.mean() for m in pair if m is not None] for pair in tested]).reshape(-1, 2)
            axes[1].scatter(values[:, 0], values[:, 1], s=14, linewidths=0, color=color)
        for ax, title in zip(axes, ("validation", "test, of the front"), strict=True):
            ax.set(xlabel="NDCG@10", ylabel="COV@10" if ax is axes[0] or width.narrow else "", title=title)
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.yaxis.set_major_locator(MaxNLocator(5))
        legend_below(figure, *axes[0].get_legend_handles_labels(), 4)

    caption = [
        f"study {evidence.study}, profile {evidence.profile}, data {groups[0].fingerprint[:8]}",
        f"{len(groups)} points, chosen and compared on validation; line: Pareto front, {len(front)} of them",
        *mixed_words(evidence.store, groups),
    ]
    title = f"{dataset_title(dataset)}: precision against coverage"
    return framed(4.2 if width.narrow else 2.9, title, ("; ".join(caption),), fill, width)


def _valid(evidence: Evidence, group: Group, name: str, k: int) -> float:
    """Mean validation value over the runs."""
    validation = evidence.store.validation()
    return float(np.mean([validation.value(key, name, k) for key in group.keys]))
