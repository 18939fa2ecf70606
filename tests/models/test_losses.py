"""Full cross-entropy in chunks against autograd over all logits."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import losses
from models.config import LossConfig, Precision
from models.losses import LossInput, chunked_cross_entropy, cross_entropy, prediction_loss
from models.sce import Buckets


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recycled", [0, 1 << 30], ids=["one buffer", "fresh"])
@pytest.mark.parametrize("chunk", [1, 64, 1 << 21])
def test_chunked_equals_full(chunk: int, recycled: int, precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CHUNK_ELEMENTS": chunk, "LEAST_ROWS": 1, "RECYCLED_ELEMENTS": recycled}.items():
        monkeypatch.setattr(losses, name, value)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 5, generator=generator, requires_grad=True)
    table = torch.randn(18, 5, generator=generator, requires_grad=True)
    targets = torch.randint(17, (23,), generator=generator)
    mine = chunked_cross_entropy(hidden, table, targets, 17, precision=precision)
    full = F.cross_entropy(hidden @ table[:17].T, targets)
    grads, wanted = (torch.autograd.grad(3 * loss, (hidden, table)) for loss in (mine, full))
    bounds = {"rtol": 0.0, "atol": 0.02} if precision == "bf16" else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close((mine, *grads), (full, *wanted), **bounds)
    assert not grads[1][17].any(), "the padding row is in no denominator"


def test_logits_of_a_chunk_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    product = losses.product_nt

    def watched(a: Tensor, b: Tensor, **how: Any) -> Tensor:
        made.append(a.shape[0] * b.shape[0])
        return product(a, b, **how)

    monkeypatch.setattr(losses, "product_nt", watched)
    for n_items, most in ((1000, losses.CHUNK_ELEMENTS), (40_000, losses.LEAST_ROWS * 40_000)):
        made.clear()
        targets = torch.zeros(1500, dtype=torch.int64)
        chunked_cross_entropy(torch.randn(1500, 2), torch.randn(n_items, 2), targets, n_items)
        assert 0.9 * most < max(made) <= 1.07 * most, "a chunk is filled up by 6 % at most"


def test_by_hand() -> None:
    loss = cross_entropy(torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3)], [50.0]]), torch.tensor([1]), 2)
    assert float(loss) == pytest.approx(-math.log(3 / 4), abs=1e-6)


def test_huge_logits_stay_finite() -> None:
    hidden = torch.tensor([[1e4, 0.0], [-1e4, 1.0]], requires_grad=True)
    loss = cross_entropy(hidden, torch.eye(2), torch.tensor([1, 1]), 2)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(5000.0)
    assert hidden.grad is not None and bool(hidden.grad.isfinite().all())


@pytest.mark.parametrize("kind", ["ce", "sce"])
def test_rows_that_are_no_items_are_counted_only_where_it_is_asked_for(kind: str) -> None:
    """Both in the full softmax; in SCE's buckets the unused row alone, as in the reference."""
    generator = torch.Generator().manual_seed(0)
    hidden, table = torch.randn(23, 5, generator=generator), torch.randn(19, 5, generator=generator)
    targets = torch.randint(17, (23,), generator=generator)
    config = LossConfig.model_validate({"kind": kind} | ({"sce_b_y": 19} if kind == "sce" else {}))
    for n_scored, counted in ((17, 17), (19, 19 if kind == "ce" else 18)):
        given = LossInput(
            hidden=hidden,
            table=table,
            targets=targets,
            n_items=17,
            n_scored=n_scored,
            lengths=np.array([23]),
            buckets=Buckets(count=1, b_x=23, b_y=19, mix_x=False),
            generator=torch.Generator().manual_seed(1),
        )
        full = F.cross_entropy(hidden @ table[:counted].T, targets)
        torch.testing.assert_close(prediction_loss(config, given)[0], full)


@pytest.mark.parametrize("kind", ["ce", "bce", "ce_sampled", "sce"])
def test_gradients_are_handed_out_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are scaled where they lie: a second backward would scale them again."""
    monkeypatch.setenv("BTSR_KERNELS", "off")
    generator = torch.Generator().manual_seed(0)
    hidden, table = (torch.randn(rows, 5, generator=generator, requires_grad=True) for rows in (23, 18))
    sizes = {"sce": {"sce_b_y": 9}, "ce": {}}.get(kind, {"negatives": 3})
    given = LossInput(
        hidden=hidden,
        table=table,
        targets=torch.randint(17, (23,), generator=generator),
        n_items=17,
        n_scored=17,
        lengths=np.array([12, 11]),
        negatives=lambda first, stop: torch.randint(17, (stop - first, 3), generator=generator),
        buckets=Buckets(count=2, b_x=12, b_y=9, mix_x=False),
        generator=generator,
    )
    loss = 3 * prediction_loss(LossConfig.model_validate({"kind": kind} | sizes), given)[0]
    torch.autograd.grad(loss, (hidden, table), retain_graph=True)
    with pytest.raises(AssertionError, match="already taken"):
        torch.autograd.grad(loss, (hidden, table))
