"""SASRec on packed tokens, in the layout of the original program (spec section 1).

Neither pre- nor post-norm: the residual of attention is the *normalised* query, keys and values come from the
un-normalised input, and the feed-forward's residual is its normalised input.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import packed_attention
from models.config import EncoderConfig
from models.dropout import dropout
from models.linear import linear
from models.packed import PackedBatch

EPS = 1e-8
"""LayerNorm epsilon of the reference."""


def apply(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer's affine map, by the faster product."""
    return linear(x, layer.weight, layer.bias)


class Block(nn.Module):
    """Attention and feed-forward of one layer; D -> D without expansion."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d = config.dim
        self.config = config
        self.norm_attention = nn.LayerNorm(d, eps=EPS)
        self.query = nn.Linear(d, d)
        self.key_value = nn.Linear(d, 2 * d)
        self.output = nn.Linear(d, d)
        self.norm_forward = nn.LayerNorm(d, eps=EPS)
        self.inner = nn.Linear(d, d)
        self.outer = nn.Linear(d, d)

    def forward(self, x: Tensor, batch: PackedBatch, generator: torch.Generator | None, *, last_only: bool) -> Tensor:
        """[m, D] -> [m, D], or [B, D] with `last_only`: only what the last token of each sequence needs."""
        config, p = self.config, self.config.dropout
        own = x.index_select(0, batch.last) if last_only else x
        q = self.norm_attention(own)
        kv = apply(self.key_value, x)
        attended = packed_attention(
            apply(self.query, q),
            torch.cat([self.key_value.bias[None], kv]),
            batch,
            heads=config.heads,
            last_only=last_only,
            mask_pad_keys=config.mask_pad_keys,
            p=p,
            generator=generator,
        )
        x = self.norm_forward(q + apply(self.output, attended))
        inner = torch.relu_(dropout(apply(self.inner, x), p, generator))
        return x + dropout(apply(self.outer, inner), p, generator)


class SASRec(nn.Module):
    """Self-attentive sequential recommendation: item ids in, hidden states out; the item table scores them.

    The table has N + 1 rows: items 0..N-1 and one row that stands for padding and is never scored.
    """

    def __init__(self, config: EncoderConfig, n_items: int, generator: torch.Generator) -> None:
        """Xavier-uniform on every matrix, drawn from `generator` (spec 1.3)."""
        super().__init__()
        self.config = config
        self.n_items = n_items
        self.table = nn.Parameter(torch.empty(n_items + 1, config.dim))
        self.positions = nn.Parameter(torch.empty(config.max_len, config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm_last = nn.LayerNorm(config.dim, eps=EPS)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        d = self.config.dim
        nn.init.xavier_uniform_(self.table, generator=generator)
        nn.init.xavier_uniform_(self.positions, generator=generator)
        for block in self.blocks:
            assert isinstance(block, Block)
            packed_limit = math.sqrt(6 / (4 * d))
            nn.init.uniform_(block.query.weight, -packed_limit, packed_limit, generator=generator)
            nn.init.uniform_(block.key_value.weight, -packed_limit, packed_limit, generator=generator)
            for layer in (block.query, block.key_value, block.output):
                nn.init.zeros_(layer.bias)
            for layer in (block.output, block.inner, block.outer):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
            for layer in (block.inner, block.outer):
                nn.init.uniform_(layer.bias, -1 / math.sqrt(d), 1 / math.sqrt(d), generator=generator)

    def forward(
        self, batch: PackedBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Tensor:
        """Hidden states [n, D] of every token, or [B, D] of the last tokens; dropout only with a generator."""
        config = self.config
        x = F.embedding(batch.items, self.table) * math.sqrt(config.dim) + F.embedding(batch.positions, self.positions)
        x = dropout(x, config.dropout, generator)
        for i, block in enumerate(self.blocks):
            x = block(x, batch, generator, last_only=last_only and i == config.blocks - 1)
        hidden: Tensor = self.norm_last(x if last_only else x[: batch.count])
        return hidden
