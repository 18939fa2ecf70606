"""btsr runs hyperparameter sweeps for sequential recommendation exactly once and keeps every test user's rank.

Public names, loaded when first used: `TrialSpec`, `run_trial`, `run_study`, `open_store`, `recommend`.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from harness.errors import ShadowedPackageError

_HOME_OF = {
    "TrialSpec": "harness.config",
    "run_trial": "harness.trial",
    "run_study": "harness.sweep",
    "open_store": "harness.store",
    "recommend": "harness.serve",
}

__all__ = ["TrialSpec", "open_store", "recommend", "run_study", "run_trial"]  # noqa: F822


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def _check_siblings() -> None:
    """Raise ShadowedPackageError unless `models`, `studies` and `reports` stand beside this package."""
    home = Path(__file__).resolve().parent.parent
    for name in ("models", "studies", "reports"):
        spec = find_spec(name)
        where = Path(spec.origin).resolve().parent.parent if spec and spec.origin else None
        if where != home:
            raise ShadowedPackageError(
                f"btsr needs its own package '{name}' in {home}, but Python finds "
                f"{spec.origin if spec else 'none'}: give btsr its own environment, or start it from another folder"
            )


_check_siblings()
