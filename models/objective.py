"""prediction + alpha * auxiliary: the only place where alpha and lambda meet (equation 8 of the paper)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.barlow import barlow_twins
from models.config import AuxConfig, EncoderConfig, LossConfig
from models.losses import prediction_loss
from models.packed import PackedBatch
from models.sasrec import SASRec


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerView:
    """The same-target partners of a batch, as a batch of their own."""

    batch: PackedBatch
    rows: Tensor
    """[K] sequence of `batch` that is the partner of each anchor."""
    anchors: Tensor
    """[K] the anchors' sequence numbers in the anchor batch."""
    share: float
    """Share of the anchor batch that has a partner other than itself."""


class Objective(nn.Module):
    """A model with its training loss."""

    def __init__(
        self, encoder: EncoderConfig, loss: LossConfig, aux: AuxConfig, *, n_items: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.model = SASRec(encoder, n_items, generator)
        self.loss = loss
        self.aux = aux

    @property
    def wants_partners(self) -> bool:
        """Whether the loss needs a second view; with alpha = 0 it does not, and nothing extra is drawn."""
        return self.aux.kind == "barlow_twins" and self.aux.alpha > 0

    def forward(
        self,
        batch: PackedBatch,
        targets: Tensor,
        generator: torch.Generator | None,
        view: PartnerView | None = None,
        view_generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with gradient, and its parts (detached).

        targets: [n] the item that follows each token of `batch`. The two generators drive the dropout of the two
        passes, so that a run with alpha = 0 draws exactly what the base loss draws.
        """
        hidden = self.model(batch, generator)
        prediction = prediction_loss(self.loss, hidden, self.model.table, targets, self.model.n_items)
        parts = {"prediction": prediction.detach()}
        if view is None or view.rows.shape[0] < 2:
            return prediction, parts
        anchor = hidden.index_select(0, batch.last.index_select(0, view.anchors))
        partner = self.model(view.batch, view_generator, last_only=True).index_select(0, view.rows)
        term = barlow_twins(anchor, partner, self.aux.lam, reduction=self.aux.bt_reduction, std=self.aux.bt_std)
        parts |= {
            "auxiliary": term.total.detach(),
            "on_diagonal": term.on_diagonal,
            "off_diagonal": term.off_diagonal,
            "clamped_dims": term.clamped_dims,
            "partner_share": torch.tensor(view.share),
        }
        return prediction + self.aux.alpha * term.total, parts
