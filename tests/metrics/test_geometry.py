"""Geometry and separation against the numbers of spec 6.5, 6.6 and 6.7, and against scipy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from harness import sample as module
from harness.geometry import (
    GEOMETRY,
    alignment,
    alignment_ref,
    densities,
    effective_rank,
    geometry,
    overlap_hist,
    overlap_kde,
    same_target,
    singular_values,
    uniformity,
    uniformity_ref,
)
from harness.sample import chosen_negatives, chosen_users, sample_of
from models.config import EncoderConfig
from models.sasrec import SASRec
from tests.splits import markov_split

POSITIVE, NEGATIVE = np.array([2, 2.5, 3, 4]), np.array([-1, 0, 0.5, 1, 2.2])
Z, OTHER = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([[0.5, 0.5], [0, 2], [1, -1]])
CPU = torch.device("cpu")


def test_effective_rank() -> None:
    assert effective_rank(np.array([3.0, 1])) == pytest.approx(1.754765, abs=1e-6)
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert effective_rank(np.array([3.0, 1, 0, 0])) == pytest.approx(1.754765, abs=1e-6)
    assert effective_rank(np.zeros(3)) == 0


def test_singular_values_uncentred_and_centred() -> None:
    states = np.array([[1.0, 0, 5], [0, 2, 5], [-1, 0, 5], [0, -2, 5]])
    assert singular_values(states) == pytest.approx([10, np.sqrt(8), np.sqrt(2)])
    assert singular_values(states, centred=True) == pytest.approx([np.sqrt(8), np.sqrt(2), 0], abs=1e-12)


def test_overlap() -> None:
    assert overlap_kde(POSITIVE, NEGATIVE) == pytest.approx(0.366859, abs=1e-6)
    assert overlap_hist(POSITIVE, NEGATIVE, bins=5) == pytest.approx(0.2)
    assert overlap_hist(POSITIVE, POSITIVE) == 1.0
    assert overlap_kde(POSITIVE, POSITIVE) == pytest.approx(1.0)
    assert overlap_kde(np.array([1.0, 1]), NEGATIVE) is None
    assert overlap_hist(np.array([]), NEGATIVE) is None and overlap_hist(np.ones(2), np.ones(3)) is None


def test_densities_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(2, 1, 300), rng.normal(0, 2, 5000)
    found = densities(positive, negative)
    assert found is not None
    assert found.positive == pytest.approx(gaussian_kde(positive)(found.grid), rel=1e-9, abs=1e-12)
    assert found.negative == pytest.approx(gaussian_kde(negative)(found.grid), rel=1e-9, abs=1e-12)


def test_densities_beyond_the_scores_run_out() -> None:
    """Of a set whose scores end abruptly, too."""
    rng = np.random.default_rng(0)
    positive, negative = rng.uniform(1, 2, 300), rng.normal(0, 0.3, 5000)
    cut, whole = densities(positive, negative), densities(positive, negative, beyond=3)
    assert cut is not None and whole is not None
    assert cut.positive[-1] > 0.3 * cut.positive.max() and cut.grid[-1] == positive.max()
    for density in (whole.positive, whole.negative):
        assert max(density[0], density[-1]) < 0.005 * density.max()
        assert np.trapezoid(density, whole.grid) == pytest.approx(1, abs=0.003)


def test_alignment_and_uniformity() -> None:
    assert alignment_ref(Z, OTHER) == pytest.approx(1.235702, abs=1e-6)
    assert uniformity_ref(Z) == pytest.approx(-2.207953, abs=1e-6)
    assert alignment(Z, OTHER) == pytest.approx(0.861929, abs=1e-6)
    assert uniformity(Z) == pytest.approx(-1.547913, abs=1e-6)
    assert np.isfinite(uniformity_ref(1e4 * Z))


def test_pairs_share_their_target() -> None:
    first, second = same_target(np.array([7, 3, 7, 5, 7, 3]))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(1, 5), (5, 1), (0, 2), (2, 4), (4, 0)]
    assert len(same_target(np.array([1, 2]))[0]) == 0


def test_users_and_negatives_follow_from_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    split = markov_split()
    users = chosen_users(split, 10)
    assert len(set(users.tolist())) == 10 and (np.diff(users) > 0).all()
    assert (users == chosen_users(split, 10)).all()
    assert (users != chosen_users(replace(split, fingerprint="1" * 32), 10)).any()
    monkeypatch.setattr(module, "NEGATIVES", 9)
    negatives = chosen_negatives(split, users)
    assert negatives.shape == (10, 9)
    for user, items in zip(users, negatives, strict=True):
        known = split.test_items[split.test_offsets[user] : split.test_offsets[user + 1]]
        assert len(set(items.tolist())) == 9 and not set(items.tolist()) & set(known.tolist())
    monkeypatch.setattr(module, "NEGATIVES", 300)
    assert chosen_negatives(split, users).shape[1] == 40 - max(np.diff(split.test_offsets)[users])


def test_a_sample_is_what_the_model_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    split = markov_split()
    monkeypatch.setattr(module, "MOST_USERS", 12)
    model = SASRec(EncoderConfig(dim=8, max_len=5), split.n_items, torch.Generator().manual_seed(0))
    found = sample_of(model, split, device=CPU)
    from tests.models.padded import padded_forward

    every = []
    for user in range(split.n_test_users):
        seen = split.test_items[split.test_offsets[user] : split.test_offsets[user + 1] - 1]
        with torch.no_grad():
            every.append(padded_forward(model, [seen[-5:].tolist()])[0, -1].numpy())
    states = np.stack(every)
    table = model.table.detach().numpy()
    assert found.states == pytest.approx(states[found.users], rel=2e-3, abs=2e-3)
    targets = split.targets("test")
    assert found.positive == pytest.approx((states * table[targets]).sum(1)[found.users], rel=1e-4, abs=1e-5)
    items = chosen_negatives(split, found.users.astype(np.int64))
    expected = np.einsum("sd,smd->sm", states[found.users], table[items])
    assert found.negative == pytest.approx(expected, rel=2e-3, abs=2e-3)
    assert found.spectrum == pytest.approx(singular_values(states), rel=1e-4, abs=1e-4)
    assert found.spectrum_centred == pytest.approx(singular_values(states, centred=True), rel=1e-4, abs=1e-4)
    values = {m.name: m.value for m in geometry(found, targets)}
    assert tuple(values) == GEOMETRY
    assert values["erank"] == pytest.approx(effective_rank(singular_values(states)), rel=1e-4)
    assert values["overlap_hist"] == overlap_hist(found.positive, found.negative)
    alike = len(set(targets[found.users].tolist())) < len(found.users)
    absent = set() if alike else {"alignment", "alignment_ref"}
    assert {name for name, value in values.items() if value is None} == absent
    assert len(values) == 8
