"""Adam for one group of parameters, by torch's functional form.

`torch.optim.Adam` imports torch's compiler when it is made: 1.1 s and 70 MiB in every process that trains, for nothing.
Steps and states are bit for bit those of that class.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

EPSILON = 1e-8
FUSED = frozenset({"cpu", "cuda"})
"""Types of devices whose fused step is used."""


class Adam:
    """Adam (Kingma and Ba, 2015) with `weight_decay` as an L2 term of the gradient."""

    def __init__(self, parameters: Iterable[Tensor], *, lr: float, betas: tuple[float, float], weight_decay: float):
        self.parameters = list(parameters)
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay
        self.moments: dict[int, dict[str, Tensor]] = {}
        """By place of the parameter: `step` [], `exp_avg` and `exp_avg_sq` of its shape; from its first gradient on."""

    def zero_grad(self) -> None:
        """Drop every gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    def _moments_of(self, place: int) -> dict[str, Tensor]:
        if place not in self.moments:
            parameter = self.parameters[place]
            fused = parameter.device.type in FUSED
            self.moments[place] = {
                "step": torch.zeros((), device=parameter.device if fused else "cpu"),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        return self.moments[place]

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moved = [(place, p) for place, p in enumerate(self.parameters) if p.grad is not None]
        moments = [self._moments_of(place) for place, _ in moved]
        adam(
            [p for _, p in moved],
            [p.grad for _, p in moved if p.grad is not None],
            [m["exp_avg"] for m in moments],
            [m["exp_avg_sq"] for m in moments],
            [],
            [m["step"] for m in moments],
            fused=all(p.device.type in FUSED for _, p in moved) or None,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.lr,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """The moments by parameter, laid out as `torch.optim.Adam` does."""
        return {"state": {place: dict(moments) for place, moments in self.moments.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, whose tensors are copied."""
        self.moments = {}
        for place, moments in state["state"].items():
            mine = self._moments_of(int(place))
            for name, tensor in mine.items():
                tensor.copy_(moments[name])
