"""A search as a study of its own: which stored trials lie in its spaces, and what keeps a search from being begun."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.config import SearchSpace, Study, TrialSpec
from harness.errors import ConfigError
from harness.options import SweepOptions

if TYPE_CHECKING:
    from harness.store import Store


def search_of(study: Study, store: "Store | None", options: SweepOptions) -> Study:
    """The study that this search is: named after study and search, with the trials that its spaces hold so far.

    The base is the first point of a space that holds it: what is tuned is never worse on validation than what is not.
    Raises ConfigError where a method of the study has no space, or a space has fewer points than are to be tried.
    """
    if not study.search:
        raise ConfigError(
            f"study {study.name} declares no search space for --search {options.search}: use grid, or --study tune"
        )
    spaces = {space.place: space for space in study.search}
    idle = sorted({spec.place for spec in study.specs} - set(spaces))
    if idle:
        raise ConfigError(
            f"study {study.name} has no search space for {', '.join(idle)}, which --search {options.search} "
            "would leave out: give it one in the study, or choose methods that have one by --methods"
        )
    for space in spaces.values():
        if space.size is not None and space.size < options.trials:
            raise ConfigError(
                f"--trials {options.trials}: the space of {space.place} in study {study.name} has {space.size} points, "
                "and every method gets the same number: ask for no more"
            )
    name = f"{study.name}_{options.search}"
    stored = _stored(name, store)
    inside = [spec for spec in stored if spec.place in spaces and not spaces[spec.place].strays(spec)]
    for place, space in spaces.items():
        known = {spec.key for spec in inside if spec.place == place}
        if len(known) < options.trials and space.base.key not in known and not space.strays(space.base):
            inside.append(space.base)
    return study.model_copy(update={"name": name, "specs": tuple(inside)})


def refuse_other_space(search: Study, store: "Store") -> None:
    """Raise ConfigError where trials of the same data and profile were searched in another space.

    Where that is allowed, they stay, and the space as it is now gets trials of its own.
    """
    strays = [
        (space, spec, found)
        for space in search.search
        for spec in _stored(search.name, store)
        if (spec.place, spec.profile, spec.data) == (space.place, space.base.profile, space.base.data)
        and (found := space.strays(spec))
    ]
    if strays:
        space, spec, found = strays[0]
        raise ConfigError(
            f"study {search.name} is not what it was when it was stored: {len(strays)} of its trials are in another "
            f"space, such as {spec.key[:8]} of {space.place} ({_words(space, found)}): add --extend to search the new "
            "space too, or give the study another name or --out"
        )


def _stored(name: str, store: "Store | None") -> Sequence[TrialSpec]:
    return store.study(name).specs if store is not None and name in store.studies() else ()


def _words(space: SearchSpace, strays: dict[str, Any]) -> str:
    """What was, and what is now."""
    base = space.base.flat()
    now = {name: f"{wanted.low:g} to {wanted.high:g}" for name, wanted in space.ranges.items()}
    return "; ".join(f"{name} {value}, now {now.get(name, base[name])}" for name, value in list(strays.items())[:4])
