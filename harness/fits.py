"""Whether a data set is large enough for a trial: asked of all trials before a sweep begins, and by every training."""

import numpy as np

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.values import Split


def check_fits(spec: TrialSpec, split: Split) -> None:
    """Raises ConfigError for more negatives than other items, and for a single example where views are compared."""
    if spec.loss.negatives is not None and spec.loss.negatives >= split.n_items:
        raise ConfigError(
            f"negatives={spec.loss.negatives}, but {spec.data.dataset} has {split.n_items} items after filtering: "
            f"choose fewer than {split.n_items}, or leave {spec.method} out by --methods"
        )
    if spec.aux.counts and (np.diff(split.train_offsets) >= 2).sum() < 2:
        raise ConfigError(
            f"{spec.data.dataset} has 1 training user with two interactions, which "
            f"leaves aux.kind='{spec.aux.kind}' nothing to compare: use more data or a milder filter"
        )
