"""bf16 products: a recorded choice that changes numbers a little, and kernels that do not."""

import pytest
import torch

from harness.train import train
from harness.trial import run_trial
from models.config import EncoderConfig, LossConfig
from models.kernels import build
from models.kernels.cross_entropy import KernelReport
from models.kernels.used import ROUNDED, kernels_used
from models.linear import add_product_tn, bf16_results, linear, product_nt
from tests.training.test_train import BT, CPU, SPLIT, spec_of

PLAIN = {"batch_size": 32, "max_epochs": 3, "lr": 0.005}


def test_bf16_rounds_the_operands_and_nothing_else() -> None:
    g = torch.Generator().manual_seed(3)
    a, b, bias = (torch.randn(*shape, generator=g) for shape in ((40, 24), (56, 24), (56,)))
    exact = a.bfloat16().double() @ b.bfloat16().double().t() + bias
    got = product_nt(a, b, bias, "bf16")
    assert got.dtype == torch.float32
    tolerance = 2**-8 if bf16_results(CPU) else 1e-6
    torch.testing.assert_close(got.double(), exact, rtol=tolerance, atol=10 * tolerance)
    total = torch.ones(40, 56)
    add_product_tn(total, a.t(), b.t(), alpha=0.5, precision="bf16")
    torch.testing.assert_close(total.double(), 1 + 0.5 * (exact - bias), rtol=tolerance, atol=10 * tolerance)
    assert not torch.equal(got, product_nt(a, b, bias))


def test_gradients_of_a_bf16_layer_are_those_of_its_float32_form() -> None:
    g = torch.Generator().manual_seed(4)
    leaves = [torch.randn(*shape, generator=g).requires_grad_() for shape in ((48, 32), (64, 32), (64,))]
    out = torch.randn(48, 64, generator=g)
    half, full = (
        torch.autograd.grad((linear(*leaves, precision) * out).sum(), leaves)  # type: ignore[call-overload]
        for precision in ("bf16", "fp32")
    )
    for mine, exact in zip(half, full, strict=True):
        assert (mine - exact).norm() <= 0.01 * exact.norm()
    assert not torch.equal(half[0], full[0]) and not torch.equal(half[1], full[1])


@pytest.mark.parametrize("aux", [{}, BT], ids=["ce", "bt"])
def test_bf16_is_another_trial_with_nearly_the_same_numbers(aux: dict[str, object]) -> None:
    full, half = spec_of(aux=aux), spec_of(aux=aux, train=PLAIN | {"precision": "bf16"})
    assert full.key != half.key and full.group != half.group
    results = [run_trial(spec, SPLIT) for spec in (full, half)]
    assert [r.provenance.precision for r in results] == ["fp32", "bf16"]
    losses = [[log.loss for log in r.epochs] for r in results]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)


def test_fp32_is_left_out_of_the_key() -> None:
    assert spec_of(train=PLAIN | {"precision": "fp32"}).key == spec_of(train=PLAIN).key


def test_training_with_and_without_kernels_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(encoder={"dim": 16, "max_len": 8, "dropout": 0.1}, aux=BT)
    native = train(spec, SPLIT, device=CPU)
    monkeypatch.setenv("BTSR_KERNELS", "off")
    plain = train(spec, SPLIT, device=CPU)
    assert [log.loss for log in native.epochs] == pytest.approx([log.loss for log in plain.epochs], rel=1e-4)


def test_provenance_names_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    used = kernels_used(CPU, EncoderConfig(), LossConfig(), "fp32")
    assert run_trial(spec_of(encoder={"dim": 64, "max_len": 8}), SPLIT).provenance.kernels == used
    if used.startswith("torch ("):
        assert "do not build" not in used or "clang" in build._compiler()
        pytest.skip(f"no native kernels: {used}")
    for name in ("ce", "attention", "norm_linear", "feed_forward"):
        assert f"fused_{name}_" in used
    assert "fused_feed_forward_" not in kernels_used(CPU, EncoderConfig(activation="gelu"), LossConfig(), "fp32")
    for binary in (LossConfig(kind="bce", negatives=4), LossConfig(kind="gbce", negatives=4, gbce_t=0.5)):
        assert "fused_bce_" in kernels_used(CPU, EncoderConfig(), binary, "bf16")
    assert "fused_sce_" in kernels_used(CPU, EncoderConfig(), LossConfig(kind="sce", sce_b_y=4), "fp32")
    for encoder in (EncoderConfig(), EncoderConfig(activation="gelu"), EncoderConfig(dim=40)):
        torch_too = encoder != EncoderConfig() and bf16_results(CPU)
        assert (ROUNDED in kernels_used(CPU, encoder, LossConfig(), "bf16")) == torch_too
    sampled = kernels_used(CPU, EncoderConfig(), LossConfig(kind="ce_sampled", negatives=4), "fp32")
    assert sampled.startswith("fused_attention_")
    assert kernels_used(torch.device("meta"), EncoderConfig(), LossConfig(), "fp32") == "torch"
    monkeypatch.setenv("BTSR_KERNELS", "off")
    assert kernels_used(CPU, EncoderConfig(), LossConfig(), "fp32") == "torch (switched off by BTSR_KERNELS=off)"
    half = kernels_used(CPU, EncoderConfig(), LossConfig(), "bf16")
    assert half.startswith("torch (switched off by BTSR_KERNELS=off") and (ROUNDED in half) == bf16_results(CPU)


def test_where_torch_has_no_products_into_float32_their_results_are_rounded_and_provenance_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on AMD's GPUs by some of torch's versions."""
    gpu = torch.device("cuda")
    monkeypatch.setattr("models.linear.native_bf16", lambda device: True)
    monkeypatch.setattr("models.kernels.liger.available", lambda *_: KernelReport(name="liger_ce"))
    for there in (True, False):
        monkeypatch.setattr("models.linear._float_results", lambda device, there=there: there)
        assert bf16_results(gpu) != there
        assert (ROUNDED in kernels_used(gpu, EncoderConfig(), LossConfig(kind="sce", sce_b_y=4), "bf16")) != there
        assert (ROUNDED in kernels_used(gpu, EncoderConfig(), LossConfig(), "bf16")) != there
        assert ROUNDED not in kernels_used(gpu, EncoderConfig(), LossConfig(), "fp32")
