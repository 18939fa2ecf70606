"""Provenance, queries and exports through the command."""

import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from harness.config import SEEDS, StudyOptions
from harness.errors import ConfigError
from harness.exchange import TABLES
from harness.store import open_store
from reports.cli import main
from reports.findings import findings
from reports.plans import PLANS
from reports.results import Request, gather
from reports.tables import build
from reports.why import _letter, origins, place_of, why
from studies import STUDIES
from studies.profiles import varied
from tests.reports.world import data_config, result, spec, split_of, write


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = split_of(data_config(), 50)
    runs = [result(spec(seed=seed), split, valid=1, test=1) for seed in (1235, 37)]
    runs += [result(spec("bt_sr", alpha=0.2), split, valid=1, test=1)]
    return write(tmp_path_factory.mktemp("why") / "btsr.db", "table2", [r.spec for r in runs], runs, [split])


def _said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["btsr-report", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    return (stop.value.code if isinstance(stop.value.code, int) else 0), said.out, said.err


def test_places() -> None:
    for words, where in (
        ("table 2, /a, b/c@d.csv, hr@1", "/a, b/c@d.csv"),
        ("table 2, /a, b/c.csv, hr@1, bt_sr", "/a, b/c.csv"),
    ):
        _, dataset, metric, column = place_of(words)
        assert (dataset, metric) == (where, ("hr", 1)) and (column is not None) == words.endswith("bt_sr")
    plan, dataset, metric, column = place_of("table 2, ml1m, hr@1")
    assert (plan.number, dataset, metric, column) == (2, "ml1m", ("hr", 1), None)
    for words in ("table 2, ml1m, erank, bt_sr", "table 2, ml1m, hr@1, improve"):
        named = place_of(words)[3]
        assert named is not None and words.endswith(named.key)
    assert place_of("table 2, ml1m, erank")[2:] == (("erank", 0), None)
    column = place_of("Table 1, yelp, ndcg@10, sasrec_ce+bt")[3]
    assert column is not None and column.base == "ce"
    for words, expected in (
        ("table 2", "write it as"),
        ("table 4, ml1m, hr@1", "there is no table 4"),
        ("table 2, ml1m, hr", "write it as ndcg@10"),
        ("table 1, ml1m, ndcg@10, improve", "unknown column 'improve'"),
        ("table 2, ml1m, hr@1, bt-sr", "unknown column 'bt-sr': did you mean 'bt_sr'"),
    ):
        with pytest.raises(ConfigError, match=expected):
            place_of(words)


def test_every_run_behind_a_row(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _said(monkeypatch, capsys, "--why", "table 2, ml1m, hr@10", "--db", database)
    assert code == 0 and out.count("2026-01-01 00:00") == 3
    for one in (spec(), spec(seed=37), spec("bt_sr", alpha=0.2)):
        assert one.key in out
    words = " ".join(out.split())
    assert "published 0.0945 (other data)" in words and "published 0.0847 (doubtful) (other data)" in words
    assert "in an empty database:\n  btsr-sweep\n" in out, "table2 plans none of these today: what ran them"
    assert "Run by a: btsr-sweep\n" in out and "Run by b" not in out, "the same command is told once"
    code, out, _ = _said(
        monkeypatch, capsys, "--why", "table 2, ml1m, hr@10, bt_sr", "--format", "csv", "--db", database
    )
    assert code == 0 and out.splitlines()[1].endswith(",btsr-sweep"), "CSV has the command itself"
    code, out, _ = _said(monkeypatch, capsys, "--why", "table 2, ml1m, hr@10, bt_sr", "--db", database)
    assert out.count("2026-01-01") == 1
    code, _, err = _said(monkeypatch, capsys, "--why", "table 2, ml1m, hr@10, duorec", "--db", database)
    assert code == 2 and "nothing is behind table 2, ml1m, hr@10, DuoRec: " in err


def test_a_column_that_the_study_does_not_ask_for_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table 2 is complete: its own command would add nothing."""
    specs = STUDIES["table2"](StudyOptions(datasets=("ml1m",), seeds=SEEDS[:1])).specs
    split = split_of(specs[0].data, 50)
    runs = [result(one, split, valid=1, test=1) for one in specs]
    file = write(tmp_path / "btsr.db", "table2", specs, runs, [split])
    command = "btsr-sweep --study table2 --dataset ml1m --profile released --seeds 1 --methods sasrec_gbce"
    for place, expected in (
        ("table 2, ml1m, hr@1, sasrec_gbce", f"hr@1, SASRec (gBCE): run `{command} --out {tmp_path} --extend`"),
        ("table 1, ml1m, ndcg@10, sasrec_bce+bt", "BCE+BT: ask with --study table1 after `btsr-sweep --study table1 "),
    ):
        code, _, err = _said(monkeypatch, capsys, "--why", place, "--db", file)
        assert code == 2 and "nothing is behind " in err and expected in err and err.count("\n") == 1
    assert "--methods sasrec_bce+bt" in err


def test_the_commands_of_a_row_follow_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command where a plan holds all runs; runs of an earlier definition split it. CE has 50 epochs."""
    specs = STUDIES["table2"](StudyOptions(datasets=("ml1m",), seeds=SEEDS[:2], max_epochs=60)).specs
    split = split_of(specs[0].data, 50)
    whole = [result(one, split, valid=1, test=1) for one in specs if one.method in {"bt_sr", "sasrec_ce", "duorec"}]
    file = write(tmp_path / "whole.db", "table2", specs, whole, [split])
    words = ("--why", "table 2, ml1m, hr@1")
    start = "btsr-sweep --study table2 --dataset ml1m --profile released --methods "
    _, out, _ = _said(monkeypatch, capsys, *words, "--db", file)
    again = "--seeds 2 --max-epochs 60 --out again"
    assert out.endswith(f"empty database:\n  {start}sasrec_ce,duorec,bt_sr {again}\n")
    earlier = [varied(one, aux={"alpha": 0.7}) if one.method == "duorec" else one for one in specs]
    there = [result(one, split, valid=1, test=1) for one in earlier if one.method in {"bt_sr", "sasrec_ce", "duorec"}]
    file = write(tmp_path / "part.db", "table2", earlier, there, [split])
    _, out, _ = _said(monkeypatch, capsys, *words, "--db", file)
    told = out[out.index("empty database:") :].splitlines()[1:]
    assert told == [f"  {start}sasrec_ce,bt_sr {again}", "  btsr-sweep"]
    fewer = [run for run in whole if run.spec.method != "duorec" or run.spec.seed == SEEDS[0]]
    file = write(tmp_path / "fewer.db", "table2", specs, fewer, [split])
    _, out, _ = _said(monkeypatch, capsys, *words, "--db", file)
    told = out[out.index("empty database:") :].splitlines()[1:]
    one = f"  {start}duorec --seeds 1 --max-epochs 60 --out again --extend"
    assert told == [f"  {start}sasrec_ce,bt_sr {again}", one], "no run that is not behind the row"
    file = tmp_path / "part.db"
    _, _, err = _said(monkeypatch, capsys, *words[:1], "table 2, ml1m, hr@1, sasrec_gbce", "--db", file)
    assert "--seeds 2 --max-epochs 60 --methods sasrec_gbce --db" in err, "as the others, for all the earlier trials"


def test_improve_is_what_it_compares(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _said(monkeypatch, capsys, "--why", "table 2, ml1m, hr@10, improve", "--db", database)
    assert code == 0 and out.count("2026-01-01 00:00") == 3
    words = " ".join(out.split())
    with open_store(database, read_only=True) as store:
        table = build(findings(gather(store, Request(study="table2", datasets=("ml1m",))), PLANS[2], (("hr", 10),)))
    assert f"Improve: {table.cells[0][-1].value:+.1f} %; published +1.3 % (other data); BT-SR against" in words
    assert "the best other column by mean, SASRec (CE)." in words
    one = spec("bt_sr", alpha=0.2)
    split = split_of(one.data, 50)
    file = write(tmp_path / "btsr.db", "table2", [one], [result(one, split, valid=1, test=1)], [split])
    code, _, err = _said(monkeypatch, capsys, "--why", "table 2, ml1m, hr@10, improve", "--db", file)
    assert code == 2 and "hr@10, Improve, which needs BT-SR and another column: run `btsr-sweep" in err


def test_values_in_csv_are_exact(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = result(spec(), split_of(data_config(), 50), valid=1, test=1)
    (value,) = [m.value for m in run.metrics if (m.part, m.name, m.k, m.bucket) == ("test", "ndcg", 10, 0)]
    assert value is not None and value != round(value, 4)
    words = ("--why", "table 2, ml1m, ndcg@10, sasrec_ce", "--format", "csv")
    code, out, _ = _said(monkeypatch, capsys, *words, "--db", database)
    frame = pd.read_csv(StringIO(out))
    assert code == 0 and frame["ndcg@10"][0] == pytest.approx(value, abs=1e-12) and frame["seconds"][0] == 1.0
    assert list(frame["seed"]) == [1235, 37] and list(frame["run by"]) == ["btsr-sweep"] * 2


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("table2", "btsr-sweep --study table2 --dataset yelp --profile released --methods sasrec_bce --seeds 1 --out"),
        ("mine", "btsr-sweep\n"),
    ],
)
def test_the_command_of_a_cell_is_that_of_the_study_that_ran_it(
    study: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table 3 takes SASRec (BCE) from any study; alpha_lambda never runs it. A study file has no name to type."""
    options = StudyOptions(datasets=("yelp",), seeds=SEEDS[:1])
    line = [one for one in STUDIES["alpha_lambda"](options).specs if one.aux.alpha in (0.1, 0.4)][:2]
    (base,) = [one for one in STUDIES["table2"](options).specs if one.method == "sasrec_bce"]
    split = split_of(base.data, 50)
    file = write(
        tmp_path / "btsr.db", "alpha_lambda", line, [result(one, split, valid=1, test=1) for one in line], [split]
    )
    write(file, study, [base], [result(base, split, valid=1, test=1)])
    code, out, _ = _said(monkeypatch, capsys, "--why", "table 3, yelp, ndcg@20, sasrec_bce", "--db", file)
    assert code == 0 and f"in an empty database:\n  {expected}" in out
    with open_store(file, read_only=True) as store:
        sheet = origins(findings(gather(store, Request(study="alpha_lambda", datasets=("yelp",))), PLANS[3]))
    commands = {row[1]: row[-1] for row in sheet.rows}
    assert f"{commands['SASRec (BCE)']}\n".startswith(expected)
    assert "--study alpha_lambda --dataset yelp" in commands["BT-SR (alpha = 0.1)"]


def test_the_command_of_a_search_is_the_one_that_was_typed(tmp_path: Path) -> None:
    """Its points are in no plan: a new command would lose --precision, and its number of points decides the draws."""
    point = spec("bt_sr", alpha=0.2, precision="bf16")
    typed = "btsr-sweep --study tune --search tpe --trials 60 --precision bf16"
    split = split_of(point.data, 50)
    run = result(point, split, valid=1, test=1)
    run = replace(run, provenance=replace(run.provenance, command=typed))
    file = write(tmp_path / "btsr.db", "tune_tpe", [point], [run], [split])
    with open_store(file, read_only=True) as store:
        found = findings(gather(store, Request(study="tune_tpe", datasets=("ml1m",))), PLANS[2])
        assert why(found, "ml1m", ("ndcg", 10), None).commands == (typed,)


def test_letters() -> None:
    assert [_letter(place) for place in (0, 25, 26, 27, 26 * 27)] == ["a", "z", "aa", "ab", "aaa"]


def test_sql(database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select method, seed from results where seed = 37"
    code, out, _ = _said(monkeypatch, capsys, "--sql", query, "--format", "csv", "--db", database)
    assert (code, out) == (0, "method,seed\nsasrec_ce,37\n")
    before = database.read_bytes()
    code, _, err = _said(monkeypatch, capsys, "--sql", "delete from trial", "--db", database)
    assert code == 2 and err.count("\n") == 1 and "reading only" in err
    assert database.read_bytes() == before


def test_sql_as_csv_is_exact(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for query, expected in (
        (
            "select 0.12345678901234 as x, 12345678.25 as y, 3 as z, null as n",
            "x,y,z,n\n0.12345678901234,12345678.25,3,\n",
        ),
        ("select 1 as z union all select null order by z desc", 'z\n1\n""\n'),
        ("select 1.5 as a, 2.25 as a", "a,a\n1.5,2.25\n"),
        ("select 1 as a, x'00ff' as b", "a,b\n1,(2 bytes)\n"),
        ("select seed from trial where seed = 0", "seed\n"),
    ):
        code, out, _ = _said(monkeypatch, capsys, "--sql", query, "--format", "csv", "--db", database)
        assert (code, out) == (0, expected)
    code, out, _ = _said(monkeypatch, capsys, "--sql", "select 0.12345678901234 as x", "--db", database)
    assert "0.123457\n" in out and out.count("0.1234567") == 1, "but in its title six digits are enough for reading"


def test_sql_is_no_markup(database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _said(monkeypatch, capsys, "--sql", "select '[/b]', 'x[a]' as 'y[b]'", "--db", database)
    assert code == 0 and out.count("[/b]") == 3 and "x[a]" in out and out.count("y[b]") == 2


def test_sql_of_many_columns_shows_all(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select * from results where method = 'bt_sr'"
    code, out, _ = _said(monkeypatch, capsys, "--sql", query, "--db", database)
    code, exact, _ = _said(monkeypatch, capsys, "--sql", query, "--db", database, "--format", "csv")
    header, row = (line.split(",") for line in exact.splitlines())
    shown = out.split()
    for name, value in zip(header, row, strict=True):
        assert name in shown, name
        if "." not in value and " " not in value:
            assert not value or value in shown, name


def test_parquet(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = _said(monkeypatch, capsys, "--export", "parquet", "--db", database, "--out", tmp_path / "new")
    assert code == 0 and err.count("wrote ") == len(TABLES)
    frame = pd.read_parquet(tmp_path / "new" / "results.parquet")
    with open_store(database, read_only=True) as store:
        stored = {row.key for row in store.trials()}
    assert set(frame["trial_key"]) == stored and frame["test_hr_10"].between(0, 1).all()
    assert len(pd.read_parquet(tmp_path / "new" / "metric.parquet")) > 100
    (tmp_path / "file").touch()
    code, _, err = _said(monkeypatch, capsys, "--export", "parquet", "--db", database, "--out", tmp_path / "file" / "x")
    assert code == 2 and "choose another --out" in err


def test_claims_pick_and_pareto(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("--study", "table2", "--db", database)
    code, out, _ = _said(monkeypatch, capsys, "--claims", "--dataset", "ml1m", *here)
    assert code == 0 and "BT raises ndcg@10 of CE" in out
    for words in (("--pick", "balanced"), ("--pareto",)):
        code, _, err = _said(monkeypatch, capsys, *words, *here, "--out", tmp_path)
        assert code == 2 and "has 1 finished setting of alpha and lambda on ml1m" in err
    code, _, err = _said(monkeypatch, capsys, "--pick", "anything", *here)
    assert code == 2 and "rule 'anything' is not understood" in err


def test_the_page_is_written(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = _said(monkeypatch, capsys, "--page", tmp_path / "a" / "out.html", "--db", database)
    assert code == 0 and "wrote " in err
    assert (tmp_path / "a" / "out.html").read_text(encoding="utf-8").endswith("</html>\n")
