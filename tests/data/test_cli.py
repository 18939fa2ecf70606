"""`btsr-data`: what it prints, and that a mistake is one line and exit code 2."""

import csv
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.choices import DataChoices
from harness.config import Profile, StudyOptions, dataset_slug
from harness.data import digest
from harness.data.archives import unreadable
from harness.data.catalogue import DATASETS
from harness.data.cli import main
from harness.data.digest import sha256
from harness.data.kinds import RawFile
from harness.data.synthetic import generate
from harness.profiles import profile_data
from reports.data_figures import users_per_length
from studies.profiles import data_config
from tests.data.server import served


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["btsr-data", *words])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, and no BTSR_DATA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BTSR_DATA", raising=False)
    return tmp_path


def test_list(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "ml-1m.csv").touch()
    assert run(monkeypatch, "list") == 0
    text = capsys.readouterr().out
    assert all(key in text for key in DATASETS)
    assert "MovieLens 1M: ml-1m.csv" in text and "Amazon Beauty: missing" in text and "embedded" in text
    assert "files: ml-1m.zip, ml-1m/ratings.dat, ratings.dat, ml-1m.parquet, ml-1m.csv" in " ".join(text.split())
    assert "stand-in" in text


def test_prepare_and_describe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "prepare", "synthetic", "--dataset", "synthetic,synthetic", "--out", "o") == 0
    text = capsys.readouterr().out
    assert text.count("34421552e052") == 1 and "2,762" in text
    assert [path.name[:10] for path in (folder / "o" / "prepared").iterdir()] == ["synthetic-"]
    assert run(monkeypatch, "describe", "synthetic", "--out", "o") == 0
    assert "47,739 rows, 3,000 users, 599 items" in capsys.readouterr().out


def test_options_reach_the_split(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "describe", "--dataset", "synthetic", "--filter", "none", "--tie", "random") == 0
    text = capsys.readouterr().out
    assert "after filter (none)" in text and "ties random" in text
    assert run(monkeypatch, "describe", "--dataset", "synthetic", "--filter", "one_pass", "--min-item", "60") == 0
    assert "one_pass, items 60, users 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("describe", "--dataset", "sintetic"), "did you mean 'synthetic'"),
        (("prepare", "--dataset", "all", "--no-download"), "ml-1m.zip"),
        (("prepare", "--dataset", "synthetic,beauty", "--no-download"), "reviews_Beauty_5.json.gz"),
        (("prepare", "--dataset", ","), "no data set is named"),
        (("prepare", "--dataset", "synthetic", "--filter", "none", "--min-user", "3"), "--filter none drops nothing"),
        (("prepare", "--dataset", "synthetic", "--min-item", "2000"), "leaves none of 47739 rows"),
        (("prepare", "--dataset", "synthetic", "--out", "file"), "choose another folder by --out"),
        (("prepare", "--dataset", "synthetic", "--filter", "none", "--min-item", "1"), "leave out --min-item"),
        (("prepare", "--dataset", "synthetic", "--filter", "none", "--count", "rows"), "drops nothing"),
        (("prepare", "--dataset", "synthetic", "--split", "leave_one_out", "--quantile", "0.9"), "no effect"),
        (("prepare", "--dataset", "synthetic", "--quantile", "1.5"), "--quantile: Input should be less than 1"),
        (("prepare", "--dataset", "synthetic", "--split", "leave_one_out", "--quantile", "0.95"), "--quantile has no"),
        (("prepare", "--dataset", "own.csv", "--edition", "2014"), "own.csv is a file, which has no editions"),
        (("prepare", "--dataset", "synthetic", "--edition", "2014"), "drop --edition 2014"),
        (("prepare", "--dataset", "synthetic", "--user-col", "u"), "columns are named for a file only"),
        (("prepare", "--dataset", "yelp", "--edition", "2017"), "unknown edition of yelp"),
        (("prepare", "--dataset", "gone.csv"), "there is no file"),
        (("prepare", "--dataset", "folder/x.dat"), "its name must end in .csv, .csv.gz"),
        (("download", "--dataset", "yelp"), "--accept-terms"),
        (("add", "ml1m", "gone.zip"), "there is no file"),
        (("add", "ml1m", "file"), "file is empty"),
        (("add", "ml1", "file"), "did you mean 'ml1m'"),
        (("add", "file", "a.zip"), "file is a file where the data set belongs, as in btsr-data add DATASET FILE"),
        (("add", "x/ml-1m.zip", "a.zip"), "did you mean btsr-data add ml1m x/ml-1m.zip? Data sets: beauty, beer"),
        (("add", "reviews.zip", "x/yelp.zip"), "did you mean btsr-data add yelp reviews.zip?"),
        (("add", "mine.csv", "other.csv"), "Data sets: beauty, beeradvocate, behance, gowalla, kindle_store, ml100k"),
        (("add", "a.zip", "gowalla"), "did you mean btsr-data add gowalla a.zip?"),
        (("add", "synthetic", "file"), "has no file to add"),
    ],
)
def test_mistake_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], part: str
) -> None:
    (folder / "file").touch()
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("btsr-data: ") and error.count("\n") == 1 and part in error
    assert [path.name for path in folder.iterdir()] == ["file"], "nothing is left behind"


def test_a_name_with_brackets_is_no_markup(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{u},{(i + u) % 30},{978300760 + i * 100 + u}\n" for u in range(70) for i in range(30))
    (folder / "[bold] [red].csv").write_text("user,item,timestamp\n" + rows)
    for command in ("describe", "prepare"):
        assert run(monkeypatch, command, "[bold] [red].csv", "--split", "leave_one_out") == 0
        assert "[bold] [red].csv" in " ".join(capsys.readouterr().out.split())


OWN = {
    "no rows": ("user,item,timestamp\n", "has no rows"),
    "no column": ("user,thing,timestamp\n1,2,978300760\n", "no item column"),
    "bad time": ("user,item,timestamp\n1,2,then\n", "line 2"),
    "too few": ("user,item,timestamp\n1,2,978300760\n", "leaves none of 1 rows"),
    "no test users": (
        "user,item,timestamp\n"
        + "".join(f"{u},{i},{978300760 + i * 100 + u + (u > 9) * 9999}\n" for u in range(70) for i in range(30)),
        "zero test users",
    ),
    "a page": ("<!DOCTYPE html><html></html>", "is a web page"),
    "nothing": ("", "is empty"),
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("command", ["prepare", "describe"])
@pytest.mark.parametrize(("text", "part"), OWN.values(), ids=OWN)
def test_own_file_that_is_refused_leaves_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    part: str,
    command: str,
    large: bool,
) -> None:
    monkeypatch.setattr(digest, "REMEMBERED_BYTES", 0 if large else digest.REMEMBERED_BYTES)
    (folder / "own.csv").write_text(text)
    assert run(monkeypatch, command, "own.csv") == 2
    error = capsys.readouterr().err
    assert error.startswith("btsr-data: ") and error.count("\n") == 1 and part in error
    assert [path.name for path in folder.iterdir()] == ["own.csv"]
    (folder / "runs" / "prepared").mkdir(parents=True)
    assert run(monkeypatch, command, "own.csv") == 2
    assert {path.name for path in folder.rglob("*")} == {"own.csv", "runs", "prepared"}, "what was there stays"


def movielens(rows: int = 3) -> bytes:
    return b"".join(b"%d::%d::5::%d\n" % (i, i, 978300760 + i) for i in range(rows))


def test_verify_reads_whatever_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --dataset also data sets that are not in the paper."""
    (folder / "data").mkdir()
    assert run(monkeypatch, "verify") == 0
    assert capsys.readouterr().out == f"no file of any data set in {(folder / 'data').absolute()}\n"
    (folder / "data" / "ml-100k.csv").write_text("user_id,item_id,timestamp\n1,1,978300760\n")
    assert run(monkeypatch, "verify") == 0
    text = capsys.readouterr().out
    assert text.startswith("ml100k: ok: ") and "no file" not in text
    (folder / "data" / "ml-100k.csv").write_text("")
    assert run(monkeypatch, "verify") == 1
    assert capsys.readouterr().out.startswith("ml100k: BAD: ")


def test_verify_goes_on_after_a_file_that_it_may_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sum_of(path: Path) -> str:
        if path.name == "ml-1m.csv":
            raise unreadable(path, PermissionError(13, "Permission denied"))
        return sha256(path)

    (folder / "data").mkdir()
    for name in ("ml-1m.csv", "ml-100k.csv"):
        (folder / "data" / name).write_text("user_id,item_id,timestamp\n1,1,978300760\n")
    monkeypatch.setattr("harness.data.shelf.sha256", sum_of)
    assert run(monkeypatch, "verify") == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ml1m: BAD: ") and "Permission denied" in first and second.startswith("ml100k: ok: ")


def test_verify_is_told_the_columns_of_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.csv").write_text("who,what,when\n1,1,978300760\n")
    assert run(monkeypatch, "verify", "--dataset", "own.csv") == 1
    assert "name one by --user-col" in capsys.readouterr().out
    columns = ("--user-col", "who", "--item-col", "what", "--time-col", "when")
    assert run(monkeypatch, "verify", "--dataset", "own.csv", *columns) == 0
    text = capsys.readouterr().out
    assert "own.csv: ok: " in text and "1 rows" in text
    assert run(monkeypatch, "verify", *columns) == 2
    assert "columns are named for a file only" in capsys.readouterr().err


def test_verify_tells_a_file_that_is_not_the_official_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known by its sum; an official file of another edition is one, a table in its place is not to be compared."""
    ratings = b"A1YJEY40YUW4SE,B000052YQU,5.0,978300760\n"
    (folder / "data").mkdir()
    (folder / "data" / "ratings_Beauty.csv").write_bytes(ratings)
    assert run(monkeypatch, "verify", "beauty") == 1
    text = capsys.readouterr().out
    assert text.startswith("beauty: NOT OFFICIAL: ") and text.count("\n") == 1 and "1 rows" in text
    assert "remove this and run btsr-data download beauty --edition 2014-ratings" in text
    assert run(monkeypatch, "verify") == 1, "also without a name"
    (folder / "data" / "ratings_Beauty.csv").unlink()
    (folder / "data" / "yelp-2018.zip").write_bytes(zipped_review())
    assert run(monkeypatch, "verify", "yelp") == 1
    assert "remove this and get it from https://www.yelp.com/dataset" in capsys.readouterr().out.replace("\n", "")
    spec = DATASETS["yelp"]
    for edition, says in (("2021", "ok: data/yelp-2018.zip: 1 rows; the official file of edition 2021;"), ("2018", "")):
        known = sha256(folder / "data" / "yelp-2018.zip")
        files = tuple(replace(file, sha256=known) if file.edition == edition else file for file in spec.files)
        monkeypatch.setitem(DATASETS, "yelp", replace(spec, files=files))
        assert run(monkeypatch, "verify", "yelp") == 0
        assert (says or "1 rows; the official file;") in capsys.readouterr().out
    (folder / "data" / "ml-1m.csv").write_text("user_id,item_id,timestamp\n1,1,978300760\n")
    assert run(monkeypatch, "verify", "ml1m") == 0
    assert "a table in place of the official archive, nothing to compare it with" in capsys.readouterr().out
    (folder / "own.csv").write_text("user_id,item_id,timestamp\n1,1,978300760\n")
    assert run(monkeypatch, "verify", "own.csv") == 0
    assert "a file of your own" in capsys.readouterr().out


def zipped_review() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("review.json", '{"user_id": "u", "business_id": "b", "date": "2018-01-01"}\n')
    return content.getvalue()


def test_add_and_verify(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A file got by hand is read to its end, copied under its name, and found again; a bad one is told."""
    (folder / "hand").mkdir()
    source = folder / "hand" / "ratings.dat"
    source.write_bytes(movielens())
    assert run(monkeypatch, "add", "ml1m", str(source)) == 0
    text = capsys.readouterr().out
    assert (folder / "data" / "ratings.dat").read_bytes() == movielens()
    assert len(list((folder / "data").iterdir())) == 1
    assert "3 rows" in text and "no official SHA-256 is known" in text and "official file has 1,000,209 rows" in text
    assert run(monkeypatch, "add", "ml1m", str(source)) == 0
    assert run(monkeypatch, "verify", "ml1m", "synthetic") == 0
    assert "ml1m: ok: " in capsys.readouterr().out
    assert run(monkeypatch, "verify", "--dataset", "ml1m,beauty,synthetic") == 1
    text = capsys.readouterr().out
    assert "ml1m: ok: " in text and "beauty: no file of it in" in text
    source.write_bytes(movielens(4))
    assert run(monkeypatch, "add", "ml1m", str(source)) == 2
    assert "there already and differs" in capsys.readouterr().err
    (folder / "data" / "ratings.dat").write_bytes(movielens()[:-12])
    assert run(monkeypatch, "verify") == 1
    assert "ml1m: BAD: " in capsys.readouterr().out
    source.write_bytes(movielens()[:-12])
    assert run(monkeypatch, "add", "ml1m", str(source)) == 2
    assert "it is not added" in capsys.readouterr().err


def test_add_tells_the_file_by_sum_name_or_edition(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder / "archive.zip"
    source.write_bytes(zipped_review())
    assert run(monkeypatch, "add", "yelp", str(source)) == 2
    assert "no known file of yelp" in capsys.readouterr().err
    assert run(monkeypatch, "add", "yelp", str(source), "--edition", "2018") == 0
    assert "its SHA-256 is not that of the official file" in capsys.readouterr().out
    assert (folder / "data" / "yelp-2018.zip").is_file()
    (folder / "data" / "yelp-2018.zip").unlink()
    spec = DATASETS["yelp"]
    known = tuple(replace(file, sha256=sha256(source)) if file.edition == "2021" else file for file in spec.files)
    monkeypatch.setitem(DATASETS, "yelp", replace(spec, files=known))
    assert run(monkeypatch, "add", "yelp", str(source)) == 0
    assert "the official file" in capsys.readouterr().out and (folder / "data" / "yelp-2021.zip").is_file()


def test_download_says_what_it_fetches(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served(movielens()) as site:
        file = RawFile(name="ratings.dat", reader="movielens", urls=(f"{site.url}/good/ratings.dat",), megabytes=1)
        monkeypatch.setitem(DATASETS, "ml1m", replace(DATASETS["ml1m"], files=(file,)))
        assert run(monkeypatch, "download", "--dataset", "ml1m,synthetic") == 0
        said = capsys.readouterr()
        assert f"from {site.url}/good/ratings.dat; licence: GroupLens" in said.err and "about 1 MB" in said.err
        assert "ml1m: data/ratings.dat" in said.out and "synthetic: generated" in said.out
        assert run(monkeypatch, "download", "--dataset", "ml1m") == 0
        assert len(site.asked) == 1 and not capsys.readouterr().err


def test_describe_saves_tables_and_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(users=400, items=60).rename(columns={"time": "when"}).to_csv(folder / "mine.csv", index=False)
    words = ("--dataset", "synthetic", "--dataset", "mine.csv", "--out", "o")
    assert run(monkeypatch, "describe", *words, "--split", "leave_one_out", "--no-pictures") == 2
    assert "no time column, only user, item, when: name one by --time-col" in capsys.readouterr().err
    generate(users=400, items=60).to_csv(folder / "mine.csv", index=False)
    assert run(monkeypatch, "describe", *words) == 0
    assert "test users" in capsys.readouterr().out
    saved = folder / "o" / "data"
    mine = dataset_slug(str(folder / "mine.csv"))
    names = {f"{name}{end}" for name in ("synthetic", mine) for end in (".png", ".svg")}
    assert {path.name for path in saved.iterdir()} == names | {"statistics.csv", "statistics.md"}
    with (saved / "statistics.csv").open() as file:
        table = {line["statistic"]: line for line in csv.DictReader(file)}
    assert table["interactions"]["synthetic"] == "47739" and table["test users"]["synthetic"] == "216"
    assert float(table["density"]["synthetic"]) == 47739 / (3000 * 599)
    assert "LEAKS" not in table["protocol"][mine] and table["users"][mine] == "117"
    assert "| interactions" in (saved / "statistics.md").read_text()
    svg = (saved / "synthetic.svg").read_text()
    assert "boundary 2020-12-13" in svg and "Synthetic Markov chain" in svg and " days</text>" in svg


def test_files_of_one_name_have_pictures_of_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are described together or one after the other."""
    files = [folder / name / "plays.csv" for name in ("one", "two")]
    for users, file in enumerate(files, 400):
        file.parent.mkdir()
        generate(users=users, items=60).to_csv(file, index=False)
        assert run(monkeypatch, "describe", str(file.relative_to(folder)), "--out", "o") == 0
    names = [dataset_slug(str(file)) for file in files]
    assert {path.stem for path in (folder / "o" / "data").glob("*.png")} == set(names)
    assert run(monkeypatch, "describe", *map(str, files), "--out", "o", "--no-pictures") == 0
    assert (folder / "o" / "data" / "statistics.csv").read_text().splitlines()[0] == ",".join(["statistic", *names])


def test_lengths_are_counted_once_in_bins_that_widen() -> None:
    rows = np.sort(np.random.default_rng(0).geometric(0.02, 5000) + 4)[::-1]
    edges, users = users_per_length(rows)
    assert edges[0] == rows[-1] and edges[-1] == rows[0] + 1 and (np.diff(edges) >= 1).all()
    assert (users * np.diff(edges)).sum() == pytest.approx(5000)
    assert users[0] == (rows == rows[-1]).sum() / (edges[1] - edges[0])
    edges, users = users_per_length(np.full(7, 20))
    assert edges.tolist() == [20, 21] and users.tolist() == [7]


def test_leave_one_out_is_labelled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--dataset", "synthetic", "--no-pictures", "--split", "leave_one_out")
    assert run(monkeypatch, "describe", *words) == 0
    assert "LEAKS THE FUTURE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "profile", "filtering"),
    [
        ("gowalla", "paper", ("iterative", 5, 5)),
        ("gowalla", "released", ("one_pass", 5, 20)),
        ("behance", "released", ("one_pass", 5, 20)),
        ("ml1m", "released", ("none", 1, 1)),
        ("beauty", "released", ("iterative", 5, 5)),
    ],
)
def test_profiles(name: str, profile: Profile, filtering: tuple[str, int, int]) -> None:
    config = profile_data(name, profile)
    assert (config.filter, config.min_item, config.min_user) == filtering
    assert config == data_config(name, StudyOptions(datasets=(name,), profile=profile))


@pytest.mark.parametrize(
    ("name", "choices", "filtering"),
    [
        ("gowalla", {"min_item": 3}, ("one_pass", 3, 20)),
        ("gowalla", {"filter": "iterative"}, ("iterative", 5, 20)),
        ("gowalla", {"filter": "none"}, ("none", 1, 1)),
        ("gowalla", {"count": "rows"}, ("one_pass", 5, 20)),
        ("gowalla", {"repeats": "first"}, ("one_pass", 5, 20)),
        ("ml1m", {"filter": "at_once"}, ("at_once", 5, 5)),
        ("ml1m", {"min_user": 3}, ("iterative", 5, 3)),
        ("ml1m", {"count": "partners"}, ("iterative", 5, 5)),
        ("ml1m", {"filter": "none"}, ("none", 1, 1)),
        ("ml1m", {"split": "leave_one_out"}, ("none", 1, 1)),
    ],
    ids=str,
)
def test_what_is_asked_for_stands_in_place_of_the_profile(
    name: str, choices: dict[str, object], filtering: tuple[str, int, int]
) -> None:
    """All else is the profile's; of one that filters nothing, 5-core's."""
    config = profile_data(name, "released", DataChoices.model_validate(choices))
    assert (config.filter, config.min_item, config.min_user) == filtering
    changed = {"filter": config.filter, "min_item": config.min_item, "min_user": config.min_user}
    assert config == profile_data(name, "released").model_copy(update={**choices, **changed})


def test_missing_file_is_found_before_anything_is_prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "prepare", "--dataset", "synthetic", "--dataset", "ml1m", "--no-download") == 2
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("words", [["--help"], ["list"], ["prepare", "--help"]])
def test_help_and_list_load_nothing_heavy(folder: Path, words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['btsr-data', *{words!r}]\n"
        "from harness.data.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print(sorted({'torch', 'ray', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.endswith("[]\n")
