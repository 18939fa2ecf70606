"""What RecTools is asked to do and what it answers: JSON files and arrays in one folder; numpy only.

The folder holds `split/*.npy` (the arrays of a `harness.values.Split`) and, for each list of recommendations,
`NAME.npy` [V, 50] item numbers, best first, -1 where there is none.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ARRAYS = ("train_items", "train_offsets", "test_items", "test_offsets", "bucket")
"""Those of the split that RecTools needs."""

CUTOFFS = (1, 5, 10, 20, 50)
Loss = Literal["ce", "bce"]
Trained = Literal["btsr", "rectools"]
Place = tuple[str, int, int]
"""Metric, K, popularity bucket (0: all users)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A SASRec to train and to take lists from; the same for both programs."""

    program: Trained
    loss: Loss
    seed: int
    epochs: int
    data: str
    """Fingerprint of the split that it is trained on."""
    code: str
    """Digest of the program that trains it, see `tests.peers.ours.code_of`."""
    batch_size: int = 128
    max_len: int = 50
    dim: int = 64
    blocks: int = 2
    heads: int = 1
    dropout: float = 0.2
    lr: float = 0.001
    negatives: int = 64
    """Of BCE, for each position."""
    threads: int = 1

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.program}-{self.loss}-{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """How a training went."""

    fit: Fit
    cpu_seconds: float
    """Processor time of the training, all threads."""
    seconds: float
    """The same by the clock."""
    items: int
    """Items that the model can recommend."""
    versions: dict[str, str]

    def save(self, folder: Path) -> None:
        (folder / f"{self.fit.name}.json").write_text(json.dumps(asdict(self), indent=1, sort_keys=True))

    @classmethod
    def load(cls, folder: Path, fit: Fit) -> "Fitted | None":
        """What an earlier run left; None where there is none, or one of other settings, data or code."""
        path = folder / f"{fit.name}.json"
        if not path.is_file() or not lists_file(folder, fit.name).is_file():
            return None
        content = json.loads(path.read_text())
        return cls(**content | {"fit": fit}) if content["fit"] == asdict(fit) else None


def lists_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def load_split(folder: Path) -> dict[str, NDArray[np.generic]]:
    return {name: np.load(folder / "split" / f"{name}.npy") for name in ARRAYS}
