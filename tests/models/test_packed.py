"""The packed layout."""

import numpy as np
import pytest
import torch

from models import attention
from models.linear import linear, product_nt, round_up
from models.packed import pack


def test_layout_by_hand() -> None:
    flat = np.array([10, 11, 12, 13, 14, 15], np.int32)
    batch = pack(flat, np.array([1, 0]), np.array([3, 1]), max_len=4, device=torch.device("cpu"))
    assert batch.count == 4 and batch.size == 2
    assert batch.items[:4].tolist() == [11, 12, 13, 10]
    assert batch.positions[:4].tolist() == [1, 2, 3, 3]
    assert batch.last.tolist() == [2, 3] and batch.pads.tolist() == [1, 3]
    (group,) = batch.groups
    assert group.rows is not None and group.rows.tolist() == [0, 1, 2, 3, 0, 0]
    assert group.keys.tolist() == [0, 1, 2, 3, 0, 4, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_every_token_is_in_exactly_one_group_and_filling_is_bounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = -np.sort(-rng.integers(1, 60, 40))
    starts = rng.integers(0, 100, 40)
    batch = pack(np.arange(200, dtype=np.int32), starts, lengths, max_len=60, device=torch.device("cpu"))
    rows = np.concatenate([np.arange(g.start, g.stop) for g in batch.groups])
    assert (rows == np.arange(batch.count)).all() and batch.count == lengths.sum()
    for g in batch.groups:
        mine = lengths[g.first : g.first + g.count]
        assert mine.max() == g.length and (mine.min() >= 0.75 * g.length or g.length <= 8)
        cells = g.rows if g.rows is not None else torch.arange(g.start, g.stop)
        back = g.cells if g.cells is not None else torch.arange(g.count * g.length)
        assert cells[back].tolist() == list(range(g.start, g.stop))
    expected = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
    assert (batch.items[: batch.count].numpy() == expected).all()


def test_rounded_sizes_are_few_and_near() -> None:
    sizes = [round_up(n) for n in range(1, 10_000)]
    assert all(n <= m <= max(n + 7, n * 17 / 16) for n, m in enumerate(sizes, 1))
    assert len(set(sizes)) < 170


def test_products_equal_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(70, 9, generator=generator), torch.randn(33, 9, generator=generator)
    torch.testing.assert_close(product_nt(a, b), a @ b.T)
    torch.testing.assert_close(product_nt(a.t(), torch.randn(70, 5).t()).shape, torch.Size([9, 5]))
    torch.testing.assert_close(product_nt(a.t(), a.t()), a.T @ a)
    torch.testing.assert_close(product_nt(a.double(), b.double()), a.double() @ b.double().T)


def test_linear_gradients_equal_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*s, generator=generator, requires_grad=True) for s in ((13, 6), (4, 6), (4,))]
    weight = torch.randn(13, 4, generator=generator)
    (linear(*inputs) * weight).sum().backward()
    mine = [x.grad for x in inputs]
    for x in inputs:
        x.grad = None
    (torch.nn.functional.linear(*inputs) * weight).sum().backward()
    for got, x in zip(mine, inputs, strict=True):
        torch.testing.assert_close(got, x.grad)


def test_one_causal_mask_serves_all_lengths() -> None:
    attention._CAUSAL.clear()
    for length in (3, 7, 5, 1):
        mask = attention._causal(length, torch.device("cpu"), torch.float32)
        wanted = torch.full((1, length, length + 1), -torch.inf).triu(2)
        assert torch.equal(mask, wanted)
    (kept,) = attention._CAUSAL.values()
    assert kept.shape == (1, 7, 8)
