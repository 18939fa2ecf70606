"""Typed configuration of a trial and of a study, and the key that identifies a trial.

Everything here is frozen, refuses unknown fields and imports neither torch nor ray nor pandas.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from harness.choices import Count, DataChoices, Filter, Repeats, SplitRule, Tie
from harness.errors import unknown_name
from models.config import ADDED, AuxConfig, EncoderConfig, Frozen, LossConfig, Precision

NUMERICS = 1
"""Raised whenever the same specification gives other numbers than before; part of every key."""

SEEDS: tuple[int, ...] = (1235, 37, 2451, 12, 3425)
"""The five seeds of the reference runs (spec 1.5), the same for all methods, so that runs pair by seed."""

REDUCED_SEEDS = 2
"""How many of them the smaller form of a study has that repeats every trial."""

PAPER_DATASETS: tuple[str, ...] = ("ml1m", "yelp", "gowalla", "beauty", "kindle_store")
"""What ``--dataset all`` means (spec 8, I1: Beauty, not Behance)."""

Profile = Literal["paper", "released"]
DEFAULT_PROFILE: Profile = "released"
"""What sweeps, and the commands that prepare data for them, do unless told otherwise."""

FILE_SUFFIXES: tuple[str, ...] = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""How the name of a data set ends that is a file of the user's, and not a key of the registry."""


def is_file(dataset: str) -> bool:
    """Whether this names a file rather than a data set of the registry."""
    return dataset.lower().endswith(FILE_SUFFIXES)


def file_key(path: str) -> str:
    """The name of a data set that is a file: its path from the root, without `..`, the same from every folder."""
    return os.path.abspath(Path(path).expanduser())


def names_in(words: Iterable[str]) -> tuple[str, ...]:
    """The data sets that words of the command line name, each once: keys or paths, several in one word by comma.

    `all` names the paper's; the path of a file that is there is one name, commas and all.
    """
    names = (
        name
        for word in words
        for name in ([word] if os.path.isfile(os.path.expanduser(word)) else [part.strip() for part in word.split(",")])
        if name
    )
    return tuple(dict.fromkeys(n for name in names for n in (PAPER_DATASETS if name == "all" else (name,))))


def dataset_slug(key: str) -> str:
    """The data set's name within file names, ids and labels: one word, of its own for each file of the user's."""
    if re.fullmatch(r"\w+", key, re.ASCII):
        return key
    word = re.sub(r"\W+", "_", Path(key).name.split(".")[0], flags=re.ASCII).strip("_")
    return "-".join(part for part in (word, hashlib.sha256(key.encode()).hexdigest()[:8]) if part)


class DataConfig(Frozen):
    """Which interactions are used and how they are split (spec 6.1)."""

    dataset: Annotated[str, Field(min_length=1, description="registry key, such as ml1m, or path of a table")]
    filter: Annotated[
        Filter,
        Field(
            description="none; one_pass: items, then users of what is left; one_pass_users_first: the other way round; "
            "at_once: both by what the raw rows count; iterative: again and again until nothing changes (k-core)"
        ),
    ] = "iterative"
    min_item: Annotated[int, Field(ge=1, description="an item needs this many")] = 5
    min_user: Annotated[int, Field(ge=1, description="a user needs this many")] = 5
    quantile: Annotated[float, Field(gt=0, lt=1, description="the boundary is this quantile of all time stamps")] = 0.95
    tie: Annotated[
        Tie,
        Field(
            description="order among equal times of a user: the raw file's rows; drawn at random (seed 0); targets: "
            "the raw file's but for the targets, which are drawn among the last rows of equal time"
        ),
    ] = "stable"
    count: Annotated[
        Count,
        Field(
            description="what the filter counts; usual: distinct partners in one pass, else rows",
            json_schema_extra=ADDED,
        ),
    ] = "usual"
    repeats: Annotated[
        Repeats,
        Field(
            description="of rows of one user and item, before the filter: keep all, the first or the last in time, "
            "or one of those that also share the time (exact)",
            json_schema_extra=ADDED,
        ),
    ] = "keep"
    split: Annotated[
        SplitRule,
        Field(
            description="temporal: one boundary for all (spec 6.1); leave_one_out: every user's last two rows, which "
            "leaks the future into training",
            json_schema_extra=ADDED,
        ),
    ] = "temporal"
    edition: Annotated[
        str, Field(description="which edition of the raw data; empty: the first that is there", json_schema_extra=ADDED)
    ] = ""
    user_col: Annotated[str, Field(description="user column of a file; empty: by name", json_schema_extra=ADDED)] = ""
    item_col: Annotated[str, Field(description="item column of a file; empty: by name", json_schema_extra=ADDED)] = ""
    time_col: Annotated[str, Field(description="time column of a file; empty: by name", json_schema_extra=ADDED)] = ""

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        if self.filter == "none" and (self.min_item, self.min_user, self.count) != (1, 1, "usual"):
            raise ValueError("filter='none' drops nothing: set min_item=1 and min_user=1, or choose a filter")
        if self.split == "leave_one_out" and self.quantile != DataConfig.model_fields["quantile"].default:
            raise ValueError("quantile has no effect with split='leave_one_out': drop it")
        if any(self.columns) and not is_file(self.dataset):
            raise ValueError(f"columns are named for a file only, and {self.dataset} is none: drop them")
        if self.edition and is_file(self.dataset):
            raise ValueError(
                f"{self.dataset} is a file, which has no editions: drop edition={self.edition!r} (--edition)"
            )
        return self

    @property
    def columns(self) -> tuple[str, str, str]:
        """The named user, item and time columns; empty where they are found by their usual names."""
        return self.user_col, self.item_col, self.time_col

    @property
    def counted(self) -> Literal["rows", "partners"]:
        """What the filter counts."""
        if self.count == "usual":
            return "rows" if self.filter in {"iterative", "at_once"} else "partners"
        return self.count

    def protocol(self, file: str = "", edition: str = "") -> str:
        """Filter, split, ties and repeats in a few words, for footnotes; `file` and its `edition` are what was read."""
        unit = {"rows": "interactions", "partners": "distinct partners"}[self.counted]
        passes = {
            "one_pass": "one pass, items first",
            "one_pass_users_first": "one pass, users first",
            "at_once": "both counted on the raw rows",
            "iterative": "until nothing changes",
        }
        words = [
            "no filter"
            if self.filter == "none"
            else f"items with at least {self.min_item} and users with at least {self.min_user} {unit} "
            f"({passes[self.filter]})",
            f"one boundary in time at quantile {self.quantile:g}"
            if self.split == "temporal"
            else "leave-one-out, which LEAKS THE FUTURE: training holds rows later than test targets",
            f"ties {self.tie}",
            "repeats kept" if self.repeats == "keep" else f"repeats: {self.repeats} only",
        ]
        words += [f"edition {self.edition}"] * bool(self.edition)
        found = f", edition {edition}" if edition and edition != self.edition else ""
        return "; ".join(words + [f"read from {file}{found}"] * bool(file))


class TrainConfig(Frozen):
    """How a model is trained (spec 1.4)."""

    batch_size: Annotated[int, Field(ge=1, description="sequences per step; clamped to the training users")] = 128
    lr: Annotated[float, Field(gt=0, description="Adam learning rate")] = 0.001
    beta2: Annotated[float, Field(gt=0, lt=1, description="Adam's second beta")] = 0.98
    weight_decay: Annotated[float, Field(ge=0, description="Adam's L2 weight decay")] = 0.0
    max_epochs: Annotated[int, Field(ge=1, description="upper bound of epochs")] = 200
    patience: Annotated[int, Field(ge=1, description="stop after this many validations without improvement")] = 10
    validate_every: Annotated[int, Field(ge=1, description="epochs between validations")] = 1
    precision: Annotated[
        Precision,
        Field(
            description="of the encoder's linear maps and the full softmax; bf16: operands rounded to bfloat16",
            json_schema_extra=ADDED,
        ),
    ] = "fp32"


_CACHED = ("key", "group")
"""What a TrialSpec computes once."""


class TrialSpec(Frozen):
    """One training run: everything that decides its numbers."""

    method: Annotated[str, Field(min_length=1, description="method key of the tables, such as sasrec_ce or bt_sr")]
    profile: Profile = DEFAULT_PROFILE
    data: DataConfig
    encoder: EncoderConfig = EncoderConfig()
    loss: LossConfig = LossConfig()
    aux: AuxConfig = AuxConfig()
    train: TrainConfig = TrainConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = SEEDS[0]

    @model_validator(mode="wrap")
    @classmethod
    def _checked_again(cls, given: object, check: ModelWrapValidatorHandler[Self]) -> Self:
        """A specification inside a study is checked anew by its fields alone, without its cached key."""
        if isinstance(given, cls):
            given = {name: value for name, value in vars(given).items() if name not in _CACHED}
        return check(given)

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.aux.kind != "none" and self.train.batch_size < 2:
            raise ValueError(f"batch_size=1 leaves aux.kind='{self.aux.kind}' nothing to compare: use at least 2")
        return self

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits that identify this trial: a hash of the canonical JSON, `NUMERICS` included."""
        return self._digest(self.canonical())

    @cached_property
    def group(self) -> str:
        """The same without the seed: trials of one group are replications of each other."""
        return self._digest({name: value for name, value in self.canonical().items() if name != "seed"})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, which has its own key."""
        copy = super().model_copy(update=update, deep=deep)
        for name in _CACHED:
            copy.__dict__.pop(name, None)
        return copy

    @property
    def place(self) -> str:
        """Data set and method in one word: a search has one space for each."""
        return f"{self.data.dataset}/{self.method}"

    def flat(self) -> dict[str, Any]:
        """Every field by its path, such as train.lr."""
        content = self.model_dump()
        parts = {name: fields for name, fields in content.items() if isinstance(fields, dict)}
        inner = {f"{part}.{name}": value for part, fields in parts.items() for name, value in fields.items()}
        return inner | {name: value for name, value in content.items() if name not in parts}

    def canonical_json(self) -> str:
        """The specification as canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def _digest(content: dict[str, Any]) -> str:
        text = json.dumps({**content, "numerics": NUMERICS}, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Range(Frozen):
    """Values that a search may choose for one field."""

    low: float
    high: float
    log: Annotated[bool, Field(description="as likely to fall between 0.1 and 1 as between 1 and 10")] = False
    integer: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"range {self.low:g} to {self.high:g}: low must be below high, and above 0 with log")
        return self

    def holds(self, value: object) -> bool:
        """Whether a search may choose this value."""
        return isinstance(value, int | float) and self.low <= value <= self.high


INSIDE = 0.382
"""How far into a range a search space is tried: at no simple fraction, so that whole numbers are not met by chance."""


class SearchSpace(Frozen):
    """What a search may vary around one trial; seeds are replication and never part of it."""

    base: TrialSpec
    ranges: Annotated[Mapping[str, Range], Field(min_length=1, description="field, such as aux.alpha -> its range")]

    @model_validator(mode="after")
    def _ends_and_a_point_between_can_be(self) -> Self:
        for ends in ("low", "high"):
            self.at({name: getattr(wanted, ends) for name, wanted in self.ranges.items()})
        inside = {name: INSIDE * (wanted.high - wanted.low) for name, wanted in self.ranges.items()}
        # of whole numbers some may be wrong, which a search passes over
        self.at({name: r.low + (0 if r.integer else inside[name]) for name, r in self.ranges.items()})
        return self

    def at(self, point: Mapping[str, float]) -> TrialSpec:
        """The trial at a point. Raises ValueError for a field that does not exist or cannot have that value."""
        content = self.base.model_dump()
        for path, value in point.items():
            *parents, name = path.split(".")
            place: Any = content
            for parent in parents:
                place = place.get(parent) if isinstance(place, dict) else None
            if not isinstance(place, dict) or name not in place or path == "seed":
                raise ValueError(f"a search cannot vary '{path}': name a field such as train.lr or aux.alpha")
            place[name] = int(value) if self.ranges[path].integer else float(value)
        return TrialSpec.model_validate(content)

    def point(self, spec: TrialSpec) -> dict[str, float]:
        """Where a trial of this space is."""
        content = spec.flat()
        return {path: content[path] for path in self.ranges}

    def strays(self, spec: TrialSpec) -> dict[str, Any]:
        """Path -> value of what keeps a trial out of this space: beyond a range, or unlike the base where none is."""
        base, content = self.base.flat(), spec.flat()
        return {
            path: value
            for path, value in content.items()
            if not (self.ranges[path].holds(value) if path in self.ranges else value == base[path])
        }

    @property
    def place(self) -> str:
        """Data set and method that it is for."""
        return self.base.place

    @property
    def size(self) -> int | None:
        """How many points there are; None where they are not countable."""
        counts = [int(wanted.high) - int(wanted.low) + 1 for wanted in self.ranges.values() if wanted.integer]
        return math.prod(counts) if len(counts) == len(self.ranges) else None


class Study(Frozen):
    """A named set of trials that answers one question."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str
    specs: tuple[TrialSpec, ...]
    search: Annotated[tuple[SearchSpace, ...], Field(description="for --search, one per data set and method")] = ()

    @model_validator(mode="after")
    def _no_trial_twice(self) -> Self:
        seen: set[str] = set()
        for spec in self.specs:
            if spec.key in seen:
                raise ValueError(f"study {self.name} lists trial {spec.key} twice ({spec.method}, seed {spec.seed})")
            seen.add(spec.key)
        return self

    @model_validator(mode="after")
    def _one_space_each(self) -> Self:
        places = [space.place for space in self.search]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"study {self.name} has {places.count(place)} search spaces for {place}: keep one")
        return self


class StudyOptions(Frozen):
    """What the command line says about a study; handed to every study function."""

    datasets: tuple[str, ...]
    profile: Profile = DEFAULT_PROFILE
    seeds: tuple[int, ...] = SEEDS
    reduced: bool = False
    max_epochs: Annotated[int | None, Field(ge=1, description="cap of every trial's epochs (changes the keys)")] = None
    validate_every: Annotated[
        int, Field(ge=1, description="epochs between a trial's validations, which patience counts (changes the keys)")
    ] = 1
    tie: Tie = "stable"
    data: Annotated[
        DataChoices, Field(description="filter, split and edition of every data set, in place of the profile's")
    ] = DataChoices()
    precision: Annotated[
        Precision, Field(description="of every trial of a study that says none (changes their keys)")
    ] = "fp32"
    columns: Annotated[tuple[str, str, str], Field(description="user, item and time column of files")] = ("", "", "")
    methods: Annotated[tuple[str, ...], Field(description="only these of the study's methods; empty: all")] = ()

    @property
    def trial_seeds(self) -> tuple[int, ...]:
        """The seeds of a study that repeats every trial: all, or the first two where it is `reduced`."""
        return self.seeds[:REDUCED_SEEDS] if self.reduced else self.seeds

    def chosen(self, methods: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a study's methods that were asked for. Raises ConfigError for one that the study does not have."""
        for name in self.methods:
            if name not in methods:
                raise unknown_name("method of this study", name, methods)
        return tuple(name for name in methods if not self.methods or name in self.methods)
