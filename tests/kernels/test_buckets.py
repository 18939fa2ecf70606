"""SCE's native sums and gradients against plain autograd in float64, and against the torch path."""

import pytest
import torch
from torch import Tensor

from models.kernels.buckets import add_fused_gradients, fused_bucket_sums, usable
from models.kernels.build import VARIANTS, load
from models.sce import Buckets, centres, sce

pytestmark = pytest.mark.usefixtures("native")

Given = tuple[Tensor, Tensor, Tensor, Tensor]


def problem(n: int, dim: int, n_items: int, count: int, b_x: int, b_y: int, scale: float = 0.3) -> Given:
    """States, table, and the rows of both in each bucket, each once in a bucket."""
    g = torch.Generator().manual_seed(n * 7919 + dim * 31 + n_items + b_x + b_y)
    return (
        torch.randn(n, dim, generator=g),
        torch.randn(n_items, dim, generator=g) * scale,
        torch.rand(count, n, generator=g).topk(b_x, dim=1).indices,
        torch.rand(count, n_items, generator=g).topk(b_y, dim=1).indices,
    )


def one_bucket_each(positions: Tensor, n: int) -> Tensor:
    """[n_b, b_x] whether this is the first bucket that has the position."""
    count = positions.shape[0]
    bucket = torch.arange(count)[:, None].expand_as(positions)
    first = torch.full((n,), count).scatter_reduce_(0, positions.reshape(-1), bucket.reshape(-1), "amin")
    return first[positions] == bucket


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    return float((got.double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


def checked(given: Given, tolerance: float = 1e-5) -> None:
    hidden, table, positions, items = given
    h, e = hidden.double().requires_grad_(), table.double().requires_grad_()
    wanted = torch.logsumexp(torch.bmm(h[positions], e[items].transpose(1, 2)), dim=-1)
    sums = fused_bucket_sums(*given)
    torch.testing.assert_close(sums.double(), wanted.detach(), rtol=1e-5, atol=1e-5)

    chosen = one_bucket_each(positions, hidden.shape[0])
    grads = torch.autograd.grad(wanted[chosen].sum(), (h, e))
    total = torch.zeros(hidden.shape[0])
    total[positions[chosen]] = sums[chosen]
    before = torch.full_like(hidden, 0.5), torch.full_like(table, -0.25)
    got = tuple(t.clone() for t in before)
    add_fused_gradients(*got, *given, chosen, total)
    assert max(error(g - b, w) for g, b, w in zip(got, before, grads, strict=True)) < tolerance


@pytest.mark.parametrize("dim", [5, 16, 50, 64, 128])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 9, 48), (4, 65, 49), (2, 130, 7), (5, 8, 300)])
def test_sums_and_gradients(dim: int, sizes: tuple[int, int, int], threads: int) -> None:
    checked(problem(140, dim, 301, *sizes))


def test_large_logits_need_a_maximum() -> None:
    checked(problem(40, 32, 50, 3, 20, 30, scale=40.0), tolerance=1e-4)  # rounding of logits beyond 100


def test_same_call_same_bits(threads: int) -> None:
    given = problem(90, 64, 97, 5, 33, 40)
    chosen, total = one_bucket_each(given[2], 90), torch.full((90,), 3.0)
    outcomes = []
    for _ in range(2):
        grads = torch.zeros_like(given[0]), torch.zeros_like(given[1])
        add_fused_gradients(*grads, *given, chosen, total)
        outcomes.append((fused_bucket_sums(*given), *grads))
    assert all(bool((a == b).all()) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("which", [2, 3])
@pytest.mark.parametrize("stray", [-1, 1000])
def test_rows_that_do_not_exist_are_refused(which: int, stray: int) -> None:
    given = problem(20, 16, 30, 3, 4, 5)
    given[which][2, 3] = stray
    with pytest.raises(IndexError, match="positions" if which == 2 else "items"):
        fused_bucket_sums(*given)


@pytest.mark.parametrize("mix_x", [False, True])
@pytest.mark.parametrize("lies_across", [False, True])
def test_training_uses_it_and_falls_back(mix_x: bool, lies_across: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels and without them the same loss, positions and gradients, whatever the strides."""
    g = torch.Generator().manual_seed(3)
    hidden, table = torch.randn(120, 24, generator=g), torch.randn(81, 24, generator=g)
    if lies_across:
        hidden, table = hidden.t().contiguous().t(), table.t().contiguous().t()
    hidden.requires_grad_(), table.requires_grad_()
    targets, buckets = torch.randint(80, (120,), generator=g), Buckets(count=9, b_x=30, b_y=20, mix_x=mix_x)
    centre = centres(hidden, buckets, g)

    def outcome() -> tuple[Tensor, ...]:
        loss, selected = sce(hidden, table, targets, 80, buckets, centre)
        return loss.detach(), selected, *torch.autograd.grad(2 * loss, (hidden, table))

    native = outcome()
    monkeypatch.setenv("BTSR_KERNELS", "off")
    assert not usable(hidden, table)
    for got, wanted in zip(native, outcome(), strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_narrow_build_computes_the_same(narrow_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.kernels.build.VARIANTS", tuple(v for v in VARIANTS if v.name == "avx2"))
    monkeypatch.setenv("BTSR_CACHE", narrow_cache)
    assert load().variant.name == "avx2"
    checked(problem(140, 50, 301, 4, 65, 49))
    test_large_logits_need_a_maximum()
