"""Training of one model: epochs, validation, early stopping, best weights (spec 1.4)."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from harness.adam import Adam
from harness.config import TrialSpec
from harness.errors import TrialError
from harness.evaluate import evaluate
from harness.examples import NegativeSource, Sequences, Stream, buckets_of, numpy_generator, torch_generator
from harness.fits import check_fits
from harness.metrics import evaluate as metrics_of
from harness.values import EpochLog, Split
from harness.views import ViewSource
from models.objective import Objective, Step

SELECT_ON = "ndcg@10"
"""The validation metric that decides early stopping and the best weights."""


class Trainer:
    """A model, its optimiser and its data; one call of `run_epoch` is one pass."""

    def __init__(self, spec: TrialSpec, split: Split, device: torch.device) -> None:
        """Raises ConfigError where the data are too few for the specification."""
        check_fits(spec, split)
        self.spec, self.split, self.device = spec, split, device
        self.sequences = Sequences.of(split, spec.encoder.max_len)
        self.batch_size = min(spec.train.batch_size, len(self.sequences.starts))
        self.objective = Objective(
            spec.encoder,
            spec.loss,
            spec.aux,
            n_items=split.n_items,
            generator=torch_generator(spec.seed, 0, Stream.INIT, torch.device("cpu")),
            buckets=buckets_of(spec, split, self.batch_size),
            precision=spec.train.precision,
        ).to(device)
        self.negatives = None
        if spec.loss.negatives is not None:
            self.negatives = NegativeSource(spec, self.sequences, split.n_items, device)
        self.views = None
        if self.objective.wants_views:
            self.views = ViewSource(spec, self.sequences, split.n_items, device)
        self.optimizer = Adam(
            self.objective.parameters(),
            lr=spec.train.lr,
            betas=(0.9, spec.train.beta2),
            weight_decay=spec.train.weight_decay,
        )

    @property
    def n_steps(self) -> int:
        """Of an epoch."""
        return len(self.sequences.starts) // self.batch_size

    def steps(self, epoch: int) -> Iterator[Step]:
        """Every example once, in the epoch's order, without the last incomplete batch, and all that is drawn for it."""
        seed, device = self.spec.seed, self.device
        order = numpy_generator(seed, epoch, Stream.SHUFFLE).permutation(len(self.sequences.starts))
        dropout, view_dropout, centres = (
            torch_generator(seed, epoch, stream, device)
            for stream in (Stream.DROPOUT, Stream.VIEW_DROPOUT, Stream.CENTRES)
        )
        partner, augment, negatives = (
            numpy_generator(seed, epoch, stream) for stream in (Stream.PARTNER, Stream.AUGMENT, Stream.NEGATIVES)
        )
        if self.views:
            self.views.explain(self.objective.model, epoch)
        for number in range(self.n_steps):
            chosen = self.sequences.longest_first(order[number * self.batch_size : (number + 1) * self.batch_size])
            yield Step(
                batch=self.sequences.pack(chosen, self.spec.encoder.max_len, device),
                targets=self.sequences.targets(chosen, device),
                dropout=dropout,
                view_dropout=view_dropout,
                views=self.views.of(chosen, partner, augment) if self.views else None,
                negatives=self.negatives.of(chosen, negatives) if self.negatives else None,
                centres=centres,
            )

    def run_epoch(self, epoch: int) -> tuple[float, dict[str, float]]:
        """Train on the steps of an epoch.

        Returns the mean loss and the mean of its parts. Raises TrialError where the loss is not a number.
        """
        losses, parts = _Told(self.n_steps, self.device), _Told(self.n_steps, self.device)
        for step in self.steps(epoch):
            self.optimizer.zero_grad()
            loss, named = self.objective(step)
            loss.backward()
            self.optimizer.step()
            losses.add({"loss": loss.detach()})
            parts.add(named)
        every = losses.values("loss")
        if not bool(every.isfinite().all()):
            bad = int((~every.isfinite()).nonzero()[0, 0])
            where = f"epoch {epoch}, step {bad + 1} of {len(every)}"
            raise TrialError(f"loss became {float(every[bad])} in {where}: lower the learning rate")
        return float(every.mean()), {name: float(parts.values(name).mean()) for name in parts.names}


class _Told:
    """Numbers that the steps of an epoch tell, by name, in one piece of memory for each name.

    Kept one by one, each would lie behind the table's gradient of its step and keep the allocator from using that
    memory again, so that an epoch took as many tables as it has steps.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self._steps, self._device = steps, device
        self._values: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, named: Mapping[str, Tensor | float]) -> None:
        """Of the next step; not every step need tell every name."""
        for name, value in named.items():
            if name not in self._values:
                self._values[name] = torch.empty(self._steps, device=self._device)
            self._values[name][self._counts[name]] = value
            self._counts[name] += 1

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they were told first."""
        return tuple(self._values)

    def values(self, name: str) -> Tensor:
        """[steps that told it] float32."""
        return self._values[name][: self._counts[name]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model with its best weights in place."""

    objective: Objective
    epochs: tuple[EpochLog, ...]
    best_epoch: int
    batch_size: int
    """Sequences per step after clamping to the training users."""


class Training:
    """One training, an epoch at a time; between two epochs it can be written down, and gone on with elsewhere.

    It ends when `patience` validations in a row bring no strictly better NDCG@10. Validations before the auxiliary
    term's first epoch do not count against the patience.
    """

    def __init__(self, spec: TrialSpec, split: Split, device: torch.device) -> None:
        self.trainer = Trainer(spec, split, device)
        self.epochs: list[EpochLog] = []
        self.best, self.best_epoch, self.waited = -1.0, 0, 0
        self.best_state: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        train = self.trainer.spec.train
        return len(self.epochs) >= train.max_epochs or self.waited >= train.patience

    def epoch(self) -> EpochLog:
        """Run the next epoch, with its validation where it is due."""
        trainer, spec, split = self.trainer, self.trainer.spec, self.trainer.split
        number, started = len(self.epochs) + 1, time.perf_counter()
        loss, parts = trainer.run_epoch(number)
        trained = time.perf_counter()
        valid: dict[str, float] = {}
        if number % spec.train.validate_every == 0 or number == spec.train.max_epochs:
            ranks = evaluate(trainer.objective.model, split, "valid", device=trainer.device)
            numbers = metrics_of(ranks, targets=split.targets("valid"), bucket=split.bucket, part="valid")
            valid = {f"{m.name}@{m.k}": m.value for m in numbers if m.bucket == 0 and m.value is not None}
            self.waited += number >= spec.aux.first_epoch
            if valid[SELECT_ON] > self.best:
                self.best, self.best_epoch, self.waited = valid[SELECT_ON], number, 0
                self.best_state = {n: value.detach().clone() for n, value in trainer.objective.state_dict().items()}
        self.epochs.append(
            EpochLog(
                epoch=number,
                loss=loss,
                parts=parts,
                valid=valid,
                seconds_train=trained - started,
                seconds_valid=time.perf_counter() - trained,
            )
        )
        return self.epochs[-1]

    def state(self) -> dict[str, Any]:
        """All that the epochs left behind, as tensors, numbers and text. Generators are made anew in every epoch."""
        trainer = self.trainer
        importance = trainer.views.importance if trainer.views else None
        return {
            "objective": trainer.objective.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "importance": None if importance is None else torch.from_numpy(importance),
            "epochs": json.dumps([asdict(log) for log in self.epochs]),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
            "best_state": self.best_state,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; the epochs to come are bit for bit those of a training that never stopped."""
        trainer = self.trainer
        trainer.objective.load_state_dict(state["objective"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if trainer.views and state["importance"] is not None:
            trainer.views.importance = state["importance"].cpu().numpy()
        self.epochs = [EpochLog(**fields) for fields in json.loads(state["epochs"])]
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self.best_state = dict(state["best_state"])

    def end(self) -> Trained:
        """Put the best weights in place."""
        self.trainer.objective.load_state_dict(self.best_state)
        return Trained(
            objective=self.trainer.objective,
            epochs=tuple(self.epochs),
            best_epoch=self.best_epoch,
            batch_size=self.trainer.batch_size,
        )


def train(
    spec: TrialSpec, split: Split, *, device: torch.device, on_epoch: Callable[[EpochLog], None] | None = None
) -> Trained:
    """Train to the end, then restore the best weights; see `Training`."""
    training = Training(spec, split, device)
    while not training.finished:
        log = training.epoch()
        if on_epoch:
            on_epoch(log)
    return training.end()
