"""Importance of items, EC4SRec's views, and partners drawn by explanation (spec 4.3)."""

import numpy as np
import pytest
import torch

from models.augment import Ragged
from models.explain import explained, importances, saliency
from models.packed import pack
from models.sasrec import SASRec
from models.views import MOST_CANDIDATES, PartnerPool, draw_by_explanation, utilities
from tests.models.padded import padded_forward
from tests.models.test_augment import MASK, lists, ragged, rng
from tests.models.test_sasrec import SEQUENCES, build, model_of

CPU = torch.device("cpu")
X = ragged(*SEQUENCES)
LABELS = np.array([1, 2, 3, 4, 5, 6], np.int32)


def measured(model: SASRec, x: Ragged, kind: str, explain: str) -> list[list[float]]:
    value = importances(model, x, LABELS, kind=kind, explain=explain, device=CPU)  # type: ignore[arg-type]
    return [part.tolist() for part in np.split(value, np.cumsum(x.lengths)[:-1])]


def score(model: SASRec, sequence: list[int], zeroed: int | None, label: int, explain: str) -> float:
    """By the padded reference, with the embedding of one place set to zero."""
    table = model.table.detach().clone()
    changed = list(sequence)
    if zeroed is not None:  # an item of its own that embeds to zero
        with torch.no_grad():
            model.table[11] = 0
        changed[zeroed] = 11
    hidden = padded_forward(model, [changed])[0, -1]
    with torch.no_grad():
        model.table.copy_(table)
    scores = table[: model.n_items] @ hidden
    return float(scores[label] if explain == "label" else scores.max())


@pytest.mark.parametrize("explain", ["label", "predicted"])
def test_occlusion_by_the_padded_reference(explain: str) -> None:
    model = model_of()
    sequences = [[i for i in s if i != 11] for s in SEQUENCES]
    x = ragged(*sequences)
    with torch.no_grad():
        got = measured(model, x, "occlusion", explain)
        for sequence, label, mine in zip(sequences, LABELS.tolist(), got, strict=True):
            whole = score(model, sequence, None, label, explain)
            raw = [whole - score(model, sequence, t, label, explain) for t in range(len(sequence))]
            assert mine == pytest.approx([a / sum(map(abs, raw)) for a in raw], abs=2e-4)


@pytest.mark.parametrize("explain", ["label", "predicted"])
def test_saliency_by_finite_differences(explain: str) -> None:
    """Of one place's embedding, an item of its own whose row of the table is moved."""
    model = model_of().double()
    sequence, label, step = [3, 0, 5, 2], 7, 1e-5

    def value() -> float:
        scores = model.table[: model.n_items] @ padded_forward(model, [sequence])[0, -1]
        return float(scores[label] if explain == "label" else scores[best])

    with torch.no_grad():
        plain = model.table[: model.n_items] @ padded_forward(model, [sequence])[0, -1]
        best = int(plain.argmax())
        raw = []
        for item in sequence:
            total = 0.0
            for d in range(8):
                kept = model.table[item, d].clone()
                ends = []
                for sign in (1, -1):
                    model.table[item, d] = kept + sign * step
                    mine = value()
                    fixed = best if explain == "predicted" else label
                    if fixed == item:  # the table's row also scores: take that part out
                        hidden = padded_forward(model, [sequence])[0, -1]
                        mine -= float(sign * step * hidden[d])
                    ends.append(mine)
                model.table[item, d] = kept
                total += abs(ends[0] - ends[1]) / (2 * step)
            raw.append(total)
    model.float()
    batch = build([sequence], 10)
    got = saliency(model, batch, torch.tensor([label]), explain).tolist()  # type: ignore[arg-type]
    scale = np.sqrt(model.config.dim)
    assert [g * scale for g in got] == pytest.approx(raw, rel=2e-3)


@pytest.mark.parametrize("kind", ["saliency", "occlusion"])
def test_importance_sums_to_one_whatever_the_chunks_and_leaves_no_gradient(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(dropout=0.5)
    once = measured(model, X, kind, "label")
    monkeypatch.setattr("models.explain.CHUNK_TOKENS", 7)
    again = measured(model, X, kind, "label")
    for one, two in zip(once, again, strict=True):
        assert one == pytest.approx(two, abs=1e-5) and sum(map(abs, one)) == pytest.approx(1, abs=1e-5)
    assert all(p.grad is None for p in model.parameters())


IMPORTANCE = np.array([0.5, 0.1, 0.4, 0.2, 0.9, 0.3, 0.8, 0.6, 0.7, 0.0, 1.0], np.float32)
TEN_AND_ONE = ragged(list(range(10)), [42])


def view(operation: str, share: float, seed: int = 0) -> list[list[int]]:
    made = explained(TEN_AND_ONE, IMPORTANCE, operation, share=share, mask_item=MASK, rng=rng(seed))
    return lists(made)


def test_positive_views_keep_what_matters() -> None:
    """Importance orders the places 9 1 3 5 2 0 7 8 6 4, least first; r+ = 0.3, so m+ = 7."""
    assert view("ecrop+", 0.3) == [[4, 6, 8], [42]]
    assert view("emask+", 0.3) == [[MASK, MASK, MASK, MASK, 4, MASK, 6, MASK, 8, MASK], [42]]
    made = view("erord+", 0.3)[0]
    assert made != list(range(10)) and sorted(made) == list(range(10)) and [made[i] for i in (4, 6, 8)] == [4, 6, 8]


def test_negative_views_keep_what_does_not_matter() -> None:
    """r- = 0.7, so m- = 3."""
    assert view("ecrop-", 0.7) == [[0, 1, 2, 3, 5, 7, 9], [42]]
    assert view("emask-", 0.7) == [[0, 1, 2, 3, MASK, 5, MASK, 7, MASK, 9], [42]]
    made = view("erord-", 0.7, seed=1)[0]
    assert {i for i in range(10) if made[i] != i} <= {4, 6, 8} and sorted(made) == list(range(10))


def test_short_sequences_keep_at_least_one_and_change_at_least_one() -> None:
    two = ragged([5, 6])
    for operation, expected in (("ecrop+", [6]), ("ecrop-", [5]), ("emask+", [MASK, 6]), ("emask-", [5, MASK])):
        made = explained(two, np.array([0.1, 0.9], np.float32), operation, share=0.4, mask_item=MASK, rng=rng())
        assert lists(made) == [expected]


def test_utility_by_hand() -> None:
    """Anchor 0 has items 1 2 3. Candidate 1 shares 2 and 3 (importance 0.2 + 0.5), candidate 2 nothing."""
    x = ragged([1, 2, 3], [2, 7, 3], [8, 9])
    importance = np.array([0, 0, 0, 0.2, 0.3, 0.5, 0.4, 0.6], np.float32)
    got = utilities(x, importance, np.array([0]), np.array([0, 0]), np.array([1, 2]), max_len=10)
    assert got.tolist() == pytest.approx([np.exp(0.7) * 2 / 10, 0.0])


def test_partners_are_drawn_by_the_softmax_of_utility() -> None:
    x = ragged([1, 2, 3], [2, 7, 3], [8, 9], [1])
    importance = np.array([0, 0, 0, 0.5, 0.0, 0.5, 0.4, 0.6, 1.0], np.float32)
    pool = PartnerPool(np.array([5, 5, 5, 6], np.int32))
    partners, real = draw_by_explanation(pool, x, importance, np.tile([0, 3], 20_000), rng(), max_len=2)
    assert real.tolist() == [True, False] * 20_000 and (partners[1::2] == 3).all()
    utility = np.exp(1.0) * 2 / 2
    share = np.exp(utility) / (np.exp(utility) + 1)
    assert abs((partners[::2] == 1).mean() - share) < 0.01 and set(partners[::2].tolist()) == {1, 2}


def test_candidates_are_all_others_or_a_uniform_part_of_them() -> None:
    pool = PartnerPool(np.array([5] * 4 + [6] + [7] * 100, np.int32))
    number, example = pool.candidates(np.array([2, 4, 50]), MOST_CANDIDATES, rng())
    assert example[number == 0].tolist() == [0, 1, 3] and not (number == 1).any()
    many = example[number == 2]
    assert len(set(many.tolist())) == len(many) == MOST_CANDIDATES and 50 not in many and many.min() >= 5
    counts = np.zeros(105)
    for seed in range(200):
        counts[pool.candidates(np.array([50]), 10, rng(seed))[1]] += 1
    assert counts[50] == 0 and counts[:5].sum() == 0 and counts.sum() == 2000 and counts.max() < 45


def test_packed_copies_have_room() -> None:
    """Occlusion of the longest sequence alone packs as many copies as it has items."""
    model = model_of()
    x = ragged(SEQUENCES[0])
    assert len(measured(model, x, "occlusion", "label")[0]) == len(SEQUENCES[0])
    assert pack(x.items, np.zeros(1, np.int64), x.lengths, max_len=10, device=CPU).count == 9
