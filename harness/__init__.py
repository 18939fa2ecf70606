"""btsr runs hyperparameter sweeps for sequential recommendation exactly once and keeps every test user's rank."""

from importlib.util import find_spec
from pathlib import Path

from harness.errors import ShadowedPackageError

__version__ = "0.1.0"


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
