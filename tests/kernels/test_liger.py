"""Liger's cross-entropy: when it is called and how, by a stand-in of the same signature; itself where it is installed.

The stand-in computes on the processor with torch. Liger's own Triton kernels run on it too, by Triton's interpreter.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import losses
from models.config import EncoderConfig, LossConfig, Precision
from models.kernels import liger
from models.kernels.used import kernels_used
from tests.kernels.test_cross_entropy import agrees, error, problem, reference

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CALL = "liger_fused_linear_cross_entropy"
ROOT = Path(__file__).resolve().parents[2]


class StandIn:
    """Liger 0.8.5's call, in torch: products in the operands' type, softmax in float32."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        input: Tensor,
        weight: Tensor,
        target: Tensor,
        bias: Tensor | None = None,
        ce_weight: Tensor | None = None,
        ignore_index: int = -100,
        lse_square_scale: float = 0.0,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        softcap: float | None = None,
        return_z_loss: bool = False,
        accum_dtype: torch.dtype | None = None,
        use_token_scaling: bool = False,
        return_token_accuracy: bool = False,
        return_predicted_tokens: bool = False,
        chunk_mem_const: int = 1,
    ) -> Tensor:
        given = dict(locals())
        del given["self"]
        self.calls.append(given)
        assert bias is ce_weight is softcap is None and not (lse_square_scale or label_smoothing or use_token_scaling)
        assert input.requires_grad or not weight.requires_grad, "Liger would leave out the table's gradient"
        logits = (input @ weight.t()).float()
        return F.cross_entropy(logits, target, ignore_index=ignore_index, reduction=reduction)


@pytest.fixture(autouse=True)
def looked_for_anew() -> Iterator[None]:
    for found in (liger._function, liger._failure):
        found.cache_clear()
    yield
    for found in (liger._function, liger._failure):
        found.cache_clear()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in where Liger would be, on the processor as on CUDA."""
    stand_in = StandIn()
    for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.functional"):
        module = ModuleType(name)
        setattr(module, CALL, stand_in)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(liger, "DEVICES", ("cpu", "cuda"))
    assert liger._failure(CPU) is None and stand_in.calls.pop(), "tried once"
    return stand_in


@pytest.fixture
def installed(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, and no kernel of our own."""
    monkeypatch.setattr(losses.kernel, "usable", lambda *_: False)
    return stand_in


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    monkeypatch.setattr(liger, "DEVICES", ("cpu", "cuda"))


def by_liger(
    hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, precision: Precision = "fp32", factor: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    h, e = hidden.clone().requires_grad_(), table.clone().requires_grad_()
    loss = losses.cross_entropy(h, e, targets, n_items, precision=precision)
    return loss.detach(), *torch.autograd.grad(factor * loss, (h, e))


def test_loss_and_gradients_are_those_of_the_definition(installed: StandIn) -> None:
    hidden, table, targets = problem(129, 24, 211, extra=3)
    got, wanted = by_liger(hidden, table, targets, 211, factor=3.0), reference(hidden, table, targets, 211)
    assert len(installed.calls) == 1
    agrees(got, (wanted[0], 3 * wanted[1], 3 * wanted[2]), loss=1e-6, grads=1e-5)
    assert all(grad.dtype == torch.float32 for grad in got)


def test_rows_beyond_the_items_are_in_no_denominator(installed: StandIn) -> None:
    hidden, table, targets = problem(40, 16, 100, extra=5)
    other = table.clone()
    other[100:] = 1e6
    one, two = by_liger(hidden, table, targets, 100), by_liger(hidden, other, targets, 100)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert installed.calls[0]["weight"].shape == (100, 16) and not one[2][100:].any()


@pytest.mark.parametrize(
    ("rows", "dim", "n_items"), [(830, 64, 12_100), (5600, 64, 3417), (6400, 64, 10**6), (1, 8, 9)]
)
def test_few_logits_at_a_time_but_no_fewer_than_needed(installed: StandIn, rows: int, dim: int, n_items: int) -> None:
    table = torch.empty(1, dim).expand(n_items + 1, dim)
    installed.__class__ = type("Only", (StandIn,), {"__call__": lambda self, *a, **k: self.calls.append(k)})
    liger.liger_cross_entropy(torch.zeros(rows, dim), table, torch.zeros(rows, dtype=torch.int64), n_items)
    (call,) = installed.calls
    assert (call["reduction"], call["accum_dtype"]) == ("mean", torch.float32)
    pieces = -(-n_items // (call["chunk_mem_const"] * dim))  # as in Liger's forward
    chunk = min(rows, 1 << (-(-rows // pieces) - 1).bit_length())
    assert chunk * n_items <= 2 * liger.LOGITS
    assert chunk == rows or 2 * chunk * n_items >= liger.LOGITS


def test_bf16_operands_float32_gradients(installed: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liger, "native_bf16", lambda _: True)
    hidden, table, targets = problem(200, 32, 150, scale=0.1)
    got, wanted = by_liger(hidden, table, targets, 150, "bf16"), reference(hidden, table, targets, 150)
    assert installed.calls[0]["input"].dtype == installed.calls[0]["weight"].dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in got)
    assert 0 < error(got[1], wanted[1]) < 1e-2 and 0 < error(got[2], wanted[2]) < 1e-2
    assert float(got[0]) == pytest.approx(float(wanted[0]), rel=1e-3)


@pytest.mark.parametrize("bad", [-100, -1, 100, 101])
def test_a_target_that_is_no_item_is_refused(installed: StandIn, bad: int) -> None:
    """Liger would skip -100 and read beyond the table for the others."""
    hidden, table, targets = problem(4, 8, 100, extra=2)
    targets[2] = bad
    with pytest.raises(IndexError, match=r"not all items 0\.\.99"):
        liger.liger_cross_entropy(hidden, table, targets, 100)
    assert not installed.calls


def test_what_it_can_take(installed: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, table, _ = problem(4, 8, 10)
    hidden.requires_grad_()
    table.requires_grad_()
    assert liger.usable(hidden, table) and liger.usable(hidden.detach(), table.detach())
    assert not liger.usable(hidden.detach(), table), "Liger would leave out the table's gradient"
    assert not liger.usable(hidden.double(), table.double())
    assert not liger.usable(hidden[:0], table)
    assert not liger.usable(hidden.to("meta"), table.to("meta"))
    monkeypatch.setattr(liger, "native_bf16", lambda _: False)
    assert liger.usable(hidden, table) and not liger.usable(hidden, table, "bf16")


def test_without_it_torch_computes(absent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses.kernel, "usable", lambda *_: False)
    hidden, table, targets = problem(30, 8, 50)
    agrees(by_liger(hidden, table, targets, 50), reference(hidden, table, targets, 50), loss=1e-6, grads=1e-5)


def test_provenance_names_it(installed: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = EncoderConfig()
    assert kernels_used(CPU, encoder, LossConfig(), "fp32") == "liger_ce"
    assert kernels_used(CUDA, encoder, LossConfig(kind="ce_sampled", negatives=4), "fp32") == "torch"
    monkeypatch.setattr(liger, "native_bf16", lambda _: False)
    assert kernels_used(CPU, encoder, LossConfig(), "bf16") == "torch (the device has no bf16 products)"
    monkeypatch.setenv("BTSR_KERNELS", "off")
    assert kernels_used(CPU, encoder, LossConfig(), "fp32") == "torch (switched off by BTSR_KERNELS=off)"


def test_provenance_says_what_is_missing(absent: None) -> None:
    used = kernels_used(CUDA, EncoderConfig(), LossConfig(), "fp32")
    assert used.startswith("torch (") and "liger_kernel" in used and used.endswith("install the extra 'cuda')")


def test_where_it_cannot_run_torch_computes_and_provenance_says_why(
    installed: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton compiles at the first call, and needs a C compiler for that."""
    tried: list[Tensor] = []

    def fails(hidden: Tensor, *_: Tensor, **__: Any) -> Tensor:
        tried.append(hidden)
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    monkeypatch.setattr(liger, "_function", lambda: fails)
    liger._failure.cache_clear()
    hidden, table, targets = problem(30, 8, 50)
    agrees(by_liger(hidden, table, targets, 50), reference(hidden, table, targets, 50), loss=1e-6, grads=1e-5)
    used = kernels_used(CPU, EncoderConfig(), LossConfig(), "fp32")
    assert used == "torch (Liger fails on this device: RuntimeError: Failed to find C compiler.)"
    assert len(tried) == 1, "a process tries once"


def test_a_full_card_is_not_taken_for_a_fault_of_liger(installed: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Tensor, **__: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(liger, "_function", lambda: full)
        liger._failure.cache_clear()
        with pytest.raises(torch.OutOfMemoryError):
            liger.available(CPU)
    assert liger.available(CPU).name == "liger_ce", "the next trial tries again"


def test_our_own_kernel_comes_first_on_the_processor(stand_in: StandIn, native: None) -> None:
    hidden, table, targets = problem(30, 8, 50)
    agrees(by_liger(hidden, table, targets, 50), reference(hidden, table, targets, 50), loss=1e-6, grads=1e-5)
    assert not stand_in.calls


INTERPRETED = """
import torch
from models import losses
from models.kernels import liger
from tests.kernels.test_cross_entropy import agrees, problem, reference
from tests.kernels.test_liger import by_liger
torch.set_num_threads(1)
liger.DEVICES = ("cpu",)
liger.native_bf16 = lambda _: True
losses.kernel.usable = lambda *_: False
used = []
call = liger._function()
liger._function = lambda: lambda *a, **k: used.append(k) or call(*a, **k)
for logits in (1 << 25, 1 << 11):
    liger.LOGITS = logits
    for rows, dim, n_items in ((23, 16, 129), (70, 64, 301), (1, 8, 2)):
        case = *problem(rows, dim, n_items, extra=2), n_items
        loss, *grads = reference(*case)
        agrees(by_liger(*case, factor=3.0), (loss, *(3 * g for g in grads)), loss=1e-6, grads=1e-5)
        agrees(by_liger(*case, "bf16"), (loss, *grads), loss=1e-2, grads=2e-2)
assert len(used) == 13, len(used)  # and the one that it was tried with
"""


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("liger_kernel", "triton")), reason="Liger is not installed"
)
def test_liger_itself_by_tritons_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "BTSR_KERNELS": "auto"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
