"""Table 1 (spec 7.1): three prediction losses, each with and without the Barlow Twins term.

Sampled cross-entropy, for which the authors released files too, joins them where it is named.
"""

from harness.config import Study, StudyOptions
from harness.errors import unknown_name
from studies.profiles import point, trial

BASES: tuple[str, ...] = ("sasrec_bce", "sasrec_ce", "sasrec_sce")
MORE: tuple[str, ...] = ("sasrec_ce_sampled",)


def pairs(dataset: str, bases: tuple[str, ...] = BASES) -> dict[str, str]:
    """Base loss with BT -> the method that is it: what table 2 runs as BT-SR here is the same trial, and run once."""
    ours = point("bt_sr", dataset)
    return {pair: "bt_sr" if point(pair, dataset) == ours else pair for pair in (f"{base}+bt" for base in bases)}


def methods(dataset: str) -> tuple[str, ...]:
    """The six columns."""
    return (*BASES, *pairs(dataset).values())


def chosen(dataset: str, options: StudyOptions) -> tuple[str, ...]:
    """The columns, or those that are named, BT-SR also by its base loss. Raises ConfigError for others."""
    if not options.methods:
        return methods(dataset)
    every = (*BASES, *MORE)
    here = {**{base: base for base in every}, **pairs(dataset, every)}
    for name in options.methods:
        if name not in {*here, "bt_sr"}:
            raise unknown_name("method of this study", name, ("bt_sr", *here))
    return tuple(method for name, method in here.items() if {name, method} & {*options.methods})


def study(options: StudyOptions) -> Study:
    """Data sets x losses x with and without BT x seeds; `reduced` keeps the first two seeds."""
    return Study(
        name="table1",
        title="Prediction losses with and without BT (table 1)",
        specs=tuple(
            trial(method, dataset, options, seed)
            for dataset in options.datasets
            for seed in options.trial_seeds
            for method in chosen(dataset, options)
        ),
    )
