"""The contract of every entry of LOSSES and AUXILIARIES, and of every field of the configuration of a model."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.config import TrainConfig, TrialSpec
from harness.train import Trainer
from models.auxiliary import AUXILIARIES, AuxInput
from models.config import AUX_USES, LOSS_USES, AuxConfig, EncoderConfig, LossConfig
from models.losses import LOSSES, LossInput, prediction_loss
from models.sce import Buckets
from tests.splits import markov_split

CPU = torch.device("cpu")
DENSE = markov_split(n_items=24, n_train=64, length=8)
SPARSE = markov_split(n_items=60, n_train=64, length=8)

LOSS_SETTINGS: dict[str, dict[str, Any]] = {
    "ce": {},
    "bce": {"negatives": 5},
    "gbce": {"negatives": 5, "gbce_t": 0.75},
    "ce_sampled": {"negatives": 5},
    "sce": {"sce_b_y": 8},
}
AUX_SETTINGS: dict[str, dict[str, Any]] = {
    "barlow_twins": {"alpha": 0.3, "lam": 0.05},
    "cl4srec": {"alpha": 0.1},
    "duorec": {"alpha": 0.1},
    "duorec_released": {"alpha": 0.1},
    "ec4srec": {"alpha": 0.1, "explain_start": 1},
}
EVERY = [(loss, "none") for loss in LOSS_SETTINGS] + [("ce", aux) for aux in AUX_SETTINGS]


def spec_of(loss: str = "ce", aux: str = "none", /, **changes: Any) -> TrialSpec:
    base: dict[str, Any] = {
        "method": "some",
        "data": DENSE.config,
        "encoder": {"dim": 8, "max_len": 7, "dropout": 0.1},
        "loss": {"kind": loss, **LOSS_SETTINGS[loss]},
        "aux": {"kind": aux, **AUX_SETTINGS.get(aux, {})},
        "train": {"batch_size": 16, "lr": 0.01},
        "seed": 7,
    }
    return TrialSpec.model_validate(base | changes)


def first_loss(trainer: Trainer) -> tuple[Tensor, set[int]]:
    """Loss of the first step, with gradients, and the items of its batch."""
    torch.set_num_threads(1)
    step = next(iter(trainer.steps(1)))
    loss, _ = trainer.objective(step)
    loss.backward()
    return loss.detach(), set(step.batch.items[: step.batch.count].tolist()) | set(step.targets.tolist())


def trace(spec: TrialSpec, epochs: int = 2) -> list[float]:
    torch.set_num_threads(1)
    trainer = Trainer(spec, SPARSE, CPU)
    return [trainer.run_epoch(epoch + 1)[0] for epoch in range(epochs)]


def test_the_settings_here_cover_the_registries() -> None:
    assert set(LOSS_SETTINGS) == set(LOSSES) == set(LOSS_USES)
    assert set(AUX_SETTINGS) == set(AUXILIARIES) == set(AUX_USES) - {"none"}


@pytest.mark.parametrize(("loss", "aux"), EVERY)
def test_the_loss_is_finite_and_its_gradient_reaches_the_items(loss: str, aux: str) -> None:
    trainer = Trainer(spec_of(loss, aux), DENSE, CPU)
    value, items = first_loss(trainer)
    table = trainer.objective.model.table
    assert bool(value.isfinite()) and table.grad is not None and bool(table.grad.isfinite().all())
    touched = set(table.grad.abs().sum(1).nonzero()[:, 0].tolist())
    missing = items - touched
    assert not missing if loss != "sce" else len(missing) <= len(items) // 2, "sce trains selected positions only"
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trainer.objective.parameters())


@pytest.mark.parametrize("loss", LOSS_SETTINGS)
@pytest.mark.parametrize("aux", AUX_SETTINGS)
def test_every_auxiliary_goes_with_every_loss(loss: str, aux: str) -> None:
    value, _ = first_loss(Trainer(spec_of(loss, aux), DENSE, CPU))
    base, _ = first_loss(Trainer(spec_of(loss), DENSE, CPU))
    assert bool(value.isfinite()) and float(value) != float(base)


@pytest.mark.parametrize(("loss", "aux"), EVERY)
def test_same_seed_same_result_and_another_seed_another(loss: str, aux: str) -> None:
    once, again, other = (trace(spec_of(loss, aux, seed=seed)) for seed in (7, 7, 8))
    assert once == again and once != other


@pytest.mark.parametrize("loss", LOSS_SETTINGS)
def test_permuting_users_leaves_the_prediction_loss(loss: str) -> None:
    """With the negatives of each user, and the same bucket centres."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(12, 4, generator=generator)
    table, targets = torch.randn(21, 4, generator=generator), torch.randint(20, (12,), generator=generator)
    users = 4 if loss == "ce_sampled" else 12
    drawn = torch.randint(20, (users, 5), generator=generator)
    config = LossConfig(kind=loss, **LOSS_SETTINGS[loss])  # type: ignore[arg-type]

    def value(order: list[int]) -> Tensor:
        rows = torch.tensor([3 * user + t for user in order for t in range(3)])
        mine = drawn[torch.tensor(order) if users == 4 else rows]
        given = LossInput(
            hidden=hidden[rows],
            table=table,
            targets=targets[rows],
            n_items=20,
            n_scored=20,
            last=torch.tensor([2, 5, 8, 11]),
            negatives=lambda a, b: mine[a:b],
            buckets=Buckets(count=3, b_x=5, b_y=8, mix_x=False),
            generator=torch.Generator().manual_seed(1),
        )
        return prediction_loss(config, given)[0]

    torch.testing.assert_close(value([0, 1, 2, 3]), value([2, 0, 3, 1]))


@pytest.mark.parametrize("aux", AUX_SETTINGS)
def test_permuting_users_leaves_the_auxiliary_term(aux: str) -> None:
    generator = torch.Generator().manual_seed(0)
    states = {
        name: torch.randn(9, 4, generator=generator)
        for name in ("anchor", "own", "partner", "augmented", "first", "second", "negative")
    }
    config = AuxConfig(kind=aux, **AUX_SETTINGS[aux])  # type: ignore[arg-type]

    def value(order: Tensor) -> Tensor:
        given = AuxInput(anchor=states["anchor"][order], encode=lambda name: states[name][order])
        return AUXILIARIES[aux](config, given)[0]

    torch.testing.assert_close(value(torch.arange(9)), value(torch.randperm(9, generator=generator)))


@pytest.mark.parametrize(("loss", "aux"), EVERY)
def test_padding_has_no_effect(loss: str, aux: str) -> None:
    """A longer T moves positions; with those aligned, and padded keys masked, nothing is left of it."""
    values = []
    changes = {"aux": {"kind": aux, **AUX_SETTINGS.get(aux, {})}}
    if aux == "ec4srec":
        changes["aux"]["supervised_weight"] = 0  # overlap is measured against T, by definition
    for max_len in (7, 12):
        encoder = {"dim": 8, "max_len": max_len, "dropout": 0.0, "mask_pad_keys": True}
        trainer = Trainer(spec_of(loss, aux, encoder=encoder, **changes), DENSE, CPU)
        model = trainer.objective.model
        state = Trainer(spec_of(loss, encoder=encoder | {"max_len": 7}), DENSE, CPU).objective.model.state_dict()
        state["positions"] = torch.cat([torch.ones(max_len - 7, 8), state["positions"]])
        model.load_state_dict(state)
        values.append(first_loss(trainer)[0])
    torch.testing.assert_close(values[0], values[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("loss", "aux"), EVERY)
def test_json_round_trip(loss: str, aux: str) -> None:
    spec = spec_of(loss, aux)
    assert TrialSpec.model_validate_json(spec.canonical_json()) == spec
    assert TrialSpec.model_validate_json(spec.model_dump_json()).key == spec.key


@pytest.mark.parametrize(("loss", "aux"), EVERY)
def test_views_leave_the_prediction_part_alone(loss: str, aux: str) -> None:
    """Without dropout the prediction part is what it is with the views switched off."""
    trainer = Trainer(spec_of(loss, aux, encoder={"dim": 8, "max_len": 7, "dropout": 0.0}), DENSE, CPU)
    step = next(iter(trainer.steps(1)))
    if step.negatives is not None:
        drawn = step.negatives(0, 10**6)
        step = replace(step, negatives=lambda a, b: drawn[a:b])
    centres = step.centres
    assert centres is not None
    state = centres.get_state()
    _, parts = trainer.objective(step)
    centres.set_state(state)
    alone, _ = trainer.objective(replace(step, views=None))
    assert float(parts["prediction"]) == float(alone.detach())


def bt(**settings: Any) -> dict[str, Any]:
    return {"kind": "barlow_twins", "alpha": 0.3, "lam": 0.05, **settings}


def ec(**settings: Any) -> dict[str, Any]:
    return {"kind": "ec4srec", "alpha": 0.1, "explain_start": 1, **settings}


def nce(**settings: Any) -> dict[str, Any]:
    return {"kind": "cl4srec", "alpha": 0.1, **settings}


ENCODER: dict[str, Any] = {"dim": 8, "max_len": 7, "dropout": 0.1}
TRAIN: dict[str, Any] = {"batch_size": 16, "lr": 0.01}
SCE: dict[str, Any] = {"kind": "sce", "sce_b_y": 8}
EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # field: a configuration, and another that differs from it in this field alone
    "encoder.dim": (ENCODER, ENCODER | {"dim": 12}),
    "encoder.blocks": (ENCODER, ENCODER | {"blocks": 1}),
    "encoder.heads": (ENCODER, ENCODER | {"heads": 2}),
    "encoder.max_len": (ENCODER, ENCODER | {"max_len": 5}),
    "encoder.dropout": (ENCODER, ENCODER | {"dropout": 0.4}),
    "encoder.mask_pad_keys": (ENCODER, ENCODER | {"mask_pad_keys": True}),
    "encoder.rank_non_items": (ENCODER, ENCODER | {"rank_non_items": True}),
    "encoder.norm": (ENCODER, ENCODER | {"norm": "pre"}),
    "encoder.inner_dim": (ENCODER, ENCODER | {"inner_dim": 20}),
    "encoder.activation": (ENCODER, ENCODER | {"activation": "gelu"}),
    "encoder.init": (ENCODER, ENCODER | {"init": "normal"}),
    "loss.kind": ({"kind": "bce", "negatives": 5}, {"kind": "ce_sampled", "negatives": 5}),
    "loss.negatives": ({"kind": "bce", "negatives": 5}, {"kind": "bce", "negatives": 6}),
    "loss.bce_reduction": (
        {"kind": "bce", "negatives": 5},
        {"kind": "bce", "negatives": 5, "bce_reduction": "halves"},
    ),
    "loss.gbce_t": (
        {"kind": "gbce", "negatives": 5, "gbce_t": 0.75},
        {"kind": "gbce", "negatives": 5, "gbce_t": 0.0},
    ),
    "loss.sce_buckets": (SCE, SCE | {"sce_buckets": 3}),
    "loss.sce_b_x": (SCE, SCE | {"sce_b_x": 4}),
    "loss.sce_b_y": (SCE, SCE | {"sce_b_y": 9}),
    "loss.sce_mix_x": (SCE, SCE | {"sce_mix_x": True}),
    "aux.kind": ({"kind": "duorec", "alpha": 0.1}, {"kind": "duorec_released", "alpha": 0.1}),
    "aux.alpha": (bt(), bt(alpha=0.6)),
    "aux.lam": (bt(), bt(lam=0.5)),
    "aux.bt_reduction": (bt(), bt(bt_reduction="sum")),
    "aux.bt_std": (bt(), bt(bt_std="unbiased")),
    "aux.no_partner": (bt(), bt(no_partner="drop")),
    "aux.partner_pool": (bt(), bt(partner_pool="prefix")),
    "aux.bt_view": (bt(), bt(bt_view="reorder")),
    "aux.extra_dropout_view": (bt(), bt(extra_dropout_view=True)),
    "aux.projector_layers": (
        bt(projector_layers=1, projector_dim=8),
        bt(projector_layers=2, projector_dim=8),
    ),
    "aux.projector_dim": (bt(projector_layers=2, projector_dim=8), bt(projector_layers=2, projector_dim=9)),
    "aux.tau": (nce(), nce(tau=0.5)),
    "aux.similarity": (nce(), nce(similarity="cosine")),
    "aux.crop_eta": (bt(bt_view="crop"), bt(bt_view="crop", crop_eta=0.3)),
    "aux.mask_gamma": (bt(bt_view="mask"), bt(bt_view="mask", mask_gamma=0.6)),
    "aux.reorder_beta": (bt(bt_view="reorder"), bt(bt_view="reorder", reorder_beta=0.9)),
    "aux.substitute_p": (bt(bt_view="substitute"), bt(bt_view="substitute", substitute_p=0.9)),
    "aux.importance": (ec(), ec(importance="occlusion")),
    "aux.explain": (ec(), ec(explain="predicted")),
    "aux.explain_start": (ec(), ec(explain_start=2)),
    "aux.explain_every": (ec(), ec(explain_every=1)),
    "aux.r_plus": (ec(), ec(r_plus=0.6)),
    "aux.r_minus": (ec(), ec(r_minus=0.2)),
    "aux.tau_negative": (ec(), ec(tau_negative=0.5)),
    "aux.negative_weight": (ec(), ec(negative_weight=0.2)),
    "aux.supervised_weight": (ec(), ec(supervised_weight=0.0)),
    "train.batch_size": (TRAIN, TRAIN | {"batch_size": 8}),
    "train.lr": (TRAIN, TRAIN | {"lr": 0.02}),
    "train.beta2": (TRAIN, TRAIN | {"beta2": 0.5}),
    "train.weight_decay": (TRAIN, TRAIN | {"weight_decay": 0.1}),
}
ELSEWHERE = {
    "encoder.kind",  # the only one
    *(f"train.{name}" for name in ("max_epochs", "patience", "validate_every")),  # tests/training/test_train.py
    "train.precision",  # tests/training/test_precision.py
}


def test_no_field_is_left_untested() -> None:
    configs = {"encoder": EncoderConfig, "loss": LossConfig, "aux": AuxConfig, "train": TrainConfig}
    fields = {f"{part}.{name}" for part, config in configs.items() for name in config.model_fields}
    assert fields == set(EFFECTS) | ELSEWHERE


@pytest.mark.parametrize("field", EFFECTS)
def test_every_field_changes_the_key_and_the_losses(field: str) -> None:
    part = field.partition(".")[0]
    one, two = (spec_of(**{part: settings}) for settings in EFFECTS[field])
    differing = {
        n
        for n in type(getattr(one, part)).model_fields
        if getattr(getattr(one, part), n) != getattr(getattr(two, part), n)
    }
    assert differing == {field.partition(".")[2]}
    assert one.key != two.key
    assert trace(one) != trace(two)
