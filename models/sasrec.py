"""SASRec on packed tokens, in the layout of the original program (spec section 1) or with usual layer norms.

The reference is neither pre- nor post-norm: the residual of attention is the *normalised* query, keys and values come
from the un-normalised input, and the feed-forward's residual is its normalised input.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import packed_attention
from models.config import EncoderConfig, Precision
from models.dropout import dropout
from models.kernels.rows import EPS, FeedForward
from models.layers import feed_forward, norm_linear
from models.packed import Attention, PackedBatch

NON_ITEMS = 2
"""Rows of the reference's item table that are no items: one that nothing uses, and the padding."""

NORMAL_STD = 0.02
"""Standard deviation of `init = normal`, as in the programs of DuoRec, CL4SRec and EC4SRec."""


def rows_beyond_items(config: EncoderConfig) -> int:
    """How many rows of the item table are no items."""
    return NON_ITEMS if config.rank_non_items else 1


class Block(nn.Module):
    """Attention and feed-forward of one layer."""

    def __init__(self, config: EncoderConfig, precision: Precision) -> None:
        super().__init__()
        d = config.dim
        self.config, self.precision = config, precision
        self.norm_attention = nn.LayerNorm(d, eps=EPS)
        self.query = nn.Linear(d, d)
        self.key_value = nn.Linear(d, 2 * d)
        self.output = nn.Linear(d, d)
        self.norm_forward = nn.LayerNorm(d, eps=EPS)
        wide = config.inner_dim or d
        self.inner = nn.Linear(d, wide)
        self.outer = nn.Linear(wide, d)

    def forward(self, x: Tensor, batch: PackedBatch, generator: torch.Generator | None, *, last_only: bool) -> Tensor:
        """[m, D] -> [m, D], or [B, D] with `last_only`: only what the last token of each sequence needs."""
        config = self.config
        q, kv, skip = self._project(x, batch, last_only=last_only)
        how = Attention(
            heads=config.heads,
            last_only=last_only,
            mask_pad_keys=config.mask_pad_keys,
            p=config.dropout,
            generator=generator,
        )
        attended = packed_attention(q, kv, batch, how)
        post = config.norm == "post"
        rest = FeedForward(
            output=self.output,
            first=self.norm_attention if post else self.norm_forward,
            inner=self.inner,
            outer=self.outer,
            second=self.norm_forward if post else None,
            skip_normed=config.norm != "pre",
            activation=config.activation,
            p=config.dropout,
            precision=self.precision,
        )
        return feed_forward(attended, skip, rest, generator, count=batch.size if last_only else batch.count)

    def _project(self, x: Tensor, batch: PackedBatch, *, last_only: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [m, D] or [B, D], keys and values [m+1, 2D] that begin with the padded key, the residual."""
        last, precision = batch.last if last_only else None, self.precision
        count = batch.size if last_only else batch.count

        def queries(source: Tensor, norm: nn.LayerNorm | None) -> tuple[Tensor, Tensor | None]:
            return norm_linear(source, norm, self.query, last, count=count, precision=precision)

        def keys(norm: nn.LayerNorm | None) -> tuple[Tensor, Tensor | None]:
            return norm_linear(x, norm, self.key_value, None, count=batch.count, lead=True, precision=precision)

        if self.config.norm == "reference":
            q, skip = queries(x, self.norm_attention)
            assert skip is not None
            return q, keys(None)[0], skip
        own = x if last is None else x.index_select(0, last)
        if self.config.norm == "post":
            return queries(x, None)[0], keys(None)[0], own
        kv, normed = keys(self.norm_attention)
        assert normed is not None
        return queries(normed, None)[0], kv, own


class SASRec(nn.Module):
    """Self-attentive sequential recommendation: item ids in, hidden states out; the item table scores them.

    The table has N + 1 rows: items 0..N-1 and one that is never scored. Padding is never looked up in a packed batch,
    so that the row serves as the mask item of augmented sequences. With `rank_non_items` there is one row more, and
    both are scored as if they were items.
    """

    def __init__(
        self, config: EncoderConfig, n_items: int, generator: torch.Generator, precision: Precision = "fp32"
    ) -> None:
        """Weights are drawn from `generator`, as `config.init` says (spec 1.3)."""
        super().__init__()
        self.config = config
        self.n_items = n_items
        beyond = rows_beyond_items(config)
        self.n_scored = n_items + beyond if config.rank_non_items else n_items
        self.table = nn.Parameter(torch.empty(n_items + beyond, config.dim))
        self.positions = nn.Parameter(torch.empty(config.max_len, config.dim))
        self.blocks = nn.ModuleList(Block(config, precision) for _ in range(config.blocks))
        self.norm_last = nn.LayerNorm(config.dim, eps=EPS)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        d = self.config.dim
        if self.config.init == "normal":
            for parameter in self.parameters():
                if parameter.ndim >= 2:
                    nn.init.normal_(parameter, std=NORMAL_STD, generator=generator)
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.zeros_(layer.bias)
            return
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
                limit = 1 / math.sqrt(layer.in_features)
                nn.init.uniform_(layer.bias, -limit, limit, generator=generator)

    def forward(
        self, batch: PackedBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Tensor:
        """Hidden states [n, D] of every token, or [B, D] of the last tokens; dropout only with a generator."""
        return self.encode(self.embed(batch), batch, generator, last_only=last_only)

    def embed(self, batch: PackedBatch) -> Tensor:
        """[m, D] sqrt(D) times the items' embeddings: the encoder's input but for the positions."""
        return F.embedding(batch.items, self.table) * math.sqrt(self.config.dim)

    def encode(
        self, embedded: Tensor, batch: PackedBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Tensor:
        """Hidden states of a batch whose items are embedded as [m, D] already."""
        config = self.config
        x = dropout(embedded + F.embedding(batch.positions, self.positions), config.dropout, generator)
        for i, block in enumerate(self.blocks):
            x = block(x, batch, generator, last_only=last_only and i == config.blocks - 1)
        hidden: Tensor = self.norm_last(x if last_only else x[: batch.count])
        return hidden
