"""Gradients that a loss makes in its forward, handed out by its backward."""

from typing import Any

from torch import Tensor


def take(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The pair `ctx.grads`, times the scalar `grad`; scaled where they lie, hence once: a second call is refused."""
    assert ctx.grads is not None, "the gradients of this loss were already taken"
    (by_hidden, by_table), ctx.grads = ctx.grads, None
    if grad.device.type != "cpu" or float(grad) != 1.0:  # to look at it would stop another device
        by_hidden.mul_(grad)
        by_table.mul_(grad)
    return by_hidden, by_table
