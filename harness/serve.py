"""From a kept checkpoint to the best items for given histories, and which trial of a study to use.

Scoring is that of the evaluation (`harness.evaluate`): the test inputs of evaluated users give the stored lists.
"""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from harness.checkpoint import BEST, read
from harness.config import Profile, TrialSpec
from harness.device import current, device_of, full_float32
from harness.errors import ConfigError, DataError, StoreError, unknown_name
from harness.evaluate import best_items, scored
from harness.histories import Recommended
from harness.options import WINNERS, is_search, said
from harness.paths import RunPaths
from harness.prepare import prepare, prepared_as
from harness.rules import DIVERSITY, PRECISION, PRESETS, Metric, pareto, pick, rule_of, same_seeds
from harness.store import Store, open_store
from harness.stored import TrialRow
from harness.values import Split
from models.packed import on_device
from models.sasrec import SASRec, rows_beyond_items
from studies import STUDIES

_SHOWN = 3
"""Unknown items that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The trial that a mode chooses in a study."""

    row: TrialRow
    """Of the setting's seeds the best on validation, among those whose weights were kept if there are any."""
    settings: int
    """How many were compared."""
    seeds: tuple[int, ...]
    """On which."""
    valid: Mapping[Metric, float]
    """Mean validation value of the setting by metric."""
    passed_over: int
    """Seeds that are better, but whose weights were not kept."""


def choose_trial(
    store: Store,
    study: str,
    *,
    mode: str = "precise",
    dataset: str | None = None,
    profile: Profile | None = None,
    method: str | None = None,
    kept: Collection[str] = (),
) -> Choice:
    """The setting on the Pareto front of validation ndcg@10 and cov@10 that the mode's rule picks, and its best seed.

    kept: keys of trials whose weights there are; where the setting has such seeds, the best of them. Test numbers take
    no part. Raises ConfigError where the study leaves the data set, its version or the profile open, does not know the
    data set or method, or has nothing finished that fits.
    """
    if mode not in PRESETS:
        raise ConfigError(f"mode '{mode}' is not known: use {', '.join(PRESETS)}")
    specs = store.study(study).specs
    for kind, name, there in (
        ("data set of this study", dataset, {spec.data.dataset for spec in specs}),
        ("method of this study", method, {spec.method for spec in specs}),
    ):
        if name is not None and name not in there:
            raise unknown_name(kind, name, there)
    rows = store.trials(study=study, dataset=dataset, profile=profile, method=method)
    if not rows:
        wanted = ", ".join(word for word in (dataset, profile, method) if word) or "any data set"
        raise ConfigError(f"study {study} in {store.shown} has no finished trial of {wanted}: run btsr-sweep first")
    _only(study, "data sets", "--dataset", [row.spec.data.dataset for row in rows])
    _only(study, "profiles", "--profile", [row.spec.profile for row in rows])
    _only(study, "versions of its data", "--trial KEY", [str(row.fingerprint)[:8] for row in rows])
    groups: dict[str, dict[int, TrialRow]] = {}
    for row in rows:
        groups.setdefault(row.group, {})[row.spec.seed] = row
    ordered = [groups[name] for name in sorted(groups)]
    places, seeds = same_seeds([tuple(runs) for runs in ordered])
    settings = [ordered[i] for i in places]
    reader = store.validation()

    def valid(metric: Metric) -> NDArray[np.float64]:
        values = [[reader.value(runs[seed].key, *metric) for seed in seeds] for runs in settings]
        means: NDArray[np.float64] = np.asarray(values, np.float64).mean(axis=1)
        return means

    front = np.array(pareto(valid(PRECISION), valid(DIVERSITY)))
    place = int(front[pick(rule_of(mode), lambda metric: valid(metric)[front], rows[0].spec.data.dataset)])
    chosen = settings[place]
    ranked = sorted((chosen[seed] for seed in seeds), key=lambda row: -reader.value(row.key, *PRECISION))
    better = next((better for better, row in enumerate(ranked) if row.key in kept), 0)
    return Choice(
        row=ranked[better],
        settings=len(settings),
        seeds=seeds,
        valid={metric: float(valid(metric)[place]) for metric in (PRECISION, DIVERSITY)},
        passed_over=better,
    )


def _only(study: str, what: str, option: str, found: Sequence[str]) -> None:
    names = sorted(set(found))
    if len(names) > 1:
        raise ConfigError(f"study {study} has {len(names)} {what} ({', '.join(names)}): choose one with {option}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A trained model and its catalogue."""

    model: SASRec
    item_ids: tuple[str, ...]
    """[N] raw ids."""
    device: torch.device

    def recommend(
        self, histories: Mapping[str, Sequence[str]], *, k: int = 10, skip_unknown: bool = False
    ) -> tuple[Recommended, ...]:
        """The best k unseen items of every user, best first; fewer where fewer are left.

        Histories are oldest first. Raises ConfigError for a K that the catalogue does not have, DataError for no
        histories, an empty one, ids that are no text, and for unknown items, which `skip_unknown` leaves out (with
        users that have no other).
        """
        n_items = len(self.item_ids)
        if not 1 <= k <= n_items:
            raise ConfigError(f"K = {k}, but the catalogue of this model has {n_items} items: use 1 to {n_items}")
        if not histories:
            raise DataError("there are no histories to recommend for: give at least one user with an item")
        for user, items in histories.items():
            if isinstance(items, str) or not all(isinstance(item, str) for item in items):
                raise DataError(
                    f"the history of user '{user}' is no sequence of texts ({items!r:.60}): ids are text, ['16']"
                )
        empty = next((user for user, items in histories.items() if not len(items)), None)
        if empty is not None:
            raise DataError(f"the history of user '{empty}' is empty: give at least one item, or leave the user out")
        index = {name: i for i, name in enumerate(self.item_ids)}
        unknown = list(dict.fromkeys(item for items in histories.values() for item in items if item not in index))
        if unknown and not skip_unknown:
            rows = sum(item not in index for items in histories.values() for item in items)
            named = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
            raise DataError(
                f"{rows} rows of the histories have items that the model was not trained on ({len(unknown)}: {named}): "
                "check the ids, or leave them out with --skip-unknown"
            )
        coded = {user: [index[item] for item in items if item in index] for user, items in histories.items()}
        users = [user for user, items in coded.items() if items]
        if not users:
            raise DataError("no history has an item that the model was trained on: check the ids")
        flat = np.concatenate([coded[user] for user in users]).astype(np.int32)
        ends = np.cumsum([len(coded[user]) for user in users]).astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        top = np.empty((len(users), k), np.int32)
        score = np.empty((len(users), k), np.float32)
        with current(self.device), full_float32(self.device):
            for some in scored(self.model, flat, starts, ends, device=self.device, what="recommending"):
                best = best_items(some.scores, k)
                top[some.users] = best
                (place,) = on_device([np.maximum(best, 0).astype(np.int64)], self.device)
                score[some.users] = some.scores.gather(1, place).cpu().numpy()
        return tuple(
            Recommended(user=user, rank=rank, item=self.item_ids[item], score=float(value))
            for user, items, values in zip(users, top.tolist(), score.tolist(), strict=True)
            for rank, (item, value) in enumerate(zip(items, values, strict=True), start=1)
            if item >= 0
        )


def full_key(paths: RunPaths, start: str) -> str:
    """The kept checkpoint whose key begins so. Raises ConfigError where there is none, or several."""
    if not start or set(start) - set("0123456789abcdef"):
        raise ConfigError(
            f"'{start}' begins no key of a trial: give its first digits (0-9, a-f), see btsr-report --why"
        )
    found = sorted(path.parent.name for path in paths.checkpoints.glob(f"{start}*/{BEST}"))
    if len(found) == 1 or start in found:
        return start if start in found else found[0]
    if found:
        raise ConfigError(f"{len(found)} kept checkpoints in {paths.checkpoints} begin with '{start}': type more of it")
    raise ConfigError(
        f"{paths.checkpoints} has no kept checkpoint of trial '{start}': run its sweep with --keep-checkpoints --only "
        "KEY into a new folder by --out, then name that folder here"
    )


def kept_keys(paths: RunPaths) -> frozenset[str]:
    """Trials whose weights were kept."""
    return frozenset(path.parent.name for path in paths.checkpoints.glob(f"*/{BEST}"))


def without_checkpoint(row: TrialRow, study: str, paths: RunPaths, command: str) -> ConfigError:
    """The error for a trial whose weights were not kept, with the command that keeps them.

    command: what was typed when it ran, which names the file of a study of the user's own.
    """
    if study.endswith(WINNERS):
        return ConfigError(
            f"the weights of trial {row.key} were not kept, and what is done is not run again: repeat the search and "
            "its winners with --keep-checkpoints in another folder by --out"
        )
    data = ["--dataset", row.spec.data.dataset]
    if is_search(study):
        place = ["--out", str(paths.work_dir), *(["--db", str(paths.database)] if paths.database else [])]
        words = ["btsr-sweep", "--winners-of", study, *data, "--methods", row.spec.method, "--keep-checkpoints", *place]
        then = ["btsr-recommend", "--study", f"{study}{WINNERS}", *place]
        return ConfigError(
            f"the weights of trial {row.key} were not kept, and a search does not repeat its points: run "
            f"`{shlex.join(words)}`, which trains the method's winner with other seeds, then `{shlex.join(then)}`"
        )
    name = study if study in STUDIES else said(command, "--study") or study
    words = ["btsr-sweep", "--study", name, *data, "--profile", row.spec.profile]
    words += ["--only", row.key, "--keep-checkpoints", "--out", str(paths.work_dir / "kept")]
    return ConfigError(
        f"the weights of trial {row.key} were not kept: run `{shlex.join(words)}` (with the options of the sweep), "
        f"then btsr-recommend --trial {row.key} --out {paths.work_dir / 'kept'}"
    )


def load_model(key: str, paths: RunPaths, *, device: str = "cpu") -> Served:
    """The kept weights of a trial, on its data as prepared below `paths`, for which the raw file is not needed.

    Raises ConfigError where none were kept, StoreError for a damaged file and for another trial's, DataError where the
    data here are others than those that the model was trained on.
    """
    where = device_of(device)
    path = paths.checkpoints / key / BEST
    if not path.is_file():
        full_key(paths, key)
    try:
        found = read(path, device) or {}
        identity, spec = json.loads(found["identity"]), TrialSpec.model_validate_json(found["spec"])
        trained, fingerprint = str(identity["key"]), str(identity["fingerprint"])
        weights = {name.removeprefix("model."): value for name, value in found["weights"].items()}
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}): keep it anew, see --keep-checkpoints") from error
    if trained != key:
        raise StoreError(f"{path} is the checkpoint of another trial ({trained}): keep its own, see --keep-checkpoints")
    split = prepared_as(fingerprint, paths) or prepare(spec.data, paths)
    n_items = int(weights["table"].shape[0]) - rows_beyond_items(spec.encoder)
    _check_catalogue(path, fingerprint, n_items, split)
    model = SASRec(spec.encoder, split.n_items, torch.Generator().manual_seed(0), spec.train.precision)
    model.load_state_dict({name: value for name, value in weights.items() if name in model.state_dict()})
    return Served(model=model.to(where), item_ids=tuple(split.item_ids.tolist()), device=where)


def _check_catalogue(path: Path, fingerprint: str, n_items: int, split: Split) -> None:
    if (fingerprint, n_items) != (split.fingerprint, split.n_items):
        raise DataError(
            f"{path} belongs to another catalogue: it was trained on data {fingerprint[:8]} with {n_items} items, "
            f"{split.config.dataset} here is data {split.fingerprint[:8]} with {split.n_items}: give the --data-dir it "
            "was trained from"
        )


def recommend(
    key: str,
    histories: Mapping[str, Sequence[str]],
    *,
    k: int = 10,
    paths: RunPaths | None = None,
    device: str = "cpu",
    skip_unknown: bool = False,
) -> tuple[Recommended, ...]:
    """The best k items for every history (raw ids, oldest first) from the kept checkpoint of a trial.

    `key` may be the beginning of one. Raises ConfigError for a key without kept weights or that several begin with, a
    device that cannot be used and a k beyond the catalogue; DataError for no histories, an empty one, unknown items
    (unless `skip_unknown`) and data other than the model was trained on; StoreError for a damaged checkpoint.
    """
    places = paths or RunPaths()
    served = load_model(full_key(places, key), places, device=device)
    return served.recommend(histories, k=k, skip_unknown=skip_unknown)


def open_results(paths: RunPaths) -> Store:
    """The results database of these paths, for reading."""
    return open_store(paths.results, read_only=True)
