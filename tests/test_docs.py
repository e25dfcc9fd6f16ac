"""The documentation: what is generated says something of everything, and every page is in the navigation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from nnunet_stochastic import training
from nnunet_stochastic.evaluation.json_schemas import FILE_SCHEMAS
from nnunet_stochastic.training.options import options_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/hooks/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scripts() -> list[str]:
    lines = (
        (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.scripts]\n")[2].partition("\n\n")[0]
    )
    return [line.partition(" = ")[0] for line in lines.splitlines()]


def test_every_command_and_option_is_in_the_reference(reference) -> None:
    page = reference.commands_page()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == sorted(scripts())
    parsers = {parser.prog: parser for parser in reference.command_parsers()}
    assert sorted(parsers) == sorted(scripts())
    for section in page.split("\n## ")[1:]:
        parser = parsers[section.partition("\n")[0]]
        for action in parser._actions:
            if action.help != "==SUPPRESS==" and action.dest != "help":
                names = action.option_strings or [""]
                assert all(f"`{name}" in section for name in names), (parser.prog, names)
                assert action.help, (parser.prog, names)


def test_every_option_of_every_trainer_says_what_it_means(reference) -> None:
    page = reference.trainer_options_page()
    for name in training.__all__:
        trainer = getattr(training, name)
        own = {option: value for option, value in options_of(trainer).items() if option in vars(trainer)}
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert bool(own) == bool(section), name
        rows = {
            line.split(" | ")[0].strip("| `"): line.split(" | ") for line in section.splitlines() if line[:3] == "| `"
        }
        assert rows.keys() == own.keys(), name
        for option, value in own.items():
            assert rows[option][1] == f"`{value!r}`", (name, option)
            assert len(rows[option][2].strip(" |")) > 5, (name, option)


def test_every_file_with_a_schema_and_each_of_its_keys_is_in_the_reference(reference) -> None:
    page = reference.schemas_page()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(FILE_SCHEMAS)
    for name, schema in FILE_SCHEMAS.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        content = schema.to_json()
        for definition in (content, *content.get("$defs", {}).values()):
            for key in definition.get("properties", {}):
                assert f"| `{key}` | " in section, (name, key)


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert (tmp_path / "site/reference/commands.html").read_text(encoding="utf-8").count("<h2") == len(scripts())
