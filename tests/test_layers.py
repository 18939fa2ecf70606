"""Who may import whom: the syntax trees against the table of the architecture, and what the command line loads."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("harness", "models", "studies", "reports")
VALUES = {"models.config", "harness.choices", "harness.config", "harness.errors", "harness.paths", "harness.profiles"}
VALUES |= {"harness.plain", "harness.stored", "harness.values"}

STORE = {"harness.schema", "harness.rows", "harness.database", "harness.recording", "harness.upgrade", "harness"}
SWEEP = {"harness.store", "harness.ledger", "harness.executors", "harness.progress", "harness.options"}

RULES: dict[str, tuple[set[str], set[str]]] = {
    # module or package: (ours it may import, third parties it may import)
    "models.config": (set(), {"pydantic"}),
    "models": ({"models"}, {"torch", "numpy", "filelock"}),
    "models.kernels.switch": (set(), set()),
    "models.kernels.liger": ({"models"}, {"torch", "liger_kernel"}),
    "harness.errors": (set(), set()),
    "harness.choices": ({"models.config", "harness.errors"}, {"pydantic"}),
    "harness.config": ({"models.config", "harness.errors", "harness.choices"}, {"pydantic"}),
    "harness.paths": ({"models.config", "harness.database"}, set()),
    "harness.plain": (set(), {"rich"}),
    "harness.profiles": ({"harness.choices", "harness.config"}, set()),
    "harness.values": ({"harness.config"}, {"numpy"}),
    "harness.stored": ({"harness.config", "harness.values"}, {"numpy"}),
    "harness.data": (
        VALUES | {"harness.data", "harness.prepare"},
        {"numpy", "pandas", "pyarrow", "pooch", "requests", "urllib3", "filelock", "typer", "rich"},
    ),
    "harness.data.output": (VALUES | {"harness.data", "reports.data_figures"}, {"rich"}),
    "harness.prepare": (VALUES | {"harness.data"}, {"numpy", "filelock"}),
    "harness.metrics": (VALUES, {"numpy"}),
    "harness.exposure": (VALUES | {"harness.metrics"}, {"numpy", "scipy"}),
    "harness.geometry": (VALUES, {"numpy"}),
    "harness.sample": (VALUES | {"models", "harness.evaluate", "harness.geometry"}, {"torch", "numpy"}),
    "harness.rules": (VALUES | {"harness.metrics", "harness.exposure", "harness.geometry"}, {"numpy"}),
    "harness.provenance": (VALUES, {"pynvml"}),
    "harness.checkpoint": (VALUES, {"torch"}),
    "harness.examples": (VALUES | {"models"}, {"torch", "numpy"}),
    "harness.views": (VALUES | {"models", "harness.examples"}, {"torch", "numpy"}),
    "harness.adam": (set(), {"torch"}),
    "harness.environment": ({"harness.errors", "models.kernels.switch"}, set()),
    "harness.device": (VALUES | {"harness.environment"}, {"torch"}),
    "harness.memory": (set(), set()),
    "harness.fits": (VALUES, set()),
    "harness.train": (
        VALUES
        | {
            "models",
            "harness.adam",
            "harness.evaluate",
            "harness.fits",
            "harness.examples",
            "harness.metrics",
            "harness.views",
        },
        {"torch", "numpy"},
    ),
    "harness.evaluate": (VALUES | {"models"}, {"torch", "numpy"}),
    "harness.trial": (
        VALUES
        | {
            "models",
            "harness.train",
            "harness.device",
            "harness.evaluate",
            "harness.memory",
            "harness.metrics",
            "harness.exposure",
            "harness.geometry",
            "harness.sample",
            "harness.provenance",
            "harness.checkpoint",
            "harness",
        },
        {"torch"},
    ),
    "harness.database": (VALUES, {"sqlalchemy", "pydantic"}),
    "harness.schema": (VALUES | {"harness.database"}, {"sqlalchemy"}),
    "harness.rows": (VALUES | {"harness.schema", "harness.exposure", "harness"}, {"sqlalchemy", "numpy"}),
    "harness.upgrade": (VALUES | {"harness.schema", "harness"}, {"sqlalchemy"}),
    "harness.recording": (VALUES | {"harness.schema", "harness.rows", "harness"}, {"sqlalchemy"}),
    "harness.validation": (VALUES | {"harness.store"}, set()),
    "harness.store": (VALUES | STORE | {"harness.options", "harness.validation"}, {"sqlalchemy"}),
    "harness.exchange": (VALUES | STORE | {"harness.store"}, {"sqlalchemy"}),
    "harness.options": ({"models.config"}, {"pydantic"}),
    "harness.executors": (VALUES | {"harness.memory", "harness.trial", "harness.prepare"}, set()),
    "harness.local_executor": (VALUES | {"harness.executors"}, set()),
    "harness.ray_cluster": (VALUES | {"harness.executors", "harness"}, {"ray"}),
    "harness.ray_executor": (VALUES | {"harness.executors", "harness.ray_cluster"}, {"ray", "torch"}),
    "harness.ledger_page": (VALUES | {"harness.rules"}, set()),
    "harness.ledger_pictures": (VALUES, {"optuna"}),
    "harness.ledger_storage": (VALUES | {"harness.database", "harness.options"}, {"optuna", "sqlalchemy"}),
    "harness.ledger_study": (
        VALUES | {"harness.ledger_page", "harness.ledger_storage", "harness.options", "harness"},
        {"optuna", "optuna_dashboard"},
    ),
    "harness.ledger": (
        VALUES
        | {"harness.database", "harness.store", "harness.ledger_page", "harness.ledger_storage", "harness"}
        | {"harness.options", "harness.ledger_pictures", "harness.ledger_study"},
        {"optuna", "sqlalchemy"},
    ),
    "harness.dashboard": (
        VALUES | {"harness.database", "harness.ledger_storage", "harness.local_executor"},
        {"optuna", "optuna_dashboard"},
    ),
    "harness.progress": (VALUES | {"harness.executors"}, {"rich"}),
    "harness.search": (VALUES | {"harness.options", "harness.store"}, set()),
    "harness.plan": (VALUES | {"harness.options", "harness.search", "harness.store"}, set()),
    "harness.driver": (VALUES | SWEEP | {"harness.checkpoint"}, set()),
    "harness.sweep": (
        VALUES
        | SWEEP
        | {"harness.plan", "harness.driver", "harness.search", "harness.prepare", "harness.ledger_storage"}
        | {"harness.checkpoint", "harness.data.describe", "harness.fits", "harness.ledger_page"},
        {"rich"},
    ),
    "harness.price": (
        VALUES | SWEEP | {"harness.plan", "harness.trial", "harness.prepare", "harness.provenance", "harness"},
        set(),
    ),
    "harness.show": (
        VALUES | SWEEP | {"harness.plan", "harness.price", "harness.ledger_storage", "studies"},
        {"rich"},
    ),
    "harness.launch": (VALUES | SWEEP | {"harness"}, set()),
    "harness.histories": (VALUES, {"numpy", "pandas"}),
    "harness.serve": (
        VALUES
        | {"models", "harness.checkpoint", "harness.evaluate", "harness.histories", "harness.prepare"}
        | {"harness.options", "harness.rules", "harness.store", "harness.device", "studies"},
        {"torch", "numpy"},
    ),
    "harness.serve_cli": ({"harness"}, {"typer"}),
    "harness.panels": (set(), {"typer"}),
    "harness.winners": (VALUES | {"harness.choices", "harness.options", "harness.rules", "harness.store"}, set()),
    "harness.asked": (VALUES | {"harness.data.catalogue", "harness.fits", "harness.options", "studies"}, {"pydantic"}),
    "harness.cli": ({"harness", "studies", "models.config", "reports.live"}, {"typer"}),
    "harness": ({"harness.errors", "harness.config"}, set()),
    "studies": (
        {"models.config", "harness.choices", "harness.config", "harness.errors", "harness.profiles", "studies"},
        set(),
    ),
    "reports.live": (
        VALUES | {"harness.ledger_page", "harness.rules", "reports"},
        {"numpy", "matplotlib", "seaborn"},
    ),
    "reports": (
        VALUES
        | {"harness.store", "harness.validation", "harness.exchange", "harness.metrics", "reports", "studies"}
        | {"harness.exposure", "harness.geometry", "harness.options", "harness.rules"},
        {"numpy", "pandas", "scipy", "statsmodels", "matplotlib", "seaborn", "jinja2", "typer", "rich"},
    ),
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def rule_for(module: str) -> tuple[set[str], set[str]]:
    while module not in RULES:
        module = module.rpartition(".")[0]
        assert module, "every module of ours has a rule"
    return RULES[module]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def allowed(name: str, ours: set[str], third: set[str]) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return True
    if top in OURS:
        return any(name == prefix or name.startswith(prefix + ".") for prefix in ours)
    return top in third


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_follow_the_table(module: str, path: Path) -> None:
    ours, third = rule_for(module)
    bad = sorted({name for name in imports(path) if not allowed(name, ours, third)})
    assert not bad, f"{module} may not import {', '.join(bad)}: see RULES in {Path(__file__).name}"


def test_every_library_in_the_table_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    declared = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in lines} | {"pynvml"}  # of nvidia-ml-py
    assert set().union(*(third for _, third in RULES.values())) <= declared


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda v: v if isinstance(v, str) else "")
def test_no_file_grows_past_one_sitting(module: str, path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, f"{module}: split it"


@pytest.mark.parametrize(
    "words",
    [
        ("harness.cli", "--help"),
        ("harness.cli", "--study", "alpha_lambda", "--dataset", "all", "--dry-run"),
        ("reports.cli", "--help"),
        ("harness.data.cli", "--help"),
        ("harness.serve_cli", "--help"),
    ],
    ids=" ".join,
)
def test_the_command_line_answers_without_heavy_libraries(words: tuple[str, ...], tmp_path: Path) -> None:
    module, *arguments = words
    code = (
        f"import sys; sys.argv = ['btsr', *{arguments!r}]\n"
        f"from {module} import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'ray', 'optuna', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir()), "a question leaves nothing behind"


def test_importing_studies_loads_neither_torch_nor_ray() -> None:
    code = "import studies, sys; assert not {'torch', 'ray', 'pandas', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_shadowed_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "import harness"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0 and "ShadowedPackageError" in done.stderr and str(tmp_path) in done.stderr
