"""Checkpoints: a trial that is cut off goes on after its last whole epoch, to the same numbers, bit for bit."""

import io
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import checkpoint, trial
from harness.checkpoint import BEST, LAST, Checkpoint, forget, tidy
from harness.config import DataConfig, TrainConfig, TrialSpec
from harness.errors import StoreError
from harness.trial import run_trial, trial_steps
from harness.values import EpochLog, TrialResult
from models.config import AuxConfig, EncoderConfig, LossConfig
from tests.splits import markov_split

SPLIT = markov_split()
TRAIN = TrainConfig(batch_size=32, max_epochs=5, patience=3)
ENCODER = EncoderConfig(dim=8, max_len=10, dropout=0.1)
DATA = DataConfig(dataset="synthetic")

SPECS = {
    "bt_sr": TrialSpec(
        method="bt_sr",
        data=DATA,
        encoder=ENCODER,
        train=TRAIN,
        aux=AuxConfig(kind="barlow_twins", alpha=0.1, lam=0.05),
    ),
    "sampled": TrialSpec(
        method="gbce", data=DATA, encoder=ENCODER, train=TRAIN, loss=LossConfig(kind="gbce", negatives=4, gbce_t=0.75)
    ),
    "explained": TrialSpec(
        method="ec4srec",
        data=DATA,
        encoder=ENCODER,
        train=TRAIN,
        aux=AuxConfig(kind="ec4srec", alpha=0.1, explain_start=2, explain_every=3),
    ),
}


def content(result: TrialResult) -> tuple[object, ...]:
    """Everything but times."""
    epochs = tuple(replace(log, seconds_train=0.0, seconds_valid=0.0) for log in result.epochs)
    ranks = (result.valid.rank, result.valid.top, result.test.rank, result.test.top)
    return result.metrics, epochs, result.best_epoch, tuple(array.tobytes() for array in ranks)


def cut_off(spec: TrialSpec, folder: Path, epochs: int) -> list[EpochLog]:
    steps = trial_steps(spec, SPLIT, checkpoints=folder)
    logs = [next(steps) for _ in range(epochs)]
    steps.close()
    return logs


@pytest.mark.parametrize("name", SPECS)
def test_a_trial_cut_off_anywhere_ends_like_one_that_was_not(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    whole = run_trial(spec, SPLIT)
    told = cut_off(spec, tmp_path, 3)
    again = cut_off(spec, tmp_path, 4)
    assert again[:3] == told, "what was told before is told again, with its times: no epoch was repeated"
    told = []
    result = run_trial(spec, SPLIT, checkpoints=tmp_path, on_epoch=told.append)
    assert content(result) == content(whole)
    assert told[:4] == again and tuple(told) == result.epochs
    evaluated = run_trial(spec, SPLIT, checkpoints=tmp_path)
    assert content(evaluated) == content(whole) and evaluated.epochs == result.epochs, "all trained: only evaluated"
    assert evaluated.provenance.started == result.provenance.started


def test_a_trial_that_goes_on_elsewhere_names_all_it_ran_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["bt_sr"]
    for number, (device, kernels) in enumerate((("Card A", "one"), ("Card B", "two"), ("Card A", "two")), 1):
        monkeypatch.setattr(trial, "shown", lambda _, name=device: name)
        monkeypatch.setattr(trial, "kernels_used", lambda *_, name=kernels: name)
        cut_off(spec, tmp_path, number)
    found = run_trial(spec, SPLIT, checkpoints=tmp_path).provenance
    assert (found.device, found.kernels) == ("Card A; then Card B; then Card A", "one; then two")
    assert run_trial(spec, SPLIT).provenance.device == "Card A"


def test_torn_and_foreign_checkpoints_are_not_gone_on_with(tmp_path: Path) -> None:
    spec = SPECS["bt_sr"]
    cut_off(spec, tmp_path, 2)
    file = tmp_path / spec.key / LAST
    whole = file.read_bytes()
    another = io.BytesIO()
    torch.save({"model": torch.ones(3)}, another)
    for damaged in (b"", b"not a checkpoint", another.getvalue(), whole[:-1]):
        file.write_bytes(damaged)
        assert Checkpoint(tmp_path, spec, SPLIT.fingerprint).load("cpu") is None and not file.exists()
    file.write_bytes(whole)
    assert Checkpoint(tmp_path, spec, "1" * 32).load("cpu") is None, "of other data"
    file.write_bytes(whole)
    assert Checkpoint(tmp_path, spec, SPLIT.fingerprint).load("cpu") is not None


def test_a_checkpoint_cut_off_at_any_byte_or_with_any_bit_flipped_is_nothing(tmp_path: Path) -> None:
    spec = SPECS["bt_sr"]
    cut_off(spec, tmp_path, 1)
    file = tmp_path / spec.key / LAST
    whole, mine = file.read_bytes(), Checkpoint(tmp_path, spec, SPLIT.fingerprint)
    rng = np.random.default_rng(0)
    pickled = whole.index(b"data.pkl")
    bits = [*rng.integers(8 * len(whole), size=400), *rng.integers(8 * pickled, 8 * (pickled + 8000), size=400)]
    bits += [*range(8 * len(whole) - 8 * 120, 8 * len(whole))]  # the end of the zip archive's directory
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert mine.load("cpu") is None and not file.exists(), f"bit {bit}"
    for length in (*range(0, 200, 7), *rng.integers(len(whole), size=300), *range(len(whole) - 60, len(whole))):
        file.write_bytes(whole[:length])
        assert mine.load("cpu") is None and not file.exists(), f"cut at {length}"
    file.write_bytes(whole)
    assert torch.load(file, weights_only=True)["identity"] and mine.load("cpu") is not None


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written \(.*free or choose another --out"):
        run_trial(SPECS["bt_sr"], SPLIT, checkpoints=tmp_path / "file")


def hold(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with Checkpoint(folder, SPECS["bt_sr"], SPLIT.fingerprint).held():
        ready.set()
        threading.Event().wait(1000)


def test_a_trial_waits_for_the_orphan_that_still_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    orphan = spawn.Process(target=hold, args=(tmp_path, ready), daemon=True)
    orphan.start()
    assert ready.wait(500)
    mine = Checkpoint(tmp_path, SPECS["bt_sr"], SPLIT.fingerprint)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "WAIT_SECONDS", 0.2)
        with pytest.raises(TimeoutError, match="another process still trains"), mine.held():
            pass
    threading.Timer(0.3, orphan.kill).start()
    with mine.held():
        pass
    orphan.join()


def test_what_is_recorded_is_forgotten_but_the_best_weights_that_were_kept(tmp_path: Path) -> None:
    spec = SPECS["bt_sr"]
    run_trial(spec, SPLIT, checkpoints=tmp_path)
    forget(tmp_path, spec.key)
    assert not list(tmp_path.iterdir())
    forget(tmp_path, spec.key)
    steps = trial_steps(spec, SPLIT, checkpoints=tmp_path, keep_best=True)
    while True:
        try:
            next(steps)
        except StopIteration:
            break
    forget(tmp_path, spec.key)
    assert [path.name for path in (tmp_path / spec.key).iterdir()] == [BEST]
    kept = torch.load(tmp_path / spec.key / BEST, weights_only=True)
    assert TrialSpec.model_validate_json(kept["spec"]) == spec
    assert all(np.isfinite(value.numpy()).all() for value in kept["weights"].values())


def test_what_a_killed_driver_had_recorded_but_not_deleted_goes_unless_it_is_held(tmp_path: Path) -> None:
    done, held, other = (replace_seed(seed) for seed in (1, 2, 3))
    kept = tmp_path / done.key / BEST
    for spec in (done, held, other):
        cut_off(spec, tmp_path, 1)
        (tmp_path / spec.key / f"{LAST}.new").write_bytes(b"torn")
    kept.write_bytes(b"weights")
    with Checkpoint(tmp_path, held, SPLIT.fingerprint).held():
        tidy(tmp_path, [done.key, held.key])
    assert [path.name for path in kept.parent.iterdir()] == [BEST]
    assert all((tmp_path / spec.key / LAST).exists() for spec in (held, other))
    tidy(tmp_path, [done.key, held.key])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([done.key, other.key])
    tidy(tmp_path / "none", [done.key])


def replace_seed(seed: int) -> TrialSpec:
    return SPECS["bt_sr"].model_copy(update={"seed": seed})
