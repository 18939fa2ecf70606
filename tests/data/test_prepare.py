"""Prepared data on disk: made once, memory-mapped, checked on load, made again when damaged."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import prepare as module
from harness.config import DataConfig
from harness.data import digest
from harness.data.catalogue import DATASETS
from harness.data.describe import lines
from harness.data.distributions import distributions
from harness.data.split import fingerprint, keep_rows, split_rows
from harness.data.synthetic import generate
from harness.errors import ConfigError, DataError, LeakError
from harness.paths import RunPaths
from harness.prepare import distributions_of, load_split, prepare, prepared_folder

SYNTHETIC = DataConfig(dataset="synthetic")
FILES = {f"{name}.npy" for name in (*module._SPLIT_ARRAYS, *module._EVIDENCE_ARRAYS)} | {"split.json", "profile.npz"}


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A data folder with a small ml1m, and an empty run folder."""
    (tmp_path / "data").mkdir()
    generate(users=400, items=60).rename(columns={"time": "timestamp"}).to_csv(
        tmp_path / "data" / "ml-1m.csv", index=False
    )
    return RunPaths(data_dir=tmp_path / "data", work_dir=tmp_path / "runs")


ML1M = DataConfig(dataset="ml1m")


def test_synthetic_needs_no_file(tmp_path: Path) -> None:
    split = prepare(SYNTHETIC, RunPaths(data_dir=tmp_path / "nowhere", work_dir=tmp_path))
    expected, _ = split_rows(generate(), SYNTHETIC)
    assert split.fingerprint == expected.fingerprint
    assert dict(split.report) == {**expected.report, "rows_dropped_by_reader": 0}
    for name in module._SPLIT_ARRAYS:
        np.testing.assert_array_equal(getattr(split, name), getattr(expected, name))


def test_arrays_are_memory_mapped_and_read_only(paths: RunPaths) -> None:
    split = prepare(ML1M, paths)
    for name in module._SPLIT_ARRAYS:
        array = getattr(split, name)
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable


def test_second_time_reads_no_raw_rows(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(ML1M, paths)
    monkeypatch.setattr(module, "keep_rows", None)
    second = prepare(ML1M, paths)
    assert second.fingerprint == first.fingerprint and second.config == ML1M
    assert load_split(prepared_folder(ML1M, paths)).fingerprint == first.fingerprint


def test_folder_depends_on_file_configuration_and_program(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.data_dir is not None
    folders = {prepared_folder(ML1M, paths), prepared_folder(DataConfig(dataset="ml1m", tie="random"), paths)}
    with (paths.data_dir / "ml-1m.csv").open("a") as file:
        file.write("77,1,1600000000\n")
    folders.add(prepared_folder(ML1M, paths))
    monkeypatch.setattr(module, "PREPARE", module.PREPARE + 1)
    folders.add(prepared_folder(ML1M, paths))
    assert len(folders) == 4
    assert all(folder.parent == paths.prepared and len(folder.name) == len("ml1m-") + 16 for folder in folders)


def test_folder_of_synthetic_depends_on_the_generator(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepared_folder(SYNTHETIC, paths)
    monkeypatch.setattr(module.synthetic, "VERSION", module.synthetic.VERSION + 1)
    assert prepared_folder(SYNTHETIC, paths) != before


def damage_missing(folder: Path) -> None:
    (folder / "bucket.npy").unlink()


def damage_profile(folder: Path) -> None:
    (folder / "profile.npz").unlink()


def damage_cut(folder: Path) -> None:
    path = folder / "train_items.npy"
    path.write_bytes(path.read_bytes()[:-5])


def damage_shape(folder: Path) -> None:
    np.save(folder / "popularity.npy", np.load(folder / "popularity.npy")[:-1])


def damage_bit(folder: Path) -> None:
    path = folder / "test_items.npy"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


def damage_json(folder: Path) -> None:
    (folder / "split.json").write_text('{"config": ')


def damage_field(folder: Path) -> None:
    path = folder / "split.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "config": {"dataset": "ml1m", "colour": 1}}))


def damage_boundary(folder: Path) -> None:
    path = folder / "split.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boundary": 5}))


@pytest.mark.parametrize(
    "damage",
    [damage_missing, damage_cut, damage_shape, damage_bit, damage_json, damage_field, damage_boundary],
)
def test_damaged_folder_is_refused_and_made_again(paths: RunPaths, damage: object) -> None:
    assert callable(damage)
    before = prepare(ML1M, paths)
    folder = prepared_folder(ML1M, paths)
    damage(folder)
    with pytest.raises(DataError, match="prepare again") as caught:
        load_split(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert prepare(ML1M, paths).fingerprint == before.fingerprint
    assert {path.name for path in folder.iterdir()} == FILES
    assert load_split(folder).fingerprint == before.fingerprint


def test_left_over_of_a_killed_process_is_cleared(paths: RunPaths) -> None:
    folder = prepared_folder(ML1M, paths)
    draft = folder.with_name(f".{folder.name}.partial")
    draft.mkdir(parents=True)
    (draft / "bucket.npy").write_bytes(b"half")
    prepare(ML1M, paths)
    assert not draft.exists()
    assert {path.name for path in folder.iterdir()} == FILES


def test_distributions_are_kept_with_the_split(paths: RunPaths) -> None:
    split = prepare(ML1M, paths)
    found = distributions_of(ML1M, paths)
    assert found.user_rows.sum() == found.item_rows.sum() == found.time_rows.sum() == split.report["rows"]
    assert (len(found.user_rows), len(found.item_rows)) == (split.report["users"], split.report["items"])
    assert (np.diff(found.user_rows) <= 0).all() and (np.diff(found.item_rows) <= 0).all()
    assert found.time_edges[0] == split.report["first_time"] and found.time_edges[-1] > split.report["last_time"]
    profile = prepared_folder(ML1M, paths) / "profile.npz"
    profile.unlink()
    assert distributions_of(ML1M, paths).time_rows.tolist() == found.time_rows.tolist() and profile.is_file()
    profile.write_bytes(profile.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"profile.npz is damaged \(BadZipFile\): delete it and prepare again"):
        distributions_of(ML1M, paths)


def test_large_files_are_hashed_once(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.data_dir is not None
    monkeypatch.setattr(digest, "REMEMBERED_BYTES", 1)
    first = prepare(ML1M, paths)
    monkeypatch.setattr(digest, "sha256", None)
    assert prepare(ML1M, paths).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setattr(digest, "REMEMBERED_BYTES", 1)
    with (paths.data_dir / "ml-1m.csv").open("a") as file:
        file.write("77,1,1600000000\n")
    assert prepare(ML1M, paths).report["raw_rows"] == first.report["raw_rows"] + 1


def test_dropped_rows_are_counted(tmp_path: Path) -> None:
    rows = generate(users=400, items=60)
    rows.loc[:4, "user"] = ""
    header = "review_profilename,beer_beerid,review_time"
    text = "\n".join(f"{u},{i},{t}" for u, i, t in rows.itertuples(index=False))
    (tmp_path / "beer_reviews.csv").write_text(f"{header}\n{text}\n")
    split = prepare(DataConfig(dataset="beeradvocate"), RunPaths(data_dir=tmp_path, work_dir=tmp_path / "runs"))
    assert split.report["rows_dropped_by_reader"] == 5 and split.report["raw_rows"] == len(rows)
    assert dict(lines(split))["rows dropped by the reader (no user)"] == "5"


def test_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "Täble.csv"
    path.parent.mkdir()
    generate(users=400, items=60).set_axis(["who", "what", "when"], axis=1).to_csv(path, index=False)
    columns = {"user_col": "who", "item_col": "what", "time_col": "when"}
    config = DataConfig(dataset=str(path), **columns)
    split = prepare(config, RunPaths(work_dir=tmp_path))
    expected, _ = split_rows(generate(users=400, items=60), config)
    assert split.fingerprint == expected.fingerprint and split.config == config and split.file == split.edition == ""
    assert prepared_folder(config, RunPaths(work_dir=tmp_path)).name.startswith("Täble.csv-")
    with pytest.raises(DataError, match="there is no file"):
        prepare(DataConfig(dataset=str(tmp_path / "nowhere.csv")), RunPaths(work_dir=tmp_path))


def test_edition_is_chosen_and_part_of_the_key(tmp_path: Path) -> None:
    rows = generate(users=400, items=60)
    paths = RunPaths(data_dir=tmp_path, work_dir=tmp_path / "runs")
    for name in ("yelp-2019-5core.csv", "yelp_academic_dataset_review.json"):
        table = rows if name.endswith("csv") else rows[rows["user"] != "1"]
        if name.endswith("csv"):
            table.to_csv(tmp_path / name, index=False)
        else:
            found = table.assign(date=pd.to_datetime(table["time"], unit="s").dt.strftime("%Y-%m-%d %H:%M:%S"))
            found = found.rename(columns={"user": "user_id", "item": "business_id"}).drop(columns="time")
            found.to_json(tmp_path / name, orient="records", lines=True)
    configs = [DataConfig(dataset="yelp", edition=edition) for edition in ("", "unpacked", "2019-5core")]
    first, unpacked, table = (prepare(config, paths) for config in configs)
    assert (first.file, first.edition) == ("yelp_academic_dataset_review.json", "unpacked")
    assert (table.file, table.edition) == ("yelp-2019-5core.csv", "2019-5core")
    assert dict(lines(first))["protocol"].endswith("; read from yelp_academic_dataset_review.json, edition unpacked")
    assert first.report == unpacked.report and first.report["raw_users"] == 399 and table.report["raw_users"] == 400
    assert len({prepared_folder(config, paths) for config in configs}) == 3
    with pytest.raises(ConfigError, match="unknown edition of yelp '2021x': did you mean '2021'"):
        prepare(DataConfig(dataset="yelp", edition="2021x"), paths)


def test_an_official_file_is_of_its_edition_under_whatever_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by its sum; and it stays known where it is opened again."""
    generate(users=400, items=60).to_csv(tmp_path / "yelp-2019-5core.csv", index=False)
    sum_of = digest.sha256(tmp_path / "yelp-2019-5core.csv")
    files = tuple(replace(f, sha256=sum_of) if f.edition == "2020" else f for f in DATASETS["yelp"].files)
    monkeypatch.setitem(DATASETS, "yelp", replace(DATASETS["yelp"], files=files))
    paths = RunPaths(data_dir=tmp_path, work_dir=tmp_path / "runs")
    for _ in range(2):
        split = prepare(DataConfig(dataset="yelp", edition="2019-5core"), paths)
        assert (split.file, split.edition) == ("yelp-2019-5core.csv", "2020")


def test_failure_leaves_no_folder(paths: RunPaths) -> None:
    assert paths.data_dir is not None
    (paths.data_dir / "ml-1m.csv").write_text("user,item,time\n1,1,978300760\n")
    with pytest.raises(DataError, match="leaves none of 1 rows"):
        prepare(ML1M, paths)
    assert not paths.work_dir.exists()


def test_full_disk_leaves_no_folder(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_distributions", full)
    with pytest.raises(DataError, match="No space left on device.*choose another folder by --out"):
        prepare(ML1M, paths)
    assert not paths.work_dir.exists()


def test_several_processes_that_fail_leave_no_folder(paths: RunPaths) -> None:
    """Each removes what it finds empty, while the others wait for it."""
    assert paths.data_dir is not None
    (paths.data_dir / "ml-1m.csv").write_text("user,item,time\n1,1,978300760\n")
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.config import DataConfig\nfrom harness.paths import RunPaths\n"
        "from harness.errors import DataError\n"
        "from harness.prepare import prepare\n"
        "paths = RunPaths(data_dir=Path(sys.argv[1]), work_dir=Path(sys.argv[2]))\n"
        "for _ in range(50):\n"
        "    try:\n"
        "        prepare(DataConfig(dataset='ml1m'), paths)\n"
        "    except DataError as error:\n"
        "        assert 'leaves none' in str(error), error\n"
    )
    command = [sys.executable, "-c", code, str(paths.data_dir), str(paths.work_dir)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=500) for process in running] == [0, 0, 0]
    assert not list(paths.work_dir.rglob("*.*"))


def test_leak_is_found_on_load(paths: RunPaths) -> None:
    split, evidence = split_rows(generate(users=400, items=60), ML1M)
    late = evidence.train_times.copy()
    late[-1] = split.boundary
    arrays = {name: getattr(split, name) for name in module._SPLIT_ARRAYS} | {
        "train_times": late,
        "train_user_ids": evidence.train_user_ids,
        "test_times": evidence.test_times,
    }
    planted = replace(split, fingerprint=fingerprint(ML1M, split.boundary, arrays))
    folder = prepared_folder(ML1M, paths)
    folder.parent.mkdir(parents=True)
    kept = keep_rows(generate(users=400, items=60), ML1M)
    module._save(folder, planted, replace(evidence, train_times=late), distributions(kept))
    with pytest.raises(LeakError, match="1 training rows are at or after the boundary"):
        load_split(folder)
    with pytest.raises(LeakError):
        prepare(ML1M, paths)


def test_several_processes_prepare_once(paths: RunPaths) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.config import DataConfig\nfrom harness.paths import RunPaths\n"
        "from harness.prepare import prepare, prepared_folder\n"
        "config = DataConfig(dataset='ml1m')\n"
        "paths = RunPaths(data_dir=Path(sys.argv[1]), work_dir=Path(sys.argv[2]))\n"
        "split = prepare(config, paths)\n"
        "made = (prepared_folder(config, paths) / 'split.json').stat()\n"
        "print(split.fingerprint, made.st_ino, made.st_mtime_ns)\n"
    )
    command = [sys.executable, "-c", code, str(paths.data_dir), str(paths.work_dir)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=500)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(said) == 1 and said != {""}
    assert [path.name for path in paths.prepared.iterdir()] == [prepared_folder(ML1M, paths).name]


def test_unknown_data_set(paths: RunPaths) -> None:
    with pytest.raises(ConfigError, match="did you mean 'beauty'"):
        prepare(DataConfig(dataset="beuty"), paths)


def test_missing_file(paths: RunPaths) -> None:
    with pytest.raises(DataError, match=r"reviews_Beauty_5\.json\.gz"):
        prepare(DataConfig(dataset="beauty"), paths)
    assert not paths.prepared.exists()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written below .* choose another folder by --out") as caught:
        prepare(SYNTHETIC, RunPaths(work_dir=tmp_path / "file"))
    assert "\n" not in str(caught.value)


def test_nothing_prepared_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no intact prepared data"):
        load_split(tmp_path / "none")


def test_describe(paths: RunPaths) -> None:
    found = dict(lines(prepare(SYNTHETIC, paths)))
    assert found["raw"] == "47,739 rows, 3,000 users, 599 items"
    assert found["evaluated users (three rows or more)"] == "216"
    assert found["boundary"] == "1607842421 (2020-12-13T06:53:41 UTC), quantile 0.95, ties stable"
    assert found["fingerprint"] == "381ddd2f6f959b99e2c9fa688bca575f"


def test_random_ties_are_another_folder_with_the_same_counts(paths: RunPaths) -> None:
    assert paths.data_dir is not None
    rows = generate(users=400, items=60)
    rows["time"] -= rows["time"] % 86_400
    rows.to_csv(paths.data_dir / "ml-1m.csv", index=False)
    stable, random = prepare(ML1M, paths), prepare(DataConfig(dataset="ml1m", tie="random"), paths)
    assert stable.fingerprint != random.fingerprint
    assert {**stable.report, "repeat_share": 0, "partner_share": 0} == {
        **random.report,
        "repeat_share": 0,
        "partner_share": 0,
    }
    assert not np.array_equal(stable.train_items, random.train_items)
    same = [np.sort(split.train_items[slice(*split.train_offsets[:2])]).tolist() for split in (stable, random)]
    assert same[0] == same[1]


def test_csv_and_parquet_of_the_same_rows_agree(paths: RunPaths) -> None:
    assert paths.data_dir is not None
    from_csv = prepare(ML1M, paths)
    table = pd.read_csv(paths.data_dir / "ml-1m.csv")
    table.astype({"user": "int32", "item": "int32"}).to_parquet(paths.data_dir / "ml-1m.parquet")
    from_parquet = prepare(ML1M, paths)
    assert from_parquet.fingerprint == from_csv.fingerprint
    assert len([path for path in paths.prepared.iterdir() if path.is_dir()]) == 2
