"""One self-contained HTML file: tables, figures, checks, and all runs with their learning curves and provenance.

It needs no network and opens from disk. Everything it holds is escaped; pictures and numbers are inside.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from harness.errors import BtsrError, ConfigError
from harness.options import is_search
from harness.store import Store
from harness.stored import TrialRow
from reports.audit import audit
from reports.claims import claims, gathered
from reports.cost import costs
from reports.dial import dial, presets
from reports.draw import svg
from reports.draw_dial import draw_front, draw_interaction
from reports.draw_search import draw_search
from reports.effects_sheet import SWITCHING, effects_sheet
from reports.figures import FIGURES, drawn
from reports.findings import findings
from reports.names import dataset_title, method_title
from reports.plans import PLANS, TABLE2
from reports.render import html
from reports.results import Evidence, Request, gather, narrowed, of_each
from reports.sheet import sheet_html, templates
from reports.summary import counted, table_summary
from reports.tables import build
from reports.verdict import verdicts
from reports.why import origins

CURVE_METRIC = "ndcg@10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page: words that are already HTML."""

    key: str
    title: str
    body: str


class Notes:
    """What the parts of the page have to tell its first and its last."""

    def __init__(self) -> None:
        self.summary: list[str] = []
        self._skipped: dict[str, list[str]] = {}

    def skip(self, what: str, error: BtsrError) -> None:
        """Something could not be made."""
        self._skipped.setdefault(str(error), []).append(what)

    @property
    def skipped(self) -> list[str]:
        """What could not be made, and why: each reason once."""
        return [f"{', '.join(names)}: {reason}" for reason, names in self._skipped.items()]


def _table_sections(store: Store, request: Callable[[str], Request], notes: Notes) -> Iterator[Section]:
    for number, plan in PLANS.items():
        try:
            found = findings(gather(store, narrowed(request(plan.study), plan.datasets)), plan)
        except BtsrError as error:
            notes.skip(f"Table {number}", error)
            continue
        table, verdict = build(found), verdicts(found, alone=False)
        parts = [html(table)]
        folded = {"Ours beside published, cell by cell": verdict, "Where the cells come from": origins(found)}
        if plan is TABLE2:
            notes.summary += table_summary(found, table)
            if verdict.rows:
                notes.summary.append(counted("Printed values of table 2 beside ours", verdict))
        for summary, sheet in folded.items():
            if sheet.rows:
                parts.append(f"<details><summary>{summary}</summary>{sheet_html(sheet)}</details>")
        yield Section(key=f"table-{number}", title=f"Table {number}", body="\n".join(parts))


def _figure_sections(store: Store, request: Callable[[str], Request], notes: Notes) -> Iterator[Section]:
    for number, plan in FIGURES.items():
        try:
            made = drawn(number, store, request)
        except BtsrError as error:
            notes.skip(f"Figure {number}", error)
            continue
        for reason in (*made.refused, *made.absent):
            notes.skip(f"Figure {number}", reason)
        for one in made.pictures:
            what = f"{plan.what.split(',')[0]}, {dataset_title(one.dataset)}" if one.dataset else plan.what
            yield Section(key=one.stem, title=f"Figure {number}: {what}", body=picture(one.figure, what))


def picture(figure: Figure, what: str) -> str:
    """An image element with the figure as SVG inside it and its words as the alternative text."""
    words = [text.get_text() for part in figure.subfigs for text in part.texts]
    alternative = " ".join(f"{what}. {' '.join(words)}".split())
    source = b64encode(svg(figure).encode()).decode("ascii")
    return templates().get_template("picture.html").render(source=source, alternative=alternative)


def _dial_section(store: Store, request: Callable[[str], Request]) -> Section:
    """Pareto front, interaction and what the rules with a name pick, of the study that varies alpha and lambda.

    Where it has no two settings anywhere, of the first study that has; where none has, a search's front, or what to run
    for it.
    """
    parts: list[str] = []
    lacking: list[str] = []
    for place, study in enumerate(dict.fromkeys(request(name).study for name in ("alpha_lambda", *store.studies()))):
        try:
            evidence = gather(store, request(study))
            datasets = evidence.datasets if request(study).datasets else evidence.finished
            found, refused = of_each(datasets, partial(dial, evidence))
            reasons = [str(reason) for reason in refused]
        except BtsrError as error:
            found, reasons = [], [str(error)]
        if found or place == 0:
            lacking += reasons
        for one in found:
            front = f"Pareto front over alpha and lambda, {dataset_title(one.dataset)}"
            parts.append(picture(draw_front(evidence, one), front))
            interaction = draw_interaction(evidence, one)
            if interaction is not None:
                parts.append(picture(interaction, f"Interaction of alpha and lambda, {dataset_title(one.dataset)}"))
        if found:
            parts.append(sheet_html(presets(evidence, found)))
            break
    if not parts:
        parts += _search_fronts(store, request)
    if not parts:
        lacking.insert(0, "No study here varies alpha and lambda enough to choose between precision and coverage.")
    parts.append(templates().get_template("sentences.html").render(sentences=lacking))
    return Section(key="dial", title="The dial: precision against coverage", body="\n".join(parts))


def _search_fronts(store: Store, request: Callable[[str], Request]) -> list[str]:
    """Of the first search that has any."""
    for study in filter(is_search, dict.fromkeys(request(name).study for name in store.studies())):
        try:
            evidence = gather(store, request(study))
        except BtsrError:
            continue
        datasets = evidence.datasets if request(study).datasets else evidence.finished
        fronts, _ = of_each(datasets, partial(_search_front, evidence))
        if fronts:
            return fronts
    return []


def _search_front(evidence: Evidence, dataset: str) -> str:
    return picture(draw_search(evidence, dataset), f"Front of the search, {dataset_title(dataset)}")


def _checks(store: Store, request: Callable[[str], Request], notes: Notes) -> Iterator[Section]:
    try:
        sheet = claims(gathered(store, request))
    except BtsrError as error:
        notes.skip("Claims", error)
    else:
        notes.summary.append(counted("What the paper's text says, in our results", sheet))
        yield Section(key="text-claims", title="What the text says", body=sheet_html(sheet))
    yield Section(key="text-audit", title="Published numbers, recomputed", body=sheet_html(audit()))


def _effect_sections(store: Store, request: Callable[[str], Request], notes: Notes) -> Iterator[Section]:
    for study in dict.fromkeys(request(study).study for study in SWITCHING):
        try:
            sheet = effects_sheet(store, request(study))
        except BtsrError as error:
            notes.skip(f"Effects of {study}", error)
            continue
        yield Section(key=f"text-effects-{study}", title=f"Effects, study {study}", body=sheet_html(sheet))


def _cost_sections(store: Store) -> Iterator[Section]:
    found = costs(store)
    if found.rows:
        yield Section(key="text-costs", title="Expected and actual cost", body=sheet_html(found))


def run_list(store: Store) -> list[dict[str, object]]:
    """One entry for each trial that ended, of all studies and profiles: they are listed, not averaged."""
    rows = store.trials(status=None)
    tests = store.metrics([row.key for row in rows], part="test", names=("ndcg", "hr", "cov"))
    return [_run(store, row, {(m.name, m.k, m.bucket): m.value for m in tests.get(row.key, ())}) for row in rows]


def _run(store: Store, row: TrialRow, test: dict[tuple[str, int, int], float | None]) -> dict[str, object]:
    epochs = store.epochs(row.key)
    entry: dict[str, object] = {
        "key": row.key,
        "dataset": dataset_title(row.spec.data.dataset),
        "method": method_title(row.spec.method),
        "profile": row.spec.profile,
        "loss": row.spec.loss.kind,
        "alpha": row.spec.aux.alpha,
        "lambda": row.spec.aux.lam,
        "seed": row.spec.seed,
        "status": row.status,
        "epochs": row.last_epoch,
        "ndcg": test.get(("ndcg", 10, 0)),
        "hr": test.get(("hr", 10, 0)),
        "cov": test.get(("cov", 10, 0)),
        "curve": {
            "epoch": [log.epoch for log in epochs],
            "loss": [round(log.loss, 5) for log in epochs],
            "valid": [log.valid.get(CURVE_METRIC) for log in epochs],
            "best": row.best_epoch,
        },
        "error": row.error,
        "origin": "",
    }
    if row.status == "done":
        origin = store.provenance(row.key)
        entry["origin"] = (
            f"git {origin.git_revision or 'unknown'}{' with changes' if origin.git_dirty else ''}; {origin.host}, "
            f"{origin.device}, {origin.precision}, {origin.kernels}; started {origin.started}; "
            f"{origin.seconds.get('total', 0.0):.1f} s; {origin.command}"
        )
    return entry


def page(store: Store, request: Callable[[str], Request], title: str) -> str:
    """The whole file. `request` says what to gather of a study. Raises ConfigError where no trial has ended yet."""
    if not store.trials(status=None):
        raise ConfigError(f"no trial in {store.shown} has ended yet, there is nothing to show: run btsr-sweep first")
    notes = Notes()
    sections = [
        *_table_sections(store, request, notes),
        *_figure_sections(store, request, notes),
        _dial_section(store, request),
        *_effect_sections(store, request, notes),
        *_checks(store, request, notes),
        *_cost_sections(store),
    ]
    runs = run_list(store)
    data = json.dumps(runs, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    counts = {status: sum(run["status"] == status for run in runs) for status in ("done", "failed", "pruned")}
    environment = templates()
    assert environment.loader is not None
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        title=title,
        style=style,
        script=script,
        data=data,
        sections=sections,
        summary=notes.summary,
        skipped=notes.skipped,
        counts=counts,
        studies=store.studies(),
        where=store.shown,
        columns=COLUMNS,
        filters=FILTERS,
        choices={key: sorted({str(run[key]) for run in runs}) for key in FILTERS},
    )


COLUMNS: tuple[tuple[str, str], ...] = (
    ("dataset", "data set"),
    ("method", "method"),
    ("profile", "profile"),
    ("loss", "base loss"),
    ("alpha", "alpha"),
    ("lambda", "lambda"),
    ("seed", "seed"),
    ("status", "status"),
    ("epochs", "epochs"),
    ("ndcg", "ndcg@10"),
    ("hr", "hr@10"),
    ("cov", "cov@10"),
)
"""Key and title of the run list's columns."""

FILTERS: tuple[str, ...] = ("dataset", "method", "profile", "status")
"""Columns with a menu."""
