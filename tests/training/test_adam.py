"""The optimiser's steps against torch's class, and what it is for: no compiler is imported to train."""

import subprocess
import sys

import pytest
import torch

from harness.adam import Adam

IMPORTS = """
import sys
from harness.config import TrialSpec
from tests.splits import markov_split
from harness.trial import run_trial
split = markov_split()
spec = TrialSpec.model_validate({
    "method": sys.argv[1],
    "data": split.config,
    "encoder": {"max_len": 10, "dim": 8},
    "loss": {"kind": "ce"},
    "aux": {"kind": sys.argv[2]},
    "train": {"batch_size": 16, "max_epochs": 1},
})
assert run_trial(spec, split).epochs
print(*sorted({name for name in sys.modules if name in {"torch._dynamo", "sympy", "torch._inductor"}}))
"""


def parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in ((5, 4), (7,), (2, 3))]


def gradients(step: int) -> list[torch.Tensor | None]:
    """The last parameter has no gradient in the first two steps."""
    generator = torch.Generator().manual_seed(100 + step)
    made = [torch.randn(shape, generator=generator) for shape in ((5, 4), (7,), (2, 3))]
    return [*made[:2], made[2] if step >= 2 else None]


def walk(optimizer: Adam | torch.optim.Adam, moved: list[torch.Tensor], steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        for parameter, gradient in zip(moved, gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_torchs_class(weight_decay: float) -> None:
    mine, theirs = parameters(), parameters()
    walk(Adam(mine, lr=0.01, betas=(0.9, 0.98), weight_decay=weight_decay), mine, range(5))
    reference = torch.optim.Adam(theirs, lr=0.01, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    walk(reference, theirs, range(5))
    for left, right, start in zip(mine, theirs, parameters(), strict=True):
        assert torch.equal(left, right)
        assert not torch.equal(left, start)


def test_goes_on_from_its_state_and_from_that_of_torchs_class() -> None:
    whole = parameters()
    walk(Adam(whole, lr=0.01, betas=(0.9, 0.98), weight_decay=0.0), whole, range(6))
    for kind in (Adam, torch.optim.Adam):
        broken = parameters()
        options = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.0}
        first = kind(broken, **options) if kind is Adam else kind(broken, fused=True, **options)  # type: ignore[arg-type]
        walk(first, broken, range(3))
        second = Adam(broken, lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
        second.load_state_dict(first.state_dict())
        walk(second, broken, range(3, 6))
        assert all(torch.equal(left, right) for left, right in zip(broken, whole, strict=True))


def test_a_state_that_was_loaded_is_not_shared() -> None:
    moved = parameters()
    first = Adam(moved, lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    walk(first, moved, range(1))
    before = first.moments[0]["exp_avg"].clone()
    second = Adam(moved, lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    second.load_state_dict(first.state_dict())
    walk(second, moved, range(1, 2))
    assert torch.equal(first.moments[0]["exp_avg"], before)


@pytest.mark.parametrize(("method", "aux"), [("bt_sr", "barlow_twins"), ("duorec", "duorec"), ("ec4srec", "ec4srec")])
def test_a_trial_imports_no_compiler(method: str, aux: str) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS, method, aux], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
