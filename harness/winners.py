"""The winners of a stored study with all seeds: the best setting of each method, chosen by validation alone."""

from collections.abc import Sequence

from harness.choices import option
from harness.config import Study, StudyOptions, TrialSpec
from harness.errors import ConfigError, unknown_name
from harness.options import WINNERS
from harness.rules import PRECISION, best_setting
from harness.store import Store
from harness.stored import TrialRow

ASKED = ("datasets", "methods", "seeds")
"""What may be asked for beside the study; the rest is that of the winners."""


def winners(store: Store, study: str, options: StudyOptions) -> Study:
    """The best finished setting of each method on each data set, by mean validation ndcg@10, with the seeds asked for.

    `options.datasets` may be empty: all of the study's. A setting is compared on the seeds that all of its method have
    (`harness.rules.same_seeds`). Raises ConfigError for options that the winners would ignore, for methods and data
    sets that the study has not, where it has nothing finished, and where a method has several profiles or versions of
    its data; StoreError for an unknown study.
    """
    for name, field in StudyOptions.model_fields.items():
        if name not in ASKED and getattr(options, name) != field.get_default(call_default_factory=True):
            words = {
                "data": ", ".join(map(option, options.data.said)),
                "columns": "--user-col, --item-col and --time-col",
            }.get(name, option(name))
            raise ConfigError(f"--winners-of repeats settings of study {study} as they are: drop {words}")
    title = store.study(study).title
    rows = store.trials(study=study)
    if not rows:
        raise ConfigError(f"study {study} in {store.shown} has no finished trial: run it first")
    for kind, names, there in (
        ("data set of this study", options.datasets, {row.spec.data.dataset for row in rows}),
        ("method of this study", options.methods, {row.spec.method for row in rows}),
    ):
        for name in names:
            if name not in there:
                raise unknown_name(kind, name, sorted(there))
    places: dict[tuple[str, str], list[TrialRow]] = {}
    for row in rows:
        dataset, method = row.spec.data.dataset, row.spec.method
        if dataset in (options.datasets or (dataset,)) and method in (options.methods or (method,)):
            places.setdefault((dataset, method), []).append(row)
    best = [_best(store, study, mine) for mine in places.values()]
    specs = [spec.model_copy(update={"seed": seed}) for seed in options.trial_seeds for spec in best]
    if not specs:
        raise ConfigError(f"study {study} has none of these methods on these data sets: drop --methods or --dataset")
    return Study(name=study + WINNERS, title=f"Winners of: {title}", specs=tuple(specs))


def _best(store: Store, study: str, rows: Sequence[TrialRow]) -> TrialSpec:
    """The best setting among the trials of one method on one data set."""
    spec = rows[0].spec
    versions = {(row.spec.profile, row.fingerprint) for row in rows}
    if len(versions) > 1:
        what = f"{len(versions)} profiles or versions of its data"
        raise ConfigError(
            f"study {study} ran {spec.method} on {spec.data.dataset} in {what}, which do not compare: it has no winners"
        )
    groups: dict[str, dict[int, TrialRow]] = {}
    for row in rows:
        groups.setdefault(row.group, {})[row.spec.seed] = row
    settings = [groups[name] for name in sorted(groups)]
    reader = store.validation()
    best = best_setting(settings, lambda row: reader.value(row.key, *PRECISION))
    return next(iter(settings[best.place].values())).spec
