"""Sensitivity to alpha and lambda (spec 7.4): a grid for selection, and two lines for figures 3, 4 and 6 to 9.

The grid is run with the first seed only, the tuning seed. The lines go through the centre, the released point of the
data set (spec 1.6), which is always one of their points, and are run with all seeds.

It is of BT-SR, and of other base losses with BT (`sasrec_bce+bt`, ...) where `--methods` names them. Figures, --pareto
and --pick are of BT-SR, of another one in results where it alone was run; `btsr-report --table 1 --study alpha_lambda`
shows the best setting of each by validation, and `btsr-sweep --winners-of alpha_lambda` repeats it with all seeds.
"""

from harness.config import Range, SearchSpace, Study, StudyOptions, TrialSpec
from studies.points import beside
from studies.profiles import point, trial
from studies.table1 import EVERY, named, pairs

METHOD = "bt_sr"

GRID: tuple[float, ...] = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50)
"""Values of alpha and of lambda in the grid, as written: no arithmetic makes them. Beside BCE alpha is another."""

LINE: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Values of alpha, or of lambda, along a line, beside the centre."""


def alphas(values: tuple[float, ...], dataset: str, method: str) -> tuple[float, ...]:
    """Values of alpha as they are beside the method's base loss."""
    return tuple(beside(point(method, dataset).loss, alpha) for alpha in values)


def lines(dataset: str, method: str = METHOD) -> tuple[tuple[float, float], ...]:
    """(alpha, lambda) of both lines through the data set's centre, each point once."""
    row = point(method, dataset)
    along_alpha = [(alpha, row.aux.lam) for alpha in sorted({*alphas(LINE, dataset, method), row.aux.alpha})]
    along_lambda = [(row.aux.alpha, lam) for lam in sorted({*LINE, row.aux.lam})]
    return tuple(dict.fromkeys(along_alpha + along_lambda))


def chosen(dataset: str, options: StudyOptions) -> tuple[str, ...]:
    """BT-SR, or what is named of it and the base losses with BT. Raises ConfigError for other methods."""
    return named({METHOD: METHOD, **pairs(dataset, EVERY)}, options) if options.methods else (METHOD,)


def study(options: StudyOptions) -> Study:
    """Lines with all seeds, then the grid with the first; `reduced`: the lines alone, with the first two seeds."""
    seeds = options.trial_seeds
    places = [(dataset, method) for dataset in options.datasets for method in chosen(dataset, options)]
    specs: dict[str, TrialSpec] = {}
    for dataset, method in places:
        for seed in seeds:
            points = list(lines(dataset, method))
            if seed == seeds[0] and not options.reduced:
                points += [(alpha, lam) for alpha in alphas(GRID, dataset, method) for lam in GRID]
            for alpha, lam in points:
                spec = trial(method, dataset, options, seed, alpha=alpha, lam=lam)
                specs.setdefault(spec.key, spec)
    spaces = tuple(
        SearchSpace(
            base=trial(method, dataset, options, seeds[0]),
            ranges={
                "aux.alpha": Range(low=0.0, high=alphas((1.0,), dataset, method)[0]),
                "aux.lam": Range(low=0.0, high=0.5),
            },
        )
        for dataset, method in places
    )
    title = "Sensitivity to alpha and lambda"
    return Study(name="alpha_lambda", title=title, specs=tuple(specs.values()), search=spaces)
