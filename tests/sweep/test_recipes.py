"""The scripts for clusters: Ray and bash take them, and every option in them exists."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from harness import show
from harness.cli import app
from harness.show import RECIPES


def recipe(name: str) -> str:
    """As `btsr-sweep --recipe` prints it."""
    ended = CliRunner().invoke(app, ["--recipe", name])
    assert ended.exit_code == 0, ended.output
    return ended.output


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def commands(text: str, program: str) -> list[list[str]]:
    """The words of every line that calls the program, with its continuation lines."""
    joined = re.sub(r"\\\n[# ]*", " ", text)
    return [line.split() for line in re.findall(rf"{program} (--.*|start .*)", joined)]


def test_every_file_is_a_recipe_and_nothing_else_can_be_asked_for() -> None:
    folder = Path(show.__file__).with_name("recipes")
    assert {file.name for file in folder.iterdir()} == set(RECIPES.values())
    assert CliRunner().invoke(app, ["--recipe", "kubernetes"]).exit_code == 2


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", RECIPES)
def test_every_option_exists(name: str) -> None:
    from ray.scripts.scripts import start

    for program, known in (("btsr-sweep", options(get_command(app))), ("ray", options(start))):
        found = commands(recipe(name), program)
        assert found, program
        used = {word.split("=")[0] for words in found for word in words if word.startswith("--")}
        assert used <= known, used - known


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["onprem", "aws"])
def test_ray_takes_the_configuration(name: str) -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = yaml.safe_load(recipe(name))
    validate_config(fillout_defaults(config))
    config["available_node_types" if name == "aws" else "auth"] = ["no such thing"]
    with pytest.raises(Exception, match="no such thing"):
        validate_config(fillout_defaults(config))


def test_bash_takes_the_script() -> None:
    ended = subprocess.run(["bash", "-n"], input=recipe("slurm"), capture_output=True, text=True)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    broken = subprocess.run(["bash", "-n"], input=recipe("slurm") + "\nif\n", capture_output=True, text=True)
    assert broken.returncode != 0
