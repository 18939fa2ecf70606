"""prediction + alpha * auxiliary: the only place where the two meet (equation 8 of the paper)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.auxiliary import AUXILIARIES, AuxInput, Projector, Views
from models.config import AuxConfig, EncoderConfig, LossConfig, Precision
from models.losses import LossInput, prediction_loss
from models.negatives import Negatives
from models.packed import PackedBatch
from models.sasrec import SASRec
from models.sce import Buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training step: its sequences, and everything that was drawn for it."""

    batch: PackedBatch
    targets: Tensor
    """[n] the item that follows each token of `batch`."""
    dropout: torch.Generator | None = None
    """For the pass that feeds the prediction loss; none: no dropout."""
    view_dropout: torch.Generator | None = None
    """For all other passes, so that a run with alpha = 0 draws exactly what the base loss draws."""
    views: Views | None = None
    """None: the auxiliary term is off in this step."""
    negatives: Negatives | None = None
    centres: torch.Generator | None = None
    """For SCE's bucket centres."""


class Objective(nn.Module):
    """A model with its training loss."""

    def __init__(
        self,
        encoder: EncoderConfig,
        loss: LossConfig,
        aux: AuxConfig,
        *,
        n_items: int,
        generator: torch.Generator,
        buckets: Buckets | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """`generator` draws the initial weights; `buckets` are needed by the SCE loss alone."""
        super().__init__()
        self.model = SASRec(encoder, n_items, generator, precision)
        self.precision = precision
        self.loss = loss
        self.aux = aux
        self.buckets = buckets
        self.projector = None
        if aux.projector_dim is not None:
            self.projector = Projector(encoder.dim, aux.projector_layers, aux.projector_dim, generator)

    @property
    def wants_views(self) -> bool:
        """Whether the loss needs other views."""
        return self.aux.counts

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss with gradient, and its parts (detached)."""
        batch = step.batch
        hidden = self.model(batch, step.dropout)
        prediction, named = prediction_loss(
            self.loss,
            LossInput(
                hidden=hidden,
                table=self.model.table,
                targets=step.targets,
                n_items=self.model.n_items,
                n_scored=self.model.n_scored,
                lengths=batch.lengths,
                negatives=step.negatives,
                buckets=self.buckets,
                generator=step.centres,
                precision=self.precision,
            ),
        )
        parts: dict[str, Tensor | float] = {"prediction": prediction.detach(), **named}
        views = step.views
        if views is not None and views.partner_share is not None:
            parts["partner_share"] = views.partner_share
        if views is None or len(views.anchors) < 2:
            return prediction, parts

        def encode(name: str) -> Tensor:
            if name == "own":
                states: Tensor = self.model(batch, step.view_dropout, last_only=True)
                return states.index_select(0, views.anchors)
            view = views.named[name]
            states = self.model(view.batch, step.view_dropout, last_only=True)
            return states.index_select(0, view.rows)

        anchor = hidden.index_select(0, batch.last.index_select(0, views.anchors))
        given = AuxInput(anchor=anchor, encode=encode, projector=self.projector)
        term, told = AUXILIARIES[self.aux.kind](self.aux, given)
        parts |= {"auxiliary": term.detach(), **told}
        return prediction + self.aux.alpha * term, parts
