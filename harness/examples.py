"""The training examples of a split, and everything random that is drawn for a batch of them.

Every random draw comes from a generator made for (seed, epoch, stream), so that an epoch is the same whether or not
the ones before it ran in this process.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.config import TrialSpec
from harness.values import Split
from models.augment import Ragged
from models.negatives import Negatives, UnseenItems, draw_any
from models.packed import PackedBatch, on_device, pack, ranges
from models.sampled import rows_at_once
from models.sce import Buckets, bucket_count


class Stream(IntEnum):
    """What a generator is for."""

    INIT = 0
    SHUFFLE = 1
    DROPOUT = 2
    PARTNER = 3
    VIEW_DROPOUT = 4
    NEGATIVES = 5
    AUGMENT = 6
    CENTRES = 7


def numpy_generator(seed: int, epoch: int, stream: Stream) -> np.random.Generator:
    """The generator of one stream of one epoch."""
    return np.random.default_rng([seed, epoch, stream])


def torch_generator(seed: int, epoch: int, stream: Stream, device: torch.device) -> torch.Generator:
    """The same on a torch device."""
    state = int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device).manual_seed(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """The training examples: one per user with at least two interactions (spec 1.1)."""

    flat: NDArray[np.int32]
    """[E] items of all users."""
    begins: NDArray[np.int64]
    """[S] where each example's user begins in `flat`; the user ends with the example's last target."""
    starts: NDArray[np.int64]
    """[S] where each example's input begins in `flat`; its targets are the same rows shifted by one."""
    lengths: NDArray[np.int64]
    """[S] number of transitions, at most T."""

    @classmethod
    def of(cls, split: Split, max_len: int) -> "Sequences":
        """The last T transitions of every training user that has one."""
        sizes = np.diff(split.train_offsets)
        some = sizes >= 2
        ends = split.train_offsets[1:][some]
        lengths = np.minimum(sizes[some] - 1, max_len).astype(np.int64)
        begins = np.asarray(split.train_offsets[:-1][some])
        return cls(flat=split.train_items, begins=begins, starts=ends - 1 - lengths, lengths=lengths)

    @property
    def stops(self) -> NDArray[np.int64]:
        """[S] where each example's user ends in `flat`."""
        return self.starts + self.lengths + 1

    @property
    def last_targets(self) -> NDArray[np.int32]:
        """[S] final training item of each example."""
        return np.asarray(self.flat[self.starts + self.lengths])

    def longest_first(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chosen examples, longest first."""
        return chosen[np.argsort(-self.lengths[chosen], kind="stable")]

    def pack(self, chosen: NDArray[np.int64], max_len: int, device: torch.device) -> PackedBatch:
        """The inputs of examples that already come longest first."""
        return pack(self.flat, self.starts[chosen], self.lengths[chosen], max_len=max_len, device=device)

    def targets(self, chosen: NDArray[np.int64], device: torch.device) -> Tensor:
        """[n] the next item at every token of `pack(chosen)`."""
        rows = ranges(self.starts[chosen] + 1, self.lengths[chosen])
        return on_device([self.flat[rows].astype(np.int64)], device)[0]

    def inputs(self, chosen: NDArray[np.int64]) -> Ragged:
        """The inputs of the chosen examples, without their last targets."""
        lengths = self.lengths[chosen]
        return Ragged(items=np.asarray(self.flat[ranges(self.starts[chosen], lengths)]), lengths=lengths)

    def windows(self) -> Ragged:
        """Inputs with their last targets, of all examples."""
        lengths = self.lengths + 1
        return Ragged(items=np.asarray(self.flat[ranges(self.starts, lengths)]), lengths=lengths)


def buckets_of(spec: TrialSpec, split: Split, batch_size: int) -> Buckets | None:
    """SCE's bucket sizes, by formula from the training data where the configuration does not say."""
    loss = spec.loss
    if loss.sce_b_y is None:
        return None
    mean_length = len(split.train_items) / split.n_train_users
    count = loss.sce_buckets or bucket_count(batch_size, mean_length, spec.encoder.max_len)
    return Buckets(count=count, b_x=loss.sce_b_x or count, b_y=loss.sce_b_y, mix_x=loss.sce_mix_x)


class NegativeSource:
    """Draws the negatives of a batch (spec 2.1, 2.2 and 2.4)."""

    def __init__(self, spec: TrialSpec, sequences: Sequences, n_items: int, device: torch.device) -> None:
        assert spec.loss.negatives is not None
        self.kind, self.k, self.n_items, self.device = spec.loss.kind, spec.loss.negatives, n_items, device
        self.sequences = sequences
        self.unseen = None
        if self.kind != "gbce":
            self.unseen = UnseenItems(sequences.flat, sequences.begins, sequences.stops, n_items)

    def of(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> Negatives:
        """Negatives of the rows of the chosen examples, or of the examples themselves for a shared list."""
        users = chosen if self.kind == "ce_sampled" else np.repeat(chosen, self.sequences.lengths[chosen])

        def draw(start: int, stop: int) -> Tensor:
            some = users[start : min(stop, start + rows_at_once(self.k))]
            if self.unseen is None:
                drawn = draw_any(len(some), self.k, self.n_items, rng)
            else:
                drawn = self.unseen.draw(some, self.k, rng)
            return on_device([drawn], self.device)[0]

        return draw
