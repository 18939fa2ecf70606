"""What the configuration of losses and auxiliary terms refuses, and what it says."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.config import AUX_USES, LOSS_NEEDS, LOSS_USES, VIEW_USES, AuxConfig, LossConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sce"}, "kind='sce' needs sce_b_y"),
        ({"kind": "bce"}, "kind='bce' needs negatives"),
        ({"kind": "gbce", "negatives": 3}, "kind='gbce' needs gbce_t"),
        ({"kind": "ce_sampled"}, "needs negatives"),
        ({"negatives": 3}, "negatives has no effect with kind='ce': drop it, or use bce or gbce or ce_sampled"),
        ({"kind": "bce", "negatives": 3, "gbce_t": 0.5}, "gbce_t has no effect with kind='bce'"),
        ({"kind": "bce", "negatives": 3, "sce_b_y": 5}, "sce_b_y has no effect"),
        ({"kind": "ce_sampled", "negatives": 3, "bce_reduction": "halves"}, "bce_reduction has no effect"),
        ({"kind": "bce", "negatives": 0}, "greater than or equal to 1"),
        ({"kind": "gbce", "negatives": 3, "gbce_t": 1.5}, "less than or equal to 1"),
        ({"kind": "bpr"}, "'ce', 'bce', 'gbce', 'ce_sampled' or 'sce'"),
    ],
)
def test_losses_refuse_idle_and_missing_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        LossConfig.model_validate(settings)


BT = {"kind": "barlow_twins", "alpha": 0.1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.1}, "alpha set without an auxiliary term"),
        ({"kind": "cl4srec", "alpha": 0.1, "lam": 0.05}, "lam has no effect with kind='cl4srec'"),
        ({"kind": "duorec_released", "alpha": 0.1, "partner_pool": "prefix"}, "or use barlow_twins or duorec"),
        ({"kind": "ec4srec", "alpha": 0.1, "partner_pool": "prefix"}, "partner_pool has no effect with kind='ec4srec'"),
        ({"kind": "cl4srec", "alpha": 0.1, "bt_view": "mask"}, "bt_view has no effect"),
        (BT | {"tau": 0.5}, "tau has no effect with kind='barlow_twins'"),
        (BT | {"bt_view": "crop", "partner_pool": "prefix"}, "partner_pool has no effect with bt_view='crop'"),
        (BT | {"bt_view": "crop", "no_partner": "drop"}, "no_partner has no effect with bt_view='crop'"),
        (BT | {"crop_eta": 0.5}, "crop_eta has no effect with bt_view='supervised'"),
        (BT | {"bt_view": "mask", "substitute_p": 0.5}, "substitute_p has no effect with bt_view='mask'"),
        (BT | {"bt_view": "dropout", "extra_dropout_view": True}, "repeats bt_view='dropout'"),
        (BT | {"projector_layers": 2}, "belong together"),
        (BT | {"projector_dim": 8}, "belong together"),
        (BT | {"lam": -0.1}, "greater than or equal to 0"),
        ({"kind": "cl4srec", "alpha": 0.1, "mask_gamma": 1.0}, "less than 1"),
        ({"kind": "ec4srec", "negative_weight": 0, "r_minus": 0.5}, "r_minus has no effect with negative_weight=0"),
        ({"kind": "ec4srec", "negative_weight": 0, "tau_negative": 0.5}, "tau_negative has no effect with negative"),
    ],
)
def test_terms_refuse_idle_and_contradictory_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AuxConfig.model_validate(settings)


def test_the_tables_of_uses_name_every_field_once_and_nothing_else() -> None:
    for config, uses in ((LossConfig, LOSS_USES), (AuxConfig, AUX_USES)):
        assert {name for fields in uses.values() for name in fields} == set(config.model_fields) - {"kind"}
        assert all(len(set(fields)) == len(fields) for fields in uses.values())
    assert all(set(needed) <= set(LOSS_USES[kind]) for kind, needed in LOSS_NEEDS.items())
    assert {name for fields in VIEW_USES.values() for name in fields} <= set(AUX_USES["barlow_twins"])


def test_the_reduction_is_recorded_in_words() -> None:
    joint, halves = (
        LossConfig(kind="bce", negatives=4, bce_reduction=reduction).reduction  # type: ignore[arg-type]
        for reduction in ("joint", "halves")
    )
    assert joint == "mean over positions of binary terms, mean of 1+k"
    assert halves == "mean over positions of binary terms, positive plus mean of k"
    assert LossConfig().reduction == "mean over positions of -log softmax over all items"
    assert LossConfig(kind="sce", sce_b_y=4).reduction == "mean over selected positions of largest bucket loss"


def test_what_was_there_before_keeps_its_json() -> None:
    assert LossConfig().canonical() == {"kind": "ce"}
    assert AuxConfig().canonical() == {
        "kind": "none",
        "alpha": 0.0,
        "lam": 0.0,
        "bt_reduction": "mean_d",
        "bt_std": "population",
        "no_partner": "self",
    }
    assert LossConfig(kind="bce", negatives=4).canonical() == {"kind": "bce", "negatives": 4}


def test_the_first_epoch_of_the_term() -> None:
    assert AuxConfig(kind="ec4srec", alpha=0.1).first_epoch == 15
    assert AuxConfig(kind="ec4srec", alpha=0.0).first_epoch == AuxConfig(kind="cl4srec", alpha=0.1).first_epoch == 1
