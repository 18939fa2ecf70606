"""Which configurations a claim compares: those of BT-SR, and what they are held against under one protocol."""

from collections.abc import Collection, Sequence

from harness.config import TrialSpec
from harness.rules import family
from reports.effects import switches
from reports.groups import Group, choose, replicated
from reports.plans import BASE_LOSSES, TABLE2, ColumnPlan
from reports.results import Evidence

Protocol = tuple[int, bool, bool, str]


def protocol(spec: TrialSpec) -> Protocol:
    """What no two methods that are compared should differ in: T, padded keys, ranked rows, precision."""
    encoder = spec.encoder
    return encoder.max_len, encoder.mask_pad_keys, encoder.rank_non_items, spec.train.precision


def under(groups: Sequence[Group], allowed: Collection[Protocol]) -> tuple[Group, ...]:
    """Those under one of these protocols; all where none is named."""
    return tuple(group for group in groups if not allowed or protocol(group.spec) in allowed)


def beside_the_term(base: Group, ours: Group, name: str = "it") -> str:
    """In what else than the auxiliary term a configuration is unlike its base, which is called by `name`, in words;
    empty if in nothing."""
    other = [found.words for found in switches(base.spec, ours.spec) if not found.setting.startswith("aux.")]
    return f"; unlike {name} also in {', '.join(other)}" if other else ""


class Opponents:
    """Chooses on validation, each configuration once."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._chosen: dict[tuple[str, ColumnPlan, Protocol | None], Group | None] = {}

    def chosen(self, dataset: str, column: ColumnPlan, beside: Group | None = None) -> Group | None:
        """The column's configuration: best on validation of those with most seeds, because a grid of one seed, in which
        the best is easily the luckiest, could decide nothing.

        It is one of this study where it has any, under the protocol of the group that it stands `beside` if one is;
        else one that any other study ran on the same data under that protocol (alone, under one of this study's own).
        """
        like = None if beside is None else protocol(beside.spec)
        place = dataset, column, like
        if place not in self._chosen:
            groups = self._candidates(dataset, column, like)
            validation = self._evidence.store.validation()
            self._chosen[place] = choose(replicated(groups), validation).group if groups else None
        return self._chosen[place]

    def _candidates(self, dataset: str, column: ColumnPlan, like: Protocol | None) -> Sequence[Group]:
        wanted = set() if like is None else {like}
        if own := under(self._evidence.groups(dataset, column.fits), wanted):
            return own
        here = {protocol(group.spec) for group in self._evidence.groups(dataset, lambda _: True)}
        return under(self._evidence.elsewhere(dataset, column.fits), wanted or here)

    def base(self, dataset: str, ours: Group) -> Group | None:
        """BT-SR's configuration without its term: alpha = 0 and all else equal where this study has it, else SASRec
        with that loss."""
        same = family(ours.spec)
        zero = self._evidence.groups(dataset, lambda spec: spec.aux.alpha == 0 and family(spec) == same)
        if zero:
            return max(zero, key=lambda group: len(group.runs))
        loss = ours.spec.loss.kind
        return self.chosen(dataset, TABLE2.column(f"sasrec_{loss}"), ours) if loss in BASE_LOSSES else None
