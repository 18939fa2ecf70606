"""What trials were expected to take before a sweep began, beside what they took."""

from collections.abc import Iterator
from statistics import median

from harness.store import Store
from harness.values import Estimate
from reports.names import dataset_title, method_title
from reports.sheet import Sheet

HEADER = (
    "study",
    "data set",
    "method",
    "profile",
    "trials",
    "expected s",
    "took s (median)",
    "took / expected",
    "expected MiB",
    "took MiB (most)",
    "expected from",
)


def costs(store: Store) -> Sheet:
    """A row for every study, data set, method and profile with an estimate; empty where none was ever made."""
    rows = [row for study in store.studies() for row in _rows(store, study)]
    return Sheet(
        name="costs",
        title="Cost of a trial, expected before the sweep and measured in it",
        header=HEADER,
        rows=tuple(rows),
        footnotes=(
            "Expected: what the first start that had an estimate knew, by --calibrate or from finished trials of the "
            "same kind; where these are of the study itself, they are among those that it is compared with. Seconds "
            "are those of one trial on one worker.",
        ),
    )


def _rows(store: Store, study: str) -> Iterator[tuple[str, ...]]:
    estimates = store.estimates(study)
    if not estimates:
        return
    done = {key for key, status in store.statuses().items() if status == "done"}
    specs = [spec for spec in store.study(study).specs if spec.key in done]
    for estimate in estimates:
        cell = (estimate.dataset, estimate.method, estimate.profile)
        keys = [spec.key for spec in specs if (spec.data.dataset, spec.method, spec.profile) == cell]
        yield _row(store, study, estimate, keys)


def _row(store: Store, study: str, estimate: Estimate, keys: list[str]) -> tuple[str, ...]:
    took = [store.provenance(key) for key in keys]
    seconds = median(each.seconds.get("total", 0.0) for each in took) if took else None
    return (
        study,
        dataset_title(estimate.dataset),
        method_title(estimate.method),
        estimate.profile,
        str(len(took)),
        f"{estimate.seconds:,.1f}",
        "" if seconds is None else f"{seconds:,.1f}",
        "" if seconds is None or not estimate.seconds else f"{seconds / estimate.seconds:.2f}",
        f"{estimate.peak_mib:,.0f}",
        f"{max(each.peak_mib for each in took):,.0f}" if took else "",
        estimate.source,
    )
