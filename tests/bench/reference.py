"""The paper's design in plain, padded torch: what the released program computes, written from the specification.

Every sequence is left-padded to T; logits exist for every position of the batch; the Barlow Twins view takes a second
full pass (spec 1.1-1.4, 1.7 C1, 2.3, 3.1-3.2 with the released program's unbiased standard deviation).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests.bench.task import HELD_OUT, Task

EPS = 1e-8


class Block(nn.Module):
    """Queries from the normalised input, keys and values from the input itself; position-wise 1x1 convolutions."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, eps=EPS)
        self.attention = nn.MultiheadAttention(dim, 1, dropout)
        self.norm_forward = nn.LayerNorm(dim, eps=EPS)
        self.inner = nn.Conv1d(dim, dim, 1)
        self.outer = nn.Conv1d(dim, dim, 1)
        self.dropout_inner = nn.Dropout(dropout)
        self.dropout_outer = nn.Dropout(dropout)

    def forward(self, x: Tensor, causal: Tensor, padding: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        rows = x.transpose(0, 1)
        q = self.norm_attention(rows)
        attended, _ = self.attention(q, rows, rows, attn_mask=causal)
        x = self.norm_forward((q + attended).transpose(0, 1))
        y = F.relu(self.dropout_inner(self.inner(x.transpose(1, 2))))
        y = self.dropout_outer(self.outer(y)).transpose(1, 2)
        return (x + y).masked_fill(padding[:, :, None], 0.0)


class PaddedSASRec(nn.Module):
    """N items, one row that is never used, one padding row (number N + 1): all of them are scored."""

    def __init__(self, n_items: int, *, dim: int, blocks: int, max_len: int, dropout: float) -> None:
        super().__init__()
        self.pad = n_items + 1
        self.table = nn.Embedding(n_items + 2, dim)
        self.positions = nn.Embedding(max_len, dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, dropout) for _ in range(blocks))
        self.norm_last = nn.LayerNorm(dim, eps=EPS)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, items: Tensor) -> Tensor:
        """[B, T] ids -> [B, T, D] hidden states."""
        padding = items == self.pad
        x = self.table(items) * self.table.embedding_dim**0.5
        x = x + self.positions(torch.arange(items.shape[1]).expand_as(items))
        x = self.dropout(x).masked_fill(padding[:, :, None], 0.0)
        causal = ~torch.tril(torch.ones(items.shape[1], items.shape[1], dtype=torch.bool))
        for block in self.blocks:
            x = block(x, causal, padding)
        return self.norm_last(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., N + 2]"""
        return hidden @ self.table.weight.t()

    def prediction_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over real targets; logits of all positions."""
        logits = self.logits(hidden)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=self.pad)


def barlow_twins(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """Spec 3.2 in the released form: unbiased standard deviation, C divided by B, both parts by D. [B, D] each."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    matrix = ((a - a.mean(0)) / a.std(0)).t() @ ((b - b.mean(0)) / b.std(0)) / a.shape[0]
    diagonal = torch.diagonal(matrix)
    off = matrix - torch.diag(diagonal)
    return ((1 - diagonal).pow(2).sum() + lam * off.pow(2).sum()) / matrix.shape[0]


class UserSequences(Dataset[tuple[Tensor, ...]]):
    """One example per user: padded input, padded targets and, for Barlow Twins, a partner's padded input."""

    def __init__(self, task: Task, max_len: int, *, partners: bool) -> None:
        self.sequences = [sequence[:-HELD_OUT].astype(np.int64) for sequence in task.sequences()]
        self.max_len = max_len
        self.pad = task.n_items + 1
        self.pool: dict[int, list[int]] = {}
        self.rng = np.random.default_rng(0)
        if partners:
            for user, sequence in enumerate(self.sequences):
                self.pool.setdefault(int(sequence[-1]), []).append(user)

    def __len__(self) -> int:
        return len(self.sequences)

    def padded(self, sequence: NDArray[np.int64]) -> Tensor:
        """[T] the last T items, left-padded."""
        out = np.full(self.max_len, self.pad, np.int64)
        kept = sequence[-self.max_len :]
        out[self.max_len - len(kept) :] = kept
        return torch.from_numpy(out)

    def __getitem__(self, user: int) -> tuple[Tensor, ...]:
        sequence = self.sequences[user]
        anchor = self.padded(sequence[:-1]), self.padded(sequence[1:])
        if not self.pool:
            return anchor
        others = [other for other in self.pool[int(sequence[-1])] if other != user]
        partner = int(self.rng.choice(others)) if others else user
        return *anchor, self.padded(self.sequences[partner][:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What an evaluation returns."""

    top: NDArray[np.int64]
    """[V, k] best items, best first."""
    ndcg10: float


def top_of_row(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """[k] places of the largest scores of one row [N], best first."""
    best = np.argpartition(scores, -k)[-k:]
    return best[np.argsort(-scores[best])]


def evaluate(model: PaddedSASRec, task: Task, *, held_out: int, k: int, batch_size: int) -> Ranking:
    """Scores of all users in one matrix, seen items voted down in a copy, top k row by row.

    held_out: 1 for the test target, 2 for the validation target.
    """
    data = UserSequences(task, model.positions.num_embeddings, partners=False)
    sequences = task.sequences()
    model.eval()
    scores = []
    with torch.no_grad():
        for start in range(0, task.n_users, batch_size):
            rows = sequences[start : start + batch_size]
            inputs = torch.stack([data.padded(row[:-held_out].astype(np.int64)) for row in rows])
            scores.append(model.logits(model(inputs)[:, -1]).numpy())
    everyone = np.concatenate(scores)[:, : task.n_items].copy()
    lengths = np.diff(task.offsets) - held_out
    users = np.repeat(np.arange(task.n_users), lengths)
    everyone[users, task.items[task.left_of_row() >= held_out]] = -np.inf
    top = np.apply_along_axis(top_of_row, 1, everyone, k)
    targets = np.array([row[-held_out] for row in sequences])
    hit, place = np.nonzero(top[:, :10] == targets[:, None])
    return Ranking(top=top, ndcg10=float((1 / np.log2(place + 2)).sum() / len(targets)) if len(hit) else 0.0)


def score_mib(task: Task) -> float:
    """Memory of the score matrix of all users and its two copies, MiB."""
    return 3 * task.n_users * (task.n_items + 2) * 4 / 2**20


def logits_mib(n_items: int, *, batch_size: int, max_len: int) -> float:
    """Memory of one training batch's logits, their log-softmax and the gradients of both, MiB."""
    return 4 * batch_size * max_len * (n_items + 2) * 4 / 2**20
