"""A minute on a small data set: enough for a table 2 and a line over alpha with a spread over two seeds."""

from harness.config import Range, SearchSpace, Study, StudyOptions
from studies.profiles import trial

ALPHAS: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5)
EPOCHS = 8
SEEDS_USED = 2


def study(options: StudyOptions) -> Study:
    """SASRec with CE, and BT-SR at a few alphas, two seeds, few epochs; `reduced` keeps one seed."""
    seeds = options.seeds[: 1 if options.reduced else SEEDS_USED]
    specs = []
    for dataset in options.datasets:
        for seed in seeds:
            specs.append(trial("sasrec_ce", dataset, options, seed, max_epochs=EPOCHS))
            specs += [trial("bt_sr", dataset, options, seed, alpha=alpha, max_epochs=EPOCHS) for alpha in ALPHAS]
    lr = {"train.lr": Range(low=0.0003, high=0.01, log=True)}
    spaces = tuple(
        SearchSpace(base=trial(method, dataset, options, seeds[0], max_epochs=EPOCHS), ranges=ranges)
        for dataset in options.datasets
        for method, ranges in (("sasrec_ce", lr), ("bt_sr", {"aux.alpha": Range(low=0.0, high=0.5), **lr}))
    )
    return Study(name="smoke", title="Smoke test", specs=tuple(specs), search=spaces)
