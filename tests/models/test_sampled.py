"""BCE, gBCE and CE- on the numbers of the specification, and against autograd over all scores."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from models import sampled
from models.sampled import (
    RowLoss,
    bce_halves_rows,
    bce_rows,
    ce_sampled_rows,
    gbce_beta,
    gbce_rows,
    per_row,
    per_sequence,
    rows_at_once,
)

P, N = torch.tensor([1.2]), torch.tensor([[-0.5, 0.3, 2.0]])
HEADS: dict[str, RowLoss] = {
    "bce": bce_rows,
    "gbce": partial(gbce_rows, beta=0.3),
    "halves": bce_halves_rows,
    "ce_sampled": ce_sampled_rows,
}


def test_vectors() -> None:
    assert float(bce_rows(P, N)) == pytest.approx(0.929661, abs=1e-6)
    assert gbce_beta(3, 101, 0.75) == pytest.approx(0.2725)
    assert float(gbce_rows(P, N, beta=0.2725)) == pytest.approx(0.881776, abs=1e-6)
    assert float(ce_sampled_rows(P, N)) == pytest.approx(1.338887, abs=1e-6)


def test_halves_are_twice_the_joint_mean_for_one_negative() -> None:
    assert float(bce_halves_rows(P, N[:, :1])) == pytest.approx(2 * float(bce_rows(P, N[:, :1])), rel=1e-6)


def test_calibration_at_its_ends() -> None:
    assert gbce_beta(7, 50, 0.0) == 1.0 and gbce_beta(7, 50, 1.0) == pytest.approx(7 / 49)
    torch.testing.assert_close(gbce_rows(P, N, beta=1.0), bce_rows(P, N))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_huge_scores_stay_finite(head: RowLoss) -> None:
    p, n = torch.tensor([-1e4, 1e4], requires_grad=True), torch.tensor([[1e4, 0.0], [-1e4, 1e4]], requires_grad=True)
    head(p, n).sum().backward()
    assert p.grad is not None and n.grad is not None
    assert bool(p.grad.isfinite().all()) and bool(n.grad.isfinite().all())


def tensors(rows: int, n_items: int) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 5, generator=generator, requires_grad=True)
    table = torch.randn(n_items + 1, 5, generator=generator, requires_grad=True)
    return hidden, table, torch.randint(n_items, (rows,), generator=generator), generator


def gradients(loss: Callable[[], Tensor], *of: Tensor) -> tuple[Tensor, ...]:
    value = loss()
    return (value.detach(), *torch.autograd.grad(3 * value, of))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("dense", [0, 100], ids=["gathered", "dense"])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_per_row_equals_autograd(head: RowLoss, dense: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a negative is the target itself, or repeats, as gBCE's may."""
    monkeypatch.setattr(sampled, "DENSE_FACTOR", dense)
    monkeypatch.setattr(sampled, "CHUNK_ELEMENTS", chunk)
    hidden, table, targets, generator = tensors(23, 17)
    negatives = torch.randint(17, (23, 6), generator=generator)
    negatives[0, :2] = targets[0]

    def naive() -> Tensor:
        scores = hidden @ table.t()
        return head(scores.gather(1, targets[:, None])[:, 0], scores.gather(1, negatives)).mean()

    def mine() -> Tensor:
        return per_row(hidden, table, targets, 17, lambda a, b: negatives[a : min(b, a + 10)], head)

    for got, wanted in zip(gradients(mine, hidden, table), gradients(naive, hidden, table), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("chunk", [1, 200, 1 << 20])
def test_per_sequence_equals_autograd(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "CHUNK_ELEMENTS", chunk)
    lengths = np.array([9, 5, 5, 2, 1, 1])
    hidden, table, targets, generator = tensors(23, 17)
    negatives = torch.randint(17, (6, 4), generator=generator)
    owner = torch.from_numpy(np.repeat(np.arange(6), lengths))

    def naive() -> Tensor:
        scores = hidden @ table.t()
        return ce_sampled_rows(scores.gather(1, targets[:, None])[:, 0], scores.gather(1, negatives[owner])).mean()

    def mine() -> Tensor:
        shared = lambda a, b: negatives[a : min(b, a + 4)]  # noqa: E731
        return per_sequence(hidden, table, targets, lengths, shared, ce_sampled_rows)

    for got, wanted in zip(gradients(mine, hidden, table), gradients(naive, hidden, table), strict=True):
        torch.testing.assert_close(got, wanted)


def test_blocks_of_draws_have_at_least_one_row() -> None:
    assert rows_at_once(1 << 30) == 1 and rows_at_once(1) > 1000


def test_one_list_for_a_sequence_never_waits_for_the_device() -> None:
    """On torch's device without numbers, whatever needs one fails."""
    hidden, table = (torch.randn(rows, 5, device="meta", requires_grad=True) for rows in (23, 18))
    targets, lengths = torch.zeros(23, dtype=torch.int64, device="meta"), np.array([9, 5, 5, 2, 1, 1])

    def drawn(first: int, stop: int) -> Tensor:
        return torch.zeros(stop - first, 4, dtype=torch.int64, device="meta")

    loss = per_sequence(hidden, table, targets, lengths, drawn, ce_sampled_rows)
    assert [grad.shape for grad in torch.autograd.grad(loss, (hidden, table))] == [hidden.shape, table.shape]


@pytest.mark.parametrize("n_items", [100, 10**6], ids=["dense", "gathered"])
def test_another_device_gets_larger_pieces(n_items: int) -> None:
    on_cpu, elsewhere = (sampled._step(10, n_items, torch.empty(1, 8, device=name)) for name in ("cpu", "meta"))
    assert elsewhere // on_cpu == 32
