"""What the protocol's own choices are worth (spec 6.1, 1.2, 1.5): one switched at a time, for SASRec (CE) and BT-SR.

Ties in time by the file's order, at random, or by the file's order but for drawn targets; padded keys attended to or
masked; rows of the item table that are no items left out or ranked; T = 50 or 200.
"""

from harness.config import Study, StudyOptions, TrialSpec
from studies.profiles import switched_trials, varied

DATASETS: tuple[str, ...] = ("ml1m", "beauty")
TIES: tuple[str, ...] = ("stable", "random", "targets")
METHODS: tuple[str, ...] = ("sasrec_ce", "bt_sr")


def switched(base: TrialSpec) -> tuple[TrialSpec, ...]:
    """The base, and the base with one choice made the other way."""
    other_ties = [tie for tie in TIES if tie != base.data.tie]
    other_length = 50 if base.encoder.max_len != 50 else 200
    return (
        base,
        *(varied(base, data={"tie": tie}) for tie in other_ties),
        varied(base, encoder={"mask_pad_keys": True}),
        varied(base, encoder={"rank_non_items": True}),
        varied(base, encoder={"max_len": other_length}),
    )


def study(options: StudyOptions) -> Study:
    """Data sets x methods x switches x seeds; `reduced` keeps the first two seeds."""
    return Study(
        name="protocol",
        title="Effects of the protocol",
        specs=switched_trials(METHODS, options, switched),
    )
