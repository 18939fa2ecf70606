"""The auxiliary terms: states of the anchors and of their views in, one scalar out (spec sections 3 to 5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.barlow import BarlowTwins, barlow_twins
from models.config import AuxConfig
from models.contrastive import info_nce, negative_contrast
from models.packed import PackedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Another sequence for each anchor, as a batch of its own."""

    batch: PackedBatch
    rows: Tensor
    """[K] sequence of `batch` that belongs to each anchor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What an auxiliary term sees beside the batch."""

    anchors: Tensor
    """[K] the anchors' sequence numbers in the batch; with K < 2 the term is off, and no view is needed."""
    named: Mapping[str, View]
    """partner: same target; augmented; first, second, negative. No entry is needed for dropout copies."""
    partner_share: float | None = None
    """Share of the batch that has a partner other than itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxInput:
    """States of the anchors, and how to get those of a view."""

    anchor: Tensor
    """[K, D] from the pass that feeds the prediction loss."""
    encode: Callable[[str], Tensor]
    """Name of a view, or `own` for a second pass over the anchors, to states [K, D] with their own dropout."""
    projector: nn.Module | None = None


Aux = tuple[Tensor, dict[str, Tensor]]
"""The term with gradient, not yet weighted by alpha, and its parts (detached)."""


class Projector(nn.Module):
    """Linear layers without bias to width P, batch norm without affine and ReLU in between (spec 3.2)."""

    def __init__(self, dim: int, layers: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [dim] + [width] * layers
        self.weights = nn.ParameterList(torch.empty(b, a) for a, b in zip(sizes, sizes[1:], strict=False))
        for weight in self.weights:
            nn.init.xavier_uniform_(weight, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[K, D] -> [K, P]; the batch norm always uses this batch's statistics."""
        for i, weight in enumerate(self.weights):
            if i:
                x = torch.relu(F.batch_norm(x, None, None, training=True))
            x = F.linear(x, weight)
        return x


def barlow(config: AuxConfig, given: AuxInput) -> Aux:
    """Barlow Twins between the anchors and their second view, by default a same-target partner (spec 3 and 5)."""

    def term(view: Tensor) -> BarlowTwins:
        return barlow_twins(
            given.anchor,
            view,
            config.lam,
            reduction=config.bt_reduction,
            std=config.bt_std,
            projector=given.projector,
        )

    main = term(given.encode({"supervised": "partner", "dropout": "own"}.get(config.bt_view, "augmented")))
    total = main.total
    parts = {"on_diagonal": main.on_diagonal, "off_diagonal": main.off_diagonal, "clamped_dims": main.clamped_dims}
    if config.extra_dropout_view:
        extra = term(given.encode("own"))
        total = total + extra.total
        parts |= {"extra_view": extra.total.detach(), "extra_clamped_dims": extra.clamped_dims}
    return total, parts


def cl4srec(config: AuxConfig, given: AuxInput) -> Aux:
    """InfoNCE between two randomly augmented copies (spec 4.1)."""
    return _nce(config, given.encode("first"), given.encode("second")), {}


def duorec(config: AuxConfig, given: AuxInput) -> Aux:
    """InfoNCE between a dropout copy and a same-target partner, the original default `us_x` (spec 4.2)."""
    return _nce(config, given.encode("own"), given.encode("partner")), {}


def duorec_released(config: AuxConfig, given: AuxInput) -> Aux:
    """InfoNCE between the anchors and their dropout copies: what the released BT-SR program runs (spec 4.2)."""
    return _nce(config, given.encode("own"), given.anchor), {}


def ec4srec(config: AuxConfig, given: AuxInput) -> Aux:
    """L_cl+ + negative_weight * L_cl- + supervised_weight * L_sl+ (spec 4.3)."""
    first, second = given.encode("first"), given.encode("second")
    total = positive = _nce(config, first, second)
    parts = {"contrast_positive": positive.detach()}
    if config.negative_weight:
        negative = negative_contrast(first, second, given.encode("negative"), tau=config.tau_negative)
        total = total + config.negative_weight * negative
        parts["contrast_negative"] = negative.detach()
    if config.supervised_weight:
        supervised = _nce(config, given.encode("own"), given.encode("partner"))
        total = total + config.supervised_weight * supervised
        parts["contrast_supervised"] = supervised.detach()
    return total, parts


def _nce(config: AuxConfig, a: Tensor, b: Tensor) -> Tensor:
    return info_nce(a, b, tau=config.tau, similarity=config.similarity)


AUXILIARIES: dict[str, Callable[[AuxConfig, AuxInput], Aux]] = {
    "barlow_twins": barlow,
    "cl4srec": cl4srec,
    "duorec": duorec,
    "duorec_released": duorec_released,
    "ec4srec": ec4srec,
}
