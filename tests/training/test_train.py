"""The training loop: repeatable, learning, stopping when told, restoring the best."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness import device as devices
from harness import trial
from harness.config import TrialSpec
from harness.errors import TrialError
from harness.examples import Sequences
from harness.train import Training, train
from harness.trial import run_trial, trial_steps
from harness.values import EpochLog, Split, TrialResult
from tests.splits import markov_split

CPU = torch.device("cpu")
SPLIT = markov_split()


def spec_of(**changes: Any) -> TrialSpec:
    base: dict[str, Any] = {
        "method": "sasrec_ce",
        "data": SPLIT.config,
        "encoder": {"dim": 16, "max_len": 8, "dropout": 0.1},
        "train": {"batch_size": 32, "max_epochs": 3, "lr": 0.005},
        "seed": 7,
    }
    return TrialSpec.model_validate(base | changes)


BT = {"kind": "barlow_twins", "alpha": 0.3, "lam": 0.05}


def weights(spec: TrialSpec) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    return train(spec, SPLIT, device=CPU).objective.state_dict()


def numbers(result: TrialResult) -> dict[tuple[str, str, int, int], float | None]:
    return {(m.part, m.name, m.k, m.bucket): m.value for m in result.metrics}


@pytest.mark.parametrize("aux", [{}, BT], ids=["ce", "bt"])
def test_same_spec_same_numbers_bit_for_bit(aux: dict[str, Any]) -> None:
    first, second = run_trial(spec_of(aux=aux), SPLIT), run_trial(spec_of(aux=aux), SPLIT)
    assert numbers(first) == numbers(second)
    assert [log.loss for log in first.epochs] == [log.loss for log in second.epochs]
    assert (first.test.rank == second.test.rank).all() and (first.test.top == second.test.top).all()
    other = run_trial(spec_of(aux=aux, seed=8), SPLIT)
    assert [log.loss for log in first.epochs] != [log.loss for log in other.epochs]


def test_alpha_zero_is_the_base_loss_bit_for_bit() -> None:
    base, zero = weights(spec_of()), weights(spec_of(aux=BT | {"alpha": 0.0}))
    assert all(torch.equal(base[name], zero[name]) for name in base)
    some = weights(spec_of(aux=BT))
    assert not torch.equal(base["model.table"], some["model.table"])


def test_global_random_state_has_no_effect_and_is_left_alone() -> None:
    torch.manual_seed(1)
    before = weights(spec_of(aux=BT))
    torch.manual_seed(2)
    np.random.seed(3)
    after = weights(spec_of(aux=BT))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "aux",
    [
        BT | {"lam": 0.5},
        BT | {"alpha": 0.6},
        BT | {"bt_reduction": "sum"},
        BT | {"bt_std": "unbiased"},
        BT | {"no_partner": "drop"},
    ],
)
def test_every_setting_of_the_term_changes_the_weights(aux: dict[str, Any]) -> None:
    split = markov_split(n_items=90)  # sparse enough that some targets stand alone
    specs = [spec_of(aux=a, train={"batch_size": 32, "max_epochs": 1}) for a in (BT, aux)]
    one, two = (train(s, split, device=CPU).objective.state_dict()["model.table"] for s in specs)
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": {"dim": 16, "max_len": 8, "dropout": 0.4}},
        {"encoder": {"dim": 16, "max_len": 8, "dropout": 0.1, "mask_pad_keys": True}},
        {"encoder": {"dim": 16, "max_len": 8, "dropout": 0.1, "heads": 2}},
        {"encoder": {"dim": 16, "max_len": 6, "dropout": 0.1}},
        {"encoder": {"dim": 16, "max_len": 8, "dropout": 0.1, "blocks": 1}},
        {"train": {"batch_size": 32, "max_epochs": 3, "lr": 0.004}},
        {"train": {"batch_size": 32, "max_epochs": 3, "lr": 0.005, "beta2": 0.9}},
        {"train": {"batch_size": 32, "max_epochs": 3, "lr": 0.005, "weight_decay": 0.01}},
        {"train": {"batch_size": 16, "max_epochs": 3, "lr": 0.005}},
        {"train": {"batch_size": 32, "max_epochs": 2, "lr": 0.005}},
    ],
)
def test_every_setting_changes_the_losses(changes: dict[str, Any]) -> None:
    base, other = (run_trial(spec_of(**c), SPLIT) for c in ({}, changes))
    assert [log.loss for log in base.epochs] != [log.loss for log in other.epochs]
    assert base.spec.key != other.spec.key


@pytest.mark.parametrize(
    "loss",
    [
        {},
        {"kind": "bce", "negatives": 4},
        {"kind": "gbce", "negatives": 4, "gbce_t": 0.5},
        {"kind": "ce_sampled", "negatives": 20},
        {"kind": "sce", "sce_b_y": 20},
    ],
    ids=lambda loss: loss.get("kind", "ce"),
)
def test_it_learns(loss: dict[str, Any]) -> None:
    longer = spec_of(loss=loss, train={"batch_size": 32, "max_epochs": 25, "patience": 25, "lr": 0.005})
    result = run_trial(longer, SPLIT)
    hr1 = numbers(result)["test", "hr", 1, 0]
    assert hr1 is not None and hr1 > 0.5, "item + 1 follows with probability 0.8; chance is 1 in 40"
    assert result.epochs[-1].loss < 0.7 * result.epochs[0].loss


@pytest.mark.parametrize("kind", ["cl4srec", "duorec", "duorec_released", "ec4srec"])
def test_contrastive_terms_fall_and_the_model_still_learns(kind: str) -> None:
    aux = {"kind": kind, "alpha": 0.1} | ({"explain_start": 4, "explain_every": 4} if kind == "ec4srec" else {})
    result = run_trial(spec_of(aux=aux, train={"batch_size": 32, "max_epochs": 20, "lr": 0.005}), SPLIT)
    hr1 = numbers(result)["test", "hr", 1, 0]
    assert hr1 is not None and hr1 > 0.2
    term = [log.parts["auxiliary"] for log in result.epochs if "auxiliary" in log.parts]
    assert term[-1] < 0.8 * term[0]


def test_barlow_twins_pulls_views_together() -> None:
    strong = spec_of(aux=BT | {"alpha": 5.0}, train={"batch_size": 32, "max_epochs": 12, "lr": 0.005})
    logs = run_trial(strong, SPLIT).epochs
    assert logs[-1].parts["on_diagonal"] < 0.7 * logs[0].parts["on_diagonal"]
    assert 0 < logs[0].parts["partner_share"] <= 1
    assert logs[0].loss == pytest.approx(logs[0].parts["prediction"] + 5.0 * logs[0].parts["auxiliary"], rel=1e-5)


def test_early_stopping_waits_exactly_patience_validations_and_restores_the_best() -> None:
    spec = spec_of(train={"batch_size": 32, "max_epochs": 60, "patience": 4, "lr": 0.01})
    seen: list[EpochLog] = []
    result = run_trial(spec, SPLIT, on_epoch=seen.append)
    curve = [log.valid["ndcg@10"] for log in result.epochs]
    assert tuple(seen) == result.epochs and len(curve) < 60
    assert result.best_epoch == 1 + int(np.argmax(curve))
    assert len(curve) == result.best_epoch + 4
    assert numbers(result)["valid", "ndcg", 10, 0] == max(curve)


def test_validation_cadence() -> None:
    spec = spec_of(train={"batch_size": 32, "max_epochs": 5, "validate_every": 2, "lr": 0.005})
    logs = run_trial(spec, SPLIT).epochs
    assert [bool(log.valid) for log in logs] == [False, True, False, True, True]


def test_the_first_epoch_is_kept_when_validation_never_hits() -> None:
    hopeless = replace(SPLIT, test_items=np.full_like(SPLIT.test_items, 5))  # every target is in its own input
    result = run_trial(spec_of(train={"batch_size": 32, "max_epochs": 9, "patience": 2, "lr": 0.005}), hopeless)
    assert [log.valid["ndcg@10"] for log in result.epochs] == [0.0, 0.0, 0.0]
    assert result.best_epoch == 1
    assert (result.test.rank == 0).all()


def test_no_epoch_beyond_the_upper_bound() -> None:
    logs = run_trial(spec_of(train={"batch_size": 32, "max_epochs": 4, "patience": 50, "lr": 0.005}), SPLIT).epochs
    assert [log.epoch for log in logs] == [1, 2, 3, 4]


def test_batch_is_clamped_to_the_training_users_and_recorded() -> None:
    result = run_trial(spec_of(train={"batch_size": 10_000, "max_epochs": 1}), SPLIT)
    assert result.provenance.batch_size == SPLIT.n_train_users


def test_a_loss_that_is_no_number_names_epoch_and_step() -> None:
    with pytest.raises(TrialError, match=r"loss became .* in epoch 1, step \d+ of 6: lower the learning rate"):
        run_trial(spec_of(train={"batch_size": 32, "max_epochs": 1, "lr": 1e36}), SPLIT)


def test_examples_are_the_last_transitions_of_users_with_two_rows() -> None:
    sequences = Sequences.of(SPLIT, 5)
    sizes = np.diff(SPLIT.train_offsets)
    assert (sequences.lengths == np.minimum(sizes[sizes >= 2] - 1, 5)).all()
    assert (sequences.last_targets == SPLIT.train_items[SPLIT.train_offsets[1:] - 1]).all()
    chosen = sequences.longest_first(np.arange(10))
    batch, targets = sequences.pack(chosen, 5, CPU), sequences.targets(chosen, CPU)
    first = chosen[0]
    user = SPLIT.train_items[SPLIT.train_offsets[first] : SPLIT.train_offsets[first + 1]]
    assert batch.items[: batch.last[0] + 1].tolist() == user[-6:-1].tolist()
    assert targets[: batch.last[0] + 1].tolist() == user[-5:].tolist()


def test_provenance_says_where_the_numbers_come_from() -> None:
    result = run_trial(spec_of(), SPLIT, command="btsr-sweep --study smoke")
    p = result.provenance
    assert p.command == "btsr-sweep --study smoke" and p.threads == 1 and p.device == "cpu" and p.precision == "fp32"
    assert {"train", "valid", "test", "total"} <= set(p.seconds) and p.seconds["total"] >= p.seconds["train"] > 0
    assert p.peak_mib > 50 and "torch" in p.versions


def test_denormals_are_flushed_during_a_trial_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    epoch = Training.epoch

    def look(training: Training) -> EpochLog:
        flushed.append(sys.float_info.min / 2 == 0.0)
        return epoch(training)

    monkeypatch.setattr(Training, "epoch", look)
    run_trial(spec_of(), SPLIT)
    assert flushed and all(flushed) and sys.float_info.min / 2 > 0.0
    with pytest.raises(TrialError):
        run_trial(spec_of(train={"batch_size": 32, "max_epochs": 1, "lr": 1e36}), SPLIT)
    assert sys.float_info.min / 2 > 0.0


def test_between_the_epochs_of_a_trial_the_callers_arithmetic_is_in_force() -> None:
    first, second = trial_steps(spec_of(), SPLIT), trial_steps(spec_of(), SPLIT)
    for steps in (first, second, first):
        next(steps)
        assert sys.float_info.min / 2 > 0.0
    for steps in (first, second):
        steps.close()
        assert sys.float_info.min / 2 > 0.0


def determinism() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision,
        os.environ.get(devices.CUBLAS),
    )


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_on_cuda_a_trial_asks_for_deterministic_algorithms(
    workspace: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(devices.CUBLAS, raising=False)
    if workspace:
        monkeypatch.setenv(devices.CUBLAS, workspace)
    before = determinism()
    with devices.repeatable(torch.device("cuda", 0)):
        assert determinism() == (True, True, False, "ieee", workspace or ":4096:8")
    assert determinism() == before
    with devices.repeatable(CPU):
        assert determinism() == before


def test_a_trial_makes_its_model_with_the_settings_that_it_trains_with(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    @contextmanager
    def repeatable(device: torch.device) -> Iterator[None]:
        entered.append(device.type)
        yield
        entered.clear()

    class Watched(Training):
        def __init__(self, spec: TrialSpec, split: Split, device: torch.device) -> None:
            assert entered == ["cpu"]
            super().__init__(spec, split, device)

    monkeypatch.setattr(trial, "repeatable", repeatable)
    monkeypatch.setattr(trial, "Training", Watched)
    assert run_trial(spec_of(train={"batch_size": 32, "max_epochs": 1}), SPLIT).best_epoch == 1 and not entered


def test_each_step_of_a_trial_has_its_own_current_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """In between it is the caller's, or that of another trial in the same thread."""
    current: list[torch.device] = []

    @contextmanager
    def made_current(device: torch.device) -> Iterator[None]:
        current.append(device)
        try:
            yield
        finally:
            current.pop()

    class Watched(Training):
        def epoch(self) -> EpochLog:
            assert current == [CPU]
            return super().epoch()

    monkeypatch.setattr(trial, "current", made_current)
    monkeypatch.setattr(trial, "Training", Watched)
    one, two = (trial.trial_steps(spec_of(seed=seed), SPLIT) for seed in (1, 2))
    for steps in (one, two, one, two):
        next(steps)
        assert not current
    two.close()
    one.close()
    with pytest.raises(TrialError):
        run_trial(spec_of(train={"batch_size": 32, "max_epochs": 1, "lr": 1e36}), SPLIT)
    assert run_trial(spec_of(train={"batch_size": 32, "max_epochs": 1}), SPLIT).best_epoch == 1 and not current


MEMORY = """
import torch
from harness.config import TrialSpec
from harness.provenance import peak_mib, reset_peak_memory
from harness.train import Trainer
from tests.splits import markov_split

torch.set_num_threads(1)
split = markov_split(n_items=20_000, n_train=400)
trainer = Trainer(TrialSpec.model_validate({
    "method": "sasrec_ce", "data": split.config, "encoder": {"dim": 64, "max_len": 8}, "train": {"batch_size": 4},
    "seed": 7,
}), split, torch.device("cpu"))
steps = trainer.steps(1)
for _ in range(5):
    trainer.optimizer.zero_grad()
    trainer.objective(next(steps))[0].backward()
    trainer.optimizer.step()
some = peak_mib()
trainer.run_epoch(2)
print(peak_mib() - some, trainer.n_steps)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_memory_does_not_grow_with_the_steps_of_an_epoch(kernels: str) -> None:
    """A table and its gradient have 4.9 MiB here; what a step told lay behind the latter and kept 100 of them."""
    words = os.environ | {"BTSR_KERNELS": kernels}
    done = subprocess.run([sys.executable, "-c", MEMORY], env=words, capture_output=True, text=True, check=True)
    grown, steps = map(float, done.stdout.split())
    assert steps == 100 and grown < 60, grown
