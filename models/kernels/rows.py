"""The steps of a block around attention, each in one native call for a direction.

Same meaning and random draws as the torch path in `models.layers`; rows that belong to no sequence are not computed.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.config import Precision
from models.dropout import least_word, random_words, scale_of
from models.kernels.build import Library, load, variant_for
from models.kernels.scratch import SCRATCH

EPS = 1e-8
"""Epsilon of the layer norms, the same number in rows.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """What follows attention in a block: output projection, first norm, feed-forward, perhaps a second norm."""

    output: nn.Linear
    first: nn.LayerNorm
    inner: nn.Linear
    outer: nn.Linear
    second: nn.LayerNorm | None
    skip_normed: bool
    """The feed-forward's residual is its normalised input, not what the norm was applied to."""
    activation: Literal["relu", "gelu"]
    p: float
    precision: Precision


def _pairs(*layers: str) -> tuple[str, ...]:
    return tuple(f"{layer}{part}" for layer in layers for part in ("weight", "bias"))


def _struct(pointers: tuple[str, ...], integers: tuple[str, ...], floats: tuple[str, ...]) -> type[ctypes.Structure]:
    fields = [
        *((name, ctypes.c_void_p) for name in pointers),
        *((name, ctypes.c_int64) for name in (*integers, "threads", "bf16")),
        *((name, ctypes.c_float) for name in floats),
    ]
    return type("Problem", (ctypes.Structure,), {"_fields_": fields})


_WEIGHTS = _pairs("output_", "first_", "inner_", "outer_", "second_")
_GIVEN = (
    *("attended", "skip", *_WEIGHTS, "inner_words", "outer_words"),
    *("first_hat", "first_std", "hidden", "second_hat", "second_std"),
)
_STRUCTS = {
    "norm_linear": _struct(
        (
            *("x", "rows", *_pairs("norm_", ""), "normed", "hat", "inverse_std", "product"),
            *("grad_product", "grad_normed", "grad_x", *_pairs("grad_norm_", "grad_")),
        ),
        ("count", "dim", "out", "lead"),
        (),
    ),
    "feed_forward": _struct(
        (*_GIVEN, "result", "grad_result", "grad_attended", "grad_skip", *(f"grad_{name}" for name in _WEIGHTS)),
        ("count", "dim", "wide", "skip_normed", "least"),
        ("keep_scale",),
    ),
}
"""The structs of norm_linear.cpp and feed_forward.cpp."""

Tensors = Mapping[str, Tensor | None]
"""Contiguous tensors by their names in a struct; None: null."""


@cache
def _function(library: Library, name: str) -> Any:
    function = getattr(library.handle, name)
    function.argtypes = [ctypes.POINTER(_STRUCTS[name]), ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    return function


def _call(name: str, tensors: Tensors, precision: Precision, numbers: Mapping[str, float]) -> None:
    problem = _STRUCTS[name](
        **{key: None if tensor is None else tensor.data_ptr() for key, tensor in tensors.items()},
        **numbers,
        threads=torch.get_num_threads(),
        bf16=precision == "bf16",
    )
    function = _function(load(), name)
    size = function(problem, None)
    assert size, "usable() was asked first"
    function(problem, SCRATCH.at_least(size))


def usable(x: Tensor, width: int, precision: Precision) -> bool:
    """Whether the calls can take rows x [m, D] and a map to or through `width`.

    They take float32 on the processor, with D and width multiples of the numbers that a product takes at a time.
    """
    variant = variant_for(x)
    if variant is None or (precision == "bf16" and not variant.bf16):
        return False
    step = variant.width * (2 if precision == "bf16" else 1)
    return x.shape[1] % step == 0 and width % step == 0


def _tail(x: Tensor, count: int) -> Tensor:
    """`x` with zeros from row `count` on."""
    x[count:] = 0
    return x


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        rows: Tensor | None,
        count: int,
        lead: bool,
        precision: Precision,
        recorded: bool,
    ) -> tuple[Tensor, Tensor | None]:
        x = x.contiguous()
        size = x.shape[0] if rows is None else count
        dim, training = x.shape[1], recorded and any(ctx.needs_input_grad)
        has_norm = norm_weight is not None
        product = x.new_empty(lead + size, weight.shape[0])
        normed = x.new_empty(size, dim) if has_norm else None
        hat, inverse_std = (x.new_empty(count, dim), x.new_empty(count)) if has_norm and training else (None, None)
        given = {"norm_weight": norm_weight, "norm_bias": norm_bias, "weight": weight, "bias": bias, "rows": rows}
        made = {"product": product, "normed": normed, "hat": hat, "inverse_std": inverse_std}
        numbers = {"count": count, "dim": dim, "out": weight.shape[0], "lead": int(lead)}
        _call("norm_linear", {"x": x, **given, **made}, precision, numbers)
        ctx.save_for_backward(x, norm_weight, norm_bias, weight, bias, rows, hat, inverse_std)
        ctx.call = precision, numbers
        ctx.set_materialize_grads(False)
        return _tail(product, lead + count), normed if normed is None else _tail(normed, count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_normed: Tensor | None) -> tuple[Tensor | None, ...]:
        names = ("x", "norm_weight", "norm_bias", "weight", "bias", "rows", "hat", "inverse_std")
        saved: dict[str, Tensor | None] = dict(zip(names, ctx.saved_tensors, strict=True))
        precision, numbers = ctx.call
        x = saved["x"]
        assert x is not None
        grad_x = torch.zeros_like(x) if saved["rows"] is not None else _tail(torch.empty_like(x), numbers["count"])
        grads = {n: None if (t := saved[n]) is None else torch.empty_like(t) for n in names[1:5]}
        made = {"grad_x": grad_x, **{f"grad_{name}": tensor for name, tensor in grads.items()}}
        taken = {
            "grad_product": grad.contiguous(),
            "grad_normed": None if grad_normed is None else grad_normed.contiguous(),
        }
        _call("norm_linear", {**saved, **taken, **made}, precision, numbers)
        return grad_x, *grads.values(), *[None] * 5


def fused_norm_linear(
    x: Tensor,
    norm: nn.LayerNorm | None,
    layer: nn.Linear,
    rows: Tensor | None,
    *,
    count: int,
    lead: bool,
    precision: Precision,
) -> tuple[Tensor, Tensor | None]:
    """See `models.layers.norm_linear`, where `usable` holds; rows of x from `count` on are not looked at."""
    assert norm is None or norm.eps == EPS
    norm_weight, norm_bias = (None, None) if norm is None else (norm.weight, norm.bias)
    result: tuple[Tensor, Tensor | None] = _NormLinear.apply(  # type: ignore[no-untyped-call]
        x, norm_weight, norm_bias, layer.weight, layer.bias, rows, count, lead, precision, torch.is_grad_enabled()
    )
    return result


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        attended: Tensor,
        skip: Tensor,
        layers: FeedForward,
        count: int,
        generator: torch.Generator | None,
        recorded: bool,
        *weights: Tensor | None,
    ) -> Tensor:
        attended, skip = attended.contiguous(), skip.contiguous()
        (size, dim), wide = attended.shape, layers.inner.out_features
        words: list[Tensor | None] = [None, None]
        if generator is not None and layers.p > 0:
            words = [random_words((size, wide), generator), random_words((size, dim), generator)]
        result = torch.empty_like(attended)
        kept: list[Tensor | None] = [None] * 5
        if recorded and any(ctx.needs_input_grad):
            kept[:3] = (attended.new_empty(count, *width) for width in ((dim,), (), (wide,)))
            if layers.second is not None:
                kept[3:] = (attended.new_empty(count, *width) for width in ((dim,), ()))
        tensors = dict(zip(_GIVEN, (attended, skip, *weights, *words, *kept), strict=True))
        numbers: dict[str, float] = {"count": count, "dim": dim, "wide": wide, "skip_normed": layers.skip_normed}
        numbers |= {"least": least_word(layers.p), "keep_scale": scale_of(layers.p)}
        ctx.save_for_backward(*tensors.values())
        ctx.call = layers.precision, numbers
        _call("feed_forward", tensors | {"result": result}, layers.precision, numbers)
        return _tail(result, count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        precision, numbers = ctx.call
        tensors: dict[str, Tensor | None] = dict(zip(_GIVEN, ctx.saved_tensors, strict=True))
        grad = grad.contiguous()
        own = [_tail(torch.empty_like(grad), numbers["count"]) for _ in range(2)]
        grads = [None if (t := tensors[name]) is None else torch.empty_like(t) for name in _WEIGHTS]
        made = dict(zip(("attended", "skip", *_WEIGHTS), (*own, *grads), strict=True))
        made = {f"grad_{name}": tensor for name, tensor in made.items()}
        taken = {"grad_result": grad}
        _call("feed_forward", tensors | taken | made, precision, numbers)
        return *own, *[None] * 4, *grads


def fused_feed_forward(
    attended: Tensor, skip: Tensor, layers: FeedForward, generator: torch.Generator | None, *, count: int
) -> Tensor:
    """See `models.layers.feed_forward`, where `usable` holds; rows from `count` on are not looked at, and zero."""
    assert {norm.eps for norm in (layers.first, layers.second) if norm is not None} == {EPS}
    modules = (layers.output, layers.first, layers.inner, layers.outer, layers.second)
    weights = [each for m in modules for each in ((None, None) if m is None else (m.weight, m.bias))]
    result: Tensor = _FeedForward.apply(  # type: ignore[no-untyped-call]
        attended, skip, layers, count, generator, torch.is_grad_enabled(), *weights
    )
    return result
