"""On what the runs behind a table or figure were made: device, precision, kernels; and which of them differ."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.store import Store
from reports.groups import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a trial was computed with."""

    device: str
    precision: str
    kernels: str
    """Depends on the base loss, too: compared among the runs of one configuration only."""


def ran(store: Store, group: Group) -> tuple[Ran, ...]:
    """Of every run of a group, in its order."""
    origin = [store.provenance(key) for key in group.keys]
    return tuple(Ran(device=one.device, precision=one.precision, kernels=one.kernels) for one in origin)


def mixture(runs: Iterable[Ran]) -> str:
    """What runs do not share though they should, such as `devices: A100, cpu`; empty where they share everything."""
    made = tuple(runs)
    kinds = {
        "devices": {run.device for run in made},
        "precisions": {run.precision for run in made},
        "kernels": _brief({run.kernels for run in made}),
    }
    return "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in kinds.items() if len(names) > 1)


def _brief(kernels: set[str]) -> set[str]:
    """The instruction sets that these descriptions name, where there are several; else the descriptions."""
    words = [word for one in kernels for word in re.findall(r"\b(?:fused|torch|liger)\w*", re.sub(r"\(.*?\)", "", one))]
    named = {word.rpartition("_")[2] if word.startswith("fused_") else word.partition("_")[0] for word in words}
    return named if len(kernels) > 1 and len(named) > 1 else kernels


def apart(*sides: Sequence[Ran]) -> str:
    """What the runs of two configurations that are compared do not share, such as `devices: A100, cpu`, or empty.

    Kernels are compared within each side only.
    """
    between = mixture(replace(run, kernels="") for side in sides for run in side)
    within = {mixture(replace(run, device="", precision="") for run in side) for side in sides}
    return "; ".join(words for words in (between, *sorted(within)) if words)


def mixed_words(store: Store, groups: Iterable[Group]) -> list[str]:
    """A caption's sentence where the points of one line do not share device, precision and kernels."""
    found = mixture(one for group in groups for one in ran(store, group))
    return [f"mixes {found}"] if found else []


def joined(names: Sequence[str]) -> str:
    """Each once, such as `A100 + cpu`."""
    return " + ".join(sorted(set(names)))


def odd_ones(columns: Mapping[str, Sequence[Ran]]) -> tuple[str, Mapping[str, str]]:
    """Device and precision of most runs of a data set (of equals, the first by name), and the columns that differ.

    A column differs where its own runs do, or where their device or precision is not that of most.
    """
    counts = Counter((run.device, run.precision) for runs in columns.values() for run in runs)
    if not counts:
        return "", {}
    usual = min(counts, key=lambda pair: (-counts[pair], pair))
    out = {}
    for key, runs in columns.items():
        mixed = mixture(runs)
        pairs = {(run.device, run.precision) for run in runs}
        if mixed or pairs != {usual}:
            out[key] = f"mixes {mixed}" if mixed else " ".join(next(iter(pairs)))
    return " ".join(usual), out
