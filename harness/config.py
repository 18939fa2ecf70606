"""Typed configuration of a trial and of a study, and the key that identifies a trial.

Everything here is frozen, refuses unknown fields and imports neither torch nor ray nor pandas.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from models.config import AuxConfig, EncoderConfig, Frozen, LossConfig

NUMERICS = 1
"""Raised whenever the same specification gives other numbers than before; part of every key."""

SEEDS: tuple[int, ...] = (1235, 37, 2451, 12, 3425)
"""The five seeds of the reference runs (spec 1.5), the same for all methods, so that runs pair by seed."""

PAPER_DATASETS: tuple[str, ...] = ("ml1m", "yelp", "gowalla", "beauty", "kindle_store")
"""What ``--dataset all`` means (spec 8, I1: Beauty, not Behance)."""

Profile = Literal["paper", "released"]
Filter = Literal["none", "one_pass", "iterative"]


class DataConfig(Frozen):
    """Which interactions are used and how they are split (spec 6.1)."""

    dataset: Annotated[str, Field(min_length=1, description="registry key, such as ml1m")]
    filter: Annotated[
        Filter,
        Field(description="none; one_pass: items by distinct users, then users by distinct items; iterative: k-core"),
    ] = "iterative"
    min_item: Annotated[int, Field(ge=1, description="an item needs this many")] = 5
    min_user: Annotated[int, Field(ge=1, description="a user needs this many")] = 5
    quantile: Annotated[float, Field(gt=0, lt=1, description="the boundary is this quantile of all time stamps")] = 0.95
    tie: Annotated[
        Literal["stable", "random"],
        Field(description="order among equal times of a user: the raw file's rows, or drawn at random (seed 0)"),
    ] = "stable"

    @model_validator(mode="after")
    def _no_idle_filter(self) -> Self:
        if self.filter == "none" and (self.min_item, self.min_user) != (1, 1):
            raise ValueError("filter='none' drops nothing: set min_item=1 and min_user=1, or choose a filter")
        return self


class TrainConfig(Frozen):
    """How a model is trained (spec 1.4)."""

    batch_size: Annotated[int, Field(ge=1, description="sequences per step; clamped to the training users")] = 128
    lr: Annotated[float, Field(gt=0, description="Adam learning rate")] = 0.001
    beta2: Annotated[float, Field(gt=0, lt=1, description="Adam's second beta")] = 0.98
    weight_decay: Annotated[float, Field(ge=0, description="Adam's L2 weight decay")] = 0.0
    max_epochs: Annotated[int, Field(ge=1, description="upper bound of epochs")] = 200
    patience: Annotated[int, Field(ge=1, description="stop after this many validations without improvement")] = 10
    validate_every: Annotated[int, Field(ge=1, description="epochs between validations")] = 1


class TrialSpec(Frozen):
    """One training run: everything that decides its numbers."""

    method: Annotated[str, Field(min_length=1, description="method key of the tables, such as sasrec_ce or bt_sr")]
    profile: Profile = "released"
    data: DataConfig
    encoder: EncoderConfig = EncoderConfig()
    loss: LossConfig = LossConfig()
    aux: AuxConfig = AuxConfig()
    train: TrainConfig = TrainConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = SEEDS[0]

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.aux.kind == "barlow_twins" and self.train.batch_size < 2:
            raise ValueError("batch_size=1 leaves nothing to correlate in the Barlow Twins term: use at least 2")
        return self

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits that identify this trial: a hash of the canonical JSON, `NUMERICS` included."""
        return self._digest(self.canonical())

    @cached_property
    def group(self) -> str:
        """The same without the seed: trials of one group are replications of each other."""
        return self._digest({name: value for name, value in self.canonical().items() if name != "seed"})

    def canonical_json(self) -> str:
        """The specification as canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def _digest(content: dict[str, Any]) -> str:
        text = json.dumps({**content, "numerics": NUMERICS}, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Study(Frozen):
    """A named set of trials that answers one question."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str
    specs: tuple[TrialSpec, ...]

    @model_validator(mode="after")
    def _no_trial_twice(self) -> Self:
        seen: set[str] = set()
        for spec in self.specs:
            if spec.key in seen:
                raise ValueError(f"study {self.name} lists trial {spec.key} twice ({spec.method}, seed {spec.seed})")
            seen.add(spec.key)
        return self


class StudyOptions(Frozen):
    """What the command line says about a study; handed to every study function."""

    datasets: tuple[str, ...]
    profile: Profile = "released"
    seeds: tuple[int, ...] = SEEDS
    reduced: bool = False
    max_epochs: Annotated[int | None, Field(ge=1, description="cap the epochs of every trial (changes their keys)")] = (
        None
    )
    tie: Literal["stable", "random"] = "stable"


class RunPaths(Frozen):
    """Where a run reads and writes."""

    data_dir: Path | None = None
    work_dir: Path = Path("runs")

    @property
    def prepared(self) -> Path:
        """Folder of the prepared, memory-mapped data."""
        return self.work_dir / "prepared"
