"""Pages that are made from the code: commands from their parsers, options from the classes of the trainers."""

from __future__ import annotations

import argparse
import html
import inspect
import logging
import os
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any
from unittest import mock

from griffe import Docstring, DocstringSectionKind

__all__ = ["command_parsers", "commands_page", "schemas_page", "trainer_options_page"]


class _Reached(BaseException):
    """The parser of a command is complete."""


def command_parsers() -> Iterator[argparse.ArgumentParser]:
    """The parser of every console script of the package, in the order of pyproject.toml."""
    scripts = entry_points(group="console_scripts")
    for script in scripts:
        if script.name.startswith("nnunet_stochastic_"):
            yield _parser_of(script.load())


def _parser_of(main: object) -> argparse.ArgumentParser:
    """The parser that ``main`` builds, taken from it when it begins to parse."""
    found: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        found.append(parser)
        raise _Reached

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", stop):
        try:
            main([])  # type: ignore[operator]
        except _Reached:
            return found[0]
    raise TypeError(f"{main} parses no arguments")


def commands_page() -> str:
    """Every command: what it does, its options with their defaults."""
    lines = [
        "# Commands",
        "",
        "Every command says the same of itself with `-h`. Options whose default is shown as a dash have none.",
        "",
    ]
    with mock.patch.dict(os.environ, {"COLUMNS": "100"}):
        for parser in sorted(command_parsers(), key=lambda parser: parser.prog):
            lines += _command(parser)
    return "\n".join(lines)


def _command(parser: argparse.ArgumentParser) -> list[str]:
    lines = [f"## {parser.prog}", "", _prose(parser.description or ""), ""]
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
        ]
        if not actions:
            continue
        if group.title and group.title not in ("options", "positional arguments"):
            lines += [f"**{group.title}**", ""]
        lines += ["| option | meaning | default |", "|---|---|---|"]
        lines += [f"| {_names(action)} | {_meaning(parser, action)} | {_default(action)} |" for action in actions]
        lines.append("")
    if parser.epilog:
        lines += [_prose(parser.epilog), ""]
    return lines


def _names(action: argparse.Action) -> str:
    metavar = action.metavar if action.metavar is not None else action.dest.upper()
    shown = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    if action.choices is not None and action.metavar is None:
        shown = "{" + ",".join(map(str, action.choices)) + "}"
    value = "" if action.nargs == 0 else f" {shown}{' …' if action.nargs in ('+', '*') else ''}"
    if not action.option_strings:
        return f"`{value.strip()}`"
    required = ", required" if action.required else ""
    return ", ".join(f"`{name}{value}`".replace("|", "\\|") for name in action.option_strings) + required


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ").replace("*", "\\*").replace("_", "\\_")


def _default(action: argparse.Action) -> str:
    default = action.default
    if default is None or default is argparse.SUPPRESS or default == [] or action.nargs == 0:
        return "–"
    return f"`{' '.join(map(str, default)) if isinstance(default, list | tuple) else default}`"


def _prose(text: str) -> str:
    """Paragraphs as they are; what is indented stays a block of code."""
    return inspect.cleandoc(text).replace("<", "&lt;")


def trainer_options_page() -> str:
    """Every option of every trainer base, with its default and what it means."""
    from nnunet_stochastic import training
    from nnunet_stochastic.training.options import options_of

    logging.getLogger("griffe").setLevel(logging.ERROR)  # it asks for types, which are in the signatures
    lines = [
        "# Options of trainers",
        "",
        "Class attributes; another value is a subclass of another name: [trainers of your own](../guides/trainers.md).",
        "",
    ]
    for name in training.__all__:
        trainer = getattr(training, name)
        own = {option: value for option, value in options_of(trainer).items() if option in vars(trainer)}
        if not own:
            continue
        lines += [f"## {name}", "", _first_paragraph(trainer), "", "| option | default | meaning |", "|---|---|---|"]
        meanings = _meanings(trainer)
        lines += [f"| `{option}` | `{value!r}` | {meanings[option]} |" for option, value in own.items()]
        lines.append("")
    return "\n".join(lines)


def schemas_page() -> str:
    """Every JSON file with a schema: its keys and what they mean, objects inside it in sections of their own."""
    from nnunet_stochastic.evaluation.json_schemas import FILE_SCHEMAS

    lines = [
        "# Schemas of the JSON files",
        "",
        "Keys of the JSON files that are written; `nnunet_stochastic_info --schema_of FILE` prints the JSON Schema.",
        "",
    ]
    for schema in FILE_SCHEMAS.values():
        content = schema.to_json()
        lines += [f"## {schema.file}", "", f"Version {schema.version}, written by {schema.written_by}.", ""]
        lines += _keys(content)
        for name, definition in sorted(content.get("$defs", {}).items()):
            if rows := _keys(definition):
                lines += [f"**{name.lstrip('_')}**: {_one_line(definition)}", "", *rows]
    return "\n".join(lines)


def _keys(schema: dict[str, Any]) -> list[str]:
    properties = schema.get("properties", {})
    if not properties:
        return []
    rows = [f"| `{key}` | {_kind(value)} | {_one_line(value)} |" for key, value in properties.items()]
    return ["| key | value | meaning |", "|---|---|---|", *rows, ""]


def _kind(schema: dict[str, Any]) -> str:
    """The kind of a value in a few words."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2].lstrip("_")
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema["anyOf"])))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("type", "any"))


def _one_line(schema: dict[str, Any]) -> str:
    return html.escape(" ".join(schema.get("description", "").split()), quote=False).replace("|", "\\|")


def _first_paragraph(owner: type) -> str:
    return (inspect.getdoc(owner) or "").partition("\n\n")[0].replace("\n", " ")


def _meanings(trainer: type) -> dict[str, str]:
    """What is said of each option: above the attribute, nearest class first, or as a parameter of what is built."""
    found: dict[str, str] = {}
    for built in ("heads_class", "network_class"):
        if hasattr(trainer, built):
            found |= _parameters(getattr(trainer, built))
    for base in reversed(trainer.__mro__):
        if base.__module__.partition(".")[0] == "nnunet_stochastic":
            found |= _comments(base)
    return found


def _comments(owner: type) -> dict[str, str]:
    """The lines ``#: …`` above an attribute of a class."""
    found, comment = {}, []
    for line in inspect.getsource(owner).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            comment.append(text[2:].strip())
            continue
        if comment and (match := re.match(r"(\w+)(?::[^=]+)?\s*=", text)):
            found[match[1]] = " ".join(comment)
        comment = []
    return found


def _parameters(built: type) -> dict[str, str]:
    """What the docstring of a class says of its keyword arguments."""
    found = {}
    for base in reversed(built.__mro__[:-1]):
        docstring = Docstring(inspect.getdoc(base) or "", parser="numpy")
        for section in docstring.parse():
            if section.kind is DocstringSectionKind.parameters:
                for parameter in section.value:
                    for name in parameter.name.split(", "):
                        found[name] = " ".join(parameter.description.split())
    return found
