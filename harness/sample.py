"""The sample of test users' states and scores that is kept of a trial (spec 6.5, 6.6).

Which users and which negatives follows from the data's fingerprint, never from the model's seed.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from harness.evaluate import scored
from harness.geometry import singular_values
from harness.values import Int32, Int64, Sample, Split
from models.sasrec import SASRec

MOST_USERS = 1000
"""Users whose states and scores are kept."""
MOST_STATES = 10_000
"""Users whose states the singular values are of."""
NEGATIVES = 300


def chosen_users(split: Split, most: int) -> Int64:
    """At most `most` evaluated users, ascending; the same for all models on these data."""
    if split.n_test_users <= most:
        return np.arange(split.n_test_users)
    return np.sort(_generator(split, most).choice(split.n_test_users, most, replace=False))


def chosen_negatives(split: Split, users: Int64) -> Int32:
    """[S, M] distinct items outside the test input, target excluded, the same for all models; M is 300, or what the
    user with the fewest such items has."""
    rng = _generator(split, NEGATIVES)
    known = [np.unique(split.test_items[split.test_offsets[u] : split.test_offsets[u + 1]]) for u in users]
    count = min(NEGATIVES, split.n_items - max(len(items) for items in known))
    out = np.empty((len(users), count), np.int32)
    for row, items in zip(out, known, strict=True):
        drawn = rng.choice(split.n_items, count + len(items), replace=False)
        row[:] = drawn[~np.isin(drawn, items)][:count]
    return out


def sample_of(model: SASRec, split: Split, *, device: torch.device) -> Sample:
    """Score the chosen users' targets and negatives from their test inputs."""
    many = chosen_users(split, MOST_STATES)
    few = chosen_users(split, MOST_USERS) if split.n_test_users <= MOST_STATES else many[:: MOST_STATES // MOST_USERS]
    items = np.concatenate([split.targets("test")[few][:, None], chosen_negatives(split, few)], axis=1)
    starts, ends = split.test_offsets[:-1][many], split.test_offsets[1:][many] - 1
    states = np.empty((len(many), model.config.dim), np.float32)
    for some in scored(model, split.test_items, starts, ends, device=device, what="sample of test users"):
        states[some.users] = some.hidden.cpu().numpy()
    mine = states[np.searchsorted(many, few)]
    table = model.table.detach().cpu().numpy()
    scores = _in_rows(mine, table, items)
    return Sample(
        users=few.astype(np.int32),
        states=_half(mine),
        positive=scores[:, 0],
        negative=_half(scores[:, 1:]),
        spectrum=singular_values(states).astype(np.float32),
        spectrum_centred=singular_values(states, centred=True).astype(np.float32),
    )


def _half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """In half precision; what is beyond its range becomes its largest number."""
    most = np.finfo(np.float16).max
    return np.clip(values, -most, most).astype(np.float16)


def _in_rows(states: NDArray[np.float32], table: NDArray[np.float32], items: Int32) -> NDArray[np.float32]:
    """[S, M] scores of each user's own items, a user at a time: the gathered table is never held whole."""
    return np.stack([table[own] @ state for state, own in zip(states, items, strict=True)])


def _generator(split: Split, purpose: int) -> np.random.Generator:
    return np.random.default_rng([int(split.fingerprint[:16], 16), purpose])
