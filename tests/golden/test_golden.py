"""Numbers and keys that may only move on purpose.

After a wanted change of numbers raise `harness.config.NUMERICS`, run this file once with BTSR_WRITE_GOLDEN=1, and put
the change under the heading Numbers of the changelog.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config import NUMERICS, TrialSpec
from harness.evaluate import evaluate
from harness.train import Trainer
from harness.trial import PARTS
from models.config import EncoderConfig
from models.sasrec import SASRec
from tests.splits import markov_split

HERE = Path(__file__).parent
SPLIT = markov_split(n_train=160)

SPECS: dict[str, dict[str, Any]] = {
    "ce": {"method": "sasrec_ce"},
    "ce_masked_pads": {"method": "sasrec_ce", "encoder": {"dim": 16, "max_len": 8, "mask_pad_keys": True, "heads": 2}},
    "bt_paper": {"method": "bt_sr", "aux": {"kind": "barlow_twins", "alpha": 0.2, "lam": 0.05}},
    "bt_released": {
        "method": "bt_sr",
        "aux": {"kind": "barlow_twins", "alpha": 0.2, "lam": 0.05, "bt_std": "unbiased", "no_partner": "drop"},
    },
    "bt_as_released": {
        "method": "bt_sr",
        "aux": {"kind": "barlow_twins", "alpha": 0.2, "lam": 0.05, "bt_std": "unbiased", "no_partner": "self"},
    },
    "bt_sum": {"method": "bt_sr", "aux": {"kind": "barlow_twins", "alpha": 0.01, "lam": 0.05, "bt_reduction": "sum"}},
    "norm_pre": {"method": "sasrec_ce", "encoder": {"dim": 16, "max_len": 8, "norm": "pre"}},
    "norm_post": {"method": "sasrec_ce", "encoder": {"dim": 16, "max_len": 8, "norm": "post"}},
    "originals": {
        "method": "cl4srec",
        "encoder": {
            "dim": 16,
            "max_len": 8,
            "heads": 2,
            "norm": "post",
            "activation": "gelu",
            "inner_dim": 32,
            "init": "normal",
        },
    },
    "weight_decay": {"method": "sasrec_ce", "train": {"batch_size": 32, "weight_decay": 0.01}},
    "bf16": {"method": "sasrec_ce", "train": {"batch_size": 32, "precision": "bf16"}},
    "bf16_rows": {
        "method": "sasrec_ce",
        "encoder": {"dim": 32, "max_len": 8},
        "train": {"batch_size": 32, "precision": "bf16"},
    },
    "rank_non_items": {"method": "sasrec_ce", "encoder": {"dim": 16, "max_len": 8, "rank_non_items": True}},
    "bce": {"method": "sasrec_bce", "loss": {"kind": "bce", "negatives": 8}},
    "bce_halves": {"method": "sasrec_bce", "loss": {"kind": "bce", "negatives": 8, "bce_reduction": "halves"}},
    "bce_scarce": {"method": "sasrec_bce", "loss": {"kind": "bce", "negatives": 24}},
    "gbce": {"method": "sasrec_gbce", "loss": {"kind": "gbce", "negatives": 8, "gbce_t": 0.75}},
    "ce_sampled": {"method": "sasrec_ce_sampled", "loss": {"kind": "ce_sampled", "negatives": 8}},
    "sce": {"method": "sasrec_sce", "loss": {"kind": "sce", "sce_b_y": 16}},
    "sce_mixed": {"method": "sasrec_sce", "loss": {"kind": "sce", "sce_b_y": 16, "sce_mix_x": True, "sce_buckets": 9}},
    "bt_sce": {
        "method": "bt_sr",
        "loss": {"kind": "sce", "sce_b_y": 16},
        "aux": {"kind": "barlow_twins", "alpha": 0.2, "lam": 0.05, "extra_dropout_view": True},
    },
    "bt_prefix_projected": {
        "method": "bt_sr",
        "aux": {
            "kind": "barlow_twins",
            "alpha": 0.2,
            "lam": 0.05,
            "partner_pool": "prefix",
            "projector_layers": 2,
            "projector_dim": 24,
        },
    },
    **{
        f"bt_{view}": {
            "method": "bt_sr",
            "aux": {"kind": "barlow_twins", "alpha": 0.2, "lam": 0.05, "bt_view": view},
        }
        for view in ("mask", "crop", "reorder", "substitute", "dropout")
    },
    "cl4srec": {"method": "cl4srec", "aux": {"kind": "cl4srec", "alpha": 0.1}},
    "duorec": {"method": "duorec", "aux": {"kind": "duorec", "alpha": 0.1, "partner_pool": "prefix"}},
    "duorec_cosine": {"method": "duorec", "aux": {"kind": "duorec", "alpha": 0.1, "similarity": "cosine"}},
    "duorec_released": {"method": "duorec", "aux": {"kind": "duorec_released", "alpha": 0.1}},
    "ec4srec": {"method": "ec4srec", "aux": {"kind": "ec4srec", "alpha": 0.1, "explain_start": 2, "explain_every": 2}},
    "ec4srec_occlusion": {
        "method": "ec4srec",
        "aux": {"kind": "ec4srec", "alpha": 0.1, "explain_start": 3, "importance": "occlusion", "explain": "predicted"},
    },
}


TOLERANCES = {"bf16": 1e-3, "bf16_rows": 1e-3}
"""Relative, where another than `USUAL`: where sums end otherwise, operands are rounded to the other side (2e-4 without
kernels, where fp32 has 3e-7)."""
USUAL = 2e-4


def spec_of(name: str) -> TrialSpec:
    base: dict[str, Any] = {
        "data": {"dataset": "synthetic"},
        "encoder": {"dim": 16, "max_len": 8},
        "train": {"batch_size": 32},
    }
    return TrialSpec.model_validate(base | SPECS[name])


def golden(file: str, actual: dict[str, Any]) -> dict[str, Any]:
    path = HERE / file
    if os.environ.get("BTSR_WRITE_GOLDEN"):
        path.write_text(json.dumps({"numerics": NUMERICS, **actual}, indent=1) + "\n")
    stored: dict[str, Any] = json.loads(path.read_text())
    assert stored.pop("numerics") == NUMERICS, "NUMERICS was raised: write the golden files anew (see the docstring)"
    return stored


def test_twenty_steps_of_loss() -> None:
    torch.set_num_threads(1)
    traces: dict[str, list[float]] = {}
    for name in SPECS:
        trainer = Trainer(spec_of(name), SPLIT, torch.device("cpu"))
        steps: list[float] = []
        hook = trainer.objective.register_forward_hook(lambda _m, _i, out, s=steps: s.append(float(out[0].detach())))
        for epoch in (1, 2, 3, 4):
            trainer.run_epoch(epoch)
        hook.remove()
        traces[name] = [round(value, 6) for value in steps]
        assert len(steps) == 20
    stored = golden("traces.json", traces)
    assert set(stored) == set(traces)
    assert len(set(map(tuple, traces.values()))) == len(traces), "no two settings are one"
    for name, trace in traces.items():
        expected = pytest.approx(stored[name], rel=TOLERANCES.get(name, USUAL))
        assert trace == expected, f"{name}: numbers moved; see the docstring"


def test_ranks_and_lists_of_a_fixed_model() -> None:
    """Weights and inputs are drawn from seeds; no two scores of a user are as near as the rounding of a processor."""
    torch.set_num_threads(1)
    split = markov_split(n_items=70, n_test=12)
    model = SASRec(EncoderConfig(dim=16, max_len=8), split.n_items, torch.Generator().manual_seed(5))
    actual: dict[str, Any] = {}
    for part in PARTS:
        users = evaluate(model, split, part, device=torch.device("cpu"))
        lists = [" ".join(map(str, row)) for row in users.top.tolist()]
        actual[part] = {"rank": users.rank.tolist(), "top": lists}
    assert golden("ranks.json", actual) == actual


def test_keys_of_stored_trials_stay() -> None:
    keys = {name: spec_of(name).key for name in SPECS}
    assert golden("keys.json", keys) == keys
