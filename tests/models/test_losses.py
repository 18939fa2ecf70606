"""Full cross-entropy in chunks against autograd over all logits."""

import math

import pytest
import torch
import torch.nn.functional as F

from models import losses
from models.config import LossConfig
from models.losses import LossInput, cross_entropy, prediction_loss
from models.sce import Buckets


@pytest.mark.parametrize("chunk", [1, 64, 1 << 21])
def test_chunked_equals_full(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", chunk)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 5, generator=generator, requires_grad=True)
    table = torch.randn(18, 5, generator=generator, requires_grad=True)
    targets = torch.randint(17, (23,), generator=generator)
    (3 * cross_entropy(hidden, table, targets, 17)).backward()
    mine = hidden.grad, table.grad
    hidden.grad = table.grad = None
    full = F.cross_entropy(hidden @ table[:17].T, targets)
    (3 * full).backward()
    torch.testing.assert_close(cross_entropy(hidden, table, targets, 17), full)
    torch.testing.assert_close(mine[0], hidden.grad)
    torch.testing.assert_close(mine[1], table.grad)
    assert mine[1] is not None and float(mine[1][17].abs().max()) == 0, "the padding row is in no denominator"


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
            last=torch.tensor([22]),
            buckets=Buckets(count=1, b_x=23, b_y=19, mix_x=False),
            generator=torch.Generator().manual_seed(1),
        )
        full = F.cross_entropy(hidden @ table[:counted].T, targets)
        torch.testing.assert_close(prediction_loss(config, given)[0], full)
