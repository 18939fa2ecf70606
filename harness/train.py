"""Training of one model: epochs, validation, early stopping, best weights (spec 1.4).

Every random draw comes from a generator made for (seed, epoch, stream), so that an epoch is the same whether or not
the ones before it ran in this process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.config import TrialSpec
from harness.errors import TrialError
from harness.evaluate import evaluate
from harness.metrics import evaluate as metrics_of
from harness.values import EpochLog, Split
from models.objective import Objective, PartnerView
from models.packed import PackedBatch, pack, ranges
from models.views import PartnerPool

SELECT_ON = "ndcg@10"
"""The validation metric that decides early stopping and the best weights."""


class Stream(IntEnum):
    """What a generator is for."""

    INIT = 0
    SHUFFLE = 1
    DROPOUT = 2
    PARTNER = 3
    VIEW_DROPOUT = 4


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
    starts: NDArray[np.int64]
    """[S] where each example's input begins in `flat`; its targets are the same rows shifted by one."""
    lengths: NDArray[np.int64]
    """[S] number of transitions, at most T."""

    @classmethod
    def of(cls, split: Split, max_len: int) -> "Sequences":
        """The last T transitions of every training user that has one."""
        sizes = np.diff(split.train_offsets)
        ends = split.train_offsets[1:][sizes >= 2]
        lengths = np.minimum(sizes[sizes >= 2] - 1, max_len).astype(np.int64)
        return cls(flat=split.train_items, starts=ends - 1 - lengths, lengths=lengths)

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
        return torch.from_numpy(self.flat[rows].astype(np.int64)).to(device)


class Trainer:
    """A model, its optimiser and its data; one call of `run_epoch` is one pass."""

    def __init__(self, spec: TrialSpec, split: Split, device: torch.device) -> None:
        self.spec, self.split, self.device = spec, split, device
        self.sequences = Sequences.of(split, spec.encoder.max_len)
        self.batch_size = min(spec.train.batch_size, len(self.sequences.starts))
        self.objective = Objective(
            spec.encoder,
            spec.loss,
            spec.aux,
            n_items=split.n_items,
            generator=torch_generator(spec.seed, 0, Stream.INIT, torch.device("cpu")),
        ).to(device)
        self.pool = PartnerPool(self.sequences.last_targets) if self.objective.wants_partners else None
        self.optimizer = torch.optim.Adam(
            self.objective.parameters(),
            lr=spec.train.lr,
            betas=(0.9, spec.train.beta2),
            weight_decay=spec.train.weight_decay,
            fused=device.type in {"cpu", "cuda"},
        )

    def run_epoch(self, epoch: int) -> tuple[float, dict[str, float]]:
        """Train on every example once, in a new order, without the last incomplete batch.

        Returns the mean loss and the mean of its parts. Raises TrialError where the loss is not a number.
        """
        seed, device = self.spec.seed, self.device
        order = numpy_generator(seed, epoch, Stream.SHUFFLE).permutation(len(self.sequences.starts))
        dropout = torch_generator(seed, epoch, Stream.DROPOUT, device)
        partner = numpy_generator(seed, epoch, Stream.PARTNER)
        view_dropout = torch_generator(seed, epoch, Stream.VIEW_DROPOUT, device)
        losses: list[Tensor] = []
        parts: list[dict[str, Tensor]] = []
        steps = len(order) // self.batch_size
        for step in range(steps):
            chosen = self.sequences.longest_first(order[step * self.batch_size : (step + 1) * self.batch_size])
            batch = self.sequences.pack(chosen, self.spec.encoder.max_len, device)
            targets = self.sequences.targets(chosen, device)
            view = self._partner_view(chosen, partner) if self.pool else None
            self.optimizer.zero_grad(set_to_none=True)
            loss, named = self.objective(batch, targets, dropout, view, view_dropout)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
            parts.append(named)
        every = torch.stack(losses)
        if not bool(every.isfinite().all()):
            bad = int((~every.isfinite()).nonzero()[0, 0])
            raise TrialError(
                f"loss became {float(every[bad])} in epoch {epoch}, step {bad + 1} of {steps}: lower the learning rate"
            )
        means = {
            name: float(torch.stack([p[name].float().to(device) for p in parts if name in p]).mean())
            for name in max(parts, key=len)
        }
        return float(every.mean()), means

    def _partner_view(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> PartnerView:
        """Another sequence with the same final item for each anchor, or the anchor itself, or no row at all."""
        assert self.pool is not None
        partners, real = self.pool.draw(chosen, rng)
        anchors = np.flatnonzero(real) if self.spec.aux.no_partner == "drop" else np.arange(len(chosen))
        share = float(real.mean())
        if len(anchors) < 2:
            empty = torch.zeros(0, dtype=torch.int64, device=self.device)
            first = self.sequences.pack(chosen[:1], self.spec.encoder.max_len, self.device)
            return PartnerView(batch=first, rows=empty, anchors=empty, share=share)
        wanted = partners[anchors]
        order = np.argsort(-self.sequences.lengths[wanted], kind="stable")
        rows = np.empty(len(order), np.int64)
        rows[order] = np.arange(len(order))
        return PartnerView(
            batch=self.sequences.pack(wanted[order], self.spec.encoder.max_len, self.device),
            rows=torch.from_numpy(rows).to(self.device),
            anchors=torch.from_numpy(anchors).to(self.device),
            share=share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model with its best weights in place."""

    objective: Objective
    epochs: tuple[EpochLog, ...]
    best_epoch: int
    batch_size: int
    """Sequences per step after clamping to the training users."""


def train(
    spec: TrialSpec, split: Split, *, device: torch.device, on_epoch: Callable[[EpochLog], None] | None = None
) -> Trained:
    """Train until `patience` validations in a row bring no strictly better NDCG@10, then restore the best weights."""
    trainer = Trainer(spec, split, device)
    model = trainer.objective.model
    logs: list[EpochLog] = []
    best, best_epoch, waited = -1.0, 0, 0
    best_state: dict[str, Tensor] = {}
    for epoch in range(1, spec.train.max_epochs + 1):
        started = time.perf_counter()
        loss, parts = trainer.run_epoch(epoch)
        trained = time.perf_counter()
        valid: dict[str, float] = {}
        if epoch % spec.train.validate_every == 0 or epoch == spec.train.max_epochs:
            ranks = evaluate(model, split, "valid", device=device)
            numbers = metrics_of(ranks, targets=split.targets("valid"), bucket=split.bucket, part="valid")
            valid = {f"{m.name}@{m.k}": m.value for m in numbers if m.bucket == 0 and m.value is not None}
            waited += 1
            if valid[SELECT_ON] > best:
                best, best_epoch, waited = valid[SELECT_ON], epoch, 0
                best_state = {name: value.detach().clone() for name, value in trainer.objective.state_dict().items()}
        logs.append(
            EpochLog(
                epoch=epoch,
                loss=loss,
                parts=parts,
                valid=valid,
                seconds_train=trained - started,
                seconds_valid=time.perf_counter() - trained,
            )
        )
        if on_epoch:
            on_epoch(logs[-1])
        if waited >= spec.train.patience:
            break
    trainer.objective.load_state_dict(best_state)
    return Trained(
        objective=trainer.objective, epochs=tuple(logs), best_epoch=best_epoch, batch_size=trainer.batch_size
    )
