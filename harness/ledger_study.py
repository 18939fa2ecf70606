"""One Optuna study of a sweep: its trials as they stand, and what the dashboard shows of it.

Whoever calls turns errors of the database into ours: see `Ledger`.
"""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from harness import ledger_page
from harness.config import SearchSpace, TrialSpec
from harness.ledger_page import Facts
from harness.ledger_storage import distributions, is_of_another_space, params_of, pruner, sampler, study_name
from harness.options import Prune, Search
from harness.values import EpochLog, Outcome, TrialFailure

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.trial import FrozenTrial


@dataclass(kw_only=True)
class Page:
    """One Optuna study, opened by `page_of`."""

    name: str
    search: Search
    space: SearchSpace | None
    """Whose points it holds; None for a grid."""
    storage: Any
    study: "OptunaStudy"
    study_id: int
    trials: dict[str, int] = field(default_factory=dict)
    """Key -> Optuna's trial id, of those waiting or running."""
    done: dict[str, Facts] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    """Key -> waiting, running, done, pruned or failed."""
    changed: bool = False
    """Whether there is anything to show that was not shown before this sweep."""
    dressed_at: float = 0.0
    drawn_at: float = field(default_factory=time.monotonic)

    def clean(self) -> set[str]:
        """Fail what stood as running, and what waits twice or in vain; returns the keys that are shown as ended."""
        from optuna.trial import TrialState

        there: set[str] = set()
        for trial in self.storage.get_all_trials(self.study_id, deepcopy=False):
            key = trial.user_attrs.get("key")
            if trial.state in {TrialState.COMPLETE, TrialState.PRUNED}:
                there.add(key)
                continue
            if trial.state == TrialState.FAIL:
                continue
            trial_id = self._id_of(trial.number)
            waits = trial.state == TrialState.WAITING
            if waits and self.status.get(key) == "waiting" and key not in self.trials:
                self.trials[key] = trial_id
            else:
                why = "not to be run: it has ended, waits twice, or is not asked for" if waits else "its driver ended"
                self._fail(trial_id, why)
        return there

    def add_waiting(self, spec: TrialSpec) -> None:
        """A trial that is to run."""
        self.trials[spec.key] = self.storage.create_new_trial(self.study_id, self._frozen(spec, "WAITING"))
        self.status[spec.key] = "waiting"

    def add_ended(self, spec: TrialSpec, epochs: Sequence[EpochLog]) -> None:
        """A trial that ended in another sweep: as `done` has it, otherwise given up."""
        found = self.done.get(spec.key)
        trial = self._frozen(spec, "COMPLETE" if found else "PRUNED", found, ledger_page.curve(epochs))
        self.storage.create_new_trial(self.study_id, trial)

    def stand(self, key: str, status: Literal["waiting", "running"]) -> None:
        """Show a trial that has not ended as this."""
        self._set_state(self.trials[key], status.upper())
        self.status[key] = status

    def propose(self, space: SearchSpace) -> TrialSpec | None:
        """A new point of its space, which waits from now on.

        None where the sampler chose one that is known, or that no trial can have: heads that do not divide the width.
        """
        self.study.sampler = sampler(self.search, seed=len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask(distributions(space))
        trial_id = self._id_of(trial.number)
        try:
            spec = space.at(trial.params)
        except ValueError as error:
            self._fail(trial_id, " ".join(str(error).split()))
            return None
        if spec.key in self.status:
            self._fail(trial_id, "proposed before")
            return None
        self._describe(trial_id, ledger_page.labels(spec))
        self.trials[spec.key], self.status[spec.key] = trial_id, "waiting"
        return spec

    def report(self, key: str, epoch: int, value: float, prune: Prune | None) -> bool:
        """Add a point to the learning curve; returns whether the trial is worth going on with."""
        trial_id = self.trials[key]
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        return prune is None or not pruner(prune).prune(self.study, self.storage.get_trial(trial_id))

    def end(self, outcome: Outcome, found: Facts | None) -> None:
        """Show how a trial ended; `found` is of a finished one."""
        key, values, attributes = outcome.spec.key, None, {}
        if found:
            self.done[key], self.status[key], state = found, "done", "COMPLETE"
            values, attributes = self._values(found), dict(found.attributes)
        elif isinstance(outcome, TrialFailure):
            self.status[key], state = "failed", "FAIL"
            attributes = {"error": outcome.error, "last epoch": outcome.last_epoch}
        else:
            self.status[key], state = "pruned", "PRUNED"
        trial_id = self.trials.pop(key)
        self._describe(trial_id, attributes)
        self._set_state(trial_id, state, values)

    def dress(self, title: str, command: str) -> None:
        """Make the note and the heat map anew."""
        from optuna_dashboard import save_note, save_plotly_graph_object

        done, counts = tuple(self.done.values()), Counter(self.status.values())
        save_note(self.study, ledger_page.note(title, self.name, done, counts, command, space=self.space))
        figure = ledger_page.heat_map(done)
        if figure is not None:
            drawn: Any = SimpleNamespace(to_json=lambda: figure)
            save_plotly_graph_object(self.study, drawn, graph_object_id="alpha_lambda")

    def _frozen(
        self, spec: TrialSpec, state: str, found: Facts | None = None, curve: Mapping[int, float] | None = None
    ) -> "FrozenTrial":
        import optuna

        params, ranges = params_of(spec, self.space)
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState[state],
            values=self._values(found) if found else None,
            params=params,
            distributions=ranges,
            user_attrs=ledger_page.labels(spec) | dict(found.attributes if found else {}),
            intermediate_values={} if self.search == "nsga2" else dict(curve or {}),
        )
        if found:
            trial.datetime_start = datetime.fromisoformat(found.started).astimezone().replace(tzinfo=None)
            trial.datetime_complete = trial.datetime_start + timedelta(seconds=found.seconds)
        return trial

    def _values(self, found: Facts) -> list[float]:
        return [found.ndcg, found.cov] if self.search == "nsga2" else [found.ndcg]

    def _id_of(self, number: int) -> int:
        trial_id: int = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        return trial_id

    def _describe(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            self.storage.set_trial_user_attr(trial_id, name, value)

    def _set_state(self, trial_id: int, state: str, values: Sequence[float] | None = None) -> None:
        from optuna.trial import TrialState

        self.storage.set_trial_state_values(trial_id, TrialState[state], values)

    def _fail(self, trial_id: int, why: str) -> None:
        self._describe(trial_id, {"error": why})
        self._set_state(trial_id, "FAIL")


def page_of(
    storage: Any, sweep: str, place: str, keys: Collection[str], *, search: Search, space: SearchSpace | None
) -> Page:
    """The study of a place, for trials with these keys; made where it is not there, or is of another space."""
    import optuna

    name = study_name(storage, sweep, place, space)
    if space and is_of_another_space(storage, name, keys):
        optuna.delete_study(study_name=name, storage=storage)
    names = ["valid NDCG@10", "valid cov@10"][: 2 if search == "nsga2" else 1]
    study = optuna.create_study(
        study_name=name, storage=storage, directions=["maximize"] * len(names), load_if_exists=True
    )
    study_id = storage.get_study_id_from_name(name)
    if study.metric_names != names:
        study.set_metric_names(names)
    return Page(name=name, search=search, space=space, storage=storage, study=study, study_id=study_id)
