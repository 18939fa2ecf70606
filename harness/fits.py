"""Whether a trial can be what it says: asked of all trials before a sweep begins, and by every training."""

from typing import TYPE_CHECKING

from harness.config import TrialSpec
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.values import Split


def check_settings(spec: TrialSpec) -> None:
    """Raises ConfigError for a trial that would not be what it says: a term that begins after its last epoch, masked
    views whose mask item is ranked, two views that differ by dropout where there is none."""
    first, last = spec.aux.first_epoch, spec.train.max_epochs
    if first > last:
        raise ConfigError(
            f"the {spec.aux.kind} term of {spec.method} on {spec.data.dataset} begins with epoch {first}, but its "
            f"trials end with epoch {last}: use --max-epochs {first} or more, or leave the method out by --methods"
        )
    if spec.encoder.rank_non_items and spec.aux.masks:
        raise ConfigError(
            f"rank_non_items of {spec.method} on {spec.data.dataset} would rank the mask item, which views of "
            f"aux.kind='{spec.aux.kind}' have in them: drop it, or choose a term without masked views"
        )
    if not spec.encoder.dropout and spec.aux.differ_by_dropout:
        raise ConfigError(
            f"dropout=0 of {spec.method} on {spec.data.dataset} makes two views of aux.kind='{spec.aux.kind}' the "
            "same, which differ by dropout alone: use more, or choose other views"
        )


def check_fits(spec: TrialSpec, split: "Split") -> None:
    """Raises ConfigError as `check_settings` does, for more negatives than other items, and for a single example where
    views are compared."""
    check_settings(spec)
    if spec.loss.negatives is not None and spec.loss.negatives >= split.n_items:
        raise ConfigError(
            f"negatives={spec.loss.negatives}, but {spec.data.dataset} has {split.n_items} items after filtering: "
            f"choose fewer than {split.n_items}, or leave {spec.method} out by --methods"
        )
    begins, ends = split.train_offsets[:-1], split.train_offsets[1:]
    if spec.aux.counts and (ends - begins >= 2).sum() < 2:
        raise ConfigError(
            f"{spec.data.dataset} has 1 training user with two interactions, which "
            f"leaves aux.kind='{spec.aux.kind}' nothing to compare: use more data or a milder filter"
        )
