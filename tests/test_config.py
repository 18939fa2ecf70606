"""Keys, refusals and round trips of the configuration."""

import json
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from harness.config import DataConfig, Study, TrialSpec
from harness.errors import ConfigError
from harness.fits import check_settings
from models.config import AuxConfig, EncoderConfig, Frozen

SPEC = TrialSpec(method="bt_sr", data=DataConfig(dataset="ml1m"), aux=AuxConfig(kind="barlow_twins", alpha=0.1, lam=1))
BT: dict[str, Any] = {"kind": "barlow_twins", "alpha": 0.1}


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    return [path]


OTHER: dict[str, Any] = {
    "filter": "one_pass",
    "tie": "random",
    "profile": "paper",
    "bt_reduction": "sum",
    "bt_std": "unbiased",
    "no_partner": "drop",
    "mask_pad_keys": True,
    "quantile": 0.9,
    "dropout": 0.3,
    "weight_decay": 0.1,
    "beta2": 0.9,
}
FIXED = {"encoder.kind", "loss.kind", "aux.kind"}  # the only choice so far, or contradicted by the other settings


@pytest.mark.parametrize("path", leaves(SPEC.canonical()), ids=".".join)
def test_every_field_changes_the_key(path: tuple[str, ...]) -> None:
    if ".".join(path) in FIXED:
        pytest.skip("the only value that fits the rest of this specification")
    changed = SPEC.model_dump()
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    old = inner[path[-1]]
    inner[path[-1]] = OTHER.get(path[-1], f"{old}x" if isinstance(old, str) else old * 2)
    assert inner[path[-1]] != old
    other = TrialSpec.model_validate(changed)
    assert other.key != SPEC.key
    assert (other.group == SPEC.group) == (path == ("seed",))


def test_json_round_trip_and_equal_floats_give_equal_keys() -> None:
    again = TrialSpec.model_validate_json(SPEC.model_dump_json())
    assert again == SPEC and again.key == SPEC.key
    assert TrialSpec.model_validate(json.loads(SPEC.canonical_json())).key == SPEC.key
    assert SPEC.aux.lam == 1.0 and '"lam":1.0' in SPEC.canonical_json()


def test_a_field_added_later_is_left_out_while_it_has_its_default() -> None:
    class Before(Frozen):
        a: int = 1

    class After(Before):
        b: Annotated[int, Field(json_schema_extra={"added": True})] = 2

    assert After().canonical() == Before().canonical() == {"a": 1}
    assert After(b=3).canonical() == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encodr": {}}, "Extra inputs"),
        ({"aux": {"kind": "none", "alpha": 0.1}}, "alpha set without an auxiliary term"),
        ({"aux": {"kind": "barlow_twins", "lam": -1}}, "greater than or equal to 0"),
        ({"aux": {"kind": "barlow_twins", "alpha": float("nan")}}, "finite number"),
        ({"train": {"batch_size": 1}}, "use at least 2"),
        ({"encoder": {"dim": 10, "heads": 4}}, "does not divide"),
        ({"data": {"dataset": "ml1m", "filter": "none"}}, "drops nothing"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialSpec.model_validate(SPEC.model_dump() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": {"rank_non_items": True}, "aux": {"kind": "duorec", "alpha": 0.1}},
        {"encoder": {"rank_non_items": True}, "aux": {"kind": "cl4srec", "alpha": 0.0}},
        {"encoder": {"dropout": 0}, "aux": BT},
        {"encoder": {"dropout": 0}, "aux": BT | {"bt_view": "mask"}},
    ],
    ids=str,
)
def test_what_is_no_contradiction_is_taken(change: dict[str, Any]) -> None:
    check_settings(TrialSpec.model_validate(SPEC.model_dump() | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": {"rank_non_items": True}, "aux": {"kind": "cl4srec", "alpha": 0.1}}, "would rank the mask item"),
        ({"encoder": {"rank_non_items": True}, "aux": {"kind": "ec4srec", "alpha": 0.1}}, "would rank the mask item"),
        ({"encoder": {"rank_non_items": True}, "aux": BT | {"bt_view": "mask"}}, "would rank the mask item"),
        (
            {"encoder": {"dropout": 0}, "aux": {"kind": "duorec_released", "alpha": 0.1}},
            "dropout=0 of .* makes two views",
        ),
        ({"encoder": {"dropout": 0}, "aux": BT | {"bt_view": "dropout"}}, "dropout=0 of .* makes two views"),
        ({"encoder": {"dropout": 0}, "aux": BT | {"extra_dropout_view": True}}, "dropout=0 of .* makes two views"),
    ],
)
def test_what_would_be_another_trial_is_not_run_but_can_be_read(change: dict[str, Any], message: str) -> None:
    stored = TrialSpec.model_validate(SPEC.model_dump() | change)
    with pytest.raises(ConfigError, match=message):
        check_settings(stored)


def test_configurations_are_immutable() -> None:
    with pytest.raises(ValidationError):
        EncoderConfig().dim = 3


def test_a_study_lists_no_trial_twice() -> None:
    with pytest.raises(ValidationError, match="twice"):
        Study(name="x", title="x", specs=(SPEC, SPEC.model_copy()))


def test_a_copy_with_other_values_has_its_own_key() -> None:
    spec = TrialSpec(method="sasrec_ce", data=DataConfig(dataset="ml1m"))
    before = spec.key, spec.group
    other = spec.model_copy(update={"seed": 7, "train": spec.train.model_copy(update={"lr": 0.5})})
    assert other.key != before[0] and other.group != before[1] and (spec.key, spec.group) == before
