"""What contributors are told and given agrees with the rest."""

import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[1]


def test_commits_are_looked_at_by_the_ruff_of_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    (wanted,) = re.findall(r'"(ruff[^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ruff = {hook["entry"].split()[1]: hook["additional_dependencies"] for hook in hooks if "ruff" in hook["entry"]}
    assert ruff == {"check": [wanted], "format": [wanted]}


def test_recipes_name_files_that_are_there():
    named = re.findall(r"`([\w./]+/[\w.]+\.py|[\w.]+/)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    fixed = [path for path in named if not re.search(r"\bx\.py|X\.py|_x\.py", path)]
    assert len(fixed) > 15
    assert [
        path for path in fixed if not any((start / path).exists() for start in (ROOT, ROOT / "nnunet_stochastic"))
    ] == []


def test_converter_recipe_names_what_is_there():
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add a converter")[2]
    package = ROOT / "nnunet_stochastic"
    common = (package / "datasets" / "conversion" / "common.py").read_text(encoding="utf-8")
    command = (package / "commands" / "convert_Chaksu.py").read_text(encoding="utf-8")
    functions = {"read_itk_image", "read_on_grid", "read_header", "draw", "fifth", "majority_vote"}
    assert {name for name in functions if f"`{name}`" in recipe and f"def {name}(" in common} == functions
    code = re.search(r"```python\n(.*?)```", recipe, re.DOTALL)[1]
    # The recipe's command is that of a converter without options of its own.
    own = {"X": "Chaksu", "plan_x": "plan_chaksu", "x": "chaksu"}
    told = re.sub(r"\b(X|plan_x|x)\b", lambda match: own[match[0]], re.sub(r'"[^"\n]*…"', '"…"', code))
    assert "plan_chaksu(arguments.i, arguments.d, seed=arguments.seed)" in told
    assert [line for line in told.splitlines() if "…" not in line and line not in command] == []
