"""The comparison as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from harness.values import Split
from tests.peers.job import Fitted, Place

TOLERANCE = 1e-9
"""Largest difference between two programs' values of one metric of one list."""

SHOWN: tuple[tuple[str, int], ...] = (("ndcg", 10), ("hr", 10), ("cov", 10))
TITLES = {"btsr": "btsr", "rectools": "RecTools"}

SAME = """\
Both programs get the same split (btsr's: one boundary in time, released profile), the same evaluated users, the same
width, blocks, heads, length, dropout, batch, Adam (1e-3, betas 0.9 and 0.98) and number of epochs; the last epoch's
weights are evaluated, none is chosen on validation. BCE takes the mean over the positive and its negatives in both.
Lists hold unseen items only, and btsr's metrics measure both programs' lists.

What differs, as each program has it: RecTools starts all matrices from Xavier-normal draws, btsr from Xavier-uniform
ones and scales embeddings by sqrt(D); RecTools draws negatives from the whole catalogue, btsr leaves the user's own
items out; RecTools numbers positions from the end; its catalogue has only the items of some training window.

The budget is short: the table says how far each program comes in so many epochs, not where it ends, and differences of
a standard error or two between single seeds mean nothing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Both programs' values of the metrics of one list of recommendations."""

    name: str
    ours: Mapping[Place, float]
    theirs: Mapping[Place, float]

    def __post_init__(self) -> None:
        lacking = set(self.theirs) - set(self.ours)
        assert self.theirs and not lacking, f"{self.name}: {lacking} were not measured by us"

    def differences(self, metric: str) -> list[float]:
        """Absolute, over every K and bucket that both have."""
        return [abs(self.ours[place] - value) for place, value in self.theirs.items() if place[0] == metric]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(metric for metric, _, _ in self.theirs))

    @property
    def worst(self) -> float:
        return max(max(self.differences(metric)) for metric in self.metrics)


def render(
    split: Split,
    done: Sequence[Fitted],
    agreements: Sequence[Agreement],
    *,
    machine: Mapping[str, str],
    command: str,
    date: str,
    revision: str,
) -> str:
    """The whole file."""
    fit = done[0].fit
    return "\n".join([
        "# btsr against RecTools on ML-1M",
        "",
        f"`{command}` (`make peers`), {date}, reported at revision {revision}; "
        f"{machine['processor']}, {machine['cores']} cores, {fit.threads} thread{'s' * (fit.threads > 1)} a training.",
        "",
        "## The same lists, both programs' metrics",
        "",
        f"Lists of 50 for {split.n_test_users:,} users. Largest absolute difference over K = 1, 5, 10, 20, 50 and, for "
        "hr, ndcg, mrr and cov, over all users and the users of each popularity bucket.",
        "",
        *_agreement(agreements),
        "",
        "RecTools' names: HitRate, NDCG with `divide_by_achievable`, MRR, CatalogCoverage with `normalize`, "
        "MeanInvUserFreq (novelty), AvgRecPopularity (arp).",
        "",
        "## SASRec with the same budget",
        "",
        SAME,
        *_quality(split, done, {agreement.name: agreement for agreement in agreements}),
        "",
        f"{fit.epochs} epochs; T = {fit.max_len}, D = {fit.dim}, {fit.blocks} blocks, {fit.heads} head, dropout "
        f"{fit.dropout:g}, batch {fit.batch_size}, {fit.negatives} negatives a position for BCE; "
        f"{split.n_train_users:,} training users, {split.n_items:,} items, data {split.fingerprint[:8]}. "
        "± is the standard error over the users of one training. Seconds are those of the whole training, processor "
        "time and by the clock; other programs may have shared the machine, so compare processor time.",
        "",
        "## Versions",
        "",
        *_versions(done),
        "",
    ])


def _agreement(agreements: Sequence[Agreement]) -> list[str]:
    metrics = agreements[0].metrics
    head = ["| lists of | " + " | ".join(metrics) + " | values |", "|---" * (len(metrics) + 2) + "|"]
    rows = [
        f"| {a.name} | " + " | ".join(f"{max(a.differences(m)):.1e}" for m in metrics) + f" | {len(a.theirs)} |"
        for a in agreements
    ]
    return head + rows


def _quality(split: Split, done: Sequence[Fitted], of: Mapping[str, Agreement]) -> list[str]:
    names = " | ".join(f"{name}@{k}" for name, k in SHOWN)
    rows = [f"| loss | program | seed | {names} | processor s | clock s | items |", "|---" * (len(SHOWN) + 6) + "|"]
    for one in done:
        values = {metric: of[one.fit.name].ours[*metric, 0] for metric in SHOWN}
        shown = [f"{value:.4f}{_error(name, value, split.n_test_users)}" for (name, _), value in values.items()]
        rows.append(
            f"| {one.fit.loss.upper()} | {TITLES[one.fit.program]} | {one.fit.seed} | {' | '.join(shown)} | "
            f"{one.cpu_seconds:.0f} | {one.seconds:.0f} | {one.items:,} |"
        )
    for loss in dict.fromkeys(one.fit.loss for one in done):
        mean = {
            program: fmean(
                of[o.fit.name].ours["ndcg", 10, 0] for o in done if (o.fit.loss, o.fit.program) == (loss, program)
            )
            for program in TITLES
        }
        rows += ["", f"{loss.upper()}: btsr's ndcg@10 is {mean['btsr'] / mean['rectools']:.2f} times RecTools'."]
    return rows


def _error(name: str, value: float, users: int) -> str:
    """Standard error of a share of users."""
    return f" ± {sqrt(value * (1 - value) / users):.4f}" if name == "hr" else ""


def _versions(done: Sequence[Fitted]) -> list[str]:
    found = {one.fit.program: one.versions for one in done}
    return [
        f"- {TITLES[program]}: " + ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))
        for program, versions in found.items()
    ]
