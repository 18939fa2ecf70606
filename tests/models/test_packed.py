"""The packed layout."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from models import attention
from models.linear import linear, product_nt, round_up
from models.packed import Attention, Group, PackedBatch, pack


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


BATCHES = {"one": [1], "short": [8, 5, 3, 2, 1], "full": [20, 20, 20], "ragged": [20, 19, 17, 16, 12, 9, 9, 3, 2, 1, 1]}


def packed(name: str, device: str = "cpu") -> PackedBatch:
    lengths = np.array(BATCHES[name])
    flat = np.random.default_rng(0).integers(0, 99, lengths.sum()).astype(np.int32)
    return pack(flat, np.cumsum(lengths) - lengths, lengths, max_len=21, device=torch.device(device))


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_that_is_sent_in_one_piece_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(name)
    monkeypatch.setattr("models.packed.IN_PLACE", ())
    sent = packed(name)
    tensors = [[*fields(PackedBatch)], *([*fields(Group)] for _ in whole.groups)]
    pairs = [(whole, sent), *zip(whole.groups, sent.groups, strict=True)]
    for names, (one, other) in zip(tensors, pairs, strict=True):
        for field in names:
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, torch.Tensor):
                assert a.dtype == b.dtype and torch.equal(a, b), field.name
            elif field.name != "groups":
                assert np.array_equal(a, b), field.name
    pieces = [sent.items, sent.positions, sent.last, *(group.keys for group in sent.groups)]
    pieces += [part for group in sent.groups for part in (group.rows, group.cells) if part is not None]
    assert len({piece.untyped_storage().data_ptr() for piece in pieces}) == 1, "one copy"


def test_filling_is_where_no_token_is() -> None:
    (group,) = packed("short").groups
    wanted = [[False, *[cell >= length for cell in range(8)]] for length in BATCHES["short"]]
    assert group.filled is not None and group.filled.tolist() == wanted
    assert all(group.filled is None for group in packed("full").groups)


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last"])
def test_the_padded_keys_gradients_add_up_alike_either_way(
    name: str, last_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, generator = packed(name), torch.Generator().manual_seed(0)
    rows = batch.items.shape[0]
    q, weights = torch.randn(2, batch.size if last_only else rows, 8, generator=generator)
    kv = torch.randn(rows + 1, 16, generator=generator, requires_grad=True)
    found = []
    for in_order in (("cpu",), ()):
        monkeypatch.setattr(attention, "IN_ORDER", in_order)
        how = Attention(heads=2, last_only=last_only, p=0.3, generator=torch.Generator().manual_seed(1))
        out = attention.torch_attention(q, kv, batch, how)
        kept = weights if last_only else weights[: batch.count]
        found.append(torch.autograd.grad((out[: len(kept)] * kept).sum(), kv)[0])
    assert bool(found[0][0].any()) and not found[1][batch.count + 1 :].any()
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last"])
def test_attention_never_waits_for_the_device(last_only: bool) -> None:
    """On torch's device without numbers, whatever needs one fails."""
    batch = packed("ragged", "meta")
    rows = batch.items.shape[0]
    q = torch.randn(batch.size if last_only else rows, 8, device="meta", requires_grad=True)
    kv = torch.randn(rows + 1, 16, device="meta", requires_grad=True)
    out = attention.torch_attention(q, kv, batch, Attention(heads=2, last_only=last_only))
    assert [grad.shape for grad in torch.autograd.grad(out.sum(), (q, kv))] == [q.shape, kv.shape]
