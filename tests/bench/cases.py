"""What is measured against what, and what the targets are: tables, no code that runs anything."""

from dataclasses import dataclass, field, replace
from typing import Literal

from tests.bench.job import OVERHEADS, Job, Overhead, Work
from tests.data import checkins

ENGINE = "tests.bench.drive_ours"
REFERENCE = "tests.bench.drive_reference"
OVERHEAD = "tests.bench.drive_overhead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One row of the result tables."""

    title: str
    module: str
    environment: Literal["own", "peers"] = "own"
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables besides the thread counts."""
    precision: Literal["fp32", "bf16"] = "fp32"
    distributions: tuple[str, ...] = ("torch", "numpy", "pyarrow")
    """Installed packages whose versions its measurements are of."""
    detached: bool = False
    """It starts processes that are no children of its own, whose processor time cannot be told from others'."""


TUNED_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps big blocks instead of returning them: no page faults on every tensor."""
OFF, AUTO = {"BTSR_KERNELS": "off"}, {"BTSR_KERNELS": "auto"}

PROGRAMS: dict[str, Program] = {
    "btsr": Program(title="btsr, torch, fp32", module=ENGINE, variables=OFF),
    "btsr-bf16": Program(title="btsr, torch, bf16", module=ENGINE, variables=OFF, precision="bf16"),
    "btsr-kernels": Program(title="btsr, kernels, fp32", module=ENGINE, variables=AUTO),
    "btsr-kernels-bf16": Program(title="btsr, kernels, bf16", module=ENGINE, variables=AUTO, precision="bf16"),
    "reference": Program(title="padded reference", module=REFERENCE),
    "reference-tuned": Program(
        title="padded reference, tuned (malloc + bf16)", module=REFERENCE, variables=TUNED_MALLOC, precision="bf16"
    ),
    **{
        f"sweep-{executor}": Program(
            title=f"btsr-sweep, {title}",
            module=OVERHEAD,
            variables={"BENCH_EXECUTOR": executor},
            distributions=("torch", "numpy", "ray", "optuna", "sqlalchemy"),
            detached=executor == "ray",
        )
        for executor, title in (("ray", "Ray"), ("local", "plain processes"))
    },
    "rectools": Program(
        title="RecTools",
        module="tests.bench.drive_rectools",
        environment="peers",
        distributions=("rectools", "torch", "pytorch-lightning", "numpy", "pandas"),
    ),
    "recbole": Program(
        title="RecBole",
        module="tests.bench.drive_recbole",
        environment="peers",
        distributions=("recbole", "torch", "numpy", "pandas"),
    ),
}
TORCH = ("btsr", "btsr-bf16")
KERNELS = ("btsr-kernels", "btsr-kernels-bf16")
OURS = TORCH + KERNELS
SWEEPS = ("sweep-ray", "sweep-local")
PADDED = ("reference", "reference-tuned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One piece of work, done by several programs in turn."""

    title: str
    data: str
    work: Work
    programs: tuple[str, ...]
    loss: Literal["ce", "bt"] = "ce"
    max_len: int = 50
    batches: dict[str, int] = field(default_factory=dict)
    """Measured batches of the programs that are too slow for whole epochs."""
    warm_batches: int = 3
    """Batches before the clock starts, of programs that have no whole epoch for it."""
    eval_users: dict[str, int] = field(default_factory=dict)
    """Validated users of the programs that are too slow for all of them."""
    trials: int = 8
    """Trials of a sweep, over all workers; of an overhead, all trials."""
    most_rounds: int = 1_000
    quick_data: str = ""
    """Data of a quick run where its few users cannot be taken out of `data`."""
    scale: str = ""
    """What grows along a group of cases that differ in size only; its report is a growth table."""

    def data_name(self, *, quick: bool) -> str:
        """Name of its data set; "" without data."""
        return (quick and self.quick_data) or self.data

    def job(self, program: str, folder: str, *, quick: bool = False) -> Job:
        """What the program is asked to do; quick: with few users, batches and trials, to show that it works."""
        alone = self.work == "sweep" or self.work in OVERHEADS
        job = Job(
            data=folder,
            work=self.work,
            loss=self.loss,
            max_len=self.max_len,
            threads=1 if alone else 2,
            batches=self.batches.get(program, 0),
            warm_batches=self.warm_batches,
            eval_users=self.eval_users.get(program, 0),
            precision=PROGRAMS[program].precision,
            trials=self.trials if self.work in OVERHEADS else self.trials // SWEEP_WORKERS,
        )

        trials = min(3, self.trials) if self.work in OVERHEADS else 1
        few = replace(job, users=384, batches=1, warm_batches=1, eval_users=256, trials=trials)
        return few if quick else job


SWEEP_WORKERS = 2
"""Worker processes of a sweep, one thread each."""


def _profile(title: str, data: str, loss: Literal["ce", "bt"] = "ce") -> Case:
    """Where the time of an epoch goes, by torch alone and by the quickest."""
    programs = ("btsr", "btsr-kernels-bf16")
    full = f"{title}, profile of a training epoch"
    return Case(title=full, data=data, work="profile", loss=loss, programs=programs, most_rounds=1)


def _few(batches: int, *names: str) -> dict[str, int]:
    return dict.fromkeys(names, batches)


def _growth(
    parameter: str, data: str, batches: dict[str, int], *peers: str, max_len: int = 50, warm_batches: int = 3
) -> Case:
    return Case(
        title=f"CE epoch, synthetic, {parameter}",
        data=data,
        work="train",
        max_len=max_len,
        programs=("btsr", *KERNELS, *PADDED, *peers),
        batches=batches,
        warm_batches=warm_batches,
        scale=parameter.split(" = ")[0],
    )


def _preparation(rows: int) -> Case:
    return Case(
        title=f"Preparing {rows:,} check-ins in SNAP's layout",
        data=f"checkins{rows}",
        work="prepare",
        programs=("btsr", "rectools", "recbole"),
        quick_data="checkins20000",
    )


def _overhead(work: Overhead, title: str) -> Case:
    return Case(
        title=title, data="", work=work, loss="bt", programs=SWEEPS, trials=1 if work in {"start", "whole"} else 100
    )


CASES: dict[str, Case] = {
    "ml1m-ce": Case(
        title="ML-1M, CE, training epoch",
        data="ml1m",
        work="train",
        programs=(*OURS, *PADDED, "rectools", "recbole"),
        batches={"recbole": 3},
    ),
    "ml1m-profile": _profile("ML-1M, CE", "ml1m"),
    "ml1m-bt-profile": _profile("ML-1M, CE + Barlow Twins", "ml1m", loss="bt"),
    "ml1m-bt": Case(
        title="ML-1M, CE + Barlow Twins, training epoch",
        data="ml1m",
        work="train",
        loss="bt",
        programs=(*OURS, *PADDED),
    ),
    "ml1m-eval": Case(
        title="ML-1M, evaluation of all users, top 50",
        data="ml1m",
        work="evaluate",
        programs=("btsr", *KERNELS, *PADDED, "rectools", "recbole"),
    ),
    "ml1m-sweep": Case(
        title="ML-1M, sweep of 8 CE + Barlow Twins trials with validation, one trial-epoch of a worker",
        data="ml1m",
        work="sweep",
        loss="bt",
        programs=("btsr", *KERNELS, *PADDED),
        batches=_few(8, *PADDED),
    ),
    "beauty-ce": Case(
        title="Beauty, CE, training epoch",
        data="beauty",
        work="train",
        programs=(*OURS, *PADDED, "rectools", "recbole"),
        batches=_few(15, *PADDED, "rectools") | {"recbole": 4},
    ),
    "beauty-profile": _profile("Beauty, CE", "beauty"),
    "beauty-bt": Case(
        title="Beauty, CE + Barlow Twins, training epoch",
        data="beauty",
        work="train",
        loss="bt",
        programs=(*OURS, *PADDED),
        batches=_few(12, *PADDED),
    ),
    "beauty-eval": Case(
        title="Beauty, evaluation of all users, top 50",
        data="beauty",
        work="evaluate",
        programs=("btsr", *KERNELS, *PADDED, "rectools", "recbole"),
    ),
    "beauty-sweep": Case(
        title="Beauty, sweep of 8 CE + Barlow Twins trials with validation, one trial-epoch of a worker",
        data="beauty",
        work="sweep",
        loss="bt",
        programs=("btsr", *KERNELS, *PADDED),
        batches=_few(6, *PADDED),
        eval_users=_few(4_096, *PADDED),
    ),
    "beauty54k-ce": Case(
        title="Synthetic of Beauty's unfiltered shape (40,226 users, 54,542 items), CE, training epoch",
        data="beauty54k",
        work="train",
        programs=(*OURS, *PADDED),
        batches=_few(4, *PADDED) | _few(60, *OURS),
    ),
    "overhead-each": _overhead("each", "Sweep of 100 tiny trials, each trial beyond the bare `run_trial`"),
    "overhead-start": _overhead("start", "Sweep of one tiny trial until it is recorded, beyond the bare `run_trial`"),
    "overhead-whole": _overhead(
        "whole", "Sweep of one tiny trial beyond the bare `run_trial`: start, pictures and end"
    ),
    "overhead-idle": _overhead("idle", "Sweep of 100 trials that are all done: nothing to do"),
    "gowalla-prepare": _preparation(checkins.ROWS),
    "gowalla-tenth-prepare": _preparation(checkins.ROWS // 10),
    **{
        f"items-1e{n}": _growth(f"items = 10^{n}", f"items{n}", batches, "rectools", "recbole", warm_batches=warm)
        for n, batches, warm in (
            (4, _few(3, "rectools", "recbole"), 3),
            (5, _few(4, "btsr", *KERNELS) | _few(2, *PADDED, "rectools", "recbole"), 1),
            (6, _few(2, "btsr", *KERNELS) | _few(1, *PADDED, "rectools", "recbole"), 1),
        )
    },
    **{f"users-{n}": _growth(f"users = {n:,}", f"users{n}", _few(6, *PADDED)) for n in (2_048, 8_192, 32_768)},
    **{f"length-{n}": _growth(f"length = {n}", "long", _few(2, *PADDED), max_len=n) for n in (50, 100, 200, 400)},
}
"""Every case by name, in the order in which they are run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One promise: a ratio against a peer, or a bound on peak memory or on seconds."""

    case: str
    ours: tuple[str, ...]
    peer: str = ""
    """Program whose seconds are divided by ours; empty: a bound on what we take."""
    unit: Literal["MiB", "s"] = "MiB"
    """Of a bound: peak memory, or seconds."""
    least: float | None = None
    """Lowest ratio, or highest MiB or seconds, that keeps the promise; None: only an aim."""
    aim: float | None = None


TARGETS: tuple[Target, ...] = (
    Target(case="ml1m-ce", ours=TORCH, peer="rectools", least=6),
    Target(case="ml1m-ce", ours=KERNELS, peer="rectools", least=12, aim=20),
    Target(case="ml1m-ce", ours=TORCH, peer="reference", least=6),
    Target(case="ml1m-ce", ours=KERNELS, peer="reference", least=12, aim=20),
    Target(case="ml1m-bt", ours=TORCH, peer="reference", least=4),
    Target(case="ml1m-bt", ours=KERNELS, peer="reference", least=8, aim=14),
    Target(case="beauty-ce", ours=TORCH, peer="rectools", least=50),
    Target(case="beauty-ce", ours=KERNELS, peer="rectools", aim=170),
    Target(case="beauty-ce", ours=TORCH, peer="recbole", least=30),
    Target(case="beauty-ce", ours=KERNELS, peer="recbole", aim=95),
    Target(case="beauty-ce", ours=TORCH, peer="reference", least=20),
    Target(case="beauty-ce", ours=KERNELS, peer="reference", aim=60),
    Target(case="ml1m-eval", ours=("btsr",), peer="recbole", least=1.5),
    Target(case="ml1m-eval", ours=KERNELS, peer="recbole", aim=3.8),
    Target(case="beauty-eval", ours=("btsr",), peer="recbole", least=4),
    Target(case="beauty-eval", ours=KERNELS, peer="recbole", aim=11),
    Target(case="ml1m-ce", ours=TORCH, least=450),
    Target(case="ml1m-ce", ours=KERNELS, least=450, aim=300),
    Target(case="beauty54k-ce", ours=TORCH, peer="reference", least=30),
    Target(case="beauty54k-ce", ours=KERNELS, peer="reference", aim=75),
    Target(case="beauty54k-ce", ours=KERNELS, least=500),
    Target(case="ml1m-sweep", ours=("btsr",), peer="reference", least=4),
    Target(case="ml1m-sweep", ours=KERNELS, peer="reference", aim=10),
    Target(case="overhead-each", ours=SWEEPS, unit="s", least=0.2),
    Target(case="overhead-start", ours=SWEEPS, unit="s", least=8),
    Target(case="overhead-idle", ours=SWEEPS, unit="s", least=1.5),
    Target(case="gowalla-prepare", ours=("btsr",), least=3 * 1024),
)
"""Two cores, D = 64, two blocks, batch 128, T = 50; medians of ratios, peers as shipped."""
