"""Packed batches: sequences laid end to end without padding, and the groups in which attention runs over them.

A batch of B sequences with lengths l_1 >= l_2 >= ... >= l_B is one row of n = sum(l) tokens. Attention alone needs
rectangles: sequences of similar length form a group [G, L], the shorter ones filled up at the end, where a causal
mask hides the filling from every real query.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.linear import round_up

LEAST_FILL = 0.75
"""A group holds sequences at least this share as long as its longest one."""
SHORT = 8
"""Sequences up to this length may share a group whatever their lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """G sequences of at most L tokens; tensors index the rows of the packed batch."""

    first: int
    """Index of its first sequence in the batch."""
    count: int
    """G"""
    length: int
    """L"""
    start: int
    stop: int
    """Its tokens are the rows start..stop of the batch."""
    rows: Tensor | None
    """[G*L] row of each cell, 0 for filling; None: the group is an exact rectangle."""
    cells: Tensor | None
    """[stop-start] cell of each row (the inverse of `rows`); None: exact rectangle."""
    keys: Tensor
    """[G*(L+1)] row + 1 of each key, 0 for the padded key that leads each sequence."""

    @property
    def filled(self) -> Tensor | None:
        """[G, L+1] True where a cell is filling; None: exact rectangle."""
        if self.rows is None:
            return None
        filled = self.keys.view(self.count, self.length + 1) == 0
        filled[:, 0] = False
        return filled


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """B sequences, longest first, on one device."""

    count: int
    """n, the number of tokens."""
    lengths: NDArray[np.int64]
    """[B] tokens of each sequence, on the processor."""
    items: Tensor
    """[m] item ids; m >= n, the rows beyond n belong to no sequence and only make matrix shapes repeat."""
    positions: Tensor
    """[m] position ids, right-aligned: the last item of every sequence is at T-1 (spec 1.2)."""
    last: Tensor
    """[B] row of the last token of each sequence."""
    pads: Tensor
    """[B] float: T - length, the number of padded positions that the reference layout would hold."""
    groups: tuple[Group, ...]

    @property
    def size(self) -> int:
        """B"""
        return int(self.last.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """How attention runs over a packed batch."""

    heads: int = 1
    last_only: bool = False
    """One query for the last token of each sequence, [B, D]; else one for every token, [m, D]."""
    mask_pad_keys: bool = False
    p: float = 0.0
    """Dropout of the weights, applied only with a generator."""
    generator: torch.Generator | None = None

    @property
    def drops(self) -> bool:
        """Whether weights are dropped."""
        return self.generator is not None and self.p > 0


IN_PLACE = ("cpu",)
"""Types of device whose tensors can lie where numpy's arrays do."""


def on_device(arrays: Sequence[NDArray[np.int64]], device: torch.device) -> tuple[Tensor, ...]:
    """The arrays as tensors: on the processor where they lie, elsewhere as parts of one copy.

    To CUDA from pinned memory, so that nobody waits; torch keeps that until the copy is done.
    """
    if device.type in IN_PLACE:
        return tuple(torch.from_numpy(array) for array in arrays)
    on_cuda, sizes = device.type == "cuda", [array.size for array in arrays]
    buffer = torch.empty(sum(sizes), dtype=torch.int64, pin_memory=on_cuda)
    np.concatenate([array.ravel() for array in arrays], out=buffer.numpy())
    parts = torch.split(buffer.to(device, non_blocking=on_cuda), sizes)
    return tuple(part.view(array.shape) for part, array in zip(parts, arrays, strict=True))


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """[sum(lengths)] starts[0], starts[0]+1, ..., starts[1], ...: one run per sequence."""
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """A group whose arrays are not on the device yet; see `Group`."""

    first: int
    count: int
    length: int
    start: int
    stop: int
    arrays: tuple[NDArray[np.int64], ...]
    """keys, and rows and cells where the group is no exact rectangle."""

    def group(self, sent: Iterator[Tensor]) -> Group:
        """The group with the next of the tensors that were sent."""
        keys = next(sent)
        exact = len(self.arrays) == 1
        return Group(
            first=self.first,
            count=self.count,
            length=self.length,
            start=self.start,
            stop=self.stop,
            keys=keys,
            rows=None if exact else next(sent),
            cells=None if exact else next(sent),
        )


def _cuts(lengths: NDArray[np.int64], offsets: NDArray[np.int64]) -> Iterator[_Cut]:
    """Cut lengths (descending) into groups of similar length."""
    first = 0
    while first < len(lengths):
        longest = int(lengths[first])
        least = 1 if longest <= SHORT else int(np.ceil(longest * LEAST_FILL))
        stop = first + int(np.searchsorted(-lengths[first:], -least, side="right"))
        mine = lengths[first:stop]
        cells = np.arange(longest)[None, :]
        real = cells < mine[:, None]
        row = np.where(real, offsets[first:stop, None] + cells, 0)
        keys = np.concatenate([np.zeros((len(mine), 1), np.int64), np.where(real, row + 1, 0)], axis=1)
        yield _Cut(
            first=first,
            count=len(mine),
            length=longest,
            start=int(offsets[first]),
            stop=int(offsets[stop - 1] + mine[-1]),
            arrays=(keys.ravel(),) if real.all() else (keys.ravel(), row.ravel(), np.flatnonzero(real)),
        )
        first = stop


def pack(
    flat: NDArray[np.int32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    max_len: int,
    device: torch.device,
) -> PackedBatch:
    """Pack the sequences flat[starts : starts+lengths]; they must come longest first, each of 1..max_len items."""
    assert lengths.min() >= 1 and lengths.max() <= max_len and (np.diff(lengths) <= 0).all()
    offsets = np.cumsum(lengths) - lengths
    source = ranges(starts, lengths)
    positions = ranges(max_len - lengths, lengths)
    count = len(source)
    tail = (0, round_up(count) - count)
    cuts = tuple(_cuts(lengths, offsets))
    arrays = [
        np.pad(flat[source].astype(np.int64), tail),
        np.pad(positions, tail),
        offsets + lengths - 1,
        max_len - lengths,
        *(array for cut in cuts for array in cut.arrays),
    ]
    sent = iter(on_device(arrays, device))
    return PackedBatch(
        count=count,
        lengths=lengths,
        items=next(sent),
        positions=next(sent),
        last=next(sent),
        pads=next(sent).to(torch.float32),
        groups=tuple(cut.group(sent) for cut in cuts),
    )
