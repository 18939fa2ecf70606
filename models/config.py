"""Typed configuration of a model: frozen pydantic models, unknown fields refused, no torch imported."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

Precision = Literal["fp32", "bf16"]
"""Of the matrix products of the encoder's linear maps and of the full softmax: float32, or operands rounded to bfloat16
and float32 sums. Attention, the other losses and the auxiliary terms are float32 in both."""

ADDED: dict[str, JsonValue] = {"added": True}
"""Marks a field that came after results existed; see `Frozen.canonical`."""


class Frozen(BaseModel):
    """Base of every configuration: immutable, unknown fields refused, no NaN or infinity.

    A configuration inside another is checked again: `model_copy` and `model_construct` check nothing.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, revalidate_instances="always"
    )

    def canonical(self) -> dict[str, Any]:
        """This configuration as plain JSON values, the form that is hashed into a trial's key.

        A field added after results exist is declared with ``json_schema_extra={"added": True}`` and is left
        out while it has its default, so that the keys of stored trials stay what they are.
        """
        out: dict[str, Any] = {}
        defaults = self._defaults()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("added") and value == defaults[name]:
                continue
            out[name] = value.canonical() if isinstance(value, Frozen) else value
        return out

    def _not_default(self) -> list[str]:
        """Fields that differ from their defaults."""
        return [name for name, value in self._defaults().items() if getattr(self, name) != value]

    @classmethod
    @cache
    def _defaults(cls) -> dict[str, Any]:
        return {name: field.get_default(call_default_factory=True) for name, field in cls.model_fields.items()}

    def _check_used(self, kind: str, uses: Mapping[str, tuple[str, ...]]) -> None:
        """Raise ValueError where a field is set that this kind would ignore, naming the kinds that use it."""
        for name in self._not_default():
            if name != "kind" and name not in uses[kind]:
                fitting = [other for other, fields in uses.items() if name in fields]
                raise ValueError(f"{name} has no effect with kind='{kind}': drop it, or use {' or '.join(fitting)}")


class EncoderConfig(Frozen):
    """The SASRec encoder (spec section 1)."""

    kind: Literal["sasrec"] = "sasrec"
    dim: Annotated[int, Field(ge=2, description="embedding width D")] = 64
    blocks: Annotated[int, Field(ge=1, description="number of blocks L")] = 2
    heads: Annotated[int, Field(ge=1, description="attention heads; divides dim")] = 1
    max_len: Annotated[int, Field(ge=1, description="longest input T; older items are cut off")] = 50
    dropout: Annotated[float, Field(ge=0, le=0.999, description="dropout p, everywhere in the encoder")] = 0.2
    mask_pad_keys: Annotated[
        bool, Field(description="leave the reference's padded keys out of attention (spec 1.2)")
    ] = False
    rank_non_items: Annotated[
        bool,
        Field(
            description="two rows of the item table that are no items are in the full softmax and take places in the "
            "ranking, as in the reference (spec 1.7, C1)",
            json_schema_extra=ADDED,
        ),
    ] = False
    norm: Annotated[
        Literal["reference", "pre", "post"],
        Field(description="where the layer norms stand (spec 1.2)", json_schema_extra=ADDED),
    ] = "reference"
    inner_dim: Annotated[
        int | None, Field(ge=1, description="inner width of the feed-forward; None: D", json_schema_extra=ADDED)
    ] = None
    activation: Annotated[
        Literal["relu", "gelu"], Field(description="of the feed-forward", json_schema_extra=ADDED)
    ] = "relu"
    init: Annotated[
        Literal["xavier", "normal"],
        Field(description="xavier-uniform (spec 1.3), or normal(0, 0.02) with zero biases", json_schema_extra=ADDED),
    ] = "xavier"

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dim={self.dim}: choose a divisor")
        if self.inner_dim == self.dim:
            raise ValueError(f"inner_dim={self.inner_dim} is what None means with dim={self.dim}: leave it out")
        return self


LOSS_USES: Mapping[str, tuple[str, ...]] = {
    "ce": (),
    "bce": ("negatives", "bce_reduction"),
    "gbce": ("negatives", "bce_reduction", "gbce_t"),
    "ce_sampled": ("negatives",),
    "sce": ("sce_buckets", "sce_b_x", "sce_b_y", "sce_mix_x"),
}
"""Which fields of `LossConfig` each loss reads."""

LOSS_NEEDS: Mapping[str, tuple[str, ...]] = {
    "bce": ("negatives",),
    "gbce": ("negatives", "gbce_t"),
    "ce_sampled": ("negatives",),
    "sce": ("sce_b_y",),
}
"""Which of them have no default that would do."""


class LossConfig(Frozen):
    """The prediction loss (spec section 2)."""

    kind: Literal["ce", "bce", "gbce", "ce_sampled", "sce"] = "ce"
    negatives: Annotated[
        int | None, Field(ge=1, description="k negatives per position (bce, gbce) or user", json_schema_extra=ADDED)
    ] = None
    bce_reduction: Annotated[
        Literal["joint", "halves"],
        Field(
            description="joint: mean over the 1+k terms of a position; halves: positive plus mean of the negatives",
            json_schema_extra=ADDED,
        ),
    ] = "joint"
    gbce_t: Annotated[
        float | None, Field(ge=0, le=1, description="calibration t of gBCE; 0 is BCE", json_schema_extra=ADDED)
    ] = None
    sce_buckets: Annotated[
        int | None, Field(ge=1, description="SCE buckets n_b; None: by formula", json_schema_extra=ADDED)
    ] = None
    sce_b_x: Annotated[
        int | None,
        Field(ge=1, description="SCE positions per bucket; None: as many as buckets", json_schema_extra=ADDED),
    ] = None
    sce_b_y: Annotated[int | None, Field(ge=1, description="SCE items per bucket", json_schema_extra=ADDED)] = None
    sce_mix_x: Annotated[
        bool, Field(description="SCE centres are random mixtures of the outputs", json_schema_extra=ADDED)
    ] = False

    @model_validator(mode="after")
    def _settings_fit_the_kind(self) -> Self:
        self._check_used(self.kind, LOSS_USES)
        for name in LOSS_NEEDS.get(self.kind, ()):
            if getattr(self, name) is None:
                what = type(self).model_fields[name].description
                raise ValueError(f"kind='{self.kind}' needs {name} ({what}): give it a value")
        return self

    @property
    def reduction(self) -> str:
        """How the loss is reduced to one number, in words: alpha only compares between equal reductions."""
        each = {
            "ce": "-log softmax over all items",
            "bce": "binary terms",
            "gbce": "binary terms, the positive one weighted by beta",
            "ce_sampled": "-log softmax over 1+k items",
            "sce": "largest bucket loss",
        }[self.kind]
        if self.kind in {"bce", "gbce"}:
            each += ", mean of 1+k" if self.bce_reduction == "joint" else ", positive plus mean of k"
        return f"mean over {'selected ' if self.kind == 'sce' else ''}positions of {each}"


_PARTNERS = ("partner_pool",)
_OPERATORS = ("crop_eta", "mask_gamma", "reorder_beta")
_NCE = ("alpha", "tau", "similarity")

AUX_USES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "barlow_twins": (
        "alpha",
        "lam",
        "bt_reduction",
        "bt_std",
        "bt_view",
        "no_partner",
        "extra_dropout_view",
        "projector_layers",
        "projector_dim",
        "substitute_p",
        *_PARTNERS,
        *_OPERATORS,
    ),
    "cl4srec": (*_NCE, *_OPERATORS),
    "duorec": (*_NCE, *_PARTNERS),
    "duorec_released": _NCE,
    "ec4srec": (
        *_NCE,
        "importance",
        "explain",
        "explain_start",
        "explain_every",
        "r_plus",
        "r_minus",
        "tau_negative",
        "negative_weight",
        "supervised_weight",
    ),
}
"""Which fields of `AuxConfig` each auxiliary term reads."""

VIEW_USES: Mapping[str, tuple[str, ...]] = {
    "supervised": ("no_partner", *_PARTNERS),
    "mask": ("mask_gamma",),
    "crop": ("crop_eta",),
    "reorder": ("reorder_beta",),
    "substitute": ("substitute_p",),
    "dropout": (),
}
"""Which fields each second view of the Barlow Twins term reads."""

NEGATIVE_USES: tuple[str, ...] = ("r_minus", "tau_negative")
"""Which fields L_cl- of EC4SRec alone reads."""


class AuxConfig(Frozen):
    """The auxiliary term: ``loss = prediction + alpha * auxiliary`` (spec sections 3 to 5)."""

    kind: Literal["none", "barlow_twins", "cl4srec", "duorec", "duorec_released", "ec4srec"] = "none"
    alpha: Annotated[float, Field(ge=0, description="weight of the auxiliary term")] = 0.0
    lam: Annotated[float, Field(ge=0, description="weight of the off-diagonal part, lambda in the paper")] = 0.0
    bt_reduction: Annotated[
        Literal["mean_d", "sum"], Field(description="divide both parts by D (the released program) or not (eq. 7)")
    ] = "mean_d"
    bt_std: Annotated[
        Literal["population", "unbiased"],
        Field(description="Pearson correlation, or the released program's unbiased std with division by B"),
    ] = "population"
    no_partner: Annotated[
        Literal["self", "drop"],
        Field(description="an anchor without a same-target partner: pair with itself, or drop"),
    ] = "self"
    partner_pool: Annotated[
        Literal["final", "prefix"],
        Field(description="partners end with the same final item, or any prefix does", json_schema_extra=ADDED),
    ] = "final"
    bt_view: Annotated[
        Literal["supervised", "mask", "crop", "reorder", "substitute", "dropout"],
        Field(description="second view of the Barlow Twins term (spec 5)", json_schema_extra=ADDED),
    ] = "supervised"
    extra_dropout_view: Annotated[
        bool, Field(description="add a second Barlow Twins term, anchor to its dropout copy", json_schema_extra=ADDED)
    ] = False
    projector_layers: Annotated[
        int, Field(ge=0, description="linear layers of the projector, 0: none", json_schema_extra=ADDED)
    ] = 0
    projector_dim: Annotated[
        int | None, Field(ge=2, description="width P of the projector", json_schema_extra=ADDED)
    ] = None
    tau: Annotated[float, Field(gt=0, description="temperature of InfoNCE", json_schema_extra=ADDED)] = 1.0
    similarity: Annotated[
        Literal["dot", "cosine"], Field(description="similarity in InfoNCE", json_schema_extra=ADDED)
    ] = "dot"
    crop_eta: Annotated[float, Field(gt=0, lt=1, description="share that crop keeps", json_schema_extra=ADDED)] = 0.6
    mask_gamma: Annotated[float, Field(gt=0, lt=1, description="share that mask hides", json_schema_extra=ADDED)] = 0.3
    reorder_beta: Annotated[
        float, Field(gt=0, lt=1, description="share that reorder shuffles", json_schema_extra=ADDED)
    ] = 0.6
    substitute_p: Annotated[
        float, Field(gt=0, le=1, description="chance that an item is substituted", json_schema_extra=ADDED)
    ] = 0.3
    importance: Annotated[
        Literal["saliency", "occlusion"], Field(description="EC4SRec's measure", json_schema_extra=ADDED)
    ] = "saliency"
    explain: Annotated[
        Literal["label", "predicted"],
        Field(description="the score explained: of the next item, or the largest", json_schema_extra=ADDED),
    ] = "label"
    explain_start: Annotated[
        int, Field(ge=1, description="first epoch with explanations; the term is off before", json_schema_extra=ADDED)
    ] = 15
    explain_every: Annotated[int, Field(ge=1, description="epochs between explanations", json_schema_extra=ADDED)] = 15
    r_plus: Annotated[float, Field(gt=0, lt=1, description="share kept by positive views", json_schema_extra=ADDED)] = (
        0.3
    )
    r_minus: Annotated[
        float, Field(gt=0, lt=1, description="share kept by negative views", json_schema_extra=ADDED)
    ] = 0.7
    tau_negative: Annotated[
        float, Field(gt=0, description="temperature of the negative term", json_schema_extra=ADDED)
    ] = 0.1
    negative_weight: Annotated[
        float, Field(ge=0, description="weight of L_cl- relative to L_cl+", json_schema_extra=ADDED)
    ] = 0.5
    supervised_weight: Annotated[
        float, Field(ge=0, description="weight of L_sl+ relative to L_cl+", json_schema_extra=ADDED)
    ] = 1.0

    @model_validator(mode="after")
    def _settings_fit_the_kind(self) -> Self:
        if self.kind == "none":
            idle = self._not_default()
            if idle:
                raise ValueError(
                    f"{', '.join(idle)} set without an auxiliary term: use kind='barlow_twins' or drop the setting"
                )
        self._check_used(self.kind, AUX_USES)
        if self.kind == "barlow_twins":
            self._check_view()
        idle = [name for name in self._not_default() if name in NEGATIVE_USES]
        if not self.negative_weight and idle:
            raise ValueError(f"{' and '.join(idle)} has no effect with negative_weight=0: drop it or give a weight")
        return self

    @property
    def counts(self) -> bool:
        """Whether the term is part of the loss; with alpha = 0 it is not, and nothing extra is drawn."""
        return self.kind != "none" and self.alpha > 0

    @property
    def masks(self) -> bool:
        """Whether its views have the mask item in them."""
        by_kind = self.kind in {"cl4srec", "ec4srec"} or (self.kind == "barlow_twins" and self.bt_view == "mask")
        return by_kind and self.counts

    @property
    def differ_by_dropout(self) -> bool:
        """Whether two of its views are one sequence, so that nothing but dropout makes them differ."""
        by_kind = self.kind == "duorec_released" or self.bt_view == "dropout" or self.extra_dropout_view
        return by_kind and self.counts

    @property
    def first_epoch(self) -> int:
        """The epoch from which the term is on."""
        return self.explain_start if self.kind == "ec4srec" and self.counts else 1

    def _check_view(self) -> None:
        every = {name for fields in VIEW_USES.values() for name in fields}
        for name in self._not_default():
            if name in every and name not in VIEW_USES[self.bt_view]:
                raise ValueError(f"{name} has no effect with bt_view='{self.bt_view}': drop it or change bt_view")
        if self.bt_view == "dropout" and self.extra_dropout_view:
            raise ValueError("extra_dropout_view repeats bt_view='dropout': drop one of the two")
        if (self.projector_layers > 0) != (self.projector_dim is not None):
            raise ValueError("projector_layers and projector_dim belong together: set both or neither")
