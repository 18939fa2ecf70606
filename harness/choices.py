"""What may be said of the data in place of a profile; checked here, written once."""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from harness.errors import ConfigError
from models.config import Frozen

Filter = Literal["none", "one_pass", "one_pass_users_first", "at_once", "iterative"]
Count = Literal["usual", "rows", "partners"]
Repeats = Literal["keep", "first", "last", "exact"]
SplitRule = Literal["temporal", "leave_one_out"]
Tie = Literal["stable", "random", "targets"]

_Checked = TypeVar("_Checked", bound=Frozen)


class DataChoices(Frozen):
    """What was asked of filter, repeats, split and edition, for every data set alike; all else is the profile's.

    The fields are those of `harness.config.DataConfig`; one at its default here was not asked for.
    """

    filter: Filter | None = None
    min_item: Annotated[int | None, Field(ge=1)] = None
    min_user: Annotated[int | None, Field(ge=1)] = None
    count: Count = "usual"
    repeats: Repeats = "keep"
    split: SplitRule = "temporal"
    quantile: Annotated[float | None, Field(gt=0, lt=1)] = None
    edition: str = ""

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        idle = [option(name) for name in ("min_item", "min_user", "count") if name in self.said]
        if self.filter == "none" and idle:
            raise ValueError(f"--filter none drops nothing: leave out {' and '.join(idle)}, or choose another filter")
        if self.split == "leave_one_out" and self.quantile is not None:
            raise ValueError("--quantile has no effect with --split leave_one_out: drop one of them")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """Field -> value of what was asked."""
        return {name: getattr(self, name) for name in self._not_default()}


def option(field: str) -> str:
    """The option of the command line that says a field.

    >>> option("min_item")
    '--min-item'
    """
    return f"--{field.replace('_', '-')}"


def checked(kind: type[_Checked], **values: Any) -> _Checked:
    """The values as a configuration. Raises ConfigError, with the option of the command line, where they cannot be."""
    try:
        return kind(**values)
    except ValidationError as error:
        place, _, words = _first_wrong(error)
        raise ConfigError(f"{option(str(place[0]))}: {words}" if place else words) from error


def what_is_wrong(error: ValidationError) -> str:
    """The first of it in one line, with its configuration and field, and the value where that is short.

    >>> try:
    ...     DataChoices(quantile=2)
    ... except ValidationError as error:
    ...     print(what_is_wrong(error))
    DataChoices.quantile=2: Input should be less than 1
    """
    place, value, words = _first_wrong(error)
    shown = f"={value!r}" if place and isinstance(value, int | float | str) else ""
    return f"{'.'.join(map(str, (error.title, *place)))}{shown}: {words}"


def _first_wrong(error: ValidationError) -> tuple[tuple[int | str, ...], object, str]:
    """The first field that is wrong (none: several together), its value, and what is wrong in one line."""
    first = error.errors(include_url=False)[0]
    return first["loc"], first["input"], " ".join(first["msg"].removeprefix("Value error, ").split())
