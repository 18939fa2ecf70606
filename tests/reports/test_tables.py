"""Table 2 from a database that the store wrote: values, marks, footnotes, and the rules of what never mixes."""

import os
import re
from csv import DictReader
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from harness.config import TrainConfig
from harness.errors import ConfigError, StoreError
from harness.store import Store, open_store
from harness.values import TrialPruned, TrialResult
from models.config import AuxConfig, EncoderConfig, LossConfig
from reports.names import method_title
from reports.notes import _day, settings
from reports.plans import TABLE2
from reports.render import csv, html, latex, markdown, text
from reports.results import Request, gather
from reports.table import Cell, Table
from reports.tables import table as make_table
from studies.points import POINTS
from studies.points import TABLE2 as METHODS
from studies.profiles import varied
from tests.reports.latex import check
from tests.reports.world import data_config, failure, result, spec, split_of, write
from tests.store import fake

GOLDEN = Path(__file__).parent / "golden"


def _table(database: Path, *datasets: str, **request: object) -> Table:
    with open_store(database, read_only=True) as store:
        return make_table(2, store, Request(study="table2", datasets=datasets, **request))  # type: ignore[arg-type]


def _cell(table: Table, dataset: str, metric: str, method: str) -> Cell:
    row = next(i for i, r in enumerate(table.rows) if (r.dataset, r.metric) == (dataset, metric))
    return table.cells[row][[column.key for column in table.columns].index(method)]


def _notes(table: Table) -> str:
    return "\n".join(table.footnotes)


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ML-1M with 750 users: CE with two of three seeds and a failure, BT-SR with two settings; 40 users of YELP."""
    folder = tmp_path_factory.mktemp("runs")
    ml, yelp = split_of(data_config(), 750), split_of(data_config("yelp"), 40)
    ce = [spec(seed=seed) for seed in (1235, 37, 2451)]
    weak = [spec("bt_sr", alpha=0.4, seed=seed) for seed in (1235, 37)]
    good = [spec("bt_sr", alpha=0.2, seed=seed) for seed in (1235, 37)]
    base = [spec("bt_sr", alpha=0.0, seed=seed) for seed in (1235, 37)]
    lucky = [spec("bt_sr", alpha=0.3, seed=2451)]
    there = spec(dataset="yelp")
    return write(
        folder / "btsr.db",
        "table2",
        [*ce, *weak, *good, *base, *lucky, there],
        [
            *(result(s, ml, valid=1.0, test=1.0) for s in ce[:2]),
            failure(ce[2]),
            *(result(s, ml, valid=0.9, test=2.0) for s in weak),  # best on test, worst on validation
            *(result(s, ml, valid=1.4, test=1.2) for s in good),
            *(result(s, ml, valid=3.0, test=3.0) for s in base),
            *(result(s, ml, valid=2.5, test=2.5) for s in lucky),
            result(there, yelp, valid=1.0, test=1.0, batch_size=100),
        ],
        [ml, yelp],
    )


def test_golden_text(partial: Path, tmp_path: Path) -> None:
    """The whole table as text. Set BTSR_WRITE_GOLDEN to accept a wanted change."""
    found = text(_table(partial)).replace(str(partial.parent), "runs")
    file = GOLDEN / "table2.txt"
    if os.environ.get("BTSR_WRITE_GOLDEN"):
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8")


def test_values_are_those_of_the_trials(partial: Path) -> None:
    table = _table(partial, "ml1m")
    split = split_of(data_config(), 750)
    for quality, method, alpha in ((1.0, "sasrec_ce", None), (1.2, "bt_sr", 0.2)):
        runs = [result(spec(method, alpha=alpha, seed=s), split, valid=0, test=quality) for s in (1235, 37)]
        for name, k in TABLE2.metrics:
            values = [_metric(run, name, k) for run in runs]
            cell = _cell(table, "ml1m", f"{name}@{k}", method)
            assert cell.value == pytest.approx(np.mean(values))
            assert cell.std == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
            assert cell.n == 2 and cell.fingerprint == split.fingerprint


def _metric(run: TrialResult, name: str, k: int) -> float:
    (value,) = [m.value for m in run.metrics if (m.part, m.name, m.k, m.bucket) == ("test", name, k, 0)]
    assert value is not None
    return value


def test_published_numbers_stand_beside_and_say_whether_they_apply(partial: Path) -> None:
    table = _table(partial)
    ce = _cell(table, "ml1m", "ndcg@10", "sasrec_ce")
    bt = _cell(table, "ml1m", "ndcg@10", "bt_sr")
    assert (ce.published, ce.published_std, ce.applies) == (0.0494, None, True)
    assert (bt.published, bt.published_std) == (0.0534, 0.0037)
    assert not _cell(table, "yelp", "hr@1", "sasrec_ce").applies
    notes = _notes(table)
    assert "YELP: published numbers do not apply: other data" in notes
    assert "ML 1M: published numbers do not apply" not in notes
    assert _cell(table, "gowalla", "hr@1", "cl4srec") == Cell(published=0.0157)
    assert _cell(table, "ml1m", "hr@10", "sasrec_ce").doubtful
    assert "ML 1M, SASRec (CE), hr@10: published value 0.0847 is doubtful: not attainable" in notes


def test_trials_that_were_given_up_early_are_told_and_in_no_cell(tmp_path: Path) -> None:
    ml = split_of(data_config(), 750)
    trials = [spec("bt_sr", alpha=alpha) for alpha in (0.1, 0.2, 0.3)]
    censored = [TrialPruned(spec=trial, epochs=(fake.epoch(1, 0.99),)) for trial in trials[1:]]
    database = write(
        tmp_path / "btsr.db", "table2", trials, [result(trials[0], ml, valid=1.0, test=1.0), *censored], [ml]
    )
    table = _table(database, "ml1m")
    notes = _notes(table)
    assert "ML 1M: 2 of 3 trials were given up early (pruned, censored): they are in no cell" in notes
    assert "alpha 0.1" in notes and "alpha 0.2" not in notes and "incomplete" not in notes
    assert _cell(table, "ml1m", "ndcg@10", "bt_sr").n == 1


def test_what_is_done_failed_or_given_up_is_counted_in_the_columns_shown(tmp_path: Path) -> None:
    """A failure and a pruned trial of a method without a column, and of BT-SR one trial of each kind."""
    ml = split_of(data_config(), 60)
    done, pruned, missing = (spec("bt_sr", alpha=alpha) for alpha in (0.1, 0.2, 0.3))
    other = [spec("mine", seed=seed) for seed in (1235, 37)]
    outcomes = [
        result(done, ml, valid=1.0, test=1.0),
        *(TrialPruned(spec=trial, epochs=(fake.epoch(1, 0.9),)) for trial in (pruned, other[0])),
        failure(other[1]),
    ]
    notes = _notes(
        _table(write(tmp_path / "btsr.db", "table2", [done, pruned, missing, *other], outcomes, [ml]), "ml1m")
    )
    assert "ML 1M: incomplete: BT-SR 1 of 3 trials done.\n" in notes
    assert "ML 1M: 1 of 3 trials were given up early (pruned, censored)" in notes


def test_weights_from_before_the_term_began_are_told(tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    aux = {"kind": "ec4srec", "alpha": 0.1, "explain_start": 2}
    specs = [varied(spec("ec4srec", seed=seed), aux=aux) for seed in (1235, 37)]
    runs = [result(one, split, valid=1.0, test=1.0) for one in specs]
    late = replace(runs[1], best_epoch=2, epochs=(fake.epoch(1, 0.1), fake.epoch(2, 0.2)))
    told = "ML 1M, EC4SRec: .*; best before epoch 2, in which its auxiliary term begins, "
    for name, ended, words in (("all", runs, "in every run: "), ("one", [runs[0], late], "with seed 1235: ")):
        database = write(tmp_path / f"{name}.db", "table2", specs, ended, [split])
        assert re.search(told + words, _notes(_table(database, "ml1m")))
    database = write(tmp_path / "none.db", "table2", specs, [replace(late, spec=specs[0])], [split])
    assert "best before" not in _notes(_table(database, "ml1m"))


def test_boundaries_have_a_date_where_there_is_one() -> None:
    assert _day(993073637) == "2001-06-20 UTC" and _day(0) == "1970-01-01 UTC"
    assert _day(10**18) == "no date"


def test_the_configuration_is_chosen_on_validation_on_shared_seeds(partial: Path) -> None:
    """alpha 0.4 is best on test, 0.3 shares no seed with the others, 0 is the base: 0.2 it is."""
    notes = _notes(_table(partial, "ml1m"))
    (line,) = [note for note in notes.splitlines() if note.startswith("ML 1M, BT-SR:")]
    assert line.startswith("ML 1M, BT-SR: base loss CE, B 256, alpha 0.2, lambda 0.05, ")
    assert "\nML 1M, all columns: T 200, D 64, 2 blocks, " in notes, "what they share is said once"
    assert notes.count("padded keys attended to") == 1
    assert "alpha 0.2, lambda 0.05, bt_reduction mean_d, bt_std unbiased" in line
    assert (
        "seeds 1235, 37;" in line
        and "best of 2 configurations, 1 not run with the seeds compared (1235, 37) left out" in line
    )


def test_marks_are_among_ours_only(partial: Path) -> None:
    table = _table(partial, "ml1m")
    assert _cell(table, "ml1m", "ndcg@10", "bt_sr").mark == "best"
    assert _cell(table, "ml1m", "ndcg@10", "sasrec_ce").mark == "second"
    assert _cell(table, "ml1m", "ndcg@10", "sasrec_sce").mark == ""
    assert all(cell.mark == "" for row in _table(partial, "yelp").cells for cell in row)


def test_columns_with_different_seeds_say_what_is_compared_on_which(tmp_path: Path) -> None:
    """CE is better by its mean of three seeds, BT-SR on the two that both have: Improve and the star would differ."""
    split = split_of(data_config(), 300)
    quality = {1235: 0.5, 37: 0.5, 2451: 3.0}
    runs = [result(spec(seed=s), split, valid=1, test=q) for s, q in quality.items()]
    runs += [result(spec("bt_sr", alpha=0.2, seed=s), split, valid=1, test=0.9) for s in (1235, 37)]
    table = _table(write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [split]), "ml1m")
    ours, improve = _cell(table, "ml1m", "ndcg@10", "bt_sr"), _cell(table, "ml1m", "ndcg@10", "improve")
    assert ours.test is not None and ours.test.comparison.difference > 0 > (improve.value or 0)
    (note,) = [note for note in table.footnotes if "different seeds" in note]
    assert note == (
        "ML 1M: columns have different seeds (1235, 37, 2451: SASRec (CE); 1235, 37: BT-SR). Best, second best, the "
        "best other column and Improve are by means over each column's own; tests are on those that both have and may "
        "say otherwise."
    )
    del runs[2]
    even = _table(write(tmp_path / "even.db", "table2", [run.spec for run in runs], runs, [split]), "ml1m")
    assert "different seeds" not in _notes(even)


def test_footnotes_tell_data_spread_and_what_is_missing(partial: Path) -> None:
    notes = _notes(_table(partial))
    assert (
        "ML 1M: data a00002eea00002ee, 60 items, 3 training users, 750 test users; boundary 993073637 (2001-06-20 UTC)"
        "; no filter; " in notes
    )
    assert "one boundary in time at quantile 0.95; ties stable; repeats kept" in notes
    errors = re.search(r"ndcg@10: SASRec \(CE\) (0\.\d{4}), BT-SR (0\.\d{4})\.", notes)
    assert errors and 0.004 < float(errors[1]) < 0.02
    assert "ML 1M: incomplete: SASRec (CE) 2 of 3 trials done (1 failed)." in notes
    assert "Never started: Gowalla, Beauty, Kindle Store." in notes
    out = partial.parent
    assert _table(partial).commands == (
        f"btsr-sweep --study table2 --dataset ml1m --profile released --out {out}",
        f"btsr-sweep --study table2 --dataset gowalla,beauty,kindle_store --profile released --out {out}",
        "btsr-sweep --study table2 --dataset ml1m --profile released --methods "
        f"sasrec_bce,sasrec_sce,cl4srec,duorec,ec4srec --out {out} --extend",
        "btsr-sweep --study table2 --dataset yelp --profile released --filter none --methods "
        f"sasrec_bce,sasrec_sce,cl4srec,duorec,ec4srec,bt_sr --out {out} --extend",
    )
    assert "Not asked for in study table2 on ML 1M: SASRec (BCE), SASRec (SCE), CL4SRec, DuoRec, EC4SRec." in notes
    assert "B clamped to 100" in notes
    assert "profile released" in _table(partial).title


def test_a_group_that_mixes_devices_says_so(tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    specs = [spec(seed=seed) for seed in (1235, 37)]
    runs = [result(s, split, valid=1, test=1, device=d) for s, d in zip(specs, ("cpu", "A100"), strict=True)]
    table = _table(write(tmp_path / "btsr.db", "table2", specs, runs, [split]))
    assert "SASRec (CE): mixes devices: A100, cpu" in _notes(table)
    assert (
        _cell(table, "ml1m", "hr@1", "sasrec_ce").odd
        and _cell(table, "ml1m", "hr@1", "sasrec_ce").device == "A100 + cpu"
    )


def test_cells_of_another_precision_than_most_are_marked_in_every_format(tmp_path: Path) -> None:
    """Three methods in fp32 and one in bf16: its cells, and no others, bear the double dagger."""
    split = split_of(data_config(), 30)
    usual = [spec(method, seed=seed) for method in ("sasrec_ce", "cl4srec") for seed in (1235, 37)]
    other = [spec("bt_sr", alpha=0.2, seed=seed, precision="bf16") for seed in (1235, 37)]
    runs = [result(s, split, valid=1, test=1) for s in (*usual, *other)]
    table = _table(write(tmp_path / "btsr.db", "table2", (*usual, *other), runs, [split]), "ml1m")
    assert {c.key for row in table.cells for c, cell in zip(table.columns, row, strict=True) if cell.odd} == {"bt_sr"}
    assert "‡ ML 1M: not computed as most runs here were (cpu fp32): BT-SR: cpu bf16. " in _notes(table)
    value = f"{_cell(table, 'ml1m', 'hr@1', 'bt_sr').value:.4f}"
    for rendered, sign in ((text, "‡ ±"), (markdown, "‡ ±"), (latex, r"\ddagger}$"), (html, "‡</sup>")):
        lines = [line for line in rendered(table).splitlines() if "hr@1" in line and "hr@10" not in line]
        assert sum(line.count("ddagger") + line.count("‡") for line in lines) == 1, rendered
        assert any(value in line and sign in line for line in lines), rendered
    rows = list(DictReader(StringIO(csv(table))))
    assert {(row["precision"], row["odd"]) for row in rows if row["method"] == "bt_sr"} == {("bf16", "True")}
    assert {(row["precision"], row["odd"]) for row in rows if row["method"] == "cl4srec"} == {("fp32", "False")}


def test_runs_on_one_kind_of_device_bear_no_sign(partial: Path) -> None:
    table = _table(partial)
    assert not any(cell.odd for row in table.cells for cell in row) and "‡" not in _notes(table)


def test_every_format_of_the_same_table(partial: Path) -> None:
    table = _table(partial)
    tables = check(latex(table))
    body = tables["ll" + "l" * 8]
    assert len([row for row in body if re.fullmatch(r"(hr|ndcg|cov)@\d+", row[1])]) == 45
    rows = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5 * 10
    assert len(csv(table).splitlines()) == 1 + 45 * 8


def test_a_study_without_paper_data_shows_its_own(tmp_path: Path) -> None:
    split = split_of(data_config("synthetic"), 30)
    only = spec(dataset="synthetic")
    database = write(tmp_path / "btsr.db", "table2", [only], [result(only, split, valid=1, test=1)], [split])
    table = _table(database)
    assert {row.dataset for row in table.rows} == {"synthetic"}
    assert all(cell.published is None for row in table.cells for cell in row)
    assert "do not apply" not in _notes(table)


def test_profiles_never_mix(tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    both = [spec(), spec(profile="paper", batch_size=128)]
    runs = [result(s, split, valid=1, test=q) for s, q in zip(both, (0.5, 1.5), strict=True)]
    database = write(tmp_path / "btsr.db", "table2", both, runs, [split])
    with pytest.raises(ConfigError, match=r"2 profiles \(paper: 1 finished trial, released: 1.*--profile"):
        _table(database)
    for profile, run in zip(("released", "paper"), runs, strict=True):
        cell = _cell(_table(database, profile=profile), "ml1m", "hr@10", "sasrec_ce")
        assert (cell.value, cell.n) == (_metric(run, "hr", 10), 1)


def test_versions_of_the_data_never_mix(tmp_path: Path) -> None:
    ties = ("stable", "random")
    splits = [split_of(data_config(tie=tie), 30) for tie in ties]
    both = [spec(tie=tie) for tie in ties]
    runs = [result(s, d, valid=1, test=q) for s, d, q in zip(both, splits, (0.5, 1.5), strict=True)]
    database = write(tmp_path / "btsr.db", "table2", both, runs, splits)
    with pytest.raises(ConfigError, match=r"ml1m has results on 2 versions .*ties stable; .*ties random; .*--tie"):
        _table(database)
    for tie, split, run in zip(ties, splits, runs, strict=True):
        by_tie = _table(database, tie=tie)
        by_fingerprint = _table(database, fingerprints=(split.fingerprint[:4],))
        assert replace(by_tie, commands=()) == replace(by_fingerprint, commands=())
        assert ["--tie random" in command for command in by_tie.commands] == [tie == "random"] * 2
        assert _cell(by_tie, "ml1m", "hr@10", "sasrec_ce").value == _metric(run, "hr", 10)
        assert f"ties {tie}" in _notes(by_tie)
        assert "incomplete" not in _notes(by_tie)
    with pytest.raises(ConfigError, match="no results on data 99"):
        _table(database, fingerprints=("99",))


def test_the_file_and_the_edition_that_were_read_are_told(tmp_path: Path) -> None:
    split = replace(split_of(data_config(), 30), file="reviews_Beauty_5.json.gz", edition="2014-5core")
    database = write(tmp_path / "btsr.db", "table2", [spec()], [result(spec(), split, valid=1, test=1)], [split])
    assert "repeats kept; read from reviews_Beauty_5.json.gz, edition 2014-5core; " in _notes(_table(database))


def test_nothing_finished_names_the_command(tmp_path: Path) -> None:
    database = write(tmp_path / "btsr.db", "table2", [spec()], [failure(spec())])
    with pytest.raises(ConfigError, match=r"no finished trial on ml1m with profile released .*run `btsr-sweep --study"):
        _table(database, "ml1m")
    with pytest.raises(ConfigError, match="with profile paper"):
        _table(database, profile="paper")


def test_unknown_names(partial: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown data set 'beuty': did you mean 'beauty'"):
        _table(partial, "beuty")
    with open_store(partial, read_only=True) as store:
        with pytest.raises(ConfigError, match="unknown study 'tabel2': did you mean 'table2'"):
            gather(store, Request(study="tabel2"))


def test_a_file_may_be_named_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    trial = spec(dataset=str(tmp_path / "a.csv"))
    split = split_of(trial.data, 20)
    database = write(tmp_path / "btsr.db", "table2", [trial], [result(trial, split, valid=1.0, test=1.0)], [split])
    with open_store(database, read_only=True) as store:
        assert gather(store, Request(study="table2", datasets=("../a.csv",))).datasets == (str(tmp_path / "a.csv"),)


def test_a_study_never_started_is_the_stores_message(tmp_path: Path) -> None:
    database = write(tmp_path / "btsr.db", "mine", [spec()])
    with pytest.raises(StoreError, match="btsr-sweep --study table2"):
        _table(database)


def test_selection_sees_no_test_value(partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice stays the same when every test metric is out of reach."""
    from reports.groups import choose

    def refuse(self: Store, keys: object, *, part: str, names: object = None) -> object:
        assert part == "valid", "selection asked for test values"
        return real(self, keys, part=part, names=names)  # type: ignore[arg-type]

    with open_store(partial, read_only=True) as store:
        groups = gather(store, Request(study="table2")).groups("ml1m", lambda spec: spec.method == "bt_sr")
        real = Store.metrics
        monkeypatch.setattr(Store, "metrics", refuse)
        assert choose(groups, store.validation()).group.spec.aux.alpha == 0.0


def test_settings_name_what_is_not_usual() -> None:
    usual = spec()
    assert "gbce" not in settings(usual) and "beta2" not in settings(usual)
    other = usual.model_copy(
        update={
            "loss": LossConfig(kind="gbce", negatives=7, gbce_t=0.75),
            "aux": AuxConfig(kind="cl4srec", alpha=0.1, tau=0.5),
            "encoder": EncoderConfig(norm="pre", activation="gelu"),
            "train": TrainConfig(beta2=0.999),
        }
    )
    reduced = "mean over positions of binary terms, the positive one weighted by beta, mean of 1+k"
    assert settings(other).startswith(f"base loss GBCE ({reduced}), B 128, ")
    halves = usual.model_copy(update={"loss": LossConfig(kind="bce", negatives=7, bce_reduction="halves")})
    assert settings(halves).startswith("base loss BCE (mean over positions of binary terms, positive plus mean of k), ")
    words = settings(other).split(", ")
    assert {"negatives 7", "gbce_t 0.75", "auxiliary cl4srec", "tau 0.5"} <= set(words)
    assert {"norm pre", "activation gelu", "beta2 0.999"} <= set(words) and len(words) == len(set(words))


def test_every_method_has_a_title_and_table_2_has_the_papers_columns() -> None:
    titles = {method: method_title(method) for method in (*POINTS, "sasrec_gbce+bt", "duorec_released+bt")}
    assert all(title != method for method, title in titles.items()) and len(set(titles.values())) == len(titles)
    assert titles["sasrec_ce+bt"] == "SASRec (CE) + BT" and titles["sasrec_gbce+bt"] == "SASRec (gBCE) + BT"
    assert method_title("mine") == "mine" and method_title("mine+bt") == "mine + BT"
    assert tuple(column.key for column in TABLE2.columns) == METHODS
