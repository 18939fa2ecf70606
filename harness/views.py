"""The other views that an auxiliary term asks for, drawn for a batch of training examples (spec sections 3 to 5)."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.config import TrialSpec
from harness.examples import Sequences
from models.augment import Operator, Ragged, crop, mask, mixed, most_co_occurring, reorder, substitute, two_different
from models.auxiliary import View, Views
from models.explain import NEGATIVE, POSITIVE, explained, importances
from models.packed import on_device, pack, ranges
from models.sasrec import SASRec
from models.views import PartnerPool, draw_by_explanation


class ViewSource:
    """Makes the views of one trial's auxiliary term."""

    def __init__(self, spec: TrialSpec, sequences: Sequences, n_items: int, device: torch.device) -> None:
        self.aux, self.max_len, self.device = spec.aux, spec.encoder.max_len, device
        self.sequences, self.n_items = sequences, n_items
        self.importance: NDArray[np.float32] | None = None
        """EC4SRec: importance of every item of every example's input; its term is off until there is one."""
        kind, view = self.aux.kind, self.aux.bt_view
        self.all_inputs = sequences.inputs(np.arange(len(sequences.starts))) if kind == "ec4srec" else None
        self.similar = most_co_occurring(sequences.windows(), n_items) if view == "substitute" else None
        with_partner = (
            kind == "duorec"
            or (kind == "ec4srec" and self.aux.supervised_weight > 0)
            or (kind == "barlow_twins" and view == "supervised")
        )
        self.partners = None
        if with_partner:
            strangers = kind == "barlow_twins"
            self.partners = PartnerExamples(sequences, self.aux.partner_pool, self.max_len, strangers=strangers)

    def explain(self, model: SASRec, epoch: int) -> None:
        """Measure importance anew where this epoch is one for it: at explain_start and every explain_every."""
        aux = self.aux
        if self.all_inputs is None or epoch < aux.explain_start:
            return
        if self.importance is None or (epoch - aux.explain_start) % aux.explain_every == 0:
            self.importance = importances(
                model,
                self.all_inputs,
                self.sequences.last_targets,
                kind=aux.importance,
                explain=aux.explain,
                device=self.device,
            )

    def of(self, chosen: NDArray[np.int64], partner: np.random.Generator, augment: np.random.Generator) -> Views | None:
        """The views of the chosen examples; None where there is no explanation yet.

        Of fewer than two anchors with a partner there is their share alone.
        """
        anchors, share, named = np.arange(len(chosen)), None, {}
        if self.aux.kind == "ec4srec" and self.importance is None:
            return None
        if self.partners:
            wanted, real = self._draw_partners(self.partners, chosen, partner)
            share = float(real.mean())
            if self.aux.no_partner == "drop":
                anchors = np.flatnonzero(real)
            if len(anchors) >= 2:
                mine = wanted[anchors]
                named["partner"] = self._view(
                    self.sequences.flat, self.partners.starts[mine], self.partners.lengths[mine]
                )
        if len(anchors) < 2:
            return Views(anchors=self._sent(anchors), named={}, partner_share=share)
        for name, made in self._augmented(chosen, augment).items():
            named[name] = self._view(made.items, made.starts, made.lengths)
        return Views(anchors=self._sent(anchors), named=named, partner_share=share)

    def _draw_partners(
        self, partners: "PartnerExamples", chosen: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if self.importance is None or self.all_inputs is None:
            return partners.pool.draw(partners.own[chosen], rng)
        return draw_by_explanation(partners.pool, self.all_inputs, self.importance, chosen, rng, max_len=self.max_len)

    def _augmented(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Ragged]:
        """Name -> the chosen examples as the term wants them changed."""
        aux = self.aux
        if aux.kind == "barlow_twins":
            x = self.sequences.inputs(chosen)
            if aux.bt_view == "substitute":
                assert self.similar is not None
                return {"augmented": substitute(x, aux.substitute_p, self.similar, rng)}
            random = {"crop": 0, "mask": 1, "reorder": 2}
            if aux.bt_view not in random:
                return {}
            everything = np.full(len(chosen), random[aux.bt_view])
            return {"augmented": mixed(everything, self._random_operators(x, rng))}
        if aux.kind == "cl4srec":
            operators = self._random_operators(self.sequences.inputs(chosen), rng)
            first, second = two_different(len(chosen), len(operators), rng)
            return {"first": mixed(first, operators), "second": mixed(second, operators)}
        if aux.kind == "ec4srec":
            return self._explained(chosen, rng)
        return {}

    def _random_operators(self, x: Ragged, rng: np.random.Generator) -> tuple[Operator, ...]:
        aux = self.aux
        return (
            lambda some: crop(x.take(some), aux.crop_eta, rng),
            lambda some: mask(x.take(some), aux.mask_gamma, self.n_items, rng),
            lambda some: reorder(x.take(some), aux.reorder_beta, rng),
        )

    def _explained(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Ragged]:
        """Two different positive operations and one negative on each example; alone items have a random negative."""
        aux = self.aux
        assert self.importance is not None and self.all_inputs is not None
        x = self.all_inputs.take(chosen)
        importance = self.importance[self.all_inputs.rows(chosen)]

        def operate(operation: str, share: float, some: NDArray[np.int64]) -> Ragged:
            mine = importance[x.rows(some)]
            return explained(x.take(some), mine, operation, share=share, mask_item=self.n_items, rng=rng)

        first, second = two_different(len(chosen), len(POSITIVE), rng)
        positive = [partial(operate, operation, aux.r_plus) for operation in POSITIVE]
        views = {"first": mixed(first, positive), "second": mixed(second, positive)}
        if aux.negative_weight:
            choice = rng.integers(0, len(NEGATIVE), len(chosen))
            made = mixed(choice, [partial(operate, operation, aux.r_minus) for operation in NEGATIVE])
            alone = np.repeat(x.lengths == 1, made.lengths)
            anything = rng.integers(0, self.n_items, len(made.items)).astype(np.int32)
            views["negative"] = Ragged(items=np.where(alone, anything, made.items), lengths=made.lengths)
        return views

    def _view(self, flat: NDArray[np.int32], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> View:
        """Sequences in the anchors' order as a packed batch."""
        order = np.argsort(-lengths, kind="stable")
        rows = np.empty(len(order), np.int64)
        rows[order] = np.arange(len(order))
        batch = pack(flat, starts[order], lengths[order], max_len=self.max_len, device=self.device)
        return View(batch=batch, rows=self._sent(rows))

    def _sent(self, numbers: NDArray[np.int64]) -> Tensor:
        return on_device([numbers], self.device)[0]


class PartnerExamples:
    """The examples that can be partners, and which of them each training example is itself."""

    def __init__(self, sequences: Sequences, pool: str, max_len: int, *, strangers: bool = False) -> None:
        """pool: `final`, the training examples; `prefix`, every transition of their users with up to T inputs.

        strangers: a user's own prefixes are no partners (spec 3.1); in DuoRec's program they are.
        """
        owners = None
        if pool == "final":
            self.starts, self.lengths = sequences.starts, sequences.lengths
            self.own = np.arange(len(sequences.starts))
        else:
            count = sequences.stops - sequences.begins - 1
            target = ranges(sequences.begins + 1, count)
            self.lengths = np.minimum(ranges(np.ones_like(count), count), max_len)
            self.starts = target - self.lengths
            self.own = np.cumsum(count) - 1
            owners = np.repeat(np.arange(len(count)), count) if strangers else None
        self.pool = PartnerPool(np.asarray(sequences.flat[self.starts + self.lengths]), owners)
