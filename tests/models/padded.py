"""A plain padded SASRec, written from the specification alone (section 1.2) with torch's own attention.

It shares no code with `models`: a second opinion, slow and obvious.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.sasrec import SASRec


def padded_forward(model: SASRec, sequences: list[list[int]]) -> Tensor:
    """[B, T, D] hidden states without dropout, by the reference's left-padded layout and its unmasked padded keys."""
    config = model.config
    t, d = config.max_len, config.dim
    items = torch.full((len(sequences), t), model.n_items)
    for row, sequence in enumerate(sequences):
        items[row, t - len(sequence) :] = torch.tensor(sequence)
    real = (items != model.n_items).unsqueeze(-1).to(model.table.dtype)
    x = (model.table[items] * math.sqrt(d) + model.positions) * real
    causal = torch.full((t, t), -math.inf, dtype=x.dtype).triu(1)
    mask = causal.expand(len(sequences), t, t)
    if config.mask_pad_keys:
        mask = mask.masked_fill((real[:, :, 0] == 0)[:, None, :], -math.inf)
        mask = mask.masked_fill(torch.eye(t, dtype=torch.bool), 0.0)
    for block in model.blocks:

        def attend(query: Tensor, source: Tensor, block: Any = block) -> Tensor:
            attended, _ = F.multi_head_attention_forward(
                query.transpose(0, 1),
                source.transpose(0, 1),
                source.transpose(0, 1),
                d,
                config.heads,
                torch.cat([block.query.weight, block.key_value.weight]),
                torch.cat([block.query.bias, block.key_value.bias]),
                None,
                None,
                False,
                0.0,
                block.output.weight,
                block.output.bias,
                attn_mask=mask.repeat_interleave(config.heads, 0),
                need_weights=False,
            )
            return attended.transpose(0, 1)

        def normed(x: Tensor, norm: Any) -> Tensor:
            return F.layer_norm(x, (d,), norm.weight, norm.bias, 1e-8)

        def forward(x: Tensor, block: Any = block) -> Tensor:
            return block.outer((torch.relu if config.activation == "relu" else F.gelu)(block.inner(x)))

        if config.norm == "reference":
            q = normed(x, block.norm_attention)
            x = normed(q + attend(q, x), block.norm_forward)
            x = x + forward(x)
        elif config.norm == "pre":
            q = normed(x, block.norm_attention)
            x = x + attend(q, q)
            x = x + forward(normed(x, block.norm_forward))
        else:
            x = normed(x + attend(x, x), block.norm_attention)
            x = normed(x + forward(x), block.norm_forward)
        x = x * real
    return F.layer_norm(x, (d,), model.norm_last.weight, model.norm_last.bias, 1e-8)
