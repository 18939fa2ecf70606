"""Typed configuration of a model: frozen pydantic models, unknown fields refused, no torch imported."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """Base of every configuration: immutable, unknown fields refused, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    def canonical(self) -> dict[str, Any]:
        """This configuration as plain JSON values, the form that is hashed into a trial's key.

        A field added after results exist is declared with ``json_schema_extra={"added": True}`` and is left
        out while it has its default, so that the keys of stored trials stay what they are.
        """
        out: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("added") and value == field.get_default(call_default_factory=True):
                continue
            out[name] = value.canonical() if isinstance(value, Frozen) else value
        return out


class EncoderConfig(Frozen):
    """The SASRec encoder (spec section 1)."""

    kind: Literal["sasrec"] = "sasrec"
    dim: Annotated[int, Field(ge=2, description="embedding width D")] = 64
    blocks: Annotated[int, Field(ge=1, description="number of blocks L")] = 2
    heads: Annotated[int, Field(ge=1, description="attention heads; divides dim")] = 1
    max_len: Annotated[int, Field(ge=1, description="longest input T; older items are cut off")] = 50
    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout p, everywhere in the encoder")] = 0.2
    mask_pad_keys: Annotated[
        bool, Field(description="leave the reference's padded keys out of attention (spec 1.2)")
    ] = False

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dim={self.dim}: choose a divisor")
        return self


class LossConfig(Frozen):
    """The prediction loss (spec section 2)."""

    kind: Literal["ce"] = "ce"


class AuxConfig(Frozen):
    """The auxiliary term: ``loss = prediction + alpha * auxiliary`` (spec section 3)."""

    kind: Literal["none", "barlow_twins"] = "none"
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

    @model_validator(mode="after")
    def _no_idle_settings(self) -> Self:
        if self.kind == "none":
            idle = [n for n, f in type(self).model_fields.items() if n != "kind" and getattr(self, n) != f.default]
            if idle:
                raise ValueError(
                    f"{', '.join(idle)} set without an auxiliary term: use kind='barlow_twins' or drop the setting"
                )
        return self
