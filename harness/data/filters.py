"""Which raw rows a configuration keeps: the policy for repeated rows, then the filter by frequency (spec 6.1).

Arrays of codes in, masks out; no loop over users or rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config import DataConfig
from harness.values import Int64

Mask = NDArray[np.bool_]


def repeat_rows(users: Int64, items: Int64, times: Int64, config: DataConfig) -> Mask:
    """[n] which rows the policy for repeats keeps; `users`, `items` [n] are codes, `times` [n] Unix seconds.

    first, last: of all rows of one user and item the first or the last in (time, raw row); exact: of rows that also
    share the time the first; keep: all.
    """
    if config.repeats == "keep":
        return np.ones(len(users), np.bool_)
    order = np.lexsort((times, items, users))
    fields = (users, items, times) if config.repeats == "exact" else (users, items)
    new = np.zeros(len(order), np.bool_)
    new[:1] = True
    for field in fields:
        new[1:] |= np.diff(field[order]) != 0
    keep = np.zeros(len(order), np.bool_)
    # `lexsort` is stable: rows of one user, item and time stand in raw order.
    keep[order[np.append(new[1:], True)] if config.repeats == "last" else order[new]] = True
    return keep


def filter_rows(users: Int64, items: Int64, config: DataConfig) -> Mask:
    """[n] which rows the filter of `config` keeps; `users`, `items` [n] are codes from 0 on.

    one_pass: items with at least `min_item`, then users with at least `min_user` among what is left; items may end
    below. one_pass_users_first: the other way round. at_once: both conditions on the counts of all rows. iterative:
    both, again and again until nothing changes (k-core). Counted are rows or distinct partners, as `config` says.
    """
    n_users, n_items = int(users.max(initial=-1)) + 1, int(items.max(initial=-1)) + 1
    keep = np.ones(len(users), np.bool_)

    def enough_items() -> Mask:
        counts = _count(items[keep], users[keep], n_items, config)
        return np.asarray(counts[items] >= config.min_item)

    def enough_users() -> Mask:
        counts = _count(users[keep], items[keep], n_users, config)
        return np.asarray(counts[users] >= config.min_user)

    if config.filter == "one_pass":
        keep = enough_items()
        keep &= enough_users()
    elif config.filter == "one_pass_users_first":
        keep = enough_users()
        keep &= enough_items()
    elif config.filter == "at_once":
        keep = enough_items() & enough_users()
    elif config.filter == "iterative":
        left = -1
        while left != keep.sum():
            left = keep.sum()
            keep &= enough_items()
            keep &= enough_users()
    return keep


def distinct_partners(of: Int64, partners: Int64, size: int = 0) -> Int64:
    """[size or more] how many distinct partners each code of `of` has."""
    width = int(partners.max(initial=0)) + 1
    return np.bincount(distinct(of * width + partners) // width, minlength=size)


def distinct(values: Int64) -> Int64:
    """The distinct values, rising: by sorting, which for millions of keys is much faster than numpy's hash table."""
    rising = np.sort(values)
    new = np.ones(len(rising), np.bool_)
    np.not_equal(rising[1:], rising[:-1], out=new[1:])
    return np.asarray(rising[new])


def _count(of: Int64, partners: Int64, size: int, config: DataConfig) -> NDArray[Any]:
    return np.bincount(of, minlength=size) if config.counted == "rows" else distinct_partners(of, partners, size)
