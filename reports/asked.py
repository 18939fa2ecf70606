"""What one call of `btsr-report` does with its database."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import typer

from harness.choices import Tie
from harness.config import Profile, dataset_slug
from harness.errors import BtsrError, ConfigError
from harness.options import is_search
from harness.rules import Metric, rule_of
from harness.store import Store
from models.config import Precision
from reports import figures, tables
from reports.audit import audit
from reports.claims import claims, gathered
from reports.dial import Dial, dial, picks
from reports.effects_sheet import SWITCHING, effects_sheet
from reports.export import answer, to_parquet
from reports.findings import findings
from reports.output import Output, write
from reports.plans import PART_OF, PLANS
from reports.results import Evidence, Request, gather, narrowed, never_started, of_each
from reports.verdict import verdicts
from reports.why import place_of, why
from reports.width import TEXT, Width


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An open database, and which of its results to report."""

    store: Store
    output: Output
    study: str | None
    """None: the one that the table or figure reads by default."""
    profile: Profile | None
    datasets: tuple[str, ...]
    tie: Tie | None
    precision: Precision | None
    fingerprints: tuple[str, ...]
    width: Width = TEXT
    """Of figures that are files; those of the page keep theirs."""
    strict: bool = True
    """Of data sets that were named each must have what is asked for."""
    said: set[str] = field(default_factory=set)
    """Why data sets are not shown: several figures may lack the same."""

    def request(self, study: str) -> Request:
        """What to gather, of this study unless another one was named.

        Where it was never started, of the one that holds part of its trials.
        """
        if study in PART_OF and study not in self.store.studies() and PART_OF[study] in self.store.studies():
            study = PART_OF[study]
        return Request(
            study=self.study or study,
            profile=self.profile,
            datasets=self.datasets,
            tie=self.tie,
            precision=self.precision,
            fingerprints=self.fingerprints,
        )

    def table(self, number: int, metrics: Sequence[Metric] = (), *, verdict: bool = False) -> None:
        """A table of the paper, or the verdicts on its cells."""
        plan = tables.plan_of(number)
        request = narrowed(self.request(plan.study), plan.datasets)
        found = findings(gather(self.store, request), plan, metrics)
        if verdict:
            self.output.sheet(verdicts(found))
        else:
            self.output.table(tables.build(found))

    def figure(self, number: int) -> None:
        """A figure of the paper."""
        drawn = figures.drawn(number, self.store, self.request, self.width)
        self._tell(drawn.refused, drawn.pictures)
        self._say(drawn.absent)
        for picture in drawn.pictures:
            self.output.figure(picture.stem, picture.figure)

    def _tell(self, refused: Sequence[ConfigError], found: Sequence[object]) -> None:
        """Why data sets are not shown beside those found. Raises the first reason where none was, or all were named."""
        if refused and (not found or (self.datasets and self.strict)):
            raise refused[0]
        self._say(refused)

    def _say(self, reasons: Sequence[BtsrError]) -> None:
        """Each once."""
        for words in map(str, reasons):
            if words not in self.said:
                typer.echo(words, err=True)
                self.said.add(words)

    def _gathered(self, study: str) -> tuple[Evidence, tuple[str, ...]]:
        """Evidence of a study, and the data sets named or all that have results."""
        evidence = gather(self.store, self.request(study))
        return evidence, evidence.datasets if self.datasets else evidence.finished

    def claims(self) -> None:
        """What the paper's text says."""
        self.output.sheet(claims(gathered(self.store, self.request)))

    def switching(self) -> tuple[str, ...]:
        """The study named, else all of ours that switch one setting at a time."""
        return (self.study,) if self.study else SWITCHING

    def effects_of(self, study: str, metrics: Sequence[Metric] = ()) -> None:
        """The effects of the settings that a study switches."""
        self.output.sheet(effects_sheet(self.store, self.request(study), metrics))

    def effects(self, metrics: Sequence[Metric]) -> None:
        """The same of every such study that has any; of the others why not. Raises the first's error where none has."""
        started = [study for study in self.switching() if study in self.store.studies()] or self.switching()[:1]
        refused: list[BtsrError] = []
        for study in started:
            try:
                self.effects_of(study, metrics)
            except ConfigError as error:
                refused.append(error)
        if len(refused) == len(started):
            raise refused[0]
        refused += [never_started(self.store, self.request(s)) for s in self.switching() if s not in started]
        self._say(refused)

    def pareto(self) -> None:
        """The dial's pictures: the front, and the interaction where there is a grid; of a search its front."""
        from reports.draw_dial import draw_front, draw_interaction
        from reports.draw_search import draw_search

        evidence, datasets = self._gathered("alpha_lambda")
        if is_search(evidence.study):
            fronts, refused = of_each(datasets, lambda name: (name, draw_search(evidence, name, self.width)))
            self._tell(refused, fronts)
            for dataset, front in fronts:
                self.output.figure(f"pareto_{dataset_slug(dataset)}", front)
            return
        dials, refused = of_each(datasets, partial(dial, evidence))
        self._tell(refused, dials)
        for found in dials:
            slug = dataset_slug(found.dataset)
            self.output.figure(f"pareto_{slug}", draw_front(evidence, found, self.width))
            interaction = draw_interaction(evidence, found, self.width)
            if interaction is None:
                more = evidence.remedy(found.dataset, grid=True)
                words = f"{found.dataset}: no complete grid of alpha and lambda yet, hence no heat map: {more}"
                typer.echo(words, err=True)
            else:
                self.output.figure(f"interaction_{slug}", interaction)

    def pick(self, rule: str) -> None:
        """The setting that a rule chooses on each data set."""
        understood = rule_of(rule)
        evidence, datasets = self._gathered("alpha_lambda")

        def decided(dataset: str) -> Dial:
            found = dial(evidence, dataset)
            found.pick(understood)
            return found

        dials, refused = of_each(datasets, decided)
        self._tell(refused, dials)
        self.output.sheet(picks(evidence, dials, understood))

    def why(self, words: str) -> None:
        """The runs behind a row or a cell of a table."""
        plan, dataset, metric, column = place_of(words)
        evidence = gather(self.store, replace(self.request(plan.study), datasets=(dataset,)))
        self.output.sheet(why(findings(evidence, plan, (metric,)), evidence.datasets[0], metric, column))

    def page(self, path: Path) -> None:
        """Everything in one HTML file."""
        from reports.page import page

        write(path, page(self.store, self.request, f"btsr: {self.study or 'results'}"), "--page")

    def sql(self, query: str) -> None:
        """The answer to a query of the user's own."""
        self.output.sheet(answer(self.store, query))

    def export(self, folder: Path) -> None:
        """All tables as Parquet files."""
        for path in to_parquet(self.store, folder):
            typer.echo(f"wrote {path}", err=True)

    def everything(self) -> None:
        """Every table, figure and check; one that cannot be made is named. Raises ConfigError where none can."""
        some = replace(self, strict=False)
        steps: dict[str, Callable[[], None]] = {f"table {n}": partial(self.table, n) for n in PLANS}
        steps |= {f"figure {n}": partial(some.figure, n) for n in figures.FIGURES}
        steps |= {"claims": self.claims, "pareto": some.pareto}
        steps |= {f"effects of {study}": partial(self.effects_of, study) for study in self.switching()}
        refused: dict[str, BtsrError] = {}
        for name, step in steps.items():
            try:
                step()
            except BtsrError as error:
                refused[name] = error
        for words in dict.fromkeys(map(str, refused.values())):
            names = ", ".join(name for name, error in refused.items() if str(error) == words)
            typer.echo(f"skipped {names}: {words}", err=True)
        if len(refused) == len(steps):
            raise ConfigError(f"none of the tables and figures can be made from {self.store.shown}, see above")
        self.output.sheet(audit())
