"""btsr-report as a user types it: output, files, exit codes and one line for every mistake."""

import os
import re
import sqlite3
from pathlib import Path

import pytest

from harness.config import Study, StudyOptions
from harness.store import open_store
from reports.findings import findings
from reports.plans import TABLE2
from reports.results import Request, gather
from reports.tables import build
from studies import STUDIES
from tests.reports.latex import check
from tests.reports.typed import typed
from tests.reports.world import data_config, failure, result, spec, split_of, write


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = split_of(data_config("synthetic"), 60)
    specs = [spec(dataset="synthetic", seed=seed) for seed in (1235, 37)]
    specs += [
        spec("bt_sr", dataset="synthetic", alpha=alpha, seed=seed) for alpha in (0.0, 0.1, 0.3) for seed in (1235, 37)
    ]
    runs = [result(s, split, valid=1 + s.aux.alpha, test=1 + s.aux.alpha) for s in specs]
    return write(tmp_path_factory.mktemp("cli") / "btsr.db", "smoke", specs, runs, [split])


def _refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert typed(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("btsr-report: ") and said.err.count("\n") == 1
    return said.err


def test_table_on_the_terminal(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--table", 2, "--study", "smoke", "--dataset", "synthetic", "--db", database) == 0
    said = capsys.readouterr()
    assert "Synthetic" in said.out and "n = 2" in said.out and "ndcg@10" in said.out
    assert "\x1b" not in said.out and said.err == ""


@pytest.mark.parametrize(("style", "sign"), [("markdown", "| data set |"), ("latex", "\\toprule"), ("csv", "dataset,")])
def test_formats(
    style: str, sign: str, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--table", 2, "--study", "smoke", "--db", database, "--format", style) == 0
    out = capsys.readouterr().out
    assert sign in out
    if style == "latex":
        check(out)


def test_table_files(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--table", 2, "--study", "smoke", "--db", database, "--out", tmp_path / "new" / "folder")
    assert typed(monkeypatch, *words) == 0
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {
        "table2.txt",
        "table2.md",
        "table2.tex",
        "table2.csv",
        "table2.html",
    }
    assert typed(monkeypatch, *words[:-1], tmp_path / "one", "--format", "csv") == 0
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["table2.csv"]


def test_figure_files_go_next_to_the_database(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--figure", 3, "--study", "smoke", "--db", database) == 0
    made = sorted(p.name for p in (database.parent / "report").iterdir())
    assert made == ["figure3_synthetic.pdf", "figure3_synthetic.png", "figure3_synthetic.svg"]
    assert capsys.readouterr().err.count("wrote ") == 3


def test_reading_leaves_the_database_as_it_was(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = database.read_bytes()
    assert typed(monkeypatch, "--table", 2, "--study", "smoke", "--db", database) == 0
    assert database.read_bytes() == before


def test_mistakes(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, empty = tmp_path / "foreign.db", tmp_path / "empty.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    empty.touch()
    noise = tmp_path / "noise.db"
    noise.write_bytes(os.urandom(5000))
    occupied = tmp_path / "a_file"
    occupied.touch()
    here = ("--db", database)
    for words, expected in (
        (here, "use --table 2, --figure 3"),
        (("--table", 7, *here), "there is no table 7: use --table 1, 2, 3"),
        (("--figure", 10, *here), "there is no figure 10: use --figure 1, 2"),
        (("--figure", 2, "--study", "smoke", *here), "kept no states and scores, an earlier version ran them"),
        (("--verdict", *here), "add --table 2"),
        (("--metric", "hr@10", "--figure", 3, *here), "add --table 2"),
        (("--table", 2, "--study", "smoke", "--metric", "hr@60", *here), "K = 60 is not stored"),
        (("--table", 2, "--study", "smoke", "--metric", "hitrate@10", *here), "unknown metric 'hitrate'"),
        (("--table", 2, *here), "btsr-sweep --study table2"),
        (("--figure", 3, *here), "btsr-sweep --study alpha_lambda"),
        (("--table", 2, "--study", "smok", *here), "did you mean 'smoke'"),
        (("--table", 2, "--study", "smoke", "--dataset", "sintetic", *here), "did you mean 'synthetic'"),
        (
            ("--table", 2, "--study", "smoke", "--dataset", "all", *here),
            "run `btsr-sweep --study smoke --dataset ml1m,",
        ),
        (("--table", 2, "--study", "smoke", "--profile", "paper", *here), "with profile paper"),
        (
            ("--table", 2, "--study", "smoke", "--tie", "random", *here),
            "and tie random in",
        ),
        (
            ("--table", 2, "--study", "smoke", "--tie", "random", *here),
            "run `btsr-sweep --study smoke --dataset synthetic --profile released --tie random --out",
        ),
        (("--table", 2, "--tie", "random", *here), "--profile released --tie random --out"),
        (("--table", 2, "--study", "smoke", "--precision", "bf16", *here), "released and precision bf16 in"),
        (
            ("--table", 2, "--study", "smoke", "--precision", "bf16", *here),
            "--study smoke --dataset synthetic --profile released --precision bf16 --out",
        ),
        (("--table", 2, "--study", "smoke", "--precision", "bf16", *here), " --extend`"),
        (("--figure", 3, "--study", "smoke", "--dataset", "beauty", *here), "--dataset beauty"),
        (
            ("--table", 2, "--db", tmp_path / "none.db"),
            "none.db: run btsr-sweep first, or name another database by --db",
        ),
        (("--table", 2, "--db", "mysql://me:secret@host/db"), "'mysql://me:***@host/db' is of a kind that is not supp"),
        (("--table", 2, "--db", tmp_path), "folder"),
        (
            ("--figure", 7, *here),
            "(it has: smoke; choose one by --study): run `btsr-sweep --study alpha_lambda --dataset ml1m,yelp,",
        ),
        (("--page", occupied / "x.html", *here), "choose another --page"),
        (("--table", 2, "--db", foreign), "another program, not of btsr: name another database by --db"),
        (("--table", 2, "--db", empty), "run btsr-sweep first"),
        (("--table", 2, "--db", noise), "noise.db"),
        (("--table", 2, "--study", "smoke", *here, "--out", occupied / "x"), "choose another --out"),
        (("--figure", 3, "--study", "smoke", *here, "--out", occupied / "x"), "choose another --out"),
    ):
        assert expected in _refused(monkeypatch, capsys, *words), words
    assert not (tmp_path / "none.db").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    said = _refused(monkeypatch, capsys, "--table", 2, "--study", "smoke", "--db", database, "--out", tmp_path)
    assert "choose another --out" in said


def test_options_of_the_wrong_kind_are_typers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(monkeypatch, "--table", "two") == 2
    assert typed(monkeypatch, "--table", 2, "--format", "pdf") == 2


def test_audit_needs_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed(monkeypatch, "--audit") == 0
    assert "Gowalla, cov@1" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_verdict_and_metrics(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("--study", "smoke", "--db", database)
    assert typed(monkeypatch, "--table", 2, "--verdict", "--dataset", "ml1m,synthetic", *here) == 0
    assert "not run: 63." in capsys.readouterr().out
    assert typed(monkeypatch, "--table", 2, "--metric", "hr@20,mrr@3", "--format", "csv", *here) == 0
    assert {line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]} == {"hr@20", "mrr@3"}


def test_everything_names_what_cannot_be_made(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--all", "--study", "smoke", "--format", "text", "--out", tmp_path, "--db", database) == 0
    said = capsys.readouterr().err
    assert "skipped figure 2: " in said and "kept no states and scores" in said and "figure 7, figure 9: " in said
    assert "skipped table 3: " in said
    made = {path.name for path in tmp_path.iterdir()}
    assert {"table1.txt", "table2.txt", "audit.txt", "figure1.png", "figure6.svg", "figure8.pdf"} <= made
    assert "figure3_synthetic.png" in made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--figure", 3, "--format", "csv"), "--format is of tables; figures are always written as PNG, SVG and PDF"),
        (("--pareto", "--format", "html"), "--format is of tables"),
        (("--audit", "--dataset", "ml1m"), "--dataset has no effect on --audit"),
        (("--page", "page.html", "--out", "folder"), "--page names its file itself: drop --out"),
        (("--table", 2, "--dataset", ""), "--dataset has an empty name"),
        (("--table", 2, "--dataset", "ml1m,,yelp"), "--dataset has an empty name"),
        (("--table", 2, "--metric", ","), "--metric has an empty name"),
        (("--table", 2, "--study", ""), "--study has an empty name"),
        (("--pick", ""), "rule '' is not understood"),
        (
            ("--sql", "select 1", "--study", "smoke", "--tie", "stable", "--precision", "fp32"),
            "--study, --tie, --precision has no effect on --audit, --sql",
        ),
        (("--why", "table 2, ml1m, hr@1", "--dataset", "ml1m"), "--why names its data set itself"),
        (
            ("--table", 2, "--study", "smoke", "--fingerprint", ""),
            "--fingerprint has an empty name in it",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(
    words: tuple[object, ...],
    message: str,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert typed(monkeypatch, *words, "--db", database) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and not told.out


def test_effects_of_the_studies_that_switch_and_of_any_that_is_named(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _refused(monkeypatch, capsys, "--effects", "--db", database)
    assert "has no study 'protocol'" in said and "run `btsr-sweep --study protocol --dataset ml1m,beauty" in said
    words = ("--effects", "--study", "smoke", "--metric", "hr@5", "--db", database)
    assert typed(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert "alpha: 0 -> 0.3" in out and "hr@5" in out and "ndcg@10 " not in out
    assert typed(monkeypatch, *words, "--format", "latex") == 0
    check(capsys.readouterr().out)
    assert "no results on data" in _refused(monkeypatch, capsys, *words, "--fingerprint", "zz")
    split = split_of(data_config("synthetic"), 60)
    specs = [spec("bt_sr", dataset="synthetic", alpha=alpha) for alpha in (0.1, 0.2)]
    runs = [result(s, split, valid=1, test=1 + s.aux.alpha) for s in specs]
    write(tmp_path / "btsr.db", "protocol", specs, runs, [split])
    assert typed(monkeypatch, "--effects", "--db", tmp_path / "btsr.db") == 0
    told = capsys.readouterr()
    assert "study protocol, profile released" in told.out
    missing = "".join(
        rf".*btsr.db has no study '{name}' \(it has: protocol; choose one by --study\): run `btsr-sweep --study {name} "
        rf"--dataset \S+ --profile released --out {re.escape(str(tmp_path))}`\n"
        for name in ("precision", "augmentation")
    )
    assert re.fullmatch(missing, told.err)
    assert typed(monkeypatch, "--all", "--out", tmp_path / "all", "--format", "csv", "--db", tmp_path / "btsr.db") == 0
    assert "skipped effects of augmentation: " in capsys.readouterr().err
    assert (tmp_path / "all" / "effects_protocol.csv").exists()
    assert typed(monkeypatch, "--page", tmp_path / "page.html", "--db", tmp_path / "btsr.db") == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "alpha: 0.1 -&gt; 0.2" in page and "Effects of augmentation: " in page


def test_table_1_is_made_of_table_2_where_its_own_study_was_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split = split_of(data_config(), 20)
    run = result(spec(), split, valid=1, test=1)
    write(tmp_path / "btsr.db", "table2", [run.spec], [run], [split])
    here = ("--db", tmp_path / "btsr.db")
    assert typed(monkeypatch, "--table", 1, *here) == 0
    assert "study table2" in capsys.readouterr().out
    assert "btsr-sweep --study table1" in _refused(monkeypatch, capsys, "--table", 1, "--study", "table1", *here)


@pytest.mark.parametrize("verdict", [(), ("--verdict",)])
def test_what_table_1_lacks_is_run_by_its_own_study(
    verdict: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the seeds and the precision of the part that table 2 has run, and of all its methods."""
    options = StudyOptions(datasets=("ml1m",), seeds=(1235, 37), precision="bf16")
    specs = STUDIES["table2"](options).specs
    split = split_of(specs[0].data, 20)
    write(tmp_path / "btsr.db", "table2", specs, [result(one, split, valid=1, test=1) for one in specs], [split])
    assert typed(monkeypatch, "--table", 1, "--dataset", "ml1m,beauty", *verdict, "--db", tmp_path / "btsr.db") == 0
    out = " ".join(capsys.readouterr().out.split())
    like = "--seeds 2 --precision bf16"
    assert f"btsr-sweep --study table1 --dataset ml1m --profile released {like} --out {tmp_path}" in out
    like = "--precision bf16 --seeds 2"
    assert f"btsr-sweep --study table1 --dataset beauty --profile released {like} --out {tmp_path}" in out
    assert "--study table2" not in out


def test_effects_of_one_study_do_not_need_those_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split = split_of(data_config(), 20)
    for study, profile in (("protocol", "released"), ("precision", "paper")):
        specs = [spec("bt_sr", alpha=alpha, profile=profile) for alpha in (0.1, 0.2)]
        runs = [result(one, split, valid=1, test=1 + one.aux.alpha) for one in specs]
        write(tmp_path / "btsr.db", study, specs, runs, [split])
    here = ("--effects", "--db", tmp_path / "btsr.db")
    for profile, shown, other in (("paper", "precision", "protocol"), ("released", "protocol", "precision")):
        assert typed(monkeypatch, *here, "--profile", profile) == 0
        said = capsys.readouterr()
        assert f"study {shown}, profile {profile}" in said.out and f"study {other}, " not in said.out
        assert f"study {other} has no finished trial" in said.err and "no study 'augmentation'" in said.err
    refused = _refused(monkeypatch, capsys, *here, "--profile", "paper", "--study", "protocol")
    assert "study protocol has no finished trial" in refused
    assert "on beauty" in _refused(monkeypatch, capsys, *here, "--dataset", "beauty")


def test_a_title_of_two_lines_is_one_in_effects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split = split_of(data_config(), 20)
    specs = [spec("bt_sr", alpha=alpha) for alpha in (0.1, 0.2)]
    runs = [result(one, split, valid=1, test=1) for one in specs]
    with open_store(tmp_path / "btsr.db", create=True) as store:
        store.register_study(Study(name="mine", title="Mine\nand yours", specs=tuple(specs)))
        store.record_data(split)
        for run in runs:
            store.record(run)
    words = ("--effects", "--study", "mine", "--db", tmp_path / "btsr.db", "--format", "latex")
    assert typed(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    check(out)
    assert "Mine and yours, one setting switched" in out


def test_a_profile_in_which_everything_failed_is_no_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split, good, bad = split_of(data_config(), 20), spec(), spec(profile="paper")
    write(tmp_path / "btsr.db", "table2", [good, bad], [result(good, split, valid=1, test=1), failure(bad)], [split])
    assert typed(monkeypatch, "--table", 2, "--db", tmp_path / "btsr.db") == 0
    assert "profile released" in capsys.readouterr().out


def test_a_table_is_titled_by_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split, one = split_of(data_config(), 20), spec()
    write(tmp_path / "btsr.db", "table1", [one], [result(one, split, valid=1, test=1)], [split])
    here = ("--table", 1, "--db", tmp_path / "btsr.db")
    for words, title in (((), "NDCG@10 of three"), (("--metric", "hr@10,cov@5"), "HR@10, COV@5 of three")):
        assert typed(monkeypatch, *here, *words) == 0
        assert f"Table 1: {title} SASRec variants" in " ".join(capsys.readouterr().out.split())


def test_a_method_that_the_paper_does_not_have_gets_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """BT-SR is tested against it, too; where it is not run, tables are the paper's."""
    split = split_of(data_config(), 40)
    specs = [spec(method, seed=seed) for method in ("sasrec_ce", "sasrec_ce_sampled") for seed in (1235, 37)]
    specs += [spec("bt_sr", alpha=0.2, seed=seed) for seed in (1235, 37)]
    specs += [spec("sasrec_ce_sampled+bt", alpha=0.2)]
    runs = [result(one, split, valid=1, test=3.0 if one.method == "sasrec_ce_sampled" else 1.0) for one in specs]
    for study in ("table1", "table2"):
        write(tmp_path / "btsr.db", study, specs, runs if study == "table1" else (), [split])
    here = ("--db", tmp_path / "btsr.db")
    assert typed(monkeypatch, "--table", 2, *here, "--format", "csv", "--metric", "ndcg@10") == 0
    out = capsys.readouterr().out
    assert "sasrec_ce_sampled" in out and "duorec_released" not in out
    assert typed(monkeypatch, "--table", 2, *here) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "SASRec (CE-)" in said and "SASRec (gBCE)" not in said
    assert typed(monkeypatch, "--table", 1, *here) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "CE-+BT" in said
    assert typed(monkeypatch, "--why", "table 2, ml1m, hr@10, sasrec_ce_sampled", *here) == 0
    assert "SASRec (CE-)" in capsys.readouterr().out
    with open_store(tmp_path / "btsr.db", read_only=True) as store:
        found = findings(gather(store, Request(study="table2")), TABLE2)
        table = build(found)
    place = [row.metric for row in table.rows].index("ndcg@10"), [c.key for c in table.columns].index("bt_sr")
    ours = table.cells[place[0]][place[1]]
    assert ours.test is not None and ours.test.against == "sasrec_ce_sampled"


def test_what_only_an_earlier_definition_asked_for_is_told_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = StudyOptions(datasets=("ml1m",), seeds=(1235, 37))
    one, two = STUDIES["table2"](options).specs[:2]
    old = [two.model_copy(update={"encoder": two.encoder.model_copy(update={"dropout": p})}) for p in (0.7, 0.8)]
    split = split_of(one.data, 20)
    here = ("--table", 2, "--dataset", "ml1m", "--db", tmp_path / "btsr.db")
    write(tmp_path / "btsr.db", "table2", [one, two, *old], [result(one, split, valid=1, test=1)], [split])
    assert typed(monkeypatch, *here) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of those not done 2 trials are not what study table2, as it is today, asks for; `btsr-sweep" in said
    study = "btsr-sweep --study table2 --dataset ml1m --profile released --methods"
    both = f"{study} sasrec_bce,sasrec_ce --seeds 1 --out {tmp_path}"
    assert f"`{both} --replace` forgets them" in said and f"{study} sasrec_ce --seeds 1 --out {tmp_path}" in said
    with open_store(tmp_path / "btsr.db") as store:
        store.record(result(two, split, valid=1, test=1))
    assert typed(monkeypatch, *here) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"`{both} --replace` forgets them" in said and said.count("btsr-sweep") == 2
    others = f"--seeds 1 --methods sasrec_sce,cl4srec,duorec,ec4srec,bt_sr --out {tmp_path} --extend"
    assert study.replace("--methods", others) in said, "what was not asked for"


def test_a_k_above_the_catalogue_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.reports.world.N_ITEMS", 40)
    split = split_of(data_config(), 20)
    runs = [result(spec("bt_sr", alpha=alpha), split, valid=1, test=1) for alpha in (0.1, 0.2)]
    here = ("--db", write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [split]))
    says = "metric hr@50: ml1m has 40 items after filtering: use a K up to 40, or leave"
    for words in (
        ("--table", 2, "--metric", "hr@10,hr@50"),
        ("--effects", "--study", "table2", "--metric", "hr@50"),
        ("--why", "table 2, ml1m, hr@50"),
    ):
        assert says in _refused(monkeypatch, capsys, *words, *here)
    assert typed(monkeypatch, "--table", 2, "--metric", "hr@40", *here) == 0
