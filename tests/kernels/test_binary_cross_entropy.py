"""The native binary cross-entropy against plain autograd in float64."""

from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from models.config import LossConfig
from models.kernels.binary_cross_entropy import fused_binary_cross_entropy, usable
from models.kernels.build import VARIANTS, load
from models.losses import LossInput, prediction_loss
from models.negatives import Negatives
from models.sampled import RowLoss, bce_halves_rows, bce_rows, binary_weights, gbce_rows

pytestmark = pytest.mark.usefixtures("native")

Head = tuple[RowLoss, Literal["joint", "halves"], float]
HEADS: dict[str, Head] = {
    "bce": (bce_rows, "joint", 1.0),
    "gbce": (partial(gbce_rows, beta=0.3), "joint", 0.3),
    "halves": (partial(bce_halves_rows, beta=0.7), "halves", 0.7),
}


def problem(n: int, dim: int, n_items: int, k: int, scale: float = 0.3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, table with a row that is no item, targets, negatives that may repeat or be the target."""
    g = torch.Generator().manual_seed(n * 7919 + dim * 31 + n_items + k)
    return (
        torch.randn(n, dim, generator=g),
        torch.randn(n_items + 1, dim, generator=g) * scale,
        torch.randint(n_items, (n,), generator=g),
        torch.randint(n_items, (n, k), generator=g),
    )


def handing_out(negatives: Tensor, at_once: int = 1000) -> Negatives:
    return lambda start, stop: negatives[start : min(stop, start + at_once)]


def reference(head: RowLoss, hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor) -> tuple[Tensor, ...]:
    """Loss and gradients in float64."""
    h, e = hidden.double().requires_grad_(), table.double().requires_grad_()
    scores = h @ e.T
    loss = head(scores.gather(1, targets[:, None])[:, 0], scores.gather(1, negatives)).mean()
    return loss.detach(), *torch.autograd.grad(3 * loss, (h, e))


def fused(head: Head, hidden: Tensor, table: Tensor, targets: Tensor, drawn: Negatives, k: int) -> tuple[Tensor, ...]:
    h, e = hidden.clone().requires_grad_(), table.clone().requires_grad_()
    on_positive, on_negative = binary_weights(k, head[1], head[2])
    loss = fused_binary_cross_entropy(
        h, e, targets, table.shape[0] - 1, drawn, on_positive=on_positive, on_negative=on_negative
    )
    return loss.detach(), *torch.autograd.grad(3 * loss, (h, e))


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    return float((got.double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("at_once", [1, 100, 5000])
def test_it_meets_the_contract(head: str, at_once: int, threads: int) -> None:
    hidden, table, targets, negatives = problem(257, 64, 501, 256)
    got = fused(HEADS[head], hidden, table, targets, handing_out(negatives, at_once), 256)
    wanted = reference(HEADS[head][0], hidden, table, targets, negatives)
    assert float(got[0]) == pytest.approx(float(wanted[0]), rel=1e-6)
    assert max(error(g, w) for g, w in zip(got[1:], wanted[1:], strict=True)) < 1e-5
    assert not bool(got[2][-1].any()), "what is no item gets no gradient"


@pytest.mark.parametrize("dim", [16, 32, 48, 64, 112, 128])
@pytest.mark.parametrize("k", [1, 15, 16, 17, 1100])
def test_odd_shapes(dim: int, k: int) -> None:
    hidden, table, targets, negatives = problem(9, dim, 37, k)
    got = fused(HEADS["gbce"], hidden, table, targets, handing_out(negatives), k)
    wanted = reference(HEADS["gbce"][0], hidden, table, targets, negatives)
    assert float(got[0]) == pytest.approx(float(wanted[0]), rel=1e-6)
    assert max(error(g, w) for g, w in zip(got[1:], wanted[1:], strict=True)) < 1e-5


@pytest.mark.parametrize("scale", [0.0, 50.0])
def test_scores_of_all_sizes(scale: float) -> None:
    """Zero, and far beyond where an exponential overflows."""
    hidden, table, targets, negatives = problem(20, 16, 30, 40, scale)
    got = fused(HEADS["bce"], hidden, table, targets, handing_out(negatives), 40)
    wanted = reference(HEADS["bce"][0], hidden, table, targets, negatives)
    assert float(got[0]) == pytest.approx(float(wanted[0]), rel=1e-5)
    assert max(error(g, w) for g, w in zip(got[1:], wanted[1:], strict=True)) < 1e-5


@pytest.mark.parametrize("k", [3, 16])
def test_what_is_not_a_number_is_told(k: int) -> None:
    for where in ("hidden", "positive", "negative"):
        hidden, table, targets, negatives = problem(4, 16, 50, k)
        targets[:], negatives[:] = 1, 2
        (hidden if where == "hidden" else table)[1 if where != "negative" else 2, 3] = torch.nan
        assert bool(fused(HEADS["bce"], hidden, table, targets, handing_out(negatives), k)[0].isnan()), where


def test_items_that_do_not_exist_are_refused(threads: int) -> None:
    for stray in (-1, 50, 1 << 40):
        hidden, table, targets, negatives = problem(4, 16, 50, 5)
        for wrong in (negatives[3], targets):
            before = int(wrong[3])
            wrong[3] = stray
            with pytest.raises(IndexError, match="not all items 0..49"):
                fused(HEADS["bce"], hidden, table, targets, handing_out(negatives), 5)
            wrong[3] = before


def test_the_gradients_do_not_depend_on_the_number_of_threads() -> None:
    given = problem(301, 64, 97, 33)
    outcomes = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        outcomes.append(fused(HEADS["bce"], *given[:3], handing_out(given[3]), 33))
    for one in outcomes[1:]:
        torch.testing.assert_close(one[0], outcomes[0][0])
        assert all(bool((a == b).all()) for a, b in zip(one[1:], outcomes[0][1:], strict=True))


def test_same_call_same_bits(threads: int) -> None:
    given = problem(301, 64, 97, 33)
    first, second = (fused(HEADS["bce"], *given[:3], handing_out(given[3]), 33) for _ in range(2))
    assert all(bool((a == b).all()) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", ["bce", "gbce"])
@pytest.mark.parametrize("reduction", ["joint", "halves"])
def test_training_uses_it_and_falls_back(kind: str, reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels, without them, and where they cannot take the tensors: the same numbers."""
    hidden, table, targets, negatives = problem(40, 32, 61, 7)
    config = LossConfig.model_validate({
        "kind": kind,
        "negatives": 7,
        "bce_reduction": reduction,
        "gbce_t": 0.5 if kind == "gbce" else None,
    })

    def loss() -> Tensor:
        given = LossInput(
            hidden=hidden,
            table=table,
            targets=targets,
            n_items=61,
            n_scored=61,
            lengths=np.array([40]),
            negatives=handing_out(negatives),
        )
        return prediction_loss(config, given)[0]

    native = loss()
    with monkeypatch.context() as patch:
        patch.setattr("models.losses.per_row", None)
        assert float(loss()) == float(native), "no torch path is needed"
    monkeypatch.setenv("BTSR_KERNELS", "off")
    assert not usable(hidden, table)
    torch.testing.assert_close(loss(), native)


def test_what_it_takes() -> None:
    width = load().variant.width
    assert usable(torch.ones(2, width), torch.ones(3, width))
    assert not usable(torch.ones(2, width + 1), torch.ones(3, width + 1))
    assert not usable(torch.ones(0, width), torch.ones(3, width))
    assert not usable(torch.ones(2, width).double(), torch.ones(3, width).double())
    assert not usable(torch.ones(2, width, device="meta"), torch.ones(3, width, device="meta"))


def test_the_narrow_build_computes_the_same(narrow_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.kernels.build.VARIANTS", tuple(v for v in VARIANTS if v.name == "avx2"))
    monkeypatch.setenv("BTSR_CACHE", narrow_cache)
    assert load().variant.name == "avx2"
    for head in HEADS:
        test_it_meets_the_contract(head, 100, 1)
    test_odd_shapes(72, 21)
