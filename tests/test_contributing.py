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


def test_no_text_installs_a_package_that_no_index_has():
    files = [*ROOT.glob("*.md"), *ROOT.glob("containers/*"), *ROOT.glob(".github/workflows/*")]
    files += [
        path
        for name in ("nnunet_stochastic", "trainers", "examples", "benchmarks")
        for path in (ROOT / name).rglob("*")
        if path.suffix in (".py", ".md", ".yaml") and "vendor" not in path.parts
    ]
    by_name = re.compile(r"""pip install (-\S+ )*["']?nnunet[-_]stochastic""", re.IGNORECASE)
    assert len(files) > 300
    assert [str(path) for path in files if by_name.search(path.read_text(encoding="utf-8"))] == []


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps_of(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_actions_and_ask_for_reading_alone(workflow):
    content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert content["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in content["jobs"].values())
    assert all(job["timeout-minutes"] <= 360 for job in content["jobs"].values())
    used = [step["uses"] for step in steps_of(workflow) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used)


def test_workflows_call_targets_that_the_makefile_has():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    commands = [step["run"] for workflow in WORKFLOWS for step in steps_of(workflow) if "run" in step]
    called = {command.split()[1] for command in commands if command.startswith("make ")}
    assert {"test", "test-slow", "dist", "image"} <= called <= targets
    # On Windows, without make, what `make test` runs but for the linters.
    (pytest_of_make,) = re.findall(r"^PYTEST := \$\(BIN\)/python (.*)", makefile, re.MULTILINE)
    assert f'python {pytest_of_make.replace("$(WORKERS)", "2")} -m "not slow"' in commands


def test_workflows_run_every_python_that_the_package_names():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert named == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert [jobs[job]["strategy"]["matrix"]["python"] for job in ("test", "windows")] == [named, named]
    (lowest,) = re.findall(r'"nnunetv2>=([\d.]+),', project)
    assert f"nnunetv2=={lowest}.*" in (ROOT / ".ci" / "lowest_nnunet.txt").read_text(encoding="utf-8").splitlines()
