"""`btsr-sweep --merge`: one database takes what another has."""

import sqlite3
from pathlib import Path

from tests.sweep.test_cli import TINY, numbers, sweep, typed


def test_results_of_another_database_are_copied(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    for out in ("one", "two"):
        words = ("--study", "tiny.py", "--workers", "1", "--out", out)
        assert sweep(tmp_path, *words).returncode == 0
    connection = sqlite3.connect(tmp_path / "two" / "btsr.db")
    with connection:
        for table in ("metric", "epoch", "ranks", "provenance", "trial"):
            connection.execute(
                f"DELETE FROM {table} WHERE trial_key = (SELECT trial_key FROM trial ORDER BY trial_key LIMIT 1)"
                if table == "trial"
                else f"DELETE FROM {table} WHERE trial_key = (SELECT MIN(trial_key) FROM trial)"
            )
    connection.close()
    merged = typed(tmp_path, "--merge", "one/btsr.db", "--out", "two")
    assert merged.returncode == 0, merged.stderr
    assert "1 finished trials added, 1 were here already" in merged.stdout
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    assert (
        "0 finished trials added, 2 were here already"
        in typed(tmp_path, "--merge", "one/btsr.db", "--out", "two").stdout
    )
    for words, says in (
        (("--merge", "one/btsr.db", "--out", "one"), "is the database that it would be merged into"),
        (("--merge", "sqlite:///one/btsr.db", "--out", "one"), "is the database that it would be merged into"),
        (("--merge", "none.db", "--out", "one"), "none.db: run btsr-sweep first, or name another database by --merge"),
        (("--merge", "tiny.py", "--out", "one"), "tiny.py"),
    ):
        refused = typed(tmp_path, *words)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and says in refused.stderr, refused.stderr
