"""The native cross-entropy against plain autograd in float64."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.kernels.build import AMX, VARIANTS, load
from models.kernels.cross_entropy import Order, Precision, available, fused_cross_entropy, usable

pytestmark = pytest.mark.usefixtures("native")

ORDERS = (Order.BY_ROWS, Order.BY_ITEMS)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def problem(n: int, dim: int, n_items: int, *, extra: int = 1, scale: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(n * 7919 + dim * 31 + n_items)
    return (
        torch.randn(n, dim, generator=g),
        torch.randn(n_items + extra, dim, generator=g) * scale,
        torch.randint(n_items, (n,), generator=g),
    )


def reference(hidden: Tensor, table: Tensor, targets: Tensor, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradients in float64."""
    h, e = hidden.double().requires_grad_(), table.double().requires_grad_()
    loss = F.cross_entropy(h @ e[:n_items].T, targets)
    return loss.detach(), *torch.autograd.grad(loss, (h, e))


def fused(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    n_items: int,
    precision: Precision = "fp32",
    order: Order = ORDERS[0],
) -> tuple[Tensor, Tensor, Tensor]:
    if available(precision).name == "torch":
        pytest.skip(str(available(precision).reason))
    h, e = hidden.clone().requires_grad_(), table.clone().requires_grad_()
    loss = fused_cross_entropy(h, e, targets, n_items, precision=precision, order=order)
    return loss.detach(), *torch.autograd.grad(loss, (h, e))


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    return float((got.double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


def agrees(got: tuple[Tensor, ...], wanted: tuple[Tensor, ...], *, loss: float, grads: float) -> None:
    assert float(got[0]) == pytest.approx(float(wanted[0]), rel=loss, abs=1e-5)
    assert [error(g, w) < grads for g, w in zip(got[1:], wanted[1:], strict=True)] == [True, True]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("precision", "loss", "grads"), [("fp32", 1e-6, 1e-5), ("bf16", 1e-5, 1e-3)])
def test_it_meets_the_contract_at_the_size_of_training(
    precision: Precision, loss: float, grads: float, order: Order, threads: int
) -> None:
    hidden, table, targets = problem(2600, 64, 3411, scale=0.1)
    agrees(
        fused(hidden, table, targets, 3411, precision, order),
        reference(hidden, table, targets, 3411),
        loss=loss,
        grads=grads,
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale", [0.1, 0.6])
def test_bf16_rounds_the_operands_of_the_logits_alone_however_large_they_are(scale: float, order: Order) -> None:
    """The states in units of ln 2, and of the targets' logits nothing; beside that the gradients round the softmax."""
    hidden, table, _ = problem(600, 64, 1500, scale=scale)
    generator = torch.Generator().manual_seed(0)
    targets = torch.multinomial((hidden @ table[:1500].T).softmax(1), 1, generator=generator).squeeze(1)
    h, e = hidden.double().requires_grad_(), table.double().requires_grad_()
    states = h + ((hidden * LOG2_E).bfloat16().double() / LOG2_E - h).detach()
    items = e + (table.bfloat16() - e).detach()
    wanted = (states @ items[:1500].T).logsumexp(1).mean() - (h * e[targets]).sum(1).mean()
    agrees(
        fused(hidden, table, targets, 1500, "bf16", order),
        (wanted.detach(), *torch.autograd.grad(wanted, (h, e))),
        loss=2e-6,
        grads=3e-3,
    )


LOG2_E = 1.44269504
SHAPES = [(n, d, v) for n, d in itertools.product((1, 7, 129), (8, 16, 50, 64, 128)) for v in (2, 48, 501)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_odd_shapes(precision: Precision, tolerance: float, order: Order) -> None:
    """Errors measured against what one row with a probability of 1 contributes: rounding is that of probabilities."""
    for n, dim, n_items in [*SHAPES, (5000, 3, 97), (4500, 64, 150), (300, 200, 60), (257, 1, 49)]:
        hidden, table, targets = problem(n, dim, n_items, extra=n % 3)
        loss, d_hidden, d_table = fused(hidden, table, targets, n_items, precision, order)
        wanted = reference(hidden, table, targets, n_items)
        assert float(loss) == pytest.approx(float(wanted[0]), rel=tolerance, abs=tolerance), (n, dim, n_items)
        assert (d_hidden - wanted[1]).abs().max() * n / table.abs().max() < tolerance, (n, dim, n_items)
        heaviest = torch.bincount(targets).max() / n
        assert (d_table - wanted[2]).abs().max() / (hidden.abs().max() * heaviest) < tolerance, (n, dim, n_items)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_more_threads_than_work(precision: Precision, order: Order) -> None:
    hidden, table, targets = problem(7, 64, 48)
    torch.set_num_threads(5)
    made = fused(hidden, table, targets, 48, precision, order)
    agrees(made, reference(hidden, table, targets, 48), loss=1e-3, grads=1e-2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_orders_compute_the_same(precision: Precision, threads: int) -> None:
    hidden, table, targets = problem(700, 50, 1000)
    by_rows = fused(hidden, table, targets, 1000, precision, Order.BY_ROWS)
    by_items = fused(hidden, table, targets, 1000, precision, Order.BY_ITEMS)
    tolerance = 1e-5 if precision == "fp32" else 2e-3
    assert float(by_rows[0]) == pytest.approx(float(by_items[0]), rel=1e-6)
    assert error(by_rows[1], by_items[1].double()) < tolerance and error(by_rows[2], by_items[2].double()) < tolerance


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale", [6.0, 9.0, 100.0, 1e4])
def test_huge_logits_neither_overflow_nor_vanish(scale: float, order: Order, threads: int) -> None:
    hidden, table, targets = problem(200, 64, 300, scale=scale)
    wanted = reference(hidden, table, targets, 300)
    agrees(fused(hidden, table, targets, 300, "fp32", order), wanted, loss=1e-5, grads=1e-3)
    rounded = fused(hidden, table, targets, 300, "bf16", order)
    assert all(bool(t.isfinite().all()) for t in rounded)
    assert float(rounded[0]) == pytest.approx(float(wanted[0]), rel=0.02)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_logits_that_are_all_far_from_zero(sign: float, order: Order) -> None:
    """Every logit near -1000 or 1000: neither the filling of the last panel nor the bound may show."""
    hidden = torch.full((50, 16), 10.0) + torch.randn(50, 16) * 0.1
    table = sign * (torch.full((50, 16), 6.25) + torch.randn(50, 16) * 0.01)
    targets = torch.arange(50) % 49
    got, wanted = fused(hidden, table, targets, 49, "fp32", order), reference(hidden, table, targets, 49)
    agrees(got, wanted, loss=1e-4, grads=1e-2)


@pytest.mark.parametrize("order", ORDERS)
def test_two_classes_by_hand(order: Order) -> None:
    """Logits 0 and ln 3, target 0: probabilities 1/4 and 3/4, loss ln 4."""
    hidden, table = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0986123, 2.0]])
    loss, d_hidden, d_table = fused(hidden, table, torch.tensor([0]), 2, "fp32", order)
    torch.testing.assert_close(loss, torch.tensor(1.3862944))
    torch.testing.assert_close(d_hidden, 0.75 * table[1:])
    torch.testing.assert_close(d_table, torch.tensor([[-0.75, 0.0], [0.75, 0.0]]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_beyond_the_items_are_in_no_denominator(precision: Precision, order: Order) -> None:
    hidden, table, targets = problem(40, 64, 100, extra=5)
    other = table.clone()
    other[100:] = 1e6
    one, two = (
        fused(hidden, table, targets, 100, precision, order),
        fused(hidden, other, targets, 100, precision, order),
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not one[2][100:].any()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_call_gives_the_same_bits(precision: Precision, order: Order, threads: int) -> None:
    hidden, table, targets = problem(1000, 64, 700)
    first = fused(hidden, table, targets, 700, precision, order)
    fused(*problem(300, 128, 3000), 3000, precision, order)  # leaves other numbers in the scratch
    for _ in range(3):
        again = fused(hidden, table, targets, 700, precision, order)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["hidden", "table"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_not_a_number_reaches_the_loss(precision: Precision, where: str, value: float, order: Order) -> None:
    hidden, table, targets = problem(60, 16, 70)
    (hidden if where == "hidden" else table)[33, 5] = value
    assert fused(hidden, table, targets, 70, precision, order)[0].isnan()


def test_gradients_follow_the_factor_and_strides() -> None:
    hidden, table, targets = problem(40, 64, 100)
    wide = torch.stack([hidden, hidden], dim=2)[:, :, 0].requires_grad_()
    e = table.clone().requires_grad_()
    assert not wide.is_contiguous()
    loss = fused_cross_entropy(wide, e, targets, 100)
    grads = torch.autograd.grad(3 * loss, (wide, e), retain_graph=True)
    wanted = reference(hidden, table, targets, 100)
    assert error(grads[0], 3 * wanted[1]) < 1e-5 and error(grads[1], 3 * wanted[2]) < 1e-5
    with pytest.raises(AssertionError, match="already taken"):
        torch.autograd.grad(loss, (wide, e))


@pytest.mark.parametrize("bad", [-1, 100, 101])
def test_a_target_that_is_no_item_is_refused(bad: int) -> None:
    hidden, table, targets = problem(4, 8, 100, extra=2)
    targets[2] = bad
    with pytest.raises(IndexError, match=r"not all items 0\.\.99"):
        fused_cross_entropy(hidden, table, targets, 100)


def test_what_it_can_take() -> None:
    hidden, table, _ = problem(4, 8, 10)
    assert usable(hidden, table)
    assert not usable(hidden.double(), table.double())
    assert not usable(hidden[:0], table)
    assert not usable(hidden.to("meta"), table.to("meta"))


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("order", ORDERS)
def test_a_thousand_calls_leave_no_memory_behind(order: Order) -> None:
    hidden, table, targets = problem(32, 16, 2000)
    for call in range(1100):
        if call == 100:
            before = resident_mib()
        fused(hidden, table, targets, 2000, "fp32", order)
    assert resident_mib() - before < 4


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_there_is_one_openmp_runtime(threads: int) -> None:
    fused(*problem(64, 16, 200), 200)
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    runtimes = {p for p in paths if any(name in Path(p).name for name in ("libgomp", "libomp", "libiomp"))}
    assert len(runtimes) == 1, runtimes


def test_the_narrow_build_computes_the_same(monkeypatch: pytest.MonkeyPatch, narrow_cache: str) -> None:
    monkeypatch.setattr("models.kernels.build.VARIANTS", tuple(v for v in VARIANTS if v.name == "avx2"))
    monkeypatch.setenv("BTSR_CACHE", narrow_cache)
    assert available().name == "fused_ce_avx2"
    assert "AVX512_BF16" in str(available("bf16").reason)
    for shape, scale, order in itertools.product(((700, 64, 1000), (129, 50, 49)), (0.3, 9.0), ORDERS):
        hidden, table, targets = problem(*shape, scale=scale)
        wanted = reference(hidden, table, targets, shape[2])
        agrees(fused(hidden, table, targets, shape[2], "fp32", order), wanted, loss=1e-5, grads=1e-4)


def test_vectors_and_tiles_compute_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the processor has AMX, the build for those without it."""
    if load().variant.name != AMX:
        pytest.skip("no AMX here: the other tests run the vectors")
    cases = [
        (*problem(*shape, scale=scale), order)
        for shape, scale, order in itertools.product(((700, 64, 1000), (129, 50, 49)), (0.3, 9.0), ORDERS)
    ]
    tiles = [fused(hidden, table, targets, len(table) - 1, "bf16", order) for hidden, table, targets, order in cases]
    monkeypatch.setattr("models.kernels.build.VARIANTS", tuple(v for v in VARIANTS if v.name != AMX))
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    assert available("bf16").name == "fused_ce_avx512bf16"
    for (hidden, table, targets, order), made in zip(cases, tiles, strict=True):
        wanted = fused(hidden, table, targets, len(table) - 1, "bf16", order)
        agrees(made, tuple(t.double() for t in wanted), loss=1e-5, grads=1e-3)
