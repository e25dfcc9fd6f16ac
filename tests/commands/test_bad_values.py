"""Values that are not what a file or option says they are: one line, which file, what is wrong, and nothing written."""

from __future__ import annotations

import argparse
import ast
import json
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import nnunet_stochastic
from nnunet_stochastic.commands import apply_calibration, determine_calibration, evaluate
from nnunet_stochastic.commands._flags import Number, parse_arguments
from nnunet_stochastic.evaluation.case_sets import SetFolders, find_case_sets
from nnunet_stochastic.evaluation.readers import read_probabilities
from nnunet_stochastic.labels import EvaluatedLabels

FILES = Path(import_module("nnunet_stochastic.commands").__file__).parent.glob("*.py")
COMMANDS = sorted(file.stem for file in FILES if not file.stem.startswith("_"))
QUIET = ["-np", "1", "--disable_progress_bar"]


def probabilities_of(made, name="id", case="a"):
    return made.cases[name][case].probabilities


NPZ = {
    "sums above 1": (lambda p: np.minimum(p * 1.1, 1), "must sum to 1 over its 2 classes"),
    "sums of 0.9": (lambda p: p * 0.9, "must sum to 1 over its 2 classes, got 0.9"),
    "all 0": (np.zeros_like, "must sum to 1"),
    "bool": (lambda p: p > 0.5, "has values of type bool"),
    "integers": (lambda p: (p > 0.5).astype(np.int64), "has values of type int64"),
    "complex": (lambda p: p.astype(complex), "has values of type complex128"),
    "texts": (lambda p: p.astype(str), "has values of type <U"),
    "objects": (lambda p: p.astype(object), "is damaged (Object arrays cannot be loaded"),
    "swapped classes": (lambda p: p[::-1], "the classes are in another order"),
    "a class missing": (lambda p: p[1:], "has shape (1, 3, 12, 14)"),
    "a class more": (lambda p: np.concatenate([p, 0 * p[:1]]), "has shape (3, 3, 12, 14)"),
    "another shape": (lambda p: p.transpose(0, 3, 2, 1), "has shape (2, 14, 12, 3)"),
    "one number": (lambda p: np.float32(1), "has shape ()"),
    "NaN": (lambda p: np.where(p == p.max(), np.nan, p), "has NaN in"),
    "infinity": (lambda p: np.where(p == p.max(), np.inf, p), "has probabilities outside [0, 1]"),
    "negative": (lambda p: p - 0.1, "has probabilities outside [0, 1]"),
    "of another image": (lambda p: np.roll(p, 6, axis=3), "the files of two predictions"),
}


@pytest.mark.parametrize("kind", NPZ)
def test_probabilities_that_are_none(made_once, tmp_path, kind):
    change, message = NPZ[kind]
    made = made_once.cases["id"]["a"]
    path = tmp_path / "a.npz"
    labels = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "nodule": 1}})
    np.savez(path, probabilities=change(made.probabilities))
    with pytest.raises(ValueError, match=r"a\.npz") as error:
        read_probabilities(path, made.prediction, labels)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"text", bytes(100)])
def test_files_that_hold_no_arrays(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    labels = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "nodule": 1}})
    with pytest.raises(ValueError, match=r"a\.npz is damaged .*; predict this case again"):
        read_probabilities(tmp_path / "a.npz", np.zeros((1, 2, 2), int), labels)


def test_good_probabilities_pass(made_once, tmp_path):
    made = made_once.cases["id"]["a"]
    labels = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "nodule": 1}})
    processed = made.prediction.copy()
    processed[:, :5] = 0  # as post-processing removes a component
    for dtype in (np.float16, np.float32, np.float64):
        np.savez(tmp_path / "a.npz", probabilities=made.probabilities.astype(dtype))
        for segmentation in (made.prediction, processed, np.zeros_like(processed)):
            read = read_probabilities(tmp_path / "a.npz", segmentation, labels)
            np.testing.assert_allclose(read, made.probabilities, atol=1e-3)


def test_regions_need_not_sum_to_1_and_swapped_ones_are_noticed(tmp_path):
    labels = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "whole": [1, 2], "core": 2}})
    segmentation = np.zeros((1, 8, 8), int)
    segmentation[:, 1:7, 1:7] = 1
    segmentation[:, 3:5, 3:5] = 2
    probabilities = np.stack([segmentation > 0, segmentation == 2]) * np.float32(0.9)
    np.savez(tmp_path / "a.npz", probabilities=probabilities)
    np.testing.assert_array_equal(read_probabilities(tmp_path / "a.npz", segmentation, labels), probabilities)
    np.savez(tmp_path / "a.npz", probabilities=probabilities[::-1])
    with pytest.raises(ValueError, match="whole is not the most probable class in 32 of its 36 voxels"):
        read_probabilities(tmp_path / "a.npz", segmentation, labels)


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "temperature"])
def test_every_command_refuses_swapped_classes_and_writes_nothing(made, capsys, command):
    made.calibrate()
    name = "val" if command == "calibrate" else "id"
    case = "v" if command == "calibrate" else "a"
    path = made.root / name / "pred" / f"{case}.npz"
    np.savez(path, probabilities=made.cases[name][case].probabilities[::-1])
    capsys.readouterr()
    calibration = made.root / "val" / "pred" / "calibration.json"
    before = calibration.read_bytes()
    if command == "evaluate":
        status = made.evaluate()
    elif command == "calibrate":
        status = determine_calibration.main([*made.options("val", "-val"), *QUIET])
    else:
        options = ["-i", made.root / "id" / "pred", "-calibration", calibration, "-o", made.root / "out"]
        status = apply_calibration.main([*map(str, options), "--method", "temperature", *QUIET])
    error = capsys.readouterr().err
    assert status == 1
    assert f"{path}: " in error
    assert "another order" in error
    assert calibration.read_bytes() == before
    assert not [file for file in (made.root / "out").rglob("*") if file.is_file()]


@pytest.mark.parametrize("value", [0, -1, 10**7, 10**30, 2.0, "2", True, [2], float("nan")])
@pytest.mark.parametrize("command", ["evaluate", "determine_calibration"])
def test_numbers_of_raters(made_once, tmp_path, capsys, value, command):
    content = json.loads((made_once.root / "id" / "pred" / "dataset.json").read_text()) | {"num_raters": value}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    file = ["-djfile", str(tmp_path / "labels.json")]
    if command == "evaluate":
        assert made_once.evaluate(*file) == 1
    else:
        assert determine_calibration.main([*made_once.options("id", "-val"), *file, *QUIET]) == 1
    error = capsys.readouterr().err
    assert "num_raters" in error
    assert len(error.splitlines()) == 2
    assert "Traceback" not in error


def test_folders_that_are_the_same(made_once, tmp_path, capsys):
    root = made_once.root
    (tmp_path / "link").symlink_to(root / "id" / "pred")
    for reference in (root / "id" / "pred", root / "id" / "gt" / ".." / "pred", tmp_path / "link"):
        assert evaluate.main(["-pred", str(root / "id" / "pred"), "-gt", str(reference), *QUIET]) == 1
        assert "is given as the folder of predictions and of references" in capsys.readouterr().err
        assert determine_calibration.main(["-val", str(root / "id" / "pred"), "-gt", str(reference), *QUIET]) == 1
        assert "is given as the folder of predictions and of references" in capsys.readouterr().err
    raters = ["-gt_raters", str(root / "id" / "pred")]
    assert evaluate.main(["-pred", str(root / "id" / "pred"), "-gt", str(root / "id" / "gt"), *raters, *QUIET]) == 1
    assert "of predictions and of raters" in capsys.readouterr().err
    assert made_once.evaluate("-ood", f"blur={root / 'id' / 'pred'}") == 1
    assert "of predictions of ID and of predictions of blur" in capsys.readouterr().err


def test_sets_may_share_references(made):
    shutil.rmtree(made.root / "blur" / "gt")
    places = {name: SetFolders(made.root / name / "pred", made.root / "id" / "gt") for name in ("id", "blur")}
    find_case_sets(places, file_ending=".nii.gz")


#: What no number of an option may be, and what some may.
NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e308", str(10**30), "9" * 5000, "x", "", " ", "1e999", "0x10", "1,5")


def actions_of(parser):
    """Flags and positional arguments that take a value."""
    return [action for action in parser._actions if action.nargs != 0 and not isinstance(action, argparse._HelpAction)]


def required_of(parser, *but):
    """Words of a command line with all that a command needs, none of which is there."""
    words = []
    for action in actions_of(parser):
        if action.required and action not in but:
            value = action.choices[0] if action.choices else "1"
            words += [*action.option_strings[:1], str(value)]
    return words


@pytest.mark.parametrize("command", COMMANDS)
def test_numbers_of_options(parsers, capsys, command):
    """Each number of each command: what is not in its range is refused before anything is done, in a line."""
    parser = parsers[command]
    for action in (action for action in actions_of(parser) if isinstance(action.type, Number)):
        for text in NUMBERS:
            words = [*required_of(parser, action), f"{action.option_strings[-1]}={text}"]
            try:
                value = getattr(parse_arguments(parser, words), action.dest)
            except SystemExit:
                message = capsys.readouterr().err.splitlines()[-1]
            except ValueError as error:
                message = str(error)
            else:
                assert text in ("0", "-1", "1e308", str(10**30))
                value = value[0] if isinstance(value, list) else value
                assert action.type.least <= value <= action.type.most <= 2**63
                continue
            assert action.option_strings[0] in message
            assert "\n" not in message
            assert len(message) < 6000 if text == NUMBERS[7] else 500


@pytest.mark.parametrize("long", ["x" * 10**6, "x/" * 500_000, "x " * 500_000, "9" * 10**6])
def test_a_value_of_a_million_signs(capsys, tmp_path, monkeypatch, long):
    """A message of a few words, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    for main, words in (
        (evaluate.main, ["-pred", long, "-gt", "nowhere"]),
        (evaluate.main, ["-pred", "nowhere", "-gt", "nowhere", "-ood", long]),
        (evaluate.main, ["-pred", "nowhere", "-gt", "nowhere", "--convention", long]),
        (determine_calibration.main, ["-val", "nowhere", "-gt", "nowhere", "-np", long]),
        (apply_calibration.main, ["-i", "nowhere", "-calibration", long, "-o", "new"]),
    ):
        try:
            status = main(words)
        except SystemExit as error:
            status = error.code
        message = capsys.readouterr().err
        assert status
        assert "Traceback" not in message
        assert max(map(len, message.splitlines())) < 700
    assert not list(tmp_path.iterdir())


def test_values_in_messages_are_bounded():
    """A value that a user gives is told by ``shown``, or cut."""
    package = Path(nnunet_stochastic.__file__).parent
    unbounded = []
    for file in package.rglob("*.py"):
        for raised in (node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Raise)):
            unbounded += [
                f"{file.relative_to(package)}:{part.lineno}: {ast.unparse(part.value)}"
                for part in ast.walk(raised)
                if isinstance(part, ast.FormattedValue) and part.conversion == ord("r")
                if not isinstance(part.value, ast.Subscript) and part.format_spec is None
            ]
    known = ["__name__", "chr(error.character)", "name", "step.name"]
    assert sorted(text.partition(": ")[2] for text in unbounded) == known
