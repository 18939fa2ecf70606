"""Dropout from an explicit generator: 16 random bits an element, so that a run repeats bit for bit."""

import torch
from torch import Tensor

_LEVELS = 1 << 16
_LOWEST = -(1 << 63)
SPARE_WORDS = 64
"""So that native code may read whole vectors."""


def random_words(shape: torch.Size | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int16 numbers of `shape` on the generator's device, every one of the 2**16 equally likely.

    `SPARE_WORDS` more may be read behind them, of no particular value.
    """
    n = 1
    for side in shape:
        n *= side
    words = torch.empty((n + 3 + SPARE_WORDS) // 4, dtype=torch.int64, device=generator.device)
    words[: (n + 3) // 4].random_(_LOWEST, None, generator=generator)
    return words.view(torch.int16)[:n].view(shape)


def least_word(p: float) -> int:
    """An element is kept where its random word is at least this."""
    return round(p * _LEVELS) - _LEVELS // 2


def keep_mask(shape: torch.Size | tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
    """Boolean mask of `shape` on the generator's device, True with probability 1 - p (to within 2**-17)."""
    return random_words(shape, generator) >= least_word(p)


def scale_of(p: float) -> float:
    """What kept elements are multiplied by, 1/(1-p) for the p that 16 bits can express."""
    return _LEVELS / (_LEVELS - round(p * _LEVELS))


def dropout(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """`x` with each element zeroed with probability p and the rest scaled up; `x` itself without a generator."""
    if generator is None or p == 0:
        return x
    return x * keep_mask(x.shape, p, generator).to(x.dtype).mul_(scale_of(p))
