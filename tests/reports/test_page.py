"""The page: self-contained, valid, complete; in a browser its filters, sorting and curves work without an error."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.config import SEEDS
from harness.errors import ConfigError
from harness.rules import PRESETS, rule_of
from harness.store import open_store
from reports.dial import dial
from reports.page import page
from reports.results import Request, gather
from tests.reports.browser import CHROMIUM, visit
from tests.reports.test_sheet import Checked, parsed
from tests.reports.world import data_config, failure, result, spec, split_of, write


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods with two seeds, an alpha line, a failure whose message is awkward."""
    folder = tmp_path_factory.mktemp("page")
    split = split_of(data_config(), 60)
    runs = [result(spec(seed=seed), split, valid=1, test=1) for seed in SEEDS[:2]]
    line = [
        result(spec("bt_sr", alpha=a, seed=s), split, valid=1 + a, test=1 + a) for a in (0.0, 0.2) for s in SEEDS[:2]
    ]
    bad = spec(seed=2451)
    write(
        folder / "btsr.db",
        "table2",
        [*(r.spec for r in (*runs, *line[2:])), bad],
        [*runs, *line, failure(bad)],
        [split],
    )
    write(folder / "btsr.db", "alpha_lambda", [run.spec for run in line])
    write(folder / "btsr.db", "table1", [run.spec for run in (*runs, *line[2:])])
    with open_store(folder / "btsr.db", read_only=True) as store:
        made = page(store, lambda study: Request(study=study), "A <b> & 'page'")
    out = folder / "out.html"
    out.write_text(made, encoding="utf-8")
    return out


def test_it_is_self_contained_and_valid(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert source.startswith("<!doctype html>")
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)
    assert script is not None
    found = parsed(source.replace(script[1], ""))
    assert found.tags.count("main") == 1 and found.tags.count("h1") == 1 and "b" not in found.tags
    links = re.findall(r'(?:src|href)="([^"]*)"', source)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert "http" not in re.sub(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", "", source)
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids)), "an id appears twice"
    assert all(link[1:] in ids for link in links if link.startswith("#"))


def test_before_the_first_trial_there_is_no_page(tmp_path: Path) -> None:
    database = write(tmp_path / "btsr.db", "table2", [spec()])
    with open_store(database, read_only=True) as store, pytest.raises(ConfigError, match="btsr.db has ended yet"):
        page(store, lambda study: Request(study=study), "page")


def _dial(source: str) -> Checked:
    found = re.search(r'<section id="dial".*?</section>', source, re.DOTALL)
    assert found is not None
    return parsed(found[0])


def test_the_dial_is_drawn_and_picked_from(file: Path) -> None:
    found = _dial(file.read_text(encoding="utf-8"))
    assert found.tags.count("img") == 1, "a front; two alphas at one lambda are no grid"
    rows = [words.strip() for words in found.words]
    with open_store(file.with_name("btsr.db"), read_only=True) as store:
        dialled = dial(gather(store, Request(study="alpha_lambda")), "ml1m")
        for rule, words in PRESETS.items():
            at = rows.index(f"{rule}: {words}")
            assert dialled.settings[dialled.pick(rule_of(rule))].name in rows[at : at + 4]


def test_the_dial_of_another_study_that_varies_alpha(tmp_path: Path) -> None:
    split = split_of(data_config(), 60)
    runs = [result(spec("bt_sr", alpha=a), split, valid=1 + a, test=1) for a in (0.1, 0.2)]
    file = write(tmp_path / "btsr.db", "mine", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store:
        found = _dial(page(store, lambda study: Request(study=study), "page"))
    words = " ".join(found.words)
    assert "What the rules pick: study mine" in words and found.tags.count("img") == 1
    assert "btsr-sweep --study alpha_lambda" in words


def test_without_a_dial_the_page_says_what_to_run(tmp_path: Path) -> None:
    split = split_of(data_config(), 60)
    one = result(spec("bt_sr", alpha=0.2), split, valid=1, test=1)
    file = write(tmp_path / "btsr.db", "alpha_lambda", [one.spec], [one], [split])
    with open_store(file, read_only=True) as store:
        found = _dial(page(store, lambda study: Request(study=study), "page"))
    words = " ".join(found.words)
    assert "No study here varies alpha and lambda" in words and "img" not in found.tags
    assert "1 finished setting of alpha and lambda on ml1m" in words
    assert "btsr-sweep --study alpha_lambda --dataset ml1m" in words and "`" not in words


def test_it_has_every_part(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    for words in (
        'id="summary"',
        "ML 1M (60 test users, 2 of 7 methods run): the best mean ndcg@10 is that of BT-SR,",
        "against the best other, SASRec (CE) with 0.",
        "Printed values of table 2 beside ours: ",
        "What the paper&#39;s text says, in our results: yes: ",
        'id="table-1"',
        'id="table-2"',
        'id="figure3_ml1m"',
        'id="figure6"',
        'id="dial"',
        "balanced: max cov@10 subject to ndcg@10 &gt;= 0.99*best",
        'id="text-claims"',
        'id="text-audit"',
        "Ours beside published, cell by cell",
        "Where the cells come from",
        "btsr-sweep --study table2 --dataset ml1m",
        "kept no states and scores, an earlier version ran them",
        "Table 3: ",
        "Effects of protocol: ",
        "6 finished runs, 1 failed",
        '<option value="BT-SR">BT-SR</option>',
    ):
        assert words in source, words
    data = re.search(r'id="data">(.*?)</script>', source, re.DOTALL)
    assert data is not None and "<" not in data[1]
    runs = json.loads(data[1])
    assert len(runs) == 7 and {run["status"] for run in runs} == {"done", "failed"}
    assert next(run for run in runs if run["status"] == "failed")["error"] == "RuntimeError: out of memory"
    images = re.findall(r'<img alt="([^"]{30,})" src="data:image/svg', source)
    assert len(images) >= 4, "every picture has its words"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser(file: Path, tmp_path: Path) -> None:
    def rows(dom: str) -> list[str]:
        body = re.search(r'<table id="run-list">.*?<tbody>(.*?)</tbody>', dom, re.DOTALL)
        assert body is not None
        return re.findall(r"<tr>(.*?)</tr>", body[1], re.DOTALL)

    dom, console = visit(f"file://{file}", tmp_path)
    assert not console, console
    assert "7 of 7 runs" in dom and len(rows(dom)) == 7
    dom, console = visit(f"file://{file}#method=BT-SR&sort=-ndcg&open=1", tmp_path)
    assert not console, console
    found = rows(dom)
    assert "4 of 7 runs" in dom and len(found) == 5, "four runs and one that is open"
    assert found[1].count("<circle") == 1 and "<polyline" not in found[1], "one epoch, not validated"
    seed = re.search(r'aria-label="[0-9a-f]{8}, ML 1M, BT-SR, seed \d+"', found[0])
    assert seed and found[0].startswith('<th scope="row"><button') and found[0].count("<th") == 1
    assert "<svg" in found[1] and "Learning curve over" in found[1] and 'aria-expanded="true"' in found[0]
    assert 'aria-sort="descending"' in dom
    values = [float(re.findall(r"<td>([^<]*)</td>", row)[9]) for row in (found[0], *found[2:])]
    assert values == sorted(values, reverse=True)
    dom, _ = visit(f"file://{file}#words=failed", tmp_path)
    assert "1 of 7 runs" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext on this machine")
def test_what_is_folded_is_printed(file: Path, tmp_path: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert "<details><summary>Where the cells come from" in source, "on the screen it is closed"
    printed = tmp_path / "page.pdf"
    visit(f"file://{file}", tmp_path / "profile", f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    done = subprocess.run(["pdftotext", "-layout", printed, "-"], capture_output=True, text=True, check=True)
    assert "Where the cells of table 2 come from" in done.stdout
