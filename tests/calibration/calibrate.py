"""How often the harness marks a difference that is not there, and how large one must be to be found.

    make calibrate CALIBRATE="--db runs/btsr.db --dataset ml1m --method sasrec_ce"

The runs are those of the most replicated configuration that fits, five of them if there; without --db they are
invented. Writes outcome.md and the power curve into --out.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import seaborn as sns
import typer
from matplotlib.figure import SubFigure
from rich.console import Console
from rich.progress import track
from scipy import stats

from harness.config import Profile
from harness.errors import BtsrError, ConfigError, told
from reports.draw import Colors, framed, save
from reports.groups import SELECT_ON
from reports.output import made
from reports.sheet import Sheet, sheet_markdown, show_sheet
from reports.stats import LEVEL, paired_t
from tests.calibration.simulate import METRICS, Pool, contests, draw_method, draw_users, invented_pool, pool_of

GAINS: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02, 0.03, 0.04)
RUNS = (5, 3, 2)
"""Of each method; with few the t test leans on the little spread that they show."""
CONFIGURATIONS, OTHERS = 10, 6
"""Settings of alpha and lambda that selection on test chooses from; other methods in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something happened."""

    what: str
    times: int
    of: int

    @property
    def share(self) -> float:
        return self.times / self.of

    @property
    def span(self) -> tuple[float, float]:
        """Exact 95 % interval of the true rate."""
        found = stats.binomtest(self.times, self.of).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def row(self) -> tuple[str, ...]:
        low, high = self.span
        return self.what, f"{self.times:,} of {self.of:,}", f"{self.share:.1%}", f"{low:.1%} to {high:.1%}"


def null_tables(pool: Pool, tables: int, resamples: int, rng: np.random.Generator, n_runs: int = 5) -> list[Rate]:
    """Two methods identical but for the seed: every mark is a false one."""
    counts = dict.fromkeys(("t", "users", "both", "star", "rule", "table", "paper"), 0)
    by_user = sum(name != "cov" for name, _ in METRICS)
    for _ in track(range(tables), f"identical methods, {n_runs} runs each", console=Console(stderr=True)):
        users = draw_users(pool, rng)
        found = contests(*(draw_method(pool, users, rng, n_runs) for _ in range(2)), resamples).values()
        tests = [one.comparison for one in found]
        counts["t"] += sum(one.p_seeds is not None and one.p_seeds < LEVEL for one in tests)
        counts["users"] += sum(one.p_users is not None and one.p_users < LEVEL for one in tests)
        counts["both"] += sum(one.p is not None and one.p < LEVEL for one in tests)
        counts["star"] += sum(one.star == "*" for one in found)
        counts["rule"] += sum(one.star != "" for one in found)
        counts["table"] += any(one.p_holm is not None and one.p_holm < LEVEL for one in found)
        counts["paper"] += any(one.star != "" for one in found)
    rows = tables * len(METRICS)
    return [
        Rate(what="a test over seeds alone has p < 0.05", times=counts["t"], of=rows),
        Rate(what="a test over users alone has p < 0.05", times=counts["users"], of=tables * by_user),
        Rate(what="both tests have p < 0.05 (two-sided)", times=counts["both"], of=rows),
        Rate(what="a row bears * (larger, both tests, after Holm)", times=counts["star"], of=rows),
        Rate(what="a table has any difference significant after Holm", times=counts["table"], of=tables),
        Rate(what="a row bears * or (*) (larger, t test alone, uncorrected)", times=counts["rule"], of=rows),
        Rate(what="a table bears any * or (*)", times=counts["paper"], of=tables),
    ]


def selected_tables(pool: Pool, tables: int, rng: np.random.Generator) -> tuple[list[Rate], dict[str, float]]:
    """Ours has ten settings, the others one each, all identical but for the seed: what choosing ours by its test
    number claims, against choosing it by a number that does not depend on test."""
    rates: list[Rate] = []
    improvements: dict[str, float] = {}
    best = {"test": 0, "validation": 0}
    starred = {"test": 0, "validation": 0}
    gains: dict[str, list[float]] = {"test": [], "validation": []}
    for _ in track(range(tables), "selection", console=Console(stderr=True)):
        users = draw_users(pool, rng)
        settings = [draw_method(pool, users, rng).measured("ndcg", 10).by_seed for _ in range(CONFIGURATIONS)]
        others = [draw_method(pool, users, rng).measured("ndcg", 10).by_seed for _ in range(OTHERS)]
        rival = max(others, key=lambda values: float(values.mean()))
        for how, ours in (("test", max(settings, key=lambda v: float(v.mean()))), ("validation", settings[0])):
            change = float(ours.mean() - rival.mean())
            best[how] += change > 0
            gains[how].append(100 * change / float(rival.mean()))
            p = paired_t(ours - rival)
            starred[how] += change > 0 and p is not None and p < LEVEL
    for how in ("test", "validation"):
        rates.append(Rate(what=f"ours is best in {SELECT_ON}, its setting chosen on {how}", times=best[how], of=tables))
        what = f"ours bears an asterisk (t test alone), its setting chosen on {how}"
        rates.append(Rate(what=what, times=starred[how], of=tables))
        improvements[how] = float(np.mean(gains[how]))
    return rates, improvements


def power_curve(pool: Pool, tables: int, resamples: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """(true relative gain in ndcg@10, share of tables with * in that row, share with * or (*)) by gain."""
    out = []
    for gain in track(GAINS, "power", console=Console(stderr=True)):
        stars, rule, changes = 0, 0, []
        for _ in range(tables):
            users = draw_users(pool, rng)
            ours, theirs = draw_method(pool, users, rng, gain=gain), draw_method(pool, users, rng)
            contest = contests(ours, theirs, resamples)["ndcg", 10]
            base = float(theirs.measured("ndcg", 10).by_seed.mean())
            changes.append(contest.comparison.difference / base)
            stars += contest.star == "*"
            rule += contest.star != ""
        out.append((float(np.mean(changes)), stars / tables, rule / tables))
    return out


def draw_power(curve: Sequence[tuple[float, float, float]], words: str, folder: Path) -> None:
    """The power curve as PNG, SVG and PDF."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        axes = figure.subplots()
        gains = [100 * gain for gain, _, _ in curve]
        for i, label in ((1, "* (both tests, after Holm)"), (2, "* or (*) (t test alone)")):
            sns.lineplot(x=gains, y=[point[i] for point in curve], ax=axes, color=colors[i], marker="o", label=label)
        axes.legend(loc="center right", frameon=False)
        axes.axhline(LEVEL, color="0.5", linewidth=0.7, linestyle=(0, (4, 2)))
        axes.set(xlabel="true gain in NDCG@10, %", ylabel="share of tables marked", ylim=(-0.02, 1.02))

    title, caption = "How large a gain is found with five runs", (f"resampled from {words}",)
    save(framed(2.6, title, caption, fill), folder / "power")


def main(
    db: Annotated[str | None, typer.Option(help="Results database with real runs [default: invented runs].")] = None,
    study: Annotated[str | None, typer.Option(help="With --db: only runs of this study.")] = None,
    dataset: Annotated[str | None, typer.Option(help="With --db: only runs on this data set.")] = None,
    method: Annotated[str | None, typer.Option(help="With --db: only runs of this method.")] = None,
    profile: Annotated[Profile | None, typer.Option(help="With --db: only runs of this profile.")] = None,
    tables: Annotated[int, typer.Option(min=1)] = 1000,
    resamples: Annotated[int, typer.Option(min=99, help="Permutations of users in each test.")] = 999,
    seed: int = 0,
    out: Path = Path("runs/calibration"),
) -> None:
    """Simulate, print the rates, write outcome.md and power.png."""
    gc.freeze()  # Holm in statsmodels collects garbage at every call: leave what is here out of it
    rng = np.random.default_rng(seed)
    if db is None and any((study, dataset, method, profile)):
        raise ConfigError("--study, --dataset, --method and --profile choose among the runs of a database: add --db")
    if db is None:
        pool = invented_pool(rng)
    else:
        pool = pool_of(db, study=study, dataset=dataset, method=method, profile=profile)
    if len(pool.rank) < 2:
        raise ConfigError(f"{pool.words}: too few to resample, at least two with different seeds are needed")
    made(out)  # before minutes of work
    rates = {n: null_tables(pool, tables, resamples, rng, n) for n in RUNS}
    chosen, improvements = selected_tables(pool, tables, rng)
    curve = power_curve(pool, max(1, tables // 5), resamples, rng)
    sheets = (
        *(
            Sheet(
                name=f"null{n}",
                title=f"Identical methods, {n} runs each, {tables:,} tables of {len(METRICS)} rows",
                header=("what", "times", "rate", "95 % interval of the rate"),
                rows=tuple(rate.row() for rate in found),
                footnotes=(f"Resampled from {pool.words}; every mark is a false one.",),
            )
            for n, found in rates.items()
        ),
        Sheet(
            name="selection",
            title=f"Identical methods, ours chosen from {CONFIGURATIONS} settings, against the best of {OTHERS} others",
            header=("what", "times", "rate", "95 % interval of the rate"),
            rows=tuple(rate.row() for rate in chosen),
            footnotes=tuple(
                f"Mean Improve in {SELECT_ON} with the setting chosen on {how}: {value:+.1f} %."
                for how, value in improvements.items()
            ),
        ),
        Sheet(
            name="power",
            title=f"Power in the row {SELECT_ON}, five runs each",
            header=("true gain", "marked *", "marked * or (*)"),
            rows=tuple((f"{gain:+.1%}", f"{stars:.1%}", f"{rule:.1%}") for gain, stars, rule in curve),
        ),
    )
    for sheet in sheets:
        show_sheet(sheet, Console())
    (out / "outcome.md").write_text("\n".join(map(sheet_markdown, sheets)), encoding="utf-8")
    draw_power(curve, pool.words, out)


if __name__ == "__main__":
    try:
        typer.run(main)
    except BtsrError as error:
        typer.echo(f"calibrate: {told(error, '--db')}", err=True)
        raise SystemExit(2) from None
