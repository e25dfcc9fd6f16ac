"""Flags over all commands: what means one thing has one name, and one name means one thing."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

from nnunet_stochastic.commands._flags import Number

COMMANDS = Path(__file__).parents[2] / "nnunet_stochastic" / "commands"
NAMES = sorted(file.stem for file in COMMANDS.glob("*.py") if not file.stem.startswith("_"))

#: How the text of each flag begins that several commands have.
MEANINGS = {
    "--disable_progress_bar": "draw no progress bars$",
    "--groups": "table ",
    "--images": "image folders",
    "--dry_run": "print .*, and stop$",
    "--num_members": "number of members",
    "--overwrite": "replace ",
    "--runs": "table with the column folder",
    "--trust_checkpoint": "load checkpoints with arbitrary objects",
    "--seed": r"seed of all random numbers; the same seed gives the same files \(default: 0\)$",
    "--verbose": "print more",
    "-c": "configurations? ",
    "-calibration": "calibration.json that nnunet_stochastic_determine_calibration has written",
    "-chk": "checkpoints? of each fold ",
    "-d": "(names? or numbers? of (the|a)|number of the new) ",
    "-device": "where networks run ",
    "-djfile": r"dataset.json \(default: the one inside -",
    "-f": "folds? ",
    "-gt": "folder of reference segmentations",
    "-gt_raters": "folder of each rater's segmentations",
    "-i": "folder ",
    "-i_test": "folder of ",
    "-m": "folder of a trained model",
    "-np": "number of (cases at a time|processes)",
    "-num_test": "number of (cases|patients) ",
    "-o": "output (folder|file)",
    "-p": "plans",
    "-step_size": "distance of tiles ",
    "-tr": "trainer of the model ",
    "-val": "folder of predictions of validation images",
}
#: nnU-Net's own names, which have one dash there.
NNUNETS = {
    *("-c", "-chk", "-d", "-device", "-djfile", "-f", "-i", "-m", "-np", "-npp", "-nps", "-num_parts", "-o", "-p"),
    *("-part_id", "-prev_stage_predictions", "-step_size", "-tr"),
}
#: Commands that draw no progress bars.
WITHOUT_BARS = {"compare", "ensemble_splits", "export_model", "info", "merge", "study"}
OLD_NAMES = {
    **{(name, "-seed"): "--seed" for name in NAMES if name.startswith("convert_")},
    **{(name, "--no_pbar"): "--disable_progress_bar" for name in NAMES if name.startswith("convert_")},
    ("evaluate", "--chill"): "--allow_missing_predictions",
    ("convert_CURVAS", "-val"): "-i_val",
    ("convert_CURVAS", "-test"): "-i_test",
    ("preprocess_raters", "--no_pbar"): "--disable_progress_bar",
    ("preprocess_raters", "-plans_name"): "-p",
    ("ensemble_splits", "-members"): "--num_members",
    ("ensemble_splits", "-fold"): "-f",
}


def flags_of(parser):
    """The flags that a help shows, by name."""
    shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS and action.option_strings]
    return {name: action for action in shown for name in action.option_strings if name not in ("-h", "--help")}


def hidden_of(parser):
    """The former names of a command's flags."""
    hidden = [action for action in parser._actions if action.help is argparse.SUPPRESS]
    return {name: action for action in hidden for name in action.option_strings}


def test_all_commands_are_installed(parsers):
    scripts = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    installed = re.findall(
        r'^nnunet_stochastic_(\w+) = "nnunet_stochastic\.commands\.(\w+):main"', scripts, re.MULTILINE
    )
    assert sorted(module for _, module in installed) == NAMES
    assert [parsers[module].prog for _, module in installed] == [f"nnunet_stochastic_{name}" for name, _ in installed]


def test_a_flag_of_several_commands_is_spelled_and_explained_alike(parsers):
    spelled, uses = defaultdict(set), defaultdict(list)
    for command, parser in parsers.items():
        for name, action in flags_of(parser).items():
            spelled[name.lstrip("-")].add(name)
            uses[name].append((command, action))
    assert {name: sorted(names) for name, names in spelled.items() if len(names) > 1} == {}
    several = {name: found for name, found in uses.items() if len(found) > 1}
    assert sorted(several) == sorted(MEANINGS)
    for name, found in several.items():
        for command, action in found:
            text = parsers[command]._get_formatter()._expand_help(action)
            assert re.match(MEANINGS[name], text), f"{command} {name}: {text}"
        assert len({type(action) for _, action in found}) == 1, name


def test_names_of_nnunet_have_its_one_dash_and_flags_without_value_have_two(parsers):
    for command, parser in parsers.items():
        for name, action in flags_of(parser).items():
            if "-" + name.lstrip("-") in NNUNETS:
                assert not name.startswith("--"), f"{command} {name}"
            elif action.nargs == 0:
                assert name.startswith("--"), f"{command} {name}"
            assert "-" not in name.lstrip("-"), f"{command} {name}"


def test_help_says_what_a_flag_is_and_its_default(parsers):
    for command, parser in parsers.items():
        for name, action in flags_of(parser).items():
            text = parser._get_formatter()._expand_help(action)
            assert len(text.split()) >= 2, f"{command} {name}"
            assert not text.endswith("."), f"{command} {name}: {text}"
            if action.nargs != 0 and action.default not in (None, []):
                assert "(default: " in text, f"{command} {name}: {text}"


def test_a_command_that_draws_bars_can_be_told_not_to(parsers):
    without = {command for command, parser in parsers.items() if "--disable_progress_bar" not in flags_of(parser)}
    assert without == WITHOUT_BARS


def test_former_names_still_work_and_are_not_shown(parsers):
    hidden = {(command, name) for command, parser in parsers.items() for name in hidden_of(parser)}
    assert hidden == OLD_NAMES.keys()
    for (command, old), new in OLD_NAMES.items():
        parser, action = parsers[command], flags_of(parsers[command])[new]
        value = [] if action.nargs == 0 else ["7"]
        required = [word for other in parser._actions if other.required for word in _an_argument(other)]
        as_old, as_new = (parser.parse_args([*required, name, *value]) for name in (old, new))
        assert as_old == as_new
        assert as_new != parser.parse_args(required)
        assert old not in parser.format_help().replace(new, "").split()


def _an_argument(action):
    value = action.choices[0] if action.choices else "1"
    return [*action.option_strings[:1], value]


def numbers_of(parsers):
    """The flags that take numbers, by command."""
    for command, parser in parsers.items():
        for name, action in flags_of(parser).items():
            if isinstance(action.type, Number):
                yield command, parser, name, action


def test_every_number_has_a_range(parsers):
    for command, parser in parsers.items():
        for name, action in {**flags_of(parser), **hidden_of(parser)}.items():
            if action.help is not argparse.SUPPRESS:
                assert action.type not in (int, float), f"{command} {name} takes any number"
    assert len(list(numbers_of(parsers))) > 25


def test_a_number_out_of_its_range_ends_a_command_before_it_reads_anything(parsers, capsys):
    for command, parser, name, action in numbers_of(parsers):
        required = [word for other in parser._actions if other.required for word in _an_argument(other)]
        outside = [action.type.least - 1, action.type.most * 2]
        outside += [float("nan"), float("inf")] if action.type.kind is float else []
        for value in outside:
            main = import_module(f"nnunet_stochastic.commands.{command}").main
            status = main([*required, f"{name}={value}"])
            lines = capsys.readouterr().err.splitlines()
            assert (status, len(lines)) == (1, 2), f"{command} {name} {value}"
            assert re.match(rf"error: {name} must be (at least|at most|a finite number)", lines[0]), lines[0]


@pytest.mark.parametrize("factor", ["inf", "-inf", "nan", "0", "-1", "1e400", "1e30"])
def test_the_factor_of_the_epistemic_map(factor, capsys):
    main = import_module("nnunet_stochastic.commands.predict").main
    assert main(["-i", "x", "-o", "y", "-m", "z", "-device", "cpu", f"--rescale_epistemic={factor}"]) == 1
    assert "error: epistemic_factor must be positive and at most 1e12" in capsys.readouterr().err
