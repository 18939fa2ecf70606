"""Table 1 (spec 7.1): three prediction losses, each with and without the Barlow Twins term.

Sampled cross-entropy, for which the authors released files too, joins them where it is named.
"""

from collections.abc import Mapping

from harness.config import Study, StudyOptions
from harness.errors import unknown_name
from studies.profiles import point, trial

BASES: tuple[str, ...] = ("sasrec_bce", "sasrec_ce", "sasrec_sce")
MORE: tuple[str, ...] = ("sasrec_ce_sampled",)
EVERY = (*BASES, *MORE)


def pairs(dataset: str, bases: tuple[str, ...] = BASES) -> dict[str, str]:
    """Base loss with BT -> the method that is it: what table 2 runs as BT-SR here is the same trial, and run once."""
    ours = point("bt_sr", dataset)
    return {pair: "bt_sr" if point(pair, dataset) == ours else pair for pair in (f"{base}+bt" for base in bases)}


def methods(dataset: str) -> tuple[str, ...]:
    """The six columns."""
    return (*BASES, *pairs(dataset).values())


def named(here: Mapping[str, str], options: StudyOptions) -> tuple[str, ...]:
    """Of names and the methods that they mean, the methods that are asked for by either, each once.

    Raises ConfigError for another name.
    """
    known = {*here, *here.values()}
    for name in options.methods:
        if name not in known:
            raise unknown_name("method of this study", name, known)
    return tuple(dict.fromkeys(method for name, method in here.items() if {name, method} & {*options.methods}))


def chosen(dataset: str, options: StudyOptions) -> tuple[str, ...]:
    """The columns, or those that are named, BT-SR also by its base loss. Raises ConfigError for others."""
    if not options.methods:
        return methods(dataset)
    return named({**{base: base for base in EVERY}, **pairs(dataset, EVERY)}, options)


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
