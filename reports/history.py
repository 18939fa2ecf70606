"""What a database knows of commands that were typed before: study files of the user's own, and how data were read."""

from collections.abc import Collection, Sequence

from harness.config import DataConfig, Profile, TrialSpec
from harness.options import said
from harness.store import Store
from reports.commands import DATA_HABITS, habits, hears_seeds
from studies import STUDIES


def file_command(store: Store, study: str, like: Collection[DataConfig]) -> str:
    """The latest command that ran trials of a study and named a file of the user's own, of those on data `like` these
    where there are any; empty where none did."""
    rows = sorted(store.trials(study=study), key=lambda row: (row.spec.data in like, row.recorded_at), reverse=True)
    for row in rows:
        command = store.provenance(row.key).command
        named = said(command, "--study")
        if named and named not in STUDIES:
            return command
    return ""


def trials_on(store: Store, datasets: Sequence[str], profile: Profile | None) -> tuple[TrialSpec, ...]:
    """Trials of any study that have ended on these data sets."""
    ended = store.trials(profile=profile, status=None)
    return tuple(row.spec for row in ended if row.spec.data.dataset in datasets)


def as_others(store: Store, study: str, profile: Profile, datasets: Sequence[str]) -> list[str]:
    """Seeds and epochs as the first study that was asked for on these data sets has them, where this one hears them."""
    for name in store.studies():
        asked = [s for s in store.study(name).specs if s.data.dataset in datasets and s.profile == profile]
        if found := habits(name, profile, asked):
            return [
                word
                for option, words in found.items()
                if option not in {*DATA_HABITS, "--reduced"}
                and (option != "--seeds" or hears_seeds(study, profile, datasets))
                for word in words
            ]
    return []
