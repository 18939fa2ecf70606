"""How a profile filters and splits a data set (spec 0.3), and what is asked for in its place."""

from collections.abc import Mapping

from harness.choices import DataChoices, Filter, Tie, checked
from harness.config import DataConfig, Profile

RELEASED_FILTERS: Mapping[str, tuple[Filter, int, int]] = {
    "ml1m": ("none", 1, 1),
    "ml100k": ("none", 1, 1),
    "synthetic": ("none", 1, 1),
    "beauty": ("iterative", 5, 5),
}
"""Data set -> filter, min_item, min_user of the released profile where it is not one pass with 5 and 20 (spec 0.3)."""

CORE: tuple[Filter, int, int] = ("iterative", 5, 5)
"""The paper's filter; also what is left open of a filter where something of one is asked of a profile without any."""


def profile_data(
    dataset: str,
    profile: Profile,
    choices: DataChoices | None = None,
    *,
    tie: Tie = "stable",
    columns: tuple[str, str, str] = ("", "", ""),
) -> DataConfig:
    """The data set as a profile filters and splits it, with what `choices` say in place of what the profile says.

    Raises ConfigError for choices that this data set cannot have: an edition of a file, columns of another.
    """
    said = choices.said if choices else {}
    usual = CORE if profile == "paper" else RELEASED_FILTERS.get(dataset, ("one_pass", 5, 20))
    if usual[0] == "none" and said.keys() & {"filter", "min_item", "min_user", "count"}:
        usual = CORE
    if said.get("filter") == "none":
        usual = ("none", 1, 1)
    named = dict(zip(("filter", "min_item", "min_user"), usual, strict=True))
    placed = dict(zip(("user_col", "item_col", "time_col"), columns, strict=True))
    return checked(DataConfig, dataset=dataset, tie=tie, **{**named, **said, **placed})
