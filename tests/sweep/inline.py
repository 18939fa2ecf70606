"""An executor without workers."""

from harness.executors import Driver, RunContext, TrialStarted, Work, attempt
from harness.values import EpochEvent, Outcome, TrialPruned


class FakeExecutor:
    """Runs a given function in this very process, one trial after the other."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def run(self, driver: Driver, context: RunContext) -> None:
        """See `Executor.run`."""
        while task := driver.take():
            driver.heard(TrialStarted(key=task.spec.key))
            steps, logs = attempt(self._work, task.spec, context), []
            outcome: Outcome | None = None
            while outcome is None:
                try:
                    logs.append(next(steps))
                except StopIteration as end:
                    outcome = end.value
                else:
                    if not driver.heard(EpochEvent(key=task.spec.key, log=logs[-1])):
                        steps.close()
                        outcome = TrialPruned(spec=task.spec, epochs=tuple(logs))
            assert outcome is not None
            driver.heard(outcome)
