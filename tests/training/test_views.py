"""What is drawn for a batch beside its sequences: negatives, partners, augmented and explained views."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.examples import Sequences, buckets_of
from harness.train import Trainer, train
from harness.views import PartnerExamples
from models.objective import Step
from tests.splits import markov_split

CPU = torch.device("cpu")
SPLIT = markov_split()
SPARSE = markov_split(n_items=90)


def spec_of(**changes: Any) -> TrialSpec:
    base: dict[str, Any] = {
        "method": "some",
        "data": SPLIT.config,
        "encoder": {"dim": 16, "max_len": 8, "dropout": 0.1},
        "train": {"batch_size": 32, "max_epochs": 3, "lr": 0.005},
        "seed": 7,
    }
    return TrialSpec.model_validate(base | changes)


def bt(**settings: Any) -> dict[str, Any]:
    return {"kind": "barlow_twins", "alpha": 0.3, "lam": 0.05} | settings


def ec(**settings: Any) -> dict[str, Any]:
    return {"kind": "ec4srec", "alpha": 0.1, "explain_start": 1} | settings


def steps_of(spec: TrialSpec, epoch: int = 1) -> list[Step]:
    torch.set_num_threads(1)
    return list(Trainer(spec, SPLIT, CPU).steps(epoch))


def sequences_of(step: Step, name: str) -> list[list[int]]:
    """The view's sequence of every anchor."""
    assert step.views is not None
    view = step.views.named[name]
    ends = (view.batch.last + 1).tolist()
    starts = [0, *ends[:-1]]
    all_of_it = [view.batch.items[a:b].tolist() for a, b in zip(starts, ends, strict=True)]
    return [all_of_it[row] for row in view.rows.tolist()]


def anchors_of(step: Step) -> list[tuple[list[int], int]]:
    """Input and final target of every anchor."""
    assert step.views is not None
    ends = (step.batch.last + 1).tolist()
    starts = [0, *ends[:-1]]
    pairs = [(step.batch.items[a:b].tolist(), int(step.targets[b - 1])) for a, b in zip(starts, ends, strict=True)]
    return [pairs[i] for i in step.views.anchors.tolist()]


def user_rows() -> list[list[int]]:
    return [part.tolist() for part in np.split(SPLIT.train_items, SPLIT.train_offsets[1:-1])]


def test_a_final_partner_is_a_training_input_with_the_same_target() -> None:
    inputs = {(tuple(rows[-9:-1]), rows[-1]) for rows in user_rows()}
    for step in steps_of(spec_of(aux=bt())):
        for (_, target), partner in zip(anchors_of(step), sequences_of(step, "partner"), strict=True):
            assert (tuple(partner), target) in inputs


def test_a_prefix_partner_is_any_input_that_leads_to_the_target() -> None:
    prefixes = {(tuple(rows[max(0, j - 8) : j]), rows[j]) for rows in user_rows() for j in range(1, len(rows))}
    finals = {(tuple(rows[-9:-1]), rows[-1]) for rows in user_rows()}
    elsewhere = 0
    for step in steps_of(spec_of(aux=bt(partner_pool="prefix"))):
        for (own, target), partner in zip(anchors_of(step), sequences_of(step, "partner"), strict=True):
            assert (tuple(partner), target) in prefixes and own != partner
            elsewhere += (tuple(partner), target) not in finals
    assert elsewhere > 50


def test_examples_of_the_prefix_pool_by_hand() -> None:
    sequences = Sequences(
        flat=np.array([1, 2, 3, 4, 9, 5, 6], np.int32),
        begins=np.array([0, 5]),
        starts=np.array([1, 5]),
        lengths=np.array([2, 1]),
    )
    prefix = PartnerExamples(sequences, "prefix", 2)
    inputs = [
        sequences.flat[a : a + n].tolist() for a, n in zip(prefix.starts.tolist(), prefix.lengths.tolist(), strict=True)
    ]
    assert inputs == [[1], [1, 2], [2, 3], [5]] and prefix.own.tolist() == [2, 3]
    assert PartnerExamples(sequences, "final", 2).own.tolist() == [0, 1]


def test_an_earlier_prefix_of_the_anchors_user_is_no_partner_of_barlow_twins() -> None:
    """The first user has item 3 three times, the second once, the third's target is alone. DuoRec takes any prefix."""
    sequences = Sequences(
        flat=np.array([3, 1, 3, 2, 3, 7, 3, 8, 9], np.int32),
        begins=np.array([0, 5, 7]),
        starts=np.array([0, 5, 7]),
        lengths=np.array([4, 1, 1]),
    )
    chosen = np.tile([0, 1, 2], 200)
    found = {}
    for strangers in (True, False):
        prefix = PartnerExamples(sequences, "prefix", 9, strangers=strangers)
        assert prefix.own.tolist() == [3, 4, 5]
        partners, real = prefix.pool.draw(prefix.own[chosen], np.random.default_rng(0))
        assert real.tolist() == [True, True, False] * 200 and (partners[2::3] == 5).all()
        found[strangers] = [set(partners[user::3].tolist()) for user in (0, 1)]
    assert found == {True: [{4}, {1, 3}], False: [{1, 4}, {1, 3}]}


def test_barlow_twins_alone_has_strangers_for_partners() -> None:
    repeats = replace(SPLIT, train_items=np.full_like(SPLIT.train_items, 5), train_offsets=np.array([0, 4, 8]))
    for kind, strangers in (("barlow_twins", True), ("duorec", False)):
        aux = {"kind": kind, "alpha": 0.1, "partner_pool": "prefix"}
        views = Trainer(spec_of(aux=aux, train={"batch_size": 2, "max_epochs": 1}), repeats, CPU).views
        assert views is not None and views.partners is not None
        drawn, _ = views.partners.pool.draw(np.full(100, views.partners.own[0]), np.random.default_rng(0))
        assert set(drawn.tolist()) == ({3, 4, 5} if strangers else {0, 1, 3, 4, 5})


@pytest.mark.parametrize("view", ["mask", "crop", "reorder", "substitute"])
def test_augmented_views_are_made_of_the_anchor(view: str) -> None:
    changed = 0
    for step in steps_of(spec_of(aux=bt(bt_view=view))):
        assert step.views is not None and list(step.views.named) == ["augmented"]
        for (own, _), made in zip(anchors_of(step), sequences_of(step, "augmented"), strict=True):
            changed += own != made
            if view == "mask":
                assert made.count(SPLIT.n_items) == int(0.3 * len(own) + 1e-9) and len(made) == len(own)
            elif view == "crop":
                assert len(made) == max(1, int(0.6 * len(own) + 1e-9)) and str(made)[1:-1] in str(own)
            elif view == "reorder":
                assert sorted(made) == sorted(own)
            else:
                assert len(made) == len(own) and max(made) < SPLIT.n_items
    assert changed > 50


def test_dropout_views_pack_nothing() -> None:
    for aux in (bt(bt_view="dropout"), {"kind": "duorec_released", "alpha": 0.1}):
        assert all(step.views is not None and not step.views.named for step in steps_of(spec_of(aux=aux)))


def test_cl4srec_applies_two_different_operators() -> None:
    def names(own: list[int], made: list[int]) -> set[str]:
        fitting = set()
        if len(made) == max(1, int(0.6 * len(own) + 1e-9)):
            fitting.add("crop")
        if made.count(SPLIT.n_items) == int(0.3 * len(own) + 1e-9) and len(made) == len(own):
            fitting.add("mask")
        if sorted(made) == sorted(own):
            fitting.add("reorder")
        return fitting

    for step in steps_of(spec_of(aux={"kind": "cl4srec", "alpha": 0.1})):
        views = zip(anchors_of(step), sequences_of(step, "first"), sequences_of(step, "second"), strict=True)
        for (own, _), first, second in views:
            one, two = names(own, first), names(own, second)
            assert one and two
            if len(own) >= 4:
                assert one.isdisjoint(two)


def test_ec4srec_makes_four_views_once_there_is_an_explanation() -> None:
    for step in steps_of(spec_of(aux=ec())):
        assert step.views is not None and set(step.views.named) == {"partner", "first", "second", "negative"}
        for (own, _), first in zip(anchors_of(step), sequences_of(step, "first"), strict=True):
            assert set(first) <= {*own, SPLIT.n_items}
    assert all(step.views is None for step in steps_of(spec_of(aux=ec(explain_start=2))))


def test_explanations_follow_the_schedule() -> None:
    trainer = Trainer(spec_of(aux=ec(explain_start=2, explain_every=3)), SPLIT, CPU)
    assert trainer.views is not None
    seen, last = [], None
    for epoch in range(1, 9):
        _, parts = trainer.run_epoch(epoch)
        assert ("contrast_positive" in parts) == (epoch >= 2)
        if trainer.views.importance is not last:
            seen.append(epoch)
        last = trainer.views.importance
    assert seen == [2, 5, 8]


def test_ec4srec_before_its_first_explanation_is_the_base_loss_bit_for_bit() -> None:
    train_config = {"batch_size": 32, "max_epochs": 9}
    base, late = (Trainer(spec_of(aux=aux, train=train_config), SPLIT, CPU) for aux in ({}, ec(explain_start=9)))
    for epoch in (1, 2):
        assert base.run_epoch(epoch)[0] == late.run_epoch(epoch)[0]
    assert torch.equal(base.objective.model.table, late.objective.model.table)


def test_patience_does_not_run_before_the_term_is_on() -> None:
    train_config = {"batch_size": 32, "max_epochs": 30, "patience": 2, "lr": 0.05}
    plain = train(spec_of(train=train_config), SPLIT, device=CPU)
    late = train(spec_of(train=train_config, aux=ec(explain_start=25)), SPLIT, device=CPU)
    assert len(plain.epochs) < 20 and len(late.epochs) >= 26


@pytest.mark.parametrize("kind", ["barlow_twins", "cl4srec", "duorec", "duorec_released", "ec4srec"])
@pytest.mark.parametrize("loss", [{}, {"kind": "bce", "negatives": 5}, {"kind": "sce", "sce_b_y": 10}], ids=str)
def test_alpha_zero_is_the_base_loss_bit_for_bit(kind: str, loss: dict[str, Any]) -> None:
    train_config = {"batch_size": 32, "max_epochs": 1}
    base, zero = (
        train(spec_of(loss=loss, aux=aux, train=train_config), SPLIT, device=CPU).objective.state_dict()
        for aux in ({}, {"kind": kind, "alpha": 0.0})
    )
    assert all(torch.equal(base[name], zero[name]) for name in base)


def test_alpha_zero_with_a_projector_too() -> None:
    aux = bt(alpha=0.0, projector_layers=2, projector_dim=8)
    base, zero = (Trainer(spec_of(aux=a), SPLIT, CPU) for a in ({}, aux))
    assert base.run_epoch(1)[0] == zero.run_epoch(1)[0]
    assert torch.equal(base.objective.model.table, zero.objective.model.table)


def test_dropped_anchors_leave_the_term() -> None:
    torch.set_num_threads(1)
    trainer = Trainer(spec_of(aux=bt(no_partner="drop"), train={"batch_size": 16, "max_epochs": 1}), SPARSE, CPU)
    counts = []
    for step in trainer.steps(1):
        if step.views is not None:
            counts.append(len(step.views.anchors))
            assert step.views.partner_share == counts[-1] / 16
    assert counts and min(counts) < 16


def test_the_share_of_partners_is_logged_where_all_anchors_are_dropped() -> None:
    alone = markov_split(n_items=3000, n_train=40, length=5)
    dropped = spec_of(aux=bt(no_partner="drop"))
    assert len(np.unique(Sequences.of(alone, 8).last_targets)) == 40, "no two share a target"
    loss, parts = Trainer(dropped, alone, CPU).run_epoch(1)
    assert parts["partner_share"] == 0 and "auxiliary" not in parts
    assert loss == Trainer(spec_of(), alone, CPU).run_epoch(1)[0]


def test_a_part_of_ec4srec_without_weight_draws_and_logs_nothing() -> None:
    for weight in (0.0, 0.5):
        aux = ec(supervised_weight=weight, explain_start=1)
        trainer = Trainer(spec_of(aux=aux, train={"batch_size": 16, "max_epochs": 1}), SPLIT, CPU)
        _, parts = trainer.run_epoch(1)
        assert "auxiliary" in parts and ("partner_share" in parts) == (weight > 0)


def test_a_single_training_user_has_nothing_to_compare() -> None:
    one = markov_split(n_train=1)
    assert Trainer(spec_of(), one, CPU).batch_size == 1
    assert Trainer(spec_of(aux=bt(alpha=0.0)), one, CPU).run_epoch(1)[1].keys() == {"prediction"}
    with pytest.raises(ConfigError, match="synthetic has 1 training user .*kind='barlow_twins' nothing to compare"):
        Trainer(spec_of(aux=bt()), one, CPU)


@pytest.mark.parametrize("kind", ["bce", "ce_sampled"])
def test_negatives_are_unseen(kind: str) -> None:
    trainer = Trainer(spec_of(loss={"kind": kind, "negatives": 6}), SPLIT, CPU)
    assert trainer.negatives is not None
    chosen, users = np.array([5, 0, 17]), user_rows()
    owner = chosen if kind == "ce_sampled" else np.repeat(chosen, trainer.sequences.lengths[chosen])
    drawn = trainer.negatives.of(chosen, np.random.default_rng(0))(0, len(owner))
    assert drawn.shape == (len(owner), 6)
    for user, row in zip(owner.tolist(), drawn.tolist(), strict=True):
        assert len(set(row)) == 6 and not set(row) & set(users[user])


@pytest.mark.parametrize("kind", ["bce", "ce_sampled", "gbce"])
def test_negatives_repeat_with_seed_and_epoch(kind: str) -> None:
    loss = {"kind": kind, "negatives": 6} | ({"gbce_t": 0.5} if kind == "gbce" else {})

    def drawn(epoch: int, seed: int) -> torch.Tensor:
        step = steps_of(spec_of(loss=loss, seed=seed), epoch)[0]
        assert step.negatives is not None
        return step.negatives(0, 10)

    assert torch.equal(drawn(1, 7), drawn(1, 7))
    assert not torch.equal(drawn(1, 7), drawn(2, 7)) and not torch.equal(drawn(1, 7), drawn(1, 8))


def test_more_negatives_than_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="negatives=40, but synthetic has 40 items after filtering: choose fewer"):
        Trainer(spec_of(loss={"kind": "bce", "negatives": 40}), SPLIT, CPU)


def test_a_term_that_begins_after_the_last_epoch_is_refused() -> None:
    """Anywhere, not by the command line alone: EC4SRec would be SASRec."""
    with pytest.raises(ConfigError, match="ec4srec term of some on synthetic begins with epoch 4, but its trials end"):
        Trainer(spec_of(aux=ec(explain_start=4)), SPLIT, CPU)
    assert Trainer(spec_of(aux=ec(explain_start=3)), SPLIT, CPU).views is not None


def test_bucket_sizes_by_formula_and_by_hand() -> None:
    mean = len(SPLIT.train_items) / SPLIT.n_train_users
    assert mean > 4
    formula = buckets_of(spec_of(loss={"kind": "sce", "sce_b_y": 9}), SPLIT, 32)
    assert formula is not None and formula.count == formula.b_x == int(2 * (32 * min(mean, 8)) ** 0.5)
    capped = spec_of(encoder={"dim": 16, "max_len": 4}, loss={"kind": "sce", "sce_b_y": 9})
    some = buckets_of(capped, SPLIT, 32)
    assert some is not None and some.count == int(2 * (32 * 4) ** 0.5)
    own = buckets_of(spec_of(loss={"kind": "sce", "sce_b_y": 9, "sce_buckets": 3, "sce_b_x": 5}), SPLIT, 32)
    assert own is not None and (own.count, own.b_x, own.b_y) == (3, 5, 9)
    assert buckets_of(spec_of(), SPLIT, 32) is None


def test_the_log_names_the_parts() -> None:
    _, parts = Trainer(spec_of(aux=bt(extra_dropout_view=True)), SPLIT, CPU).run_epoch(1)
    assert {"prediction", "auxiliary", "on_diagonal", "off_diagonal", "clamped_dims", "partner_share"} <= set(parts)
    assert {"extra_view", "extra_clamped_dims"} <= set(parts)
    _, parts = Trainer(spec_of(loss={"kind": "sce", "sce_b_y": 9}), SPLIT, CPU).run_epoch(1)
    assert 0 < parts["sce_selected"] <= 1 and parts["sce_buckets"] == int(parts["sce_buckets"]) > 1


@pytest.mark.parametrize("aux", [bt(), bt(extra_dropout_view=True), ec(), {"kind": "duorec", "alpha": 0.4}], ids=str)
def test_the_loss_is_the_prediction_plus_alpha_times_the_term(aux: dict[str, Any]) -> None:
    loss, parts = Trainer(spec_of(aux=aux), SPLIT, CPU).run_epoch(1)
    assert loss == pytest.approx(parts["prediction"] + aux["alpha"] * parts["auxiliary"], rel=1e-5)
    if aux["kind"] == "ec4srec":
        named = (parts[f"contrast_{name}"] for name in ("positive", "negative", "supervised"))
        assert parts["auxiliary"] == pytest.approx(np.dot(list(named), [1, 0.5, 1]), rel=1e-5)
