"""What the store knows about one study in one profile: groups of replications, their numbers, and what is missing.

Never mixes profiles, and two versions of one data set only for a request that says so (the report of effects): where
several exist, the error lists the choices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from harness.choices import Tie
from harness.config import DEFAULT_PROFILE, PAPER_DATASETS, Profile, TrialSpec, file_key, is_file
from harness.errors import AmbiguousError, ConfigError, StoreError, unknown_name
from harness.options import WINNERS, searched
from harness.store import Store
from harness.stored import DataRow, TrialRow
from harness.values import UserRanks
from models.config import Precision
from reports.commands import DATA_HABITS, extending_command, habits, options_like, sweep_command, unplanned
from reports.groups import Group, grouped
from reports.history import as_others, file_command, trials_on
from reports.names import DATASET_TITLES, count, dataset_title
from studies import STUDIES, default_datasets

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which results to report."""

    study: str
    profile: Profile | None = None
    """None: the only one that the study has."""
    datasets: tuple[str, ...] = ()
    """Empty: the paper's five, then the study's others; its own alone where it has none of those."""
    tie: Tie | None = None
    """Only trials on data with this tie rule."""
    precision: Precision | None = None
    """Only trials in this precision."""
    fingerprints: tuple[str, ...] = ()
    """Where a data set has several versions: the one whose fingerprint begins like one of these."""
    every_version: bool = False
    """Several versions of one data set side by side, for reports that label them; only those of `fingerprints`, if
    any are given."""

    def allows(self, spec: TrialSpec) -> bool:
        """Whether its tie rule and precision are those asked for."""
        return self.tie in {None, spec.data.tie} and self.precision in {None, spec.train.precision}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One study in one profile; every data set in one version, unless the request is for every version."""

    store: Store
    study: str
    profile: Profile
    datasets: tuple[str, ...]
    specs: tuple[TrialSpec, ...]
    """What the study asks for on these data, run or not."""
    rows: tuple[TrialRow, ...]
    """What has ended, failures too."""
    request: Request
    """What was asked for; it holds for what other studies ran, too."""

    @property
    def finished(self) -> tuple[str, ...]:
        """Data sets with at least one finished trial."""
        there = {row.spec.data.dataset for row in self.rows if row.status == "done"}
        return tuple(dataset for dataset in self.datasets if dataset in there)

    def groups(self, dataset: str, fits: Callable[[TrialSpec], bool]) -> tuple[Group, ...]:
        """Finished configurations that fit."""
        return grouped(row for row in self.rows if row.spec.data.dataset == dataset and fits(row.spec))

    def elsewhere(self, dataset: str, fits: Callable[[TrialSpec], bool]) -> tuple[Group, ...]:
        """Finished configurations that fit, of any study, on the same data with the same profile.

        Where this study has nothing on the data set, of its only version that the request allows; none where there
        are several, see `unchosen`.
        """
        versions, rows = self._versions_elsewhere(dataset)
        if len(versions) != 1:
            return ()
        return grouped(row for row in rows if row.fingerprint in versions and fits(row.spec))

    def unchosen(self, dataset: str) -> str:
        """What to say where other studies have the data set in several versions and nothing chooses one; else empty."""
        versions = sorted(name[:8] for name in self._versions_elsewhere(dataset)[0])
        return (
            f"{dataset_title(dataset)}: other studies have results on {len(versions)} versions of its data "
            f"({', '.join(versions)}), which never mix: choose one with --tie or --fingerprint."
            if len(versions) > 1
            else ""
        )

    def _versions_elsewhere(self, dataset: str) -> tuple[set[str], list[TrialRow]]:
        """The version of this study's results, else those of any study that the request allows; trials of any study."""
        rows = [
            row for row in self.store.trials(dataset=dataset, profile=self.profile) if self.request.allows(row.spec)
        ]
        mine = {row.fingerprint for row in self.rows if row.status == "done" and row.spec.data.dataset == dataset}
        versions = {name for name in mine or {row.fingerprint for row in rows} if name}
        if len(versions) > 1 and self.request.fingerprints:
            versions = {name for name in versions if name.startswith(self.request.fingerprints)}
        return versions, rows

    def missing(self, dataset: str) -> tuple[TrialSpec, ...]:
        """What the study asks for and has neither finished nor given up (pruned)."""
        done = {row.key for row in self.rows if row.status != "failed"}
        return tuple(spec for spec in self.specs if spec.data.dataset == dataset and spec.key not in done)

    def outdated(self, dataset: str) -> tuple[TrialSpec, ...]:
        """What of it only an earlier definition of the study asked for, so that no command runs it.

        Nothing where the study as it is today has no trial here: then all is of another version of it.
        """
        missing = self.missing(dataset)
        old = unplanned(self.study, self.profile, missing) if missing else ()
        here = (spec for spec in self.specs if spec.data.dataset == dataset)
        return old if old and any(not unplanned(self.study, self.profile, (spec,)) for spec in here) else ()

    def runnable(self, dataset: str) -> tuple[TrialSpec, ...]:
        """What is missing and not outdated."""
        old = {spec.key for spec in self.outdated(dataset)}
        return tuple(spec for spec in self.missing(dataset) if spec.key not in old)

    def replacing(self, dataset: str) -> str:
        """The command that makes the study forget what is outdated and nothing else; it runs what else is missing."""
        asked = [spec for spec in self.specs if spec.data.dataset == dataset]
        old = {spec.key for spec in unplanned(self.study, self.profile, asked)}
        kept = [spec for spec in asked if spec.key not in old]
        return sweep_command(self.study, self.profile, (dataset,), kept, self.store.shown) + " --replace"

    def pruned(self, dataset: str) -> tuple[TrialRow, ...]:
        """Trials that a search gave up: their numbers end early and are in no table."""
        return tuple(row for row in self.rows if row.status == "pruned" and row.spec.data.dataset == dataset)

    def failed(self, dataset: str) -> tuple[TrialRow, ...]:
        """Trials that ended in an error."""
        return tuple(row for row in self.rows if row.status == "failed" and row.spec.data.dataset == dataset)

    def data(self, group: Group) -> DataRow:
        """The data that the group was measured on."""
        return self.store.data(group.fingerprint)

    def test_metrics(self, group: Group) -> dict[tuple[str, int, int], tuple[float, ...]]:
        """(name, k, bucket) -> the test value of every seed; empty where the bucket has no targets."""
        out: dict[tuple[str, int, int], tuple[float, ...]] = {}
        for metrics in self.store.metrics(group.keys, part="test").values():
            for metric in metrics:
                place = (metric.name, metric.k, metric.bucket)
                out[place] = out.get(place, ()) + (() if metric.value is None else (metric.value,))
        return out

    def test_ranks(self, group: Group) -> tuple[UserRanks, ...]:
        """Every seed's ranks of the test targets."""
        return tuple(self.store.ranks(key, "test") for key in group.keys)

    def usual_options(self, datasets: Sequence[str]) -> list[str]:
        """How these data were asked for before, for a command of a study that has nothing there; what that leaves open
        as this study was asked for on others."""
        every = [spec for spec in self.store.study(self.study).specs if spec.profile == self.profile]
        own = [spec for spec in every if spec.data.dataset in datasets and self.request.allows(spec)]
        before = own or trials_on(self.store, datasets, self.profile)
        tie, precision = self.request.tie, self.request.precision
        words = options_like(self.profile, datasets, before, tie=tie, precision=precision)
        known = {*words, *(DATA_HABITS if before else ())}
        mine = habits(self.study, self.profile, every)
        return words + [word for name, told in mine.items() if name not in known for word in told]

    def command(self, datasets: Sequence[str], *, more: bool = False) -> str:
        """The command that runs what is missing on these data sets; of a search with nothing missing `more` points.

        Empty for a study file of the user's own that no stored command names.
        """
        missing = [spec for dataset in datasets for spec in self.runnable(dataset)]
        study, asked, source = self.study, self.specs, self.study.removesuffix(WINNERS)
        if source != self.study and source in self.store.studies():
            asked = self.store.study(source).specs
            there = tuple(name for name in datasets if any(spec.data.dataset == name for spec in asked))
            study, datasets = (study, there) if there else (source, datasets)  # winners are of what was run before
        told = sweep_command(
            study,
            self.profile,
            datasets,
            missing,
            self.store.shown,
            asked,
            more=more and not missing,
            unsaid=partial(self.usual_options, datasets),
            typed=file_command(self.store, study, {spec.data for spec in missing or self.specs}) if _own(study) else "",
        )
        return f"{told} --extend" if told and self._in_another_precision(datasets) else told

    def _in_another_precision(self, datasets: Sequence[str]) -> bool:
        """Whether the study was asked for on one of these data sets, but not in the precision of the request."""
        if self.request.precision is None:
            return False
        every = {s.data.dataset for s in self.store.study(self.study).specs if s.profile == self.profile}
        return bool(every.intersection(datasets) - {spec.data.dataset for spec in self.specs})

    def to_run(self, datasets: Sequence[str], *, more: bool = False) -> str:
        """The same in words: what to do."""
        command = self.command(datasets, more=more)
        return f"run `{command}`" if command else f"give the btsr-sweep command of the file of study {self.study} again"

    def remedy(self, dataset: str, *, grid: bool = False) -> str:
        """What gives a study more settings of alpha and lambda, or a whole `grid` of them: its missing trials, the rest
        of the study that varies them, else that study."""
        asked = [spec for spec in self.specs if spec.data.dataset == dataset]
        where = self.profile, (dataset,)
        unsaid = partial(self.usual_options, (dataset,))
        if self.study == "alpha_lambda" and asked and (grid or not self.runnable(dataset)):
            return f"run `{extending_command(self.study, *where, asked, self.store.shown, unsaid)}`"
        lambdas = {spec.aux.lam for spec in asked if spec.aux.kind == "barlow_twins" and spec.aux.alpha > 0}
        if self.study == "alpha_lambda" or (self.runnable(dataset) and (len(lambdas) > 1 or not grid)):
            return self.to_run((dataset,))
        begun = self.store.study("alpha_lambda").specs if "alpha_lambda" in self.store.studies() else ()
        if any((spec.profile, spec.data.dataset) == (self.profile, dataset) for spec in begun):
            return "ask with --study alpha_lambda"
        other = sweep_command("alpha_lambda", *where, (), self.store.shown, unsaid=unsaid)
        return f"ask with --study alpha_lambda after `{other}`"


def _own(study: str) -> bool:
    """Whether its trials are asked for by a study file of the user's own."""
    name, _ = searched(study)
    return name not in STUDIES and not study.endswith(WINNERS)


def _profile(
    request: Request,
    mine: Callable[[TrialSpec], bool],
    specs: Sequence[TrialSpec],
    rows: Sequence[TrialRow],
    where: str,
) -> Profile:
    """The one asked for, else the only one of what is `mine`: on the data sets, with tie and precision, asked for."""
    if request.profile is not None:
        return request.profile
    counts: dict[Profile, int] = {}
    for row in rows:
        if mine(row.spec):
            counts[row.spec.profile] = counts.get(row.spec.profile, 0) + (row.status == "done")
    finished = [name for name, done in counts.items() if done]
    there = sorted(
        finished or counts or {spec.profile for spec in specs if mine(spec)} or {spec.profile for spec in specs}
    )
    if len(there) > 1:
        listed = ", ".join(f"{name}: {count(counts.get(name, 0), 'finished trial')}" for name in there)
        on = f"on {', '.join(request.datasets)}, " if request.datasets else ""
        kind = AmbiguousError if any(counts.values()) else ConfigError
        raise kind(
            f"study {request.study} in {where} has {len(there)} profiles ({on}{listed}), which never mix: "
            "choose one with --profile"
        )
    return there[0] if there else DEFAULT_PROFILE


def _named(request: Request, specs: Sequence[TrialSpec]) -> tuple[str, ...]:
    """The data sets that are asked for by name, a file by its key. Raises ConfigError for one that is not known."""
    known = {*DATASET_TITLES, *(spec.data.dataset for spec in specs)}
    named = [file_key(name) if name not in known and is_file(name) else name for name in request.datasets]
    for name in named:
        if name not in known:
            raise unknown_name("data set", name, known)
    return tuple(dict.fromkeys(named))


def _usual(specs: Sequence[TrialSpec]) -> tuple[str, ...]:
    """The data sets of a request that names none."""
    listed = tuple(dict.fromkeys(spec.data.dataset for spec in specs))
    if listed and not set(listed) & set(PAPER_DATASETS):
        return listed
    return (*PAPER_DATASETS, *(name for name in listed if name not in PAPER_DATASETS))


def _versions(
    rows: Sequence[TrialRow], request: Request, store: Store, others: Sequence[TrialRow]
) -> dict[str, tuple[str, ...]]:
    """Data set -> fingerprints of its finished trials.

    Raises AmbiguousError where several remain for a request of one, ConfigError for a fingerprint that none has, nor
    any of the `others` (trials of any study) on a data set without rows of its own.
    """
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.fingerprint is not None:
            counts = found.setdefault(row.spec.data.dataset, {})
            counts[row.fingerprint] = counts.get(row.fingerprint, 0) + 1
    everything = [name for counts in found.values() for name in counts]
    everything += {row.fingerprint or "": None for row in others if row.spec.data.dataset not in found}
    for start in request.fingerprints:
        if not start or not any(name.startswith(start) for name in everything):
            listed = ", ".join(name[:8] for name in everything) or "none"
            raise ConfigError(f"no results on data {start or repr(start)}: --fingerprint can begin one of {listed}")
    chosen: dict[str, tuple[str, ...]] = {}
    for dataset, counts in found.items():
        every = len(counts) == 1 or (request.every_version and not request.fingerprints)
        fits = [name for name in counts if every or name.startswith(request.fingerprints)]
        if not fits or (len(fits) > 1 and not request.every_version):
            data = {name: store.data(name) for name in counts}
            listed = ", ".join(
                f"{name[:8]} ({row.config.protocol(row.file, row.edition)}; {count(counts[name], 'trial')})"
                for name, row in sorted(data.items())
            )
            raise AmbiguousError(
                f"{dataset} has results on {len(counts)} versions of its data, which never mix: {listed}; "
                "choose one with --tie or --fingerprint"
            )
        chosen[dataset] = tuple(fits)
    return chosen


def narrowed(request: Request, own: Sequence[str]) -> Request:
    """The request on a table's or figure's `own` data set where it names none and the paper has a single one there."""
    return request if request.datasets or len(own) != 1 else replace(request, datasets=tuple(own))


def of_each(datasets: Sequence[str], make: Callable[[str], Made]) -> tuple[list[Made], list[ConfigError]]:
    """What can be made of each data set, and why of others it cannot."""
    found, refused = [], []
    for dataset in datasets:
        try:
            found.append(make(dataset))
        except ConfigError as error:
            refused.append(error)
    return found, refused


def never_started(store: Store, request: Request) -> StoreError:
    """What to tell of a study of ours that the store does not have: the others, and the command that runs it."""
    named = tuple(file_key(name) if is_file(name) else name for name in request.datasets)
    datasets = named or default_datasets(request.study)
    before = trials_on(store, datasets, request.profile)
    profiles = {spec.profile for spec in before}
    profile = request.profile or (profiles.pop() if len(profiles) == 1 else DEFAULT_PROFILE)
    words = options_like(profile, datasets, before, tie=request.tie, precision=request.precision)
    words += as_others(store, request.study, profile, datasets)
    command = sweep_command(request.study, profile, datasets, (), store.shown, unsaid=lambda: words)
    there = f"{', '.join(store.studies())}; choose one by --study" if store.studies() else "none"
    return StoreError(f"{store.shown} has no study '{request.study}' (it has: {there}): run `{command}`")


def gather(store: Store, request: Request) -> Evidence:
    """Read what the request asks for.

    Raises StoreError for a study that was never started, AmbiguousError where the user has to choose, ConfigError for
    an impossible choice and for a study without any finished trial here; the message names the command to run.
    """
    if request.study not in store.studies() and request.study not in STUDIES:
        raise unknown_name("study", request.study, {*store.studies(), *STUDIES})
    if request.study not in store.studies():
        raise never_started(store, request)
    asked = store.study(request.study).specs
    ended = store.trials(study=request.study, status=None)
    named = _named(request, asked)

    def mine(spec: TrialSpec) -> bool:
        return (not named or spec.data.dataset in named) and request.allows(spec)

    profile = _profile(request, mine, asked, ended, store.shown)
    datasets = named or _usual([spec for spec in asked if spec.profile == profile])

    def wanted(spec: TrialSpec) -> bool:
        return spec.profile == profile and spec.data.dataset in datasets and mine(spec)

    rows = [row for row in ended if wanted(row.spec)]
    others = [row for row in store.trials() if wanted(row.spec)] if request.fingerprints else []
    versions = _versions(rows, request, store, others)
    configs = {
        dataset: [store.data(fingerprint).config for fingerprint in there] for dataset, there in versions.items()
    }
    whole = request.every_version and not request.fingerprints

    def same_data(spec: TrialSpec) -> bool:
        return whole or spec.data in configs.get(spec.data.dataset, [spec.data])

    evidence = Evidence(
        store=store,
        study=request.study,
        profile=profile,
        datasets=datasets,
        specs=tuple(spec for spec in asked if wanted(spec) and same_data(spec)),
        rows=tuple(row for row in rows if same_data(row.spec)),
        request=request,
    )
    if not versions:
        asked_for = {"tie": request.tie, "precision": request.precision}
        also = "".join(f" and {name} {value}" for name, value in asked_for.items() if value)
        raise ConfigError(
            f"study {request.study} has no finished trial on {', '.join(datasets)} with profile {profile}{also} "
            f"in {store.shown}: {evidence.to_run(datasets)}"
        )
    return evidence
