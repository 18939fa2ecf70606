"""The native steps around attention against the torch path in float64: same numbers, gradients and random draws."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models import layers
from models.config import EncoderConfig, Precision
from models.kernels import rows as kernel
from models.kernels.build import VARIANTS, load
from models.kernels.rows import EPS, FeedForward, fused_feed_forward, fused_norm_linear, usable
from models.layers import feed_forward, norm_linear, torch_feed_forward, torch_norm_linear
from models.packed import PackedBatch, pack
from models.sasrec import SASRec

pytestmark = pytest.mark.usefixtures("native")

NormPlace = Literal["reference", "pre", "post"]
PLACES: tuple[NormPlace, ...] = get_args(NormPlace)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-3}
"""Of gradients, in the Euclidean norm."""


class _RoundedLinear(torch.autograd.Function):
    """What `bf16` means: operands of all three products rounded to bfloat16, sums exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.bfloat16().double() @ weight.bfloat16().double().t() + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = (t.bfloat16().double() for t in ctx.saved_tensors)
        rounded = grad.bfloat16().double()
        return rounded @ weight, rounded.t() @ x, grad.sum(0)


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Precision]:
    """Every precision; the torch path's products are exact but for the rounding that it means."""
    value: Precision = request.param
    if not usable(torch.ones(1, 64), 64, value):
        pytest.skip(f"no {value} kernel for this processor")
    if value == "bf16":
        monkeypatch.setattr(layers, "linear", lambda x, w, b, _: _RoundedLinear.apply(x, w, b))
    yield value


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    return float((got.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def module(layer: nn.Module, seed: int) -> Any:
    """The layer with weights that are nowhere special."""
    for i, parameter in enumerate(layer.parameters()):
        parameter.data = random(*parameter.shape, seed=seed + i) / 8 + (parameter.ndim == 1)
    return layer


def double(layer: nn.Module | None) -> Any:
    if layer is None:
        return None
    copy = type(layer)(*((layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else (64,)))
    if isinstance(layer, nn.LayerNorm):
        copy = nn.LayerNorm(layer.normalized_shape, eps=EPS)
    copy.load_state_dict(layer.state_dict())
    return copy.double()


def compare(
    native: Callable[[Any, list[Tensor], Any], tuple[Tensor | None, ...]],
    reference: Callable[[Any, list[Tensor], Any], tuple[Tensor | None, ...]],
    modules: list[nn.Module | None],
    inputs: list[Tensor],
    precision: Precision,
    *,
    p: float,
) -> None:
    """Run both forward and backward from the same inputs and draws, and compare everything."""
    found = []
    for function, wide in ((native, False), (reference, True)):
        own = [double(m) if wide else m for m in modules]
        leaves = [(x.double() if wide else x.clone()).requires_grad_() for x in inputs]
        generator = torch.Generator().manual_seed(5)
        values = [v for v in function(own, leaves, generator if p else None) if v is not None]
        weights = [random(*v.shape, seed=9).to(v.dtype) for v in values]
        total = sum(((v * w).sum() for v, w in zip(values, weights, strict=True)), torch.zeros(()))
        parameters = [q for m in own if m is not None for q in m.parameters()]
        grads = torch.autograd.grad(total, [*leaves, *parameters])
        found.append(([v.detach() for v in values], grads, torch.rand((), generator=generator)))
    (values, grads, drawn), (wanted, wanted_grads, drawn_too) = found
    assert torch.equal(drawn, drawn_too)
    for mine, exact in zip(values, wanted, strict=True):
        if precision == "fp32":
            torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-5)
        else:
            assert error(mine, exact) < 1e-3
    assert [error(a, b) < TOLERANCE[precision] for a, b in zip(grads, wanted_grads, strict=True)] == [True] * len(grads)


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("lead", [False, True], ids=["all", "lead"])
@pytest.mark.parametrize("count", [1, 47, 300])
def test_norm_linear(norm: bool, lead: bool, count: int, precision: Precision, threads: int) -> None:
    modules = [module(nn.LayerNorm(64, eps=EPS), 3) if norm else None, module(nn.Linear(64, 128), 4)]
    compare(
        lambda m, x, _: fused_norm_linear(x[0], *m, None, count=count, lead=lead, precision=precision),
        lambda m, x, _: torch_norm_linear(x[0], *m, None, lead=lead, precision=precision),
        modules,
        [random(count, 64) * 3 + 1],
        precision,
        p=0,
    )


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
def test_norm_linear_of_some_rows(norm: bool, precision: Precision, threads: int) -> None:
    rows = torch.tensor([3, 70, 41, 0, 99])
    compare(
        lambda m, x, _: fused_norm_linear(x[0], *m, rows, count=5, lead=False, precision=precision),
        lambda m, x, _: torch_norm_linear(x[0], *m, rows, lead=False, precision=precision),
        [module(nn.LayerNorm(32, eps=EPS), 3) if norm else None, module(nn.Linear(32, 32), 4)],
        [random(100, 32)],
        precision,
        p=0,
    )


def rest_of(modules: list[Any], place: NormPlace, precision: Precision, p: float) -> FeedForward:
    return FeedForward(
        output=modules[0],
        first=modules[1],
        inner=modules[2],
        outer=modules[3],
        second=modules[4],
        skip_normed=place != "pre",
        activation="relu",
        p=p,
        precision=precision,
    )


def rest_modules(dim: int, wide: int, place: NormPlace) -> list[Any]:
    norms = [module(nn.LayerNorm(dim, eps=EPS), seed) for seed in (2, 3)]
    maps = [module(nn.Linear(*sides), 4 + i) for i, sides in enumerate(((dim, dim), (dim, wide), (wide, dim)))]
    return [maps[0], norms[0], *maps[1:], norms[1] if place == "post" else None]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("count", "dim", "wide", "p"), [(300, 64, 64, 0.0), (300, 64, 64, 0.3), (53, 32, 96, 0.2)])
def test_feed_forward(
    place: NormPlace, count: int, dim: int, wide: int, p: float, precision: Precision, threads: int
) -> None:
    compare(
        lambda m, x, g: (fused_feed_forward(*x, rest_of(m, place, precision, p), g, count=count),),
        lambda m, x, g: (torch_feed_forward(*x, rest_of(m, place, precision, p), g),),
        rest_modules(dim, wide, place),
        [random(count, dim, seed=1), random(count, dim, seed=2)],
        precision,
        p=p,
    )


def batch_of(lengths: tuple[int, ...], max_len: int, n_items: int) -> PackedBatch:
    sizes = np.sort(np.array(lengths, np.int64))[::-1].copy()
    flat = np.random.default_rng(1).integers(n_items, size=int(sizes.sum())).astype(np.int32)
    return pack(flat, np.cumsum(sizes) - sizes, sizes, max_len=max_len, device=torch.device("cpu"))


BATCH = batch_of((50, 50, 47, 41, 40, 33, 17, 16, 15, 9, 8, 7, 3, 2, 2, 1, 1), 50, 90)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_an_encoder_computes_the_same_with_and_without(
    place: NormPlace, last_only: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(dim=64, heads=2, norm=place, dropout=dropout)
    model = SASRec(config, 90, torch.Generator().manual_seed(1))
    found = []
    for mode in ("auto", "off"):
        monkeypatch.setenv("BTSR_KERNELS", mode)
        generator = torch.Generator().manual_seed(2)
        hidden = model(BATCH, generator, last_only=last_only)
        grads = torch.autograd.grad((hidden * random(*hidden.shape)).sum(), list(model.parameters()))
        found.append((hidden.detach(), *grads, torch.rand((), generator=generator)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)
    assert max(error(a, b) for a, b in zip(found[0], found[1], strict=True)) < 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_step_gives_the_same_bits(precision: Precision, threads: int) -> None:
    model = SASRec(EncoderConfig(dim=64), 90, torch.Generator().manual_seed(1), precision)
    runs = []
    for _ in range(3):
        hidden = model(BATCH, torch.Generator().manual_seed(2))
        runs.append((hidden, *torch.autograd.grad(hidden.square().sum(), list(model.parameters()))))
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


def test_rows_of_no_sequence_are_zero_and_give_no_gradient() -> None:
    norm, layer = nn.LayerNorm(16, eps=EPS), nn.Linear(16, 16)
    x = random(70, 16).requires_grad_()
    product, normed = fused_norm_linear(x, norm, layer, None, count=50, lead=True, precision="fp32")
    assert normed is not None and not product[51:].any() and not normed[50:].any()
    (grad,) = torch.autograd.grad(product.sum() + normed.square().sum(), x)
    assert grad[:50].any() and not grad[50:].any()
    made = fused_feed_forward(x, x, rest_of(rest_modules(16, 16, "post"), "post", "fp32", 0), None, count=50)
    (grad,) = torch.autograd.grad(made.square().sum(), x)
    assert not made[50:].any() and grad[:50].any() and not grad[50:].any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept_for_them(mode: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters require gradients in an evaluation, too; what is kept is what a backward reads."""
    kept: set[str] = set()
    call = kernel._call

    def watched(name: str, tensors: kernel.Tensors, *rest: Any) -> None:
        kept.update(key for key in ("hat", "inverse_std", *kernel._GIVEN[-5:]) if tensors.get(key) is not None)
        call(name, tensors, *rest)

    monkeypatch.setattr(kernel, "_call", watched)
    x, norm, layer = random(50, 16), nn.LayerNorm(16, eps=EPS), nn.Linear(16, 16)
    rest = rest_of(rest_modules(16, 16, "post"), "post", "fp32", 0)
    with mode():
        without = fused_norm_linear(x, norm, layer, None, count=50, lead=False, precision="fp32")
        made = fused_feed_forward(x, x, rest, None, count=50)
    assert not kept
    recorded = fused_norm_linear(x, norm, layer, None, count=50, lead=False, precision="fp32")
    made_too = fused_feed_forward(x, x, rest, None, count=50)
    assert kept == {"hat", "inverse_std", *kernel._GIVEN[-5:]}, "the input is frozen, the weights are not"
    assert all(torch.equal(a, b) for a, b in zip((*without, made), (*recorded, made_too), strict=True) if a is not None)
    torch.autograd.grad(recorded[0].sum() + made_too.sum(), [norm.weight, layer.weight, rest.inner.weight])


def test_a_transposed_gradient_is_read_as_it_stands() -> None:
    x, y, v = random(50, 16).requires_grad_(), random(50, 16, seed=1), random(16, 50)
    rest = rest_of(rest_modules(16, 16, "post"), "post", "fp32", 0)
    (got,) = torch.autograd.grad((fused_feed_forward(x, y, rest, None, count=50).t() * v).sum(), x)
    (wanted,) = torch.autograd.grad((torch_feed_forward(x, y, rest, None).t() * v).sum(), x)
    assert error(got, wanted) < 1e-5


def test_what_is_not_a_number_stays_visible() -> None:
    x = random(60, 16)
    x[3, 2], x[40, 0] = float("nan"), float("inf")
    product, _ = fused_norm_linear(
        x, nn.LayerNorm(16, eps=EPS), nn.Linear(16, 16), None, count=60, lead=False, precision="fp32"
    )
    made = fused_feed_forward(x, x, rest_of(rest_modules(16, 16, "pre"), "pre", "fp32", 0), None, count=60)
    for result in (product, made):
        assert result.isnan().any(1).nonzero()[:, 0].tolist() == [3, 40]


def test_what_they_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    x, width = torch.ones(4, 64), load().variant.width
    assert usable(x, 128, "fp32") and not usable(x.double(), 64, "fp32") and not usable(x[:0], 64, "fp32")
    assert not usable(x.to("meta"), 64, "fp32") and not usable(x, 50, "fp32") and not usable(x[:, :50], 64, "fp32")
    assert not usable(x[:, :width], 64, "bf16")
    monkeypatch.setenv("BTSR_KERNELS", "off")
    assert not usable(x, 64, "fp32")


def test_what_they_cannot_take_goes_through_torch() -> None:
    odd = random(9, 10)
    pair = module(nn.LayerNorm(10, eps=EPS), 1), module(nn.Linear(10, 6), 2)
    got = norm_linear(odd, *pair, None, count=9, precision="fp32")
    torch.testing.assert_close(got, torch_norm_linear(odd, *pair, None, lead=False, precision="fp32"), rtol=0, atol=0)
    modules = rest_modules(16, 32, "reference")
    smooth = FeedForward(
        output=modules[0],
        first=modules[1],
        inner=modules[2],
        outer=modules[3],
        second=None,
        skip_normed=True,
        activation="gelu",
        p=0,
        precision="fp32",
    )
    x = random(9, 16)
    torch.testing.assert_close(
        feed_forward(x, x, smooth, None, count=9), torch_feed_forward(x, x, smooth, None), rtol=0, atol=0
    )


def test_the_narrow_build_computes_the_same(monkeypatch: pytest.MonkeyPatch, narrow_cache: str) -> None:
    monkeypatch.setattr("models.kernels.build.VARIANTS", tuple(v for v in VARIANTS if v.name == "avx2"))
    monkeypatch.setenv("BTSR_CACHE", narrow_cache)
    assert load().variant.name == "avx2"
    for place in PLACES:
        test_feed_forward(place, 53, 40, 24, 0.3, "fp32", 1)
    for norm in (False, True):
        test_norm_linear(norm, True, 47, "fp32", 1)
