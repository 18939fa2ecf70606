"""The native attention against the torch path: same numbers, same gradients, same random draws."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.attention import torch_attention
from models.kernels.attention import fused_attention, usable
from models.kernels.build import VARIANTS, load
from models.packed import Attention, PackedBatch, pack

pytestmark = pytest.mark.usefixtures("native")
PLAIN = Attention()


def packed(lengths: tuple[int, ...], max_len: int) -> PackedBatch:
    sizes = np.sort(np.array(lengths, np.int64))[::-1].copy()
    flat = np.zeros(int(sizes.sum()), np.int32)
    return pack(flat, np.cumsum(sizes) - sizes, sizes, max_len=max_len, device=torch.device("cpu"))


def inputs(batch: PackedBatch, dim: int, *, last_only: bool, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(batch.count * dim)
    rows = batch.size if last_only else batch.items.shape[0]
    q, weights = torch.randn(rows, dim, generator=g) * scale, torch.randn(rows, dim, generator=g)
    kv = torch.randn(batch.items.shape[0] + 1, 2 * dim, generator=g)
    if not last_only:
        weights[batch.count :] = 0
    return q, kv, weights


BATCHES = {
    "one": packed((1,), 1),
    "short": packed((1, 2, 3, 5, 8), 8),
    "full": packed((50, 50, 50), 50),
    "ragged": packed((50, 47, 41, 40, 33, 17, 16, 15, 9, 8, 7, 3, 2, 2, 1, 1), 50),
    "long": packed((200, 131, 64, 12), 200),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last"])
@pytest.mark.parametrize("mask_pad_keys", [False, True], ids=["padded", "masked"])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_it_computes_what_torch_computes(
    name: str, heads: int, last_only: bool, mask_pad_keys: bool, p: float, threads: int
) -> None:
    batch = BATCHES[name]
    q, kv, weights = inputs(batch, 32, last_only=last_only)
    found = []
    for attention in (torch_attention, fused_attention):
        leaves = q.clone().requires_grad_(), kv.clone().requires_grad_()
        generator = torch.Generator().manual_seed(7)
        how = Attention(heads=heads, last_only=last_only, mask_pad_keys=mask_pad_keys, p=p, generator=generator)
        out = attention(*leaves, batch, how)
        drawn_next = torch.rand((), generator=generator)
        found.append((out.detach(), *torch.autograd.grad((out * weights).sum(), leaves), drawn_next))
    for torch_path, native in zip(*found, strict=True):
        torch.testing.assert_close(native, torch_path, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [16, 64, 128])
def test_widths(dim: int) -> None:
    batch = BATCHES["ragged"]
    q, kv, _ = inputs(batch, dim, last_only=False)
    torch.testing.assert_close(
        fused_attention(q, kv, batch, PLAIN), torch_attention(q, kv, batch, PLAIN), rtol=1e-4, atol=1e-5
    )


def test_large_logits_stay_finite(threads: int) -> None:
    batch = BATCHES["ragged"]
    q, kv, weights = inputs(batch, 64, last_only=False, scale=300.0)
    found = []
    for attention in (torch_attention, fused_attention):
        leaves = q.clone().requires_grad_(), kv.clone().requires_grad_()
        out = attention(*leaves, batch, PLAIN)
        found.append((out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)))
    for torch_path, native in zip(*found, strict=True):
        torch.testing.assert_close(native, torch_path, rtol=1e-2, atol=1e-2)


def test_a_token_sees_no_later_token_and_no_other_sequence() -> None:
    batch = packed((6, 4), 6)
    q, kv, _ = inputs(batch, 16, last_only=False)
    before = fused_attention(q, kv, batch, PLAIN)
    kv[1 + 3] += 5  # token 3 of the first sequence
    moved = (fused_attention(q, kv, batch, PLAIN) != before).any(1)
    assert moved.tolist()[:10] == [False] * 3 + [True] * 3 + [False] * 4


def test_the_same_call_gives_the_same_bits(threads: int) -> None:
    batch = BATCHES["ragged"]
    q, kv, weights = inputs(batch, 64, last_only=False)
    runs = []
    for _ in range(3):
        leaves = q.clone().requires_grad_(), kv.clone().requires_grad_()
        out = fused_attention(*leaves, batch, Attention(p=0.2, generator=torch.Generator().manual_seed(1)))
        runs.append((out, *torch.autograd.grad((out * weights).sum(), leaves)))
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


def test_rows_that_belong_to_no_sequence_stay_zero() -> None:
    batch = packed((50,) * 7 + (3,), 50)
    assert batch.items.shape[0] > batch.count
    q, kv, _ = inputs(batch, 16, last_only=False)
    leaves = q.requires_grad_(), kv.requires_grad_()
    out = fused_attention(*leaves, batch, PLAIN)
    grads = torch.autograd.grad(out.sum(), leaves)
    assert not out[batch.count :].any() and not grads[0][batch.count :].any()
    assert not grads[1][batch.count + 1 :].any()


def test_what_is_not_a_number_stays_visible() -> None:
    batch = BATCHES["short"]
    q, kv, _ = inputs(batch, 16, last_only=False)
    q[3, 2] = float("nan")
    assert fused_attention(q, kv, batch, PLAIN)[3].isnan().all()


@pytest.mark.parametrize("last_only", [False, True], ids=["all", "last"])
def test_a_key_that_is_not_a_number_reaches_all_that_see_it(last_only: bool) -> None:
    batch = BATCHES["full"]
    q, kv, weights = inputs(batch, 32, last_only=last_only)
    kv[1 + 60, 5] = float("nan")  # the key, not the value, of the second sequence's eleventh token
    see = slice(1, 2) if last_only else slice(60, 100)
    for attention in (torch_attention, fused_attention):
        leaves = q.clone().requires_grad_(), kv.clone().requires_grad_()
        out = attention(*leaves, batch, Attention(last_only=last_only))
        assert out[see].isnan().all() and not out[see.stop :].isnan().any()
        by_q, by_kv = torch.autograd.grad((out * weights).sum(), leaves)
        assert by_q[see].isnan().all() and by_kv[51:101].isnan().any()


def test_what_it_can_take() -> None:
    q = torch.ones(4, 64)
    width = load().variant.width
    assert usable(q, 1) and not usable(q.double(), 1) and not usable(q[:0], 1) and not usable(q.to("meta"), 1)
    assert usable(q, 64 // width) and not usable(q, 2 * 64 // width)
    assert not usable(torch.ones(4, 50), 1)


def test_the_narrow_build_computes_the_same(monkeypatch: pytest.MonkeyPatch, narrow_cache: str) -> None:
    monkeypatch.setattr("models.kernels.build.VARIANTS", tuple(v for v in VARIANTS if v.name == "avx2"))
    monkeypatch.setenv("BTSR_CACHE", narrow_cache)
    assert load().variant.name == "avx2"
    for name in BATCHES:
        test_it_computes_what_torch_computes(name, 2, False, False, 0.3, 1)
