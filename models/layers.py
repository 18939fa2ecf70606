"""The steps of a block around attention, over packed rows: by the native kernel where it can be used, else by torch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Precision
from models.dropout import dropout
from models.kernels import rows as kernel
from models.kernels.rows import FeedForward
from models.linear import linear


def _apply(layer: nn.Linear, x: Tensor, precision: Precision) -> Tensor:
    return linear(x, layer.weight, layer.bias, precision)


def torch_norm_linear(
    x: Tensor, norm: nn.LayerNorm | None, layer: nn.Linear, rows: Tensor | None, *, lead: bool, precision: Precision
) -> tuple[Tensor, Tensor | None]:
    """`norm_linear` in torch alone, on any device."""
    own = x if rows is None else x.index_select(0, rows)
    normed = None if norm is None else norm(own)
    product = _apply(layer, own if normed is None else normed, precision)
    if lead:  # a zero vector, which the norm turns into its bias
        zero = layer.bias[None] if norm is None else _apply(layer, norm.bias[None], precision)
        product = torch.cat([zero, product])
    return product, normed


def norm_linear(
    x: Tensor,
    norm: nn.LayerNorm | None,
    layer: nn.Linear,
    rows: Tensor | None,
    *,
    count: int,
    lead: bool = False,
    precision: Precision,
) -> tuple[Tensor, Tensor | None]:
    """The layer of norm(x[rows]) and norm(x[rows]) itself: [m, D] to [m, out] and [m, D].

    norm: none means x[rows] as it is, and None in the second place. rows: [k] distinct rows of x, or None for all, of
    which only the first `count` matter. lead: the product begins with the row that a zero row of x gives, [1 + m, out].
    """
    if kernel.usable(x, layer.out_features, precision):
        return kernel.fused_norm_linear(x, norm, layer, rows, count=count, lead=lead, precision=precision)
    return torch_norm_linear(x, norm, layer, rows, lead=lead, precision=precision)


def torch_feed_forward(
    attended: Tensor, skip: Tensor, layers: FeedForward, generator: torch.Generator | None
) -> Tensor:
    """`feed_forward` in torch alone, on any device."""
    total = skip + _apply(layers.output, attended, layers.precision)
    x = layers.first(total)
    inner = dropout(_apply(layers.inner, x, layers.precision), layers.p, generator)
    inner = torch.relu_(inner) if layers.activation == "relu" else F.gelu(inner)
    made = dropout(_apply(layers.outer, inner, layers.precision), layers.p, generator)
    result: Tensor = (x if layers.skip_normed else total) + made
    return result if layers.second is None else layers.second(result)


def feed_forward(
    attended: Tensor, skip: Tensor, layers: FeedForward, generator: torch.Generator | None, *, count: int
) -> Tensor:
    """What a block makes of its attention: [m, D] and [m, D] to [m, D].

    y = skip + output(attended), then first(y), the feed-forward of it and its residual, then the second norm if any.
    Dropout only with a generator. Of the rows only the first `count` matter.
    """
    if layers.activation == "relu" and kernel.usable(attended, layers.inner.out_features, layers.precision):
        return kernel.fused_feed_forward(attended, skip, layers, generator, count=count)
    return torch_feed_forward(attended, skip, layers, generator)
