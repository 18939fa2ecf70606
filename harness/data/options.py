"""The options that `btsr-data` has in common, and the configuration that they mean."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from harness.config import DEFAULT_PROFILE, Count, DataConfig, Filter, Profile, Repeats, SplitRule, profile_data
from harness.data.catalogue import DATA_DIR_VARIABLE
from harness.errors import ConfigError

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DATASET]...",
        help="keys, see btsr-data list; all: the five of the paper; or csv, tsv, parquet or jsonl files",
    ),
]
DatasetOption = Annotated[
    list[str] | None, typer.Option("--dataset", help="the same, several by comma or by repeating, as in btsr-sweep")
]
DataDirOption = Annotated[
    Path | None, typer.Option(help=f"folder of the raw files [default: {DATA_DIR_VARIABLE}, else ./data]")
]
EditionOption = Annotated[str, typer.Option(help="which edition of the raw data, see btsr-data list")]
OutOption = Annotated[Path, typer.Option("--out", help="folder of the run; prepared data go to OUT/prepared")]
NoDownloadOption = Annotated[bool, typer.Option("--no-download", help="never fetch a raw file that is missing")]
ProfileOption = Annotated[
    Profile | None,
    typer.Option(
        help=f"filter as the paper says, or as the released program has it [default: {DEFAULT_PROFILE}, "
        "as in btsr-sweep, unless an option below says what is filtered]"
    ),
]
TieOption = Annotated[
    Literal["stable", "random"], typer.Option(help="order among equal times: the raw file's, or at random (seed 0)")
]
FilterOption = Annotated[
    Filter | None,
    typer.Option(
        help="one_pass: items first; at_once: counted on raw rows; iterative: k-core [default: the profile's; "
        "iterative beside --min-item, --min-user or --count]"
    ),
]
MinItemOption = Annotated[
    int | None,
    typer.Option(min=1, help="an item needs this many [default: the profile's; 5 beside --filter, 1 if that is none]"),
]
MinUserOption = Annotated[
    int | None,
    typer.Option(min=1, help="a user needs this many [default: the profile's; 5 beside --filter, 1 if that is none]"),
]
CountOption = Annotated[Count, typer.Option(help="what the filter counts; usual: distinct partners in one pass")]
RepeatsOption = Annotated[Repeats, typer.Option(help="which rows of one user and item stay; exact: one of identical")]
SplitOption = Annotated[SplitRule, typer.Option(help="leave_one_out leaks the future and is labelled so")]
QuantileOption = Annotated[float | None, typer.Option(help="of all times, where the boundary is [default: 0.95]")]
UserColOption = Annotated[str, typer.Option(help="user column of a file")]
ItemColOption = Annotated[str, typer.Option(help="item column of a file")]
TimeColOption = Annotated[str, typer.Option(help="time column of a file")]


def asked(
    name: str,
    *,
    profile: Profile | None = None,
    filter: Filter | None = None,
    min_item: int | None = None,
    min_user: int | None = None,
    count: Count = "usual",
    tie: Literal["stable", "random"] = "stable",
    repeats: Repeats = "keep",
    split: SplitRule = "temporal",
    quantile: float | None = None,
    edition: str = "",
    columns: tuple[str, str, str] = ("", "", ""),
) -> DataConfig:
    """The configuration that options mean for one data set; raises ConfigError where they contradict each other.

    Without a profile and a word of what is filtered it is what a sweep uses.
    """
    if profile and (filter or min_item or min_user):
        raise ConfigError("--profile says what is filtered: leave out --filter, --min-item and --min-user")
    if filter == "none" and (min_item or min_user or 1) > 1:
        raise ConfigError("--filter none drops nothing: leave out --min-item and --min-user, or choose a filter")
    least = 1 if filter == "none" else 5
    of_filter = filter or min_item or min_user or count != "usual"
    base = None if of_filter and not profile else profile_data(name, profile or DEFAULT_PROFILE)
    try:
        return DataConfig(
            dataset=name,
            filter=base.filter if base else filter or "iterative",
            min_item=base.min_item if base else min_item or least,
            min_user=base.min_user if base else min_user or least,
            count=count,
            tie=tie,
            repeats=repeats,
            split=split,
            quantile=DataConfig.model_fields["quantile"].default if quantile is None else quantile,
            edition=edition,
            user_col=columns[0],
            item_col=columns[1],
            time_col=columns[2],
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = f"--{first['loc'][0]}: " if first["loc"] else ""
        raise ConfigError(f"{field}{first['msg'].removeprefix('Value error, ')}") from error
