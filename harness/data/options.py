"""The options of data: those that the commands of `btsr-data` share, most of them with `btsr-sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.choices import Count, DataChoices, Filter, Repeats, SplitRule, Tie, checked
from harness.config import Profile
from harness.data.catalogue import DATA_DIR_VARIABLE

DATA = "Data, the same for every data set"
"""Heading of the help."""

_NAMES = "keys, see btsr-data list; all: the five of the paper; or csv, tsv, parquet or jsonl files"
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[DATASET]...", help=_NAMES)]
DatasetOption = Annotated[
    list[str] | None, typer.Option("--dataset", help="the same, several by comma or by repeating, as in btsr-sweep")
]
StudyDatasetsOption = Annotated[
    list[str] | None,
    typer.Option("--dataset", help=f"{_NAMES}; several by comma or by repeating [default: the study's]"),
]
OutOption = Annotated[Path, typer.Option("--out", help="folder of the run; prepared data go to OUT/prepared")]
ProfileOption = Annotated[
    Profile, typer.Option(help="filter as the paper says, or as the released program has it", rich_help_panel=DATA)
]

DataDirOption = Annotated[
    Path | None,
    typer.Option(help=f"folder of the raw files [default: {DATA_DIR_VARIABLE}, else ./data]", rich_help_panel=DATA),
]
NoDownloadOption = Annotated[
    bool, typer.Option("--no-download", help="never fetch a raw file that is missing", rich_help_panel=DATA)
]
EditionOption = Annotated[
    str, typer.Option(help="which edition of the raw data, see btsr-data list", rich_help_panel=DATA)
]
TieOption = Annotated[
    Tie,
    typer.Option(
        help="order among equal times: the raw file's; at random (seed 0); or the file's with targets drawn at random",
        rich_help_panel=DATA,
    ),
]
FilterOption = Annotated[
    Filter | None,
    typer.Option(
        help="one_pass: items first; at_once: counted on raw rows; iterative: k-core [default: the profile's; "
        "iterative beside --min-item, --min-user or --count where that is none]",
        rich_help_panel=DATA,
    ),
]
_LEAST = "needs this many [default: the profile's; 5 where that filters nothing and a filter is asked for]"
MinItemOption = Annotated[int | None, typer.Option(min=1, help=f"an item {_LEAST}", rich_help_panel=DATA)]
MinUserOption = Annotated[int | None, typer.Option(min=1, help=f"a user {_LEAST}", rich_help_panel=DATA)]
CountOption = Annotated[
    Count, typer.Option(help="what the filter counts; usual: distinct partners in one pass", rich_help_panel=DATA)
]
RepeatsOption = Annotated[
    Repeats, typer.Option(help="which rows of one user and item stay; exact: one of identical", rich_help_panel=DATA)
]
SplitOption = Annotated[
    SplitRule, typer.Option(help="leave_one_out leaks the future and is labelled so", rich_help_panel=DATA)
]
QuantileOption = Annotated[
    float | None, typer.Option(help="of all times, where the boundary is [default: 0.95]", rich_help_panel=DATA)
]
UserColOption = Annotated[str, typer.Option(help="user column of a file", rich_help_panel=DATA)]
ItemColOption = Annotated[str, typer.Option(help="item column of a file", rich_help_panel=DATA)]
TimeColOption = Annotated[str, typer.Option(help="time column of a file", rich_help_panel=DATA)]


def choices_of(context: typer.Context) -> DataChoices:
    """What a command was told of filter, repeats, split and edition: its parameters are named as the fields.

    Raises ConfigError for choices that cannot be together.
    """
    return checked(DataChoices, **{name: context.params[name] for name in DataChoices.model_fields})
