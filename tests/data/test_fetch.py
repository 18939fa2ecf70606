"""Downloads from a server that misbehaves: the right file under its name, or one clear error and nothing."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.config import DataConfig
from harness.data.catalogue import DATASETS, dataset
from harness.data.fetch import MIRROR_VARIABLE, download, notice
from harness.data.kinds import DatasetSpec, RawFile
from harness.data.resume import Patience
from harness.data.synthetic import generate
from harness.errors import ChecksumError, ConfigError, DataError
from harness.paths import RunPaths
from harness.prepare import prepare, raw_file
from tests.data.server import Site, served

PATIENCE = Patience(attempts=3, seconds=20, pause_seconds=0.01)
NAME = "ml-1m.zip"


def archive(members: tuple[str, ...] = ("ml-1m/README", "ml-1m/ratings.dat")) -> bytes:
    """An ml-1m.zip in the official layout, a quarter of a megabyte with its README."""
    rows = generate(users=400, items=60)
    text = "".join(f"{u}::{i}::5::{t}\n" for u, i, t in rows.itertuples(index=False)).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in members:
            content = text if name.endswith(".dat") else random.Random(0).randbytes(250_000)
            file.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


CONTENT = archive()
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in (MIRROR_VARIABLE, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served(CONTENT) as site:
        yield site


def spec(*urls: str, known: bool = True, consent: bool = False) -> DatasetSpec:
    file = RawFile(
        name=NAME, reader="movielens", urls=urls, sha256=SUM if known else None, megabytes=6, consent=consent
    )
    return DatasetSpec(key="ml1m", title="MovieLens 1M", files=(file,), url="https://x.invalid", licence="research")


def fetch(wanted: DatasetSpec, folder: Path, patience: Patience = PATIENCE) -> tuple[Path, str]:
    """The path, and what was said."""
    said = io.StringIO()
    path = download(wanted, folder, console=Console(file=said, width=80), patience=patience)
    return path, said.getvalue()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@pytest.mark.parametrize("known", [True, False], ids=["sum", "no_sum"])
@pytest.mark.parametrize("way", ["good", "moved", "busy", "resume", "restart", "no_length"])
def test_the_right_file(site: Site, tmp_path: Path, way: str, known: bool) -> None:
    path, said = fetch(spec(f"{site.url}/{way}/{NAME}", known=known), tmp_path)
    assert path == tmp_path / NAME and path.read_bytes() == CONTENT
    assert names(tmp_path) == {NAME}
    assert said.count("\n") == 1
    for part in ("ml1m (MovieLens 1M)", "ml-1m.zip, about 6 MB", f"from {site.url}/{way}/", "licence: research"):
        assert part in said


@pytest.mark.parametrize("known", [True, False], ids=["sum", "no_sum"])
@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("missing", "answers 404"),
        ("page", "web page"),
        ("hidden_page", "web page"),
        ("moved_to_page", "web page"),
        ("short", "ml-1m.zip"),
        ("empty", "empty"),
        ("circle", "redirects"),
        ("long_length", "ended after"),
        ("short_length", "ml-1m.zip"),
        ("no_length_short", "ml-1m.zip"),
        ("stall", "no byte in time"),
    ],
)
def test_one_clear_error_and_no_file(site: Site, tmp_path: Path, way: str, reason: str, known: bool) -> None:
    site.seconds = 3.0 if way == "stall" else 0.0
    patience = replace(PATIENCE, seconds=0.5) if way == "stall" else PATIENCE
    with pytest.raises(DataError) as caught:
        fetch(spec(f"{site.url}/{way}/{NAME}", known=known), tmp_path, patience)
    text = str(caught.value)
    assert "\n" not in text and reason in text and f"{site.url}/{way}/" in text and "btsr-data add ml1m FILE" in text
    broken = {f".{NAME}.incoming", f"{NAME}.partial", f"{NAME}.partial.json"}
    assert names(tmp_path) == (broken if way in {"long_length", "stall"} else set())


@pytest.mark.parametrize("content", [b"1::2::3::978307200\n", archive(members=("ratings.dat",))], ids=["text", "zip"])
def test_the_wrong_sum_is_an_error_of_its_own(site: Site, tmp_path: Path, content: bytes) -> None:
    """Intact, of the right length, and not the file that is known."""
    site.content = content
    with pytest.raises(ChecksumError, match=f"its SHA-256 is not {SUM}"):
        fetch(spec(f"{site.url}/good/{NAME}"), tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("known", [True, False], ids=["sum", "no_sum"])
@pytest.mark.parametrize("way", ["resume", "restart", "changed", "untagged", "shuffled"])
@pytest.mark.parametrize("drops", [[0], [1], [1000], [len(CONTENT) - 1], [500, 700]], ids=str)
def test_a_dropped_connection_is_taken_up(site: Site, tmp_path: Path, way: str, drops: list[int], known: bool) -> None:
    path = f"/{way}/{NAME}"
    site.drops[path] = list(drops)
    assert fetch(spec(site.url + path, known=known), tmp_path)[0].read_bytes() == CONTENT
    assert names(tmp_path) == {NAME}
    ranges = [asked for _, asked in site.asked]
    assert ranges[0] == ""
    if way == "resume" and drops == [500, 700]:
        assert ranges == ["", "bytes=500-", "bytes=1200-"]
    if way == "untagged" and drops == [1000]:
        assert ranges == (["", "bytes=1000-"] if known else ["", ""])


def test_a_file_that_changed_between_two_answers_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    """Without ETag the pieces of two files are put together; the sum tells, and the file is fetched in one piece."""
    path = f"/untagged/{NAME}"
    site.drops[path] = [1000]
    site.content = bytes(1000) + CONTENT[1000:]
    wanted = spec(site.url + path)
    with pytest.raises(DataError):
        download(wanted, tmp_path, console=Console(file=io.StringIO()), patience=replace(PATIENCE, attempts=1))
    assert f"{NAME}.partial" in names(tmp_path) and NAME not in names(tmp_path)
    site.content = CONTENT
    assert fetch(wanted, tmp_path)[0].read_bytes() == CONTENT
    assert [asked for _, asked in site.asked] == ["", "bytes=1000-", ""]


def test_slow_is_not_broken(site: Site, tmp_path: Path) -> None:
    site.seconds = 0.2
    assert fetch(spec(f"{site.url}/slow/{NAME}"), tmp_path)[0].read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_mirrors_are_tried_in_order(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"{site.url}/{way}/{NAME}" for way in ("missing", "page", "wrong", "good")]
    _, said = fetch(spec(*urls), tmp_path)
    assert [path for path, _ in site.asked] == [url.removeprefix(site.url) for url in urls]
    assert said.count("\n") == 4 and "answers 404" in said
    (tmp_path / NAME).unlink()
    site.asked.clear()
    monkeypatch.setenv(MIRROR_VARIABLE, f"{site.url}/good/")
    fetch(spec(*urls), tmp_path)
    assert [path for path, _ in site.asked] == [f"/good/{NAME}"]


def test_all_reasons_are_named(tmp_path: Path, site: Site) -> None:
    closed = "http://127.0.0.1:9"
    with pytest.raises(DataError) as caught:
        fetch(spec(f"{site.url}/missing/{NAME}", f"{closed}/{NAME}"), tmp_path)
    assert "answers 404" in str(caught.value) and f"{closed}/{NAME}: no connection" in str(caught.value)
    assert names(tmp_path) == set()


@pytest.mark.usefixtures("site")  # no proxy
def test_without_a_network_it_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    said, closed = io.StringIO(), f"http://127.0.0.1:9/{NAME}"
    with pytest.raises(DataError) as caught:
        download(spec(closed), tmp_path / "data", console=Console(file=said, width=80), patience=PATIENCE)
    assert said.getvalue().count("\n") == 1, "only what was about to be fetched"
    text = str(caught.value)
    assert "\n" not in text and text.count(closed) == 1 and "no connection to the server" in text
    assert f"get it by hand (https://x.invalid) and run btsr-data add ml1m FILE --data-dir {tmp_path / 'data'}" in text
    assert names(tmp_path) == set()


def test_what_is_there_is_not_fetched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / NAME).write_bytes(b"mine")
    path, said = fetch(spec(f"{site.url}/good/{NAME}"), tmp_path)
    assert path.read_bytes() == b"mine" and not said and not site.asked


def test_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    address = f"http://data.invalid/good/{NAME}"
    assert fetch(spec(address), tmp_path)[0].read_bytes() == CONTENT
    assert [path for path, _ in site.asked] == [address]


def test_terms_are_to_be_accepted_first(site: Site, tmp_path: Path) -> None:
    wanted = spec(f"{site.url}/good/{NAME}", consent=True)
    with pytest.raises(ConfigError, match=f"run btsr-data download ml1m --accept-terms --data-dir {tmp_path}"):
        fetch(wanted, tmp_path)
    assert not site.asked and not names(tmp_path)
    assert download(wanted, tmp_path, consent=True, console=Console(file=io.StringIO())).is_file()


def test_folder_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="choose another folder by --data-dir"):
        fetch(spec(f"{site.url}/good/{NAME}"), tmp_path / "file")


FETCH = """
import sys
from pathlib import Path
from harness.data.fetch import download
from harness.data.kinds import DatasetSpec, RawFile
file = RawFile(name="ml-1m.zip", reader="movielens", urls=(sys.argv[1],))
spec = DatasetSpec(key="ml1m", title="t", files=(file,), url="u", licence="l")
print(download(spec, Path(sys.argv[2])).stat().st_ino)
"""


def test_several_processes_fetch_once(site: Site, tmp_path: Path) -> None:
    site.seconds = 0.3
    command = [sys.executable, "-c", FETCH, f"{site.url}/slow/{NAME}", str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=500)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(said) == 1 and len(site.asked) == 1
    assert (tmp_path / NAME).read_bytes() == CONTENT and names(tmp_path) == {NAME}


def test_killed_process_leaves_no_file_and_the_next_one_goes_on(site: Site, tmp_path: Path) -> None:
    site.seconds = 30
    command = [sys.executable, "-c", FETCH, f"{site.url}/slow/{NAME}", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    partial = tmp_path / f".{NAME}.incoming" / f"{NAME}.partial"
    deadline = time.monotonic() + 500
    while not (partial.exists() and partial.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert NAME not in names(tmp_path)
    have = partial.stat().st_size
    assert 0 < have < len(CONTENT)
    wanted = spec(f"{site.url}/slow/{NAME}")
    site.seconds = 0
    assert fetch(wanted, tmp_path)[0].read_bytes() == CONTENT
    assert site.asked[1] == (f"/slow/{NAME}", f"bytes={have}-") and names(tmp_path) == {NAME}


def test_prepare_fetches_only_if_it_may(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "ml1m", spec(f"{site.url}/good/{NAME}"))
    config, paths = DataConfig(dataset="ml1m"), RunPaths(data_dir=tmp_path / "data", work_dir=tmp_path)
    with pytest.raises(DataError, match="btsr-data download ml1m"):
        prepare(config, paths)
    assert not site.asked
    allowed = paths.model_copy(update={"download": True})
    split = prepare(config, allowed)
    assert split.n_test_users > 10 and len(site.asked) == 1
    assert raw_file(config, paths) == tmp_path / "data" / NAME
    assert prepare(config, paths).fingerprint == split.fingerprint


def test_notice_names_size_source_and_licence_of_every_download() -> None:
    for wanted in DATASETS.values():
        for file in wanted.files:
            if file.urls:
                text = notice(wanted, file)
                size = f"about {file.megabytes:,} MB" if file.megabytes else "size unknown"
                assert "\n" not in text and file.urls[0] in text and wanted.licence in text and size in text
    assert "about 105 MB" in notice(dataset("gowalla"), dataset("gowalla").files[0])
