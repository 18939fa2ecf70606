"""`btsr-report` in this process, as a user types it."""

import sys

import pytest

from reports.cli import main


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Its exit code."""
    monkeypatch.setattr(sys, "argv", ["btsr-report", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code if isinstance(stop.value.code, int) else 0
