"""The encoder against the specification, section 1, and against a plain padded implementation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.config import EncoderConfig
from models.packed import Attention, PackedBatch, pack
from models.sasrec import SASRec
from tests.models.padded import padded_forward

CPU = torch.device("cpu")
SEQUENCES = [list(range(3, 12)), [7, 1, 7, 4, 2, 9, 9, 9], [5, 6, 0], [1, 2], [4], [8]]


def build(sequences: list[list[int]], max_len: int) -> PackedBatch:
    lengths = np.array([len(s) for s in sequences], np.int64)
    flat = np.array([i for s in sequences for i in s], np.int32)
    return pack(flat, np.cumsum(lengths) - lengths, lengths, max_len=max_len, device=CPU)


def model_of(seed: int = 0, n_items: int = 12, **settings: object) -> SASRec:
    """A model whose biases and norms are not at their initial 0 and 1, where many mistakes would be invisible."""
    config = EncoderConfig.model_validate({"dim": 8, "max_len": 10, "dropout": 0.0} | settings)
    generator = torch.Generator().manual_seed(seed)
    model = SASRec(config, n_items, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def rows_of(padded: Tensor, sequences: list[list[int]]) -> Tensor:
    return torch.cat([row[-len(s) :] for row, s in zip(padded, sequences, strict=True)])


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("mask_pad_keys", [False, True])
@pytest.mark.parametrize("norm", ["reference", "pre", "post"])
def test_packed_equals_padded_reference(heads: int, mask_pad_keys: bool, norm: str) -> None:
    model = model_of(heads=heads, mask_pad_keys=mask_pad_keys, norm=norm)
    packed = model(build(SEQUENCES, 10))
    torch.testing.assert_close(packed, rows_of(padded_forward(model, SEQUENCES), SEQUENCES), atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize(("heads", "norm"), [(1, "reference"), (2, "reference"), (1, "pre"), (2, "post")])
def test_packed_gradients_equal_padded_reference(heads: int, norm: str) -> None:
    model = model_of(heads=heads, norm=norm)
    weight = torch.randn(sum(map(len, SEQUENCES)), 8, generator=torch.Generator().manual_seed(1))
    (model(build(SEQUENCES, 10)) * weight).sum().backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (rows_of(padded_forward(model, SEQUENCES), SEQUENCES) * weight).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            packed[name], parameter.grad, atol=2e-4, rtol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("norm", ["reference", "pre", "post"])
def test_last_only_is_the_last_row_of_the_full_pass_with_its_gradient(norm: str) -> None:
    model, batch = model_of(norm=norm), build(SEQUENCES, 10)
    last = model(batch, last_only=True)
    torch.testing.assert_close(last, model(batch)[batch.last], atol=1e-6, rtol=1e-5)
    weight = torch.randn(last.shape, generator=torch.Generator().manual_seed(1))
    (last * weight).sum().backward()
    short = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (model(batch)[batch.last] * weight).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(short[name], parameter.grad, atol=1e-4, rtol=1e-4)


def test_attention_gradients_match_finite_differences() -> None:
    from models.attention import packed_attention

    batch = build([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1] * 9, [1, 2, 3]], 11)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(24, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    kv = torch.randn(25, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    batch64 = replace(batch, pads=batch.pads.double())
    for last_only in (False, True):
        queries = q[:3] if last_only else q
        assert torch.autograd.gradcheck(
            lambda a, b, only=last_only: packed_attention(
                a,
                b,
                batch64,
                Attention(heads=2, last_only=only, p=0.3, generator=torch.Generator().manual_seed(3)),
            ),
            (queries.detach().requires_grad_(), kv),
        )


def test_causality() -> None:
    model = model_of()
    base = model(build(SEQUENCES, 10))
    for t in range(len(SEQUENCES[0])):
        changed = [list(s) for s in SEQUENCES]
        changed[0][t] = 0
        other = model(build(changed, 10))
        assert torch.equal(base[:t], other[:t])
        assert not torch.allclose(base[t], other[t])
        assert torch.equal(base[len(SEQUENCES[0]) :], other[len(SEQUENCES[0]) :])


@pytest.mark.parametrize("mask_pad_keys", [False, True])
def test_more_padding_acts_only_through_padded_keys(mask_pad_keys: bool) -> None:
    """Spec 1.8: with positions held fixed at the right edge, padding matters only where its keys are not masked."""
    short = model_of(max_len=10, mask_pad_keys=mask_pad_keys)
    long = model_of(max_len=14, mask_pad_keys=mask_pad_keys)
    state = {**short.state_dict(), "positions": torch.cat([torch.randn(4, 8), short.positions.detach()])}
    long.load_state_dict(state)
    same = torch.allclose(short(build(SEQUENCES, 10)), long(build(SEQUENCES, 14)), atol=1e-5)
    assert same == mask_pad_keys


def test_order_of_the_batch_and_its_grouping_do_not_matter() -> None:
    model = model_of()
    together = model(build(SEQUENCES, 10))
    alone = torch.cat([model(build([s], 10)) for s in SEQUENCES])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("max_len", "total"), [(50, 53_760), (200, 63_360)])
def test_parameter_count(max_len: int, total: int) -> None:
    model = SASRec(EncoderConfig(max_len=max_len), 100, torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in model.blocks[0].parameters()) == 25_216
    assert sum(p.numel() for p in model.parameters()) == total + 101 * 64


def test_initialisation_limits() -> None:
    model = SASRec(EncoderConfig(), 1000, torch.Generator().manual_seed(0))
    wide = SASRec(EncoderConfig(inner_dim=256), 1000, torch.Generator().manual_seed(0))
    for tensor, limit in (
        (model.table, math.sqrt(6 / (1001 + 64))),
        (model.positions, math.sqrt(6 / (50 + 64))),
        (model.blocks[0].query.weight, math.sqrt(6 / 256)),
        (model.blocks[0].key_value.weight, math.sqrt(6 / 256)),
        (model.blocks[1].outer.weight, math.sqrt(6 / 128)),
        (model.blocks[1].inner.bias, 1 / 8),
        (wide.blocks[0].inner.bias, 1 / 8),
        (wide.blocks[0].outer.bias, 1 / 16),
    ):
        assert 0.9 * limit < float(tensor.detach().abs().max()) <= limit
    assert float(model.blocks[0].query.bias.detach().abs().max()) == 0
    again = SASRec(EncoderConfig(), 1000, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_the_encoder_of_the_contrastive_originals() -> None:
    """Post-norm, GELU, a wider inner layer, two heads, normal weights (spec 4)."""
    settings: dict[str, object] = {"norm": "post", "activation": "gelu", "inner_dim": 20, "heads": 2, "init": "normal"}
    model = model_of(**settings)
    expected = rows_of(padded_forward(model, SEQUENCES), SEQUENCES)
    torch.testing.assert_close(model(build(SEQUENCES, 10)), expected, atol=2e-6, rtol=2e-5)
    fresh = SASRec(EncoderConfig.model_validate(settings), 2000, torch.Generator().manual_seed(0))
    assert fresh.blocks[0].inner.weight.shape == (20, 64)
    for tensor in (fresh.table, fresh.positions, fresh.blocks[1].key_value.weight):
        assert float(tensor.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert all(float(p.detach().abs().max()) == 0 for n, p in fresh.named_parameters() if n.endswith("inner.bias"))


def test_residual_layout_by_hand() -> None:
    """Spec 1.8: D=2, T=2, p=0. LayerNorm of two numbers is +-1, so every step can be followed on paper.

    Embeddings times sqrt(2), positions 0: x_0 = sqrt2*(1, 0), x_1 = sqrt2*(0, 2). q = LN(x) = (1, -1), (-1, 1).
    Identity weights and zero biases: logits of token 1 with keys x_0, x_1 are -sqrt2 and 2*sqrt2, over sqrt2: -1, 2.
    """
    config = EncoderConfig(dim=2, max_len=2, dropout=0.0, blocks=1)
    model = SASRec(config, 2, torch.Generator())
    with torch.no_grad():
        model.table.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]))
        model.positions.zero_()
        block = model.blocks[0]
        for linear in (block.query, block.output, block.inner, block.outer):
            linear.weight.copy_(torch.eye(2))
            linear.bias.zero_()
        block.key_value.weight.copy_(torch.cat([torch.eye(2), torch.eye(2)]))
        block.key_value.bias.zero_()
        model.norm_last.weight.copy_(torch.tensor([3.0, 5.0]))
    root, w = math.sqrt(2), 1 / (1 + math.exp(-3))
    # token 0: q + v = (1 + root, -1) -> LN (1, -1); ff = relu -> (1, 0); sum (2, -1) -> LN (1, -1)
    # token 1: q + a = (-1 + (1-w)*root, 1 + w*2*root), first smaller -> LN (-1, 1); sum (-1, 2) -> LN (-1, 1)
    assert -1 + (1 - w) * root < 1 + w * 2 * root
    hidden = model(build([[0, 1]], 2))
    torch.testing.assert_close(hidden, torch.tensor([[3.0, -5.0], [-3.0, 5.0]]))


def test_padded_key_under_dropout_keeps_its_mean_and_has_the_variance_of_many_keys() -> None:
    """All m padded keys act as one; its weight is scaled by Binomial(m, 1-p)/(m(1-p)): mean 1, variance p/(m(1-p))."""
    from models.attention import packed_attention

    batch = build([[0]] * 4000, 9)  # m = 8
    q, kv = torch.zeros(4096, 1), torch.zeros(4097, 2)
    assert batch.count == 4000 < len(batch.items) == 4096
    kv[0, 1] = 9.0  # uniform weights 1/9 on the 8 padded keys (value 9) and the item (value 0): output 8 * scale
    out = packed_attention(q, kv, batch, Attention(p=0.4, generator=torch.Generator().manual_seed(0)))
    scale = out[:4000] / 8
    assert abs(float(scale.mean()) - 1) < 0.02
    assert abs(float(scale.var()) - 0.4 / (8 * 0.6)) < 0.01
