"""Ranks and top lists against brute force."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import evaluate as module
from harness.errors import TrialError
from harness.evaluate import best_items, evaluate, target_ranks
from models.config import EncoderConfig
from models.sasrec import SASRec
from tests.splits import markov_split

CPU = torch.device("cpu")


def test_ranks_and_lists_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.5, 0.9, -torch.inf], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert target_ranks(scores, torch.tensor([2, 3])).tolist() == [4, 4]
    assert target_ranks(scores, torch.tensor([4, 0])).tolist() == [0, 1]
    assert best_items(scores, 3).tolist() == [[1, 3, 0], [0, 1, 2]]
    assert best_items(scores, 5).tolist() == [[1, 3, 0, 2, -1], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("seed", range(5))
def test_lists_equal_a_stable_sort_even_with_many_ties(seed: int) -> None:
    scores = torch.randint(0, 6, (40, 30), generator=torch.Generator().manual_seed(seed)).float()
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :7]
    assert (best_items(scores, 7) == expected).all()
    targets = torch.randint(0, 30, (40,), generator=torch.Generator().manual_seed(seed + 100))
    order = np.argsort(-scores.numpy(), axis=1, kind="stable")
    assert target_ranks(scores, targets).tolist() == (1 + (order == targets.numpy()[:, None]).argmax(1)).tolist()


@pytest.mark.parametrize("part", ["valid", "test"])
def test_whole_evaluation_equals_brute_force(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORE_ELEMENTS", 40 * 7)  # several batches
    split = markov_split()
    model = SASRec(EncoderConfig(dim=8, max_len=5), split.n_items, torch.Generator().manual_seed(0))
    ranks = evaluate(model, split, part, device=CPU)
    from tests.models.padded import padded_forward

    for user in range(split.n_test_users):
        rows = split.test_items[split.test_offsets[user] : split.test_offsets[user + 1]]
        seen, target = (rows[:-1], rows[-1]) if part == "test" else (rows[:-2], rows[-2])
        with torch.no_grad():
            scores = (padded_forward(model, [seen[-5:].tolist()])[0, -1] @ model.table[: split.n_items].T).numpy()
        scores[seen] = -np.inf
        order = np.argsort(-scores, kind="stable")
        assert ranks.rank[user] == 1 + int(np.flatnonzero(order == target)[0])
        unseen = split.n_items - len(set(seen.tolist()))
        assert ranks.top[user, :10].tolist() == order[:10].tolist()
        assert (ranks.top[user] >= 0).sum() == unseen


def test_rows_that_are_no_items_take_places_only_where_it_is_asked_for() -> None:
    """The reference's ranking: one of the two is the best of all for everybody, the other the worst."""
    split = markov_split()
    config = EncoderConfig(dim=8, max_len=5, rank_non_items=True)
    model = SASRec(config, split.n_items, torch.Generator().manual_seed(0))
    assert model.table.shape[0] == model.n_scored == split.n_items + 2
    with torch.no_grad():  # the last norm's bias gives every state a part along the first axis
        model.norm_last.weight[0], model.norm_last.bias[0] = 0.0, 1.0
        model.table[split.n_items], model.table[split.n_items + 1] = 0.0, 0.0
        model.table[split.n_items :, 0] = torch.tensor([-100.0, 100.0])
    plain = SASRec(config.model_copy(update={"rank_non_items": False}), split.n_items, torch.Generator().manual_seed(0))
    plain.load_state_dict({**model.state_dict(), "table": model.table[:-1]})
    with_rows, without = (evaluate(each, split, "test", device=CPU) for each in (model, plain))
    assert (with_rows.rank == without.rank + 1).all()
    assert (with_rows.top[:, 0] == -1).all() and (with_rows.top[:, 1:] == without.top[:, :-1]).all()


def test_a_repeated_target_can_never_be_hit() -> None:
    split = markov_split()
    items = split.test_items.copy()
    items[split.test_offsets[1] - 1] = items[0]
    model = SASRec(EncoderConfig(dim=8, max_len=5), split.n_items, torch.Generator().manual_seed(0))
    ranks = evaluate(model, replace(split, test_items=items), "test", device=CPU)
    assert ranks.rank[0] == 0 and (ranks.rank[1:] > 0).all()
    assert items[0] not in ranks.top[0]


def test_scores_that_are_no_numbers_are_an_error() -> None:
    split = markov_split()
    model = SASRec(EncoderConfig(dim=8, max_len=5), split.n_items, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.table[3, 0] = torch.nan
    with pytest.raises(TrialError, match="item table holds NaN"):
        evaluate(model, split, "test", device=CPU)
