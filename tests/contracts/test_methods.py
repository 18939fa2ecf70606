"""The contract of every entry of LOSSES and AUXILIARIES, and of every field of the configuration of a model."""

from dataclasses import replace
from typing import Any

import numpy as np
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


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout a term whose views differ by dropout alone is refused."""
    monkeypatch.setattr("harness.train.check_fits", lambda *_: None)


def without_dropout(spec: TrialSpec) -> TrialSpec:
    return spec.model_copy(update={"encoder": spec.encoder.model_copy(update={"dropout": 0.0})})


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


@pytest.mark.parametrize("aux", AUX_SETTINGS)
def test_the_gradient_of_an_auxiliary_term_alone_reaches_the_items(aux: str) -> None:
    """That of alpha = 2 less that of alpha = 1, the draws being the same; CE's own reaches every item."""
    grads = []
    for alpha in (2.0, 1.0):
        trainer = Trainer(spec_of("ce", aux, aux={"kind": aux, **AUX_SETTINGS[aux], "alpha": alpha}), DENSE, CPU)
        step = next(iter(trainer.steps(1)))
        trainer.objective(step)[0].backward()
        assert trainer.objective.model.table.grad is not None
        grads.append(trainer.objective.model.table.grad)
    size = (grads[0] - grads[1]).norm(dim=1)
    seen = set(step.batch.items[: step.batch.count].tolist())
    touched = {item for item in seen if float(size[item]) > 1e-4 * float(size.max())}
    # the terms look at the states of whole sequences; CL4SRec alone at nothing but shortened and masked copies
    assert touched == seen if aux != "cl4srec" else len(touched) > len(seen) / 2


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
            lengths=np.full(4, 3),
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
@pytest.mark.usefixtures("unchecked")
def test_padding_has_no_effect(loss: str, aux: str) -> None:
    """A longer T moves positions; with those aligned, and padded keys masked, nothing is left of it."""
    values = []
    changes = {"aux": {"kind": aux, **AUX_SETTINGS.get(aux, {})}}
    if aux == "ec4srec":
        changes["aux"]["supervised_weight"] = 0  # overlap is measured against T, by definition
    for max_len in (7, 12):
        encoder = {"dim": 8, "max_len": max_len, "mask_pad_keys": True}
        trainer = Trainer(without_dropout(spec_of(loss, aux, encoder=encoder, **changes)), DENSE, CPU)
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
@pytest.mark.usefixtures("unchecked")
def test_views_leave_the_prediction_part_alone(loss: str, aux: str) -> None:
    """Without dropout the prediction part is what it is with the views switched off."""
    trainer = Trainer(without_dropout(spec_of(loss, aux)), DENSE, CPU)
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


ENCODER: dict[str, Any] = {"dim": 8, "max_len": 7, "dropout": 0.1}
TRAIN: dict[str, Any] = {"batch_size": 16, "lr": 0.01}
EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # field: a configuration, and another that differs from it in this field alone; of losses and terms see below
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
    "aux.kind": ({"kind": "duorec", "alpha": 0.1}, {"kind": "duorec_released", "alpha": 0.1}),
    "train.batch_size": (TRAIN, TRAIN | {"batch_size": 8}),
    "train.lr": (TRAIN, TRAIN | {"lr": 0.02}),
    "train.beta2": (TRAIN, TRAIN | {"beta2": 0.5}),
    "train.weight_decay": (TRAIN, TRAIN | {"weight_decay": 0.1}),
}
OTHER: dict[str, Any] = {
    # field of a loss or auxiliary term: another value than that of the settings above
    "negatives": 6,
    "bce_reduction": "halves",
    "gbce_t": 0.0,
    "sce_buckets": 3,
    "sce_b_x": 4,
    "sce_b_y": 9,
    "sce_mix_x": True,
    "alpha": 0.6,
    "lam": 0.5,
    "bt_reduction": "sum",
    "bt_std": "unbiased",
    "no_partner": "drop",
    "partner_pool": "prefix",
    "bt_view": "reorder",
    "extra_dropout_view": True,
    "projector_layers": 2,
    "projector_dim": 9,
    "tau": 0.5,
    "similarity": "cosine",
    "crop_eta": 0.3,
    "mask_gamma": 0.6,
    "reorder_beta": 0.9,
    "substitute_p": 0.9,
    "importance": "occlusion",
    "explain": "predicted",
    "explain_start": 2,
    "explain_every": 1,
    "r_plus": 0.6,
    "r_minus": 0.2,
    "tau_negative": 0.5,
    "negative_weight": 0.2,
    "supervised_weight": 0.0,
}
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    # (kind, field): what else must be set for the field to have a meaning
    **{
        ("barlow_twins", field): {"bt_view": field.partition("_")[0]}
        for field in ("crop_eta", "mask_gamma", "reorder_beta", "substitute_p")
    },
    ("barlow_twins", "projector_layers"): {"projector_layers": 1, "projector_dim": 8},
    ("barlow_twins", "projector_dim"): {"projector_layers": 2, "projector_dim": 8},
}
USES = {"loss": LOSS_USES, "aux": AUX_USES}
SETTINGS = {"loss": LOSS_SETTINGS, "aux": AUX_SETTINGS}
for part, uses in USES.items():
    for kind, fields in uses.items():
        for field in fields:
            first = {"kind": kind, **SETTINGS[part][kind], **BESIDE.get((kind, field), {})}
            EFFECTS[f"{part}.{field} of {kind}"] = (first, first | {field: OTHER[field]})
ELSEWHERE = {
    "encoder.kind",  # the only one
    *(f"train.{name}" for name in ("max_epochs", "patience", "validate_every")),  # tests/training/test_train.py
    "train.precision",  # tests/training/test_precision.py
}


def test_no_field_is_left_untested() -> None:
    configs = {"encoder": EncoderConfig, "loss": LossConfig, "aux": AuxConfig, "train": TrainConfig}
    fields = {f"{part}.{name}" for part, config in configs.items() for name in config.model_fields}
    assert fields == {name.partition(" of ")[0] for name in EFFECTS} | ELSEWHERE


@pytest.mark.parametrize("field", EFFECTS)
def test_every_field_changes_the_key_and_the_losses(field: str) -> None:
    part, _, name = field.partition(" of ")[0].partition(".")
    one, two = (spec_of(**{part: settings}) for settings in EFFECTS[field])
    differing = {
        n
        for n in type(getattr(one, part)).model_fields
        if getattr(getattr(one, part), n) != getattr(getattr(two, part), n)
    }
    assert differing == {name}
    assert one.key != two.key
    assert trace(one) != trace(two)
