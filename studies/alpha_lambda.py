"""Sensitivity to alpha and lambda (spec 7.4): a grid for selection, and two lines for figures 3, 4 and 6 to 9.

The grid is run with the first seed only, the tuning seed. The lines go through the centre, the released point of the
data set (spec 1.6), which is always one of their points, and are run with all seeds.
"""

from harness.config import Range, SearchSpace, Study, StudyOptions, TrialSpec
from studies.profiles import point, trial

METHOD = "bt_sr"

GRID: tuple[float, ...] = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50)
"""Values of alpha and of lambda in the grid, as written: no arithmetic makes them."""

LINE: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Values of alpha, or of lambda, along a line, beside the centre."""


def lines(dataset: str) -> tuple[tuple[float, float], ...]:
    """(alpha, lambda) of both lines through the data set's centre, each point once."""
    row = point(METHOD, dataset)
    along_alpha = [(alpha, row.aux.lam) for alpha in sorted({*LINE, row.aux.alpha})]
    along_lambda = [(row.aux.alpha, lam) for lam in sorted({*LINE, row.aux.lam})]
    return tuple(dict.fromkeys(along_alpha + along_lambda))


def study(options: StudyOptions) -> Study:
    """Lines with all seeds, then the grid with the first; `reduced`: the lines alone, with the first two seeds."""
    seeds = options.trial_seeds
    specs: dict[str, TrialSpec] = {}
    for dataset in options.datasets:
        for seed in seeds:
            points = list(lines(dataset))
            if seed == seeds[0] and not options.reduced:
                points += [(alpha, lam) for alpha in GRID for lam in GRID]
            for alpha, lam in points:
                spec = trial(METHOD, dataset, options, seed, alpha=alpha, lam=lam)
                specs.setdefault(spec.key, spec)
    spaces = tuple(
        SearchSpace(
            base=trial(METHOD, dataset, options, seeds[0]),
            ranges={"aux.alpha": Range(low=0.0, high=1.0), "aux.lam": Range(low=0.0, high=0.5)},
        )
        for dataset in options.datasets
    )
    title = "Sensitivity to alpha and lambda"
    return Study(name="alpha_lambda", title=title, specs=tuple(specs.values()), search=spaces)
