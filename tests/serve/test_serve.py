"""Using a kept model: the same lists as the evaluation's, the choice on validation, formats, and what is refused."""

import json
import shutil
from collections.abc import Callable, Generator
from itertools import product
from pathlib import Path
from typing import cast

import pandas as pd
import pytest
import torch

from harness.checkpoint import BEST, Checkpoint
from harness.config import SEEDS, DataConfig, Study, TrainConfig, TrialSpec
from harness.data.synthetic import generate
from harness.errors import BtsrError, ConfigError, DataError, StoreError
from harness.evaluate import evaluate
from harness.histories import Recommended, read_histories, write_recommendations
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.rules import PRESETS
from harness.serve import choose_trial, kept_keys, load_model, recommend, without_checkpoint
from harness.serve_cli import app, main
from harness.store import open_store
from harness.trial import trial_steps
from harness.values import EpochLog, Split, TrialResult
from models.config import AuxConfig, EncoderConfig
from models.sasrec import NON_ITEMS
from studies.profiles import varied
from tests.store import fake

KIND = AuxConfig(kind="barlow_twins", alpha=0.1, lam=0.05)


def spec(alpha: float = 0.1, seed: int = 1235) -> TrialSpec:
    return TrialSpec(
        method="bt_sr",
        data=DataConfig(dataset="synthetic"),
        encoder=EncoderConfig(dim=8, max_len=10),
        train=TrainConfig(batch_size=64, max_epochs=1),
        aux=KIND.model_copy(update={"alpha": alpha}),
        seed=seed,
    )


def ended(steps: Generator[EpochLog, None, TrialResult]) -> TrialResult:
    """What a trial comes to."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: TrialResult = end.value
        return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunPaths, Split]:
    """Two settings, the weights of the one kept."""
    paths = RunPaths(work_dir=tmp_path_factory.mktemp("runs"))
    split = prepare(spec().data, paths)
    with open_store(paths.work_dir / "btsr.db", create=True) as store:
        store.register_study(Study(name="tiny", title="Tiny", specs=(spec(), spec(0.4))))
        store.record_data(split)
        for one, keep in ((spec(), True), (spec(0.4), False)):
            store.record(ended(trial_steps(one, split, checkpoints=paths.checkpoints, keep_best=keep)))
    return paths, split


def inputs(split: Split) -> dict[str, list[str]]:
    """Test inputs of the evaluated users, as raw ids."""
    pairs = zip(split.test_offsets[:-1], split.test_offsets[1:] - 1, strict=True)
    rows = [split.item_ids[split.test_items[a:b]].tolist() for a, b in pairs]
    return dict(zip(split.user_ids.tolist(), rows, strict=True))


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["btsr-recommend", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
        raise SystemExit(0)
    return int(stop.value.code or 0)


def test_test_inputs_give_the_stored_lists_exactly(trained: tuple[RunPaths, Split]) -> None:
    paths, split = trained
    k = min(50, split.n_items)
    found = recommend(spec().key, inputs(split), k=k, paths=paths)
    with open_store(paths.work_dir / "btsr.db", read_only=True) as store:
        top = store.ranks(spec().key, "test").top
    index = {name: i for i, name in enumerate(split.item_ids.tolist())}
    lists: dict[str, list[int]] = {user: [] for user in split.user_ids.tolist()}
    for row in found:
        lists[row.user].append(index[row.item])
        assert row.rank == len(lists[row.user])
    assert [mine + [-1] * (k - len(mine)) for mine in lists.values()] == top.tolist()
    assert all(a.score >= b.score for a, b in zip(found, found[1:], strict=False) if a.user == b.user)


def test_a_model_trained_in_bf16_is_served_in_bf16(tmp_path: Path) -> None:
    """In float32 most of these lists would be in another order than the evaluation's."""
    mine = varied(spec(), encoder={"dim": 32}, train={"precision": "bf16"})
    paths = RunPaths(work_dir=tmp_path)
    split = prepare(mine.data, paths)
    result = ended(trial_steps(mine, split, checkpoints=paths.checkpoints, keep_best=True))
    lists: dict[str, list[str]] = {user: [] for user in split.user_ids.tolist()}
    for row in load_model(mine.key, paths).recommend(inputs(split), k=result.test.top.shape[1]):
        lists[row.user].append(row.item)
    assert list(lists.values()) == [split.item_ids[row[row >= 0]].tolist() for row in result.test.top]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_file_that_cannot_be_whole_is_not_begun(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: pd.DataFrame, path: Path, **options: object) -> None:
        path.write_text("user,ra")
        raise OSError(28, "No space left on device")

    for name in ("to_csv", "to_parquet", "to_json"):
        monkeypatch.setattr(pd.DataFrame, name, full)
    target = tmp_path / f"top{suffix}"
    target.write_text("the last answer")
    with pytest.raises(DataError, match="No space left on device"):
        write_recommendations(target, [Recommended(user="u", rank=1, item="i", score=0.5)])
    assert [path.name for path in tmp_path.iterdir()] == [target.name] and target.read_text() == "the last answer"


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_files_in_and_out(
    suffix: str, trained: tuple[RunPaths, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, split = trained
    wanted = dict(list(inputs(split).items())[:3])
    rows = [(user, item, i) for user, items in wanted.items() for i, item in enumerate(items)]
    frame = pd.DataFrame(rows[::-1], columns=["user", "item", "timestamp"])  # newest first: times decide
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda path: frame.to_csv(path, index=False),
        ".parquet": lambda path: frame.to_parquet(path),
        ".jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
    }
    writers[suffix](source)
    words = ("--trial", spec().key[:10], "--histories", source, "--output", target, "--out", paths.work_dir)
    assert run(monkeypatch, *words, "--k", 4) == 0
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": lambda path: pd.read_csv(path, dtype={"user": str, "item": str}),
        ".parquet": pd.read_parquet,
        ".jsonl": lambda path: pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()]),
    }
    got = readers[suffix](target)
    assert list(got.columns) == ["user", "rank", "item", "score"]
    expected = recommend(spec().key, dict(reversed(wanted.items())), k=4, paths=paths)
    assert [tuple(row) for row in got[["user", "rank", "item"]].itertuples(index=False)] == [
        (row.user, row.rank, row.item) for row in expected
    ]
    assert got["score"].to_numpy() == pytest.approx([row.score for row in expected])


def test_a_model_that_ranks_rows_that_are_no_items_recommends_items_alone(tmp_path: Path) -> None:
    """Its lists are those of its evaluation without the places (-1) that no item takes."""
    mine = varied(spec(), encoder={"rank_non_items": True})
    paths = RunPaths(work_dir=tmp_path)
    split = prepare(mine.data, paths)
    for _ in trial_steps(mine, split, checkpoints=paths.checkpoints, keep_best=True):
        pass
    served = load_model(mine.key, paths)
    model = served.model
    assert model.table.shape[0] == split.n_items + NON_ITEMS
    with torch.no_grad():
        favourite = evaluate(model, split, "test", device=served.device).top[0, 0]
        model.table[split.n_items :] = 1.01 * model.table[favourite]
    top = evaluate(model, split, "test", device=served.device).top
    assert (top[:, :10] == -1).any(), "they take places"
    found = served.recommend(inputs(split), k=10)
    index = {name: i for i, name in enumerate(split.item_ids.tolist())}
    for user, places in zip(split.user_ids.tolist(), top, strict=True):
        assert [index[row.item] for row in found if row.user == user] == places[places >= 0][:10].tolist()


def test_ids_are_text_and_times_may_be_dates(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("timestamp,user,item\n2024-03-01,01,NA\n2023-03-01,01,007\n2025-01-01T10:00:00Z,1,5\n")
    assert read_histories(path) == {"01": ("007", "NA"), "1": ("5",)}
    (tmp_path / "in.jsonl").write_text('{"user": 1, "item": 2}\n\n{"user": 1, "item": "b"}\n')
    assert read_histories(tmp_path / "in.jsonl") == {"1": ("2", "b")}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "user,thing\n1,2\n", "has no column item .it has: user, thing"),
        ("a.csv", "user,item\n", "has no rows"),
        ("a.jsonl", "", "has no rows"),
        ("a.csv", "user,item\n1,2\n1,\n", "row 2 has no item"),
        ("a.csv", "user,item\nann,16,5\n", "rows have more fields than its header"),
        ("a.jsonl", '{"user": "1", "item": "2"}\n{"item": "2"}\n', "row 2 has no user"),
        ("a.csv", "user,item,timestamp\n1,2,then\n", "row 1: timestamp 'then' is neither"),
        ("a.jsonl", "[1, 2]\n", "a line is no object"),
        ("a.jsonl", "{", "cannot be read as jsonl"),
        ("a.parquet", "nothing", "cannot be read as parquet"),
        ("a.txt", "", "must end in .csv, .parquet, .jsonl"),
    ],
)
def test_bad_files_are_named(name: str, content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BtsrError, match=says) as caught:
        read_histories(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_rows_of_parquet_are_taken_in_the_order_of_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["b", "a", "b", "a"], "item": ["1", "2", "3", "4"]})
    turned = frame.iloc[::-1]
    for kept in (turned, turned.set_index("user"), turned.set_index("user", drop=False)):
        kept.to_parquet(tmp_path / "in.parquet")
        assert list(read_histories(tmp_path / "in.parquet").items()) == [("a", ("4", "2")), ("b", ("3", "1"))]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file .*a.csv"):
        read_histories(tmp_path / "a.csv")


def test_impossible_requests(trained: tuple[RunPaths, Split]) -> None:
    paths, split = trained
    key, item = spec().key, str(split.item_ids[0])
    with pytest.raises(ConfigError, match=rf"K = {split.n_items + 1}, but the catalogue .* has {split.n_items} items"):
        recommend(key, {"u": [item]}, k=split.n_items + 1, paths=paths)
    assert len(recommend(key, {"u": [item, item]}, k=split.n_items, paths=paths)) == split.n_items - 1
    with pytest.raises(DataError, match="the history of user 'v' is empty"):
        recommend(key, {"u": [item], "v": []}, paths=paths)
    with pytest.raises(DataError, match="no histories"):
        recommend(key, {}, paths=paths)
    with pytest.raises(DataError, match=r"3 rows of the histories .*\(2: nosuch, other\).*--skip-unknown"):
        recommend(key, {"u": [item, "nosuch", "nosuch"], "v": ["other"]}, paths=paths)
    skipped = recommend(key, {"u": [item, "nosuch"], "v": ["other"]}, paths=paths, skip_unknown=True)
    assert skipped == recommend(key, {"u": [item]}, paths=paths)
    with pytest.raises(DataError, match="no history has an item"):
        recommend(key, {"v": ["other"]}, paths=paths, skip_unknown=True)
    with pytest.raises(ConfigError, match="no kept checkpoint of trial 'ffff'.*--keep-checkpoints"):
        recommend("ffff", {"u": [item]}, paths=paths)
    with pytest.raises(ConfigError, match="device 'nosuch' cannot be used"):
        recommend(key, {"u": [item]}, paths=paths, device="nosuch")
    for history in (item, [1, 2], [item, None]):
        with pytest.raises(DataError, match="the history of user 'u' is no sequence of texts .*: ids are text"):
            recommend(key, {"u": cast(list[str], history)}, paths=paths)


def test_other_catalogue_and_damage(trained: tuple[RunPaths, Split], tmp_path: Path) -> None:
    paths, split = trained
    weights = torch.load(paths.checkpoints / spec().key / BEST, weights_only=True)["weights"]
    mine = RunPaths(work_dir=tmp_path)
    other = Checkpoint(mine.checkpoints, spec(), "f" * 32)
    other.folder.mkdir(parents=True)
    other.keep_best(weights)
    with pytest.raises(DataError, match=f"another catalogue: .*data ffffffff.*data {split.fingerprint[:8]}"):
        recommend(spec().key, {"u": ["1"]}, paths=mine)
    stranger = mine.checkpoints / spec(0.4).key
    stranger.mkdir()
    shutil.copy(paths.checkpoints / spec().key / BEST, stranger)
    with pytest.raises(StoreError, match=f"is the checkpoint of another trial .{spec().key}.: keep its own"):
        recommend(spec(0.4).key, {"u": ["1"]}, paths=mine)
    (other.folder / BEST).write_bytes(b"torn")
    with pytest.raises(StoreError, match="is damaged"):
        recommend(spec().key, {"u": ["1"]}, paths=mine)


def test_modes_choose_on_validation(trained: tuple[RunPaths, Split]) -> None:
    paths, _ = trained
    with open_store(paths.work_dir / "btsr.db", read_only=True) as store:
        reader = store.validation()
        values = {
            one.key: (reader.value(one.key, "ndcg", 10), reader.value(one.key, "cov", 10))
            for one in (spec(), spec(0.4))
        }
        best = max(ndcg for ndcg, _ in values.values())
        for mode, share in (("precise", 1.0), ("balanced", 0.99), ("diverse", 0.9)):
            found = choose_trial(store, "tiny", mode=mode)
            allowed = {key: cov for key, (ndcg, cov) in values.items() if ndcg >= share * best}
            assert found.row.key == max(allowed, key=lambda key: allowed[key])
            assert (found.settings, found.seeds) == (2, (1235,))
        assert set(PRESETS) == {"precise", "balanced", "diverse"}
        for words, says in (
            ({"dataset": "syntetic"}, "unknown data set of this study 'syntetic': did you mean 'synthetic'?"),
            ({"method": "sasrec_ce"}, "unknown method of this study 'sasrec_ce': .*Known: bt_sr"),
            ({"profile": "paper"}, "no finished trial of paper"),
            ({"mode": "bold"}, "mode 'bold' is not known"),
        ):
            with pytest.raises(ConfigError, match=says):
                choose_trial(store, "tiny", **words)
        with pytest.raises(StoreError, match="no study 'other'"):
            choose_trial(store, "other")


def test_the_command_says_how_to_keep_weights(
    trained: tuple[RunPaths, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, split = trained
    source = tmp_path / "in.csv"
    source.write_text(f"user,item\nu,{split.item_ids[0]}\n")
    words = ["--histories", source, "--output", tmp_path / "out.csv", "--out", paths.work_dir]
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(paths.work_dir / "btsr.db", bare)
    results = set()
    for mode, out in product(PRESETS, (paths.work_dir, bare)):
        (tmp_path / "out.csv").unlink(missing_ok=True)
        with open_store(paths.work_dir / "btsr.db", read_only=True) as store:
            chosen = choose_trial(store, "tiny", mode=mode).row.key
        code = run(monkeypatch, "--study", "tiny", "--mode", mode, *words[:-1], out)
        said = capsys.readouterr().err
        assert chosen in said
        if chosen == spec().key and out != bare:
            assert code == 0 and (tmp_path / "out.csv").read_text().count("\n") == 11
        else:
            assert code == 2 and f"--only {chosen} --keep-checkpoints" in said
            assert not (tmp_path / "out.csv").exists()
        results.add(code)
    assert results == {0, 2}, "with the weights and without"
    with open_store(paths.work_dir / "btsr.db", read_only=True) as store:
        row = store.trials()[0]
    for study, command, said in (
        ("tiny", "btsr-sweep --study tiny", "run `btsr-sweep --study tiny .*--only .* --keep-checkpoints"),
        ("mine", "btsr-sweep --study my/mine.py --seeds 2", "run `btsr-sweep --study my/mine.py --dataset "),
        ("mine", "btsr-sweep --seeds 2 --study=my/mine.py", "run `btsr-sweep --study my/mine.py --dataset "),
        ("mine", "btsr-sweep --study table2", "run `btsr-sweep --study table2 --dataset "),
        ("table1", "btsr-sweep --study my/mine.py", "run `btsr-sweep --study table1 --dataset "),
        (
            "tune_tpe",
            "btsr-sweep --study tune --search tpe",
            "run `btsr-sweep --winners-of tune_tpe --dataset synthetic --methods bt_sr --keep-checkpoints --out "
            f"{paths.work_dir}`, .* `btsr-recommend --study tune_tpe_winners --out {paths.work_dir}`",
        ),
        ("tune_tpe_winners", "btsr-sweep --winners-of tune_tpe", "repeat the search and its winners with --keep-check"),
    ):
        with pytest.raises(ConfigError, match=f"were not kept.*{said}"):
            raise without_checkpoint(row, study, paths, command)
    for wrong in (
        [],
        ["--study", "tiny", "--trial", "abc"],
        ["--trial", spec().key, "--mode", "precise"],
        ["--trial", spec().key, "--db", "nosuch.db"],
        ["--trial", spec().key, "--output", source],
        ["--trial", ""],
        ["--trial", "/etc"],
        ["--trial", "*"],
    ):
        assert run(monkeypatch, *words, *wrong) == 2
        assert capsys.readouterr().err.startswith("btsr-recommend: ")
        assert source.read_text() == f"user,item\nu,{split.item_ids[0]}\n"


def test_help_names_every_option() -> None:
    from typer.testing import CliRunner

    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for option in ("--histories", "--output", "--study", "--trial", "--mode", "--k", "--skip-unknown", "--device"):
        assert option in shown


def test_of_the_chosen_setting_a_seed_whose_weights_were_kept_is_taken(tmp_path: Path) -> None:
    split = fake.split()
    runs = [fake.result(fake.spec().model_copy(update={"seed": seed}), split) for seed in SEEDS[:3]]
    with open_store(tmp_path / "btsr.db", create=True) as store:
        store.record_data(split)
        store.register_study(Study(name="mine", title="Mine", specs=tuple(run.spec for run in runs)))
        for run in runs:
            store.record(run)
        reader = store.validation()
        ranked = sorted((run.spec.key for run in runs), key=lambda key: -reader.value(key, "ndcg", 10))
        for kept, place in (((), 0), (ranked, 0), (ranked[1:], 1), (ranked[2:], 2), (("another",), 0)):
            found = choose_trial(store, "mine", kept=kept)
            assert (found.row.key, found.passed_over) == (ranked[place], place), kept
    paths = RunPaths(work_dir=tmp_path)
    assert kept_keys(paths) == frozenset()
    (paths.checkpoints / ranked[1]).mkdir(parents=True)
    assert kept_keys(paths) == frozenset(), "a folder alone is no kept checkpoint"
    (paths.checkpoints / ranked[1] / BEST).touch()
    assert kept_keys(paths) == {ranked[1]}


def test_the_raw_file_may_go_once_a_model_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "own.csv"
    generate(users=400, items=60).to_csv(raw, index=False)
    paths = RunPaths(work_dir=tmp_path / "run")
    data = DataConfig(dataset=str(raw), filter="none", min_item=1, min_user=1)
    one = spec().model_copy(update={"data": data})
    split = prepare(data, paths)
    result = ended(trial_steps(one, split, checkpoints=paths.checkpoints, keep_best=True))
    history = {"u": split.item_ids[:3].tolist()}
    before = recommend(one.key, history, paths=paths)
    raw.unlink()
    assert recommend(one.key, history, paths=paths) == before
    with open_store(paths.work_dir / "btsr.db", create=True) as store:
        store.register_study(Study(name="tiny", title="Tiny", specs=(one,)))
        store.record_data(split)
        store.record(result)
    (tmp_path / "in.csv").write_text(f"user,item\nu,{split.item_ids[0]}\n")
    monkeypatch.chdir(tmp_path)
    words = ("--study", "tiny", "--histories", "in.csv", "--output", "top.csv", "--out", "run", "--dataset")
    assert run(monkeypatch, *words, "own.csv") == 0, "by its name from here, as in a sweep"
    assert (tmp_path / "top.csv").read_text().count("\n") == 11
    assert run(monkeypatch, *words, "other.csv") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"unknown data set of this study '{tmp_path / 'other.csv'}'" in said and f"Known: {raw}" in said


def test_a_device_without_numbers_is_refused(trained: tuple[RunPaths, Split]) -> None:
    with pytest.raises(ConfigError, match="device 'meta' cannot be used here"):
        load_model(spec().key, trained[0], device="meta")
