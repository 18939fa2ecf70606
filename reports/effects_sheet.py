"""The report of effects: what `reports.effects` found, in words, with everything that must stand beside the numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.config import StudyOptions
from harness.errors import ConfigError
from harness.rules import Metric, metric_name
from harness.store import Store
from harness.stored import DataRow
from reports.effects import METRICS, Design, Effect, designs, effects, same_users, switches
from reports.measure import refuse_beyond
from reports.missing import commands, outdated_notes, progress, unnamed_notes
from reports.names import count, dataset_title, method_title
from reports.notes import settings
from reports.results import Evidence, Request, gather
from reports.sheet import Sheet
from reports.stats import LEVEL
from reports.table import number
from studies import DEFAULT_DATASETS
from studies.profiles import trial

SWITCHING: tuple[str, ...] = ("protocol", "precision", "augmentation")
"""The studies of ours that switch one setting at a time."""

NOTHING = "—"


def effects_sheet(store: Store, request: Request, metrics: Sequence[Metric] = ()) -> Sheet:
    """The effects of every setting that a study switches.

    Raises as `gather` does, and ConfigError for a study that switches nothing by itself, and for a K above the items.
    """
    evidence = _with_own_datasets(gather(store, replace(request, every_version=True)), request)
    found = designs(evidence)
    if not found and (request.precision or request.tie):
        raise ConfigError(
            f"--precision and --tie leave study {evidence.study} one side of what it switches at most: drop them"
        )
    if not found:
        raise ConfigError(
            f"study {evidence.study} switches no single setting of a method: its methods differ in more, or in "
            f"nothing; effects are of a study such as {', '.join(SWITCHING[:-1])} or {SWITCHING[-1]}"
        )
    arms = (arm.group for design in found for arm in (design.base, *(arm for _, arm in design.variants)))
    refuse_beyond(metrics, [evidence.data(group) for group in arms if group])
    shown = effects(evidence, found, metrics or METRICS)
    together = any(switch.parts for design in found for switch, _ in design.variants)
    return Sheet(
        name=f"effects_{evidence.study}",
        title=(
            f"{' '.join(store.study(evidence.study).title.split())}, "
            f"{'settings' if together else 'one setting'} switched at {'once' if together else 'a time'}: "
            f"study {evidence.study}, profile {evidence.profile}"
        ),
        header=("data set", "method", "switched", "metric", "base", "effect", "in percent", "95 % interval")
        + ("p", "p (Holm)", "paired by"),
        rows=tuple(map(_row, shown)),
        footnotes=tuple(_footnotes(evidence, found, shown)),
        commands=commands(evidence),
        records=tuple(map(_record, shown)),
    )


def _with_own_datasets(evidence: Evidence, request: Request) -> Evidence:
    """The data sets named; else those that the study was started on, and its others where it has any of its own."""
    if request.datasets:
        return evidence
    listed = tuple(dict.fromkeys(spec.data.dataset for spec in evidence.specs))
    own = DEFAULT_DATASETS.get(evidence.study, ())
    datasets = (*own, *(name for name in listed if name not in own)) if set(own) & set(listed) else listed
    return replace(evidence, datasets=datasets)


def _row(effect: Effect) -> tuple[str, ...]:
    spec, found, change = effect.variant.spec, effect.comparison, effect.relative
    span = found.interval if found else None
    p = found.p if found else None
    spread = "" if change is None or change.std is None else f" ±{change.std:.1f}"
    return (
        dataset_title(spec.data.dataset),
        method_title(spec.method),
        effect.switch.words + (" ‡" if effect.apart else ""),
        metric_name(effect.metric),
        NOTHING if effect.base is None else number(effect.base),
        f"{found.difference:+z.4f}" if found and found.n else NOTHING,
        f"{number(change.mean, percent=True)}{spread}" if change else NOTHING,
        f"{span.low:+z.4f} to {span.high:+z.4f}" if span else NOTHING,
        _p(p),
        _p(effect.p_holm) + (" *" if effect.p_holm is not None and effect.p_holm < LEVEL else ""),
        _pairing(effect),
    )


def _p(value: float | None) -> str:
    if value is None:
        return NOTHING
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _pairing(effect: Effect) -> str:
    """What is paired, over how many seeds; or why there is nothing to compare."""
    if not effect.defined:
        return "not defined"
    if not effect.comparable:
        return "other test users"
    found = effect.comparison
    if found is None:
        return f"not run: base {effect.design.base.progress}, variant {effect.variant.progress}"
    unit = "user, seed" if effect.by_user and effect.paired else "seed"
    apart = ", users apart" if effect.by_user and not effect.paired else ""
    return f"{unit}{apart}; n = {found.n}{': not enough runs' if found.n < 2 else ''}"


def _record(effect: Effect) -> Mapping[str, object]:
    """All numbers at full precision, for CSV."""
    spec, found, change = effect.variant.spec, effect.comparison, effect.relative
    span = found.interval if found else None
    return {
        "dataset": spec.data.dataset,
        "method": spec.method,
        "setting": effect.switch.setting,
        "from": effect.switch.before,
        "to": effect.switch.after,
        "metric": metric_name(effect.metric),
        "base": effect.base,
        "effect": found.difference if found and found.n else None,
        "percent": change.mean if change else None,
        "percent_std": change.std if change else None,
        "low": span.low if span else None,
        "high": span.high if span else None,
        "interval_over": span.over if span else None,
        "n": found.n if found else 0,
        "p_seeds": found.p_seeds if found else None,
        "p_users": found.p_users if found else None,
        "p": found.p if found else None,
        "p_holm": effect.p_holm,
        "detectable": found.detectable if found else None,
        "paired_by": _pairing(effect),
        "apart": effect.apart,
        "profile": spec.profile,
        "base_fingerprint": effect.design.base.group.fingerprint if effect.design.base.group else None,
        "fingerprint": effect.variant.group.fingerprint if effect.variant.group else None,
    }


def _footnotes(evidence: Evidence, found: Sequence[Design], shown: Sequence[Effect]) -> Iterator[str]:
    """In the order of reading: rules, what the runs do not allow, data, bases, what is missing."""
    tests = [effect.p_holm for effect in shown if effect.p_holm is not None]
    yield (
        "Effect: with the setting switched minus the base, all else equal; mean over the n seeds that both have, on "
        "the test users; in percent: the same relative to the base's mean, ± the sample standard deviation of the "
        "differences over seeds, relative to it too."
    )
    yield (
        "95 % interval: bootstrap over seeds, then users (n = 1: users alone). p: the larger of the paired t test over "
        "seeds and the test over users (paired permutation; users apart: Welch's t). Of metrics that are no mean over "
        "users: Student's t over seeds, and p by seeds alone. "
        + (f"* p < 0.05 after Holm over the {count(len(tests), 'test')} of this table." if tests else "")
    )
    if not all(effect.comparable for effect in shown):
        yield "Other test users: a metric of all their lists, such as coverage, depends on how many and who they are."
    yield from _apart_notes(shown)
    for note in dict.fromkeys(effect.comparison.note for effect in shown if effect.comparison):
        if note:
            yield f"{note[0].upper()}{note[1:]}."
    for dataset in evidence.datasets:
        mine = [design for design in found if design.base.spec.data.dataset == dataset]
        yield from _data_notes(evidence, dataset, mine)
        for design in mine:
            yield _base_note(design)
        yield from _missing_notes(evidence, dataset)
    yield from unnamed_notes(evidence)


def _apart_notes(shown: Sequence[Effect]) -> Iterator[str]:
    """Switches whose two sides were not computed alike."""
    for place in dict.fromkeys((e.variant.spec.data.dataset, e.variant.spec.method, e.switch, e.apart) for e in shown):
        dataset, method, switch, differ = place
        if differ:
            yield (
                f"‡ {dataset_title(dataset)}, {method_title(method)}, {switch.words}: the two sides were not computed "
                f"alike ({differ}). The difference is not the setting's alone."
            )


def _data_notes(evidence: Evidence, dataset: str, found: Sequence[Design]) -> Iterator[str]:
    """Every version of the data, and whether its test users and targets are those of the base."""
    said: set[str] = set()
    for design in found:
        groups = [arm.group for arm in (design.base, *(arm for _, arm in design.variants)) if arm.group]
        base = evidence.data(design.base.group) if design.base.group else None
        for data in (evidence.data(group) for group in groups):
            if data.fingerprint not in said:
                said.add(data.fingerprint)
                yield (
                    f"{dataset_title(dataset)}: data {data.fingerprint[:16]}, {data.n_items:,} items, "
                    f"{data.n_train_users:,} training users, {data.n_test_users:,} test users; "
                    f"{data.config.protocol(data.file, data.edition)}{_kinship(base, data)}."
                )


def _kinship(base: DataRow | None, data: DataRow) -> str:
    """How another version compares with that of the base."""
    if base is None or base.fingerprint == data.fingerprint:
        return ""
    if not same_users(base, data):
        return (
            f"; its test users are not known to be those of data {base.fingerprint[:8]}: runs are paired by seed, "
            "users are not"
        )
    moved = int((base.targets_test != data.targets_test).sum())
    share = f"{moved:,} of them ({moved / len(data.targets_test):.0%})" if moved else "none of them"
    return (
        f"; the same test users as in data {base.fingerprint[:8]}, {share} "
        "with another test target: users are paired, each with the target of its version"
    )


def _base_note(design: Design) -> str:
    """The base's settings, and where it is not what the profile runs under this name."""
    spec = design.base.spec
    place = f"{dataset_title(spec.data.dataset)}, {method_title(spec.method)}"
    options = StudyOptions(
        datasets=(spec.data.dataset,), profile=spec.profile, tie=spec.data.tie, columns=spec.data.columns
    )
    try:
        usual = switches(trial(spec.method, spec.data.dataset, options, spec.seed), spec)
    except ConfigError:  # a method or data set of the user's own study
        usual = ()
    unlike = f"; unlike profile {spec.profile}, whose row has" if usual else ""
    unlike += ",".join(f" {switch.setting} {switch.before} (here {switch.after})" for switch in usual)
    out = f"{place}, base: {settings(spec)}{unlike}."
    for switch, _ in design.variants:
        if switch.parts:
            out += f" Switched at once: {', '.join(part.words for part in switch.parts)}."
    if design.left_out:
        out += f" Left out: {design.left_out} with several settings unlike the base's."
    return out


def _missing_notes(evidence: Evidence, dataset: str) -> Iterator[str]:
    asked = [spec for spec in evidence.specs if spec.data.dataset == dataset]
    failed = len(evidence.failed(dataset))
    if not asked:
        yield f"{dataset_title(dataset)}: never started."
    elif evidence.missing(dataset):
        failures = f" ({failed} failed)" if failed else ""
        yield f"{dataset_title(dataset)}: incomplete: {progress(evidence, asked)}{failures}."
        yield from outdated_notes(evidence, dataset)
