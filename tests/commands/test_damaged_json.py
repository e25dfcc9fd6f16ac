"""Kinds of damage x JSON files x commands that read them: one line, which file and place, and what to do."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from nnunet_stochastic.commands import apply_calibration, compare, determine_calibration, evaluate, predict, report
from nnunet_stochastic.evaluation.evaluated_runs import read_runs
from nnunet_stochastic.inference.record import Record
from nnunet_stochastic.io.result_schemas import DescribedModel
from nnunet_stochastic.io.schemas import (
    ConversionFile,
    CorruptionManifest,
    DatasetJson,
    DemoPlans,
    DemoRecord,
    ImageSpacing,
    JobRecord,
    PlannedConfigurations,
    Splits,
)
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.report.page import read_results
from tests.commands.damage import STRUCTURES, csv_damages, json_damages
from tests.inference import model_folder
from tests.report.results import write_result

QUIET = ["-np", "1", "--disable_progress_bar"]

#: Of the whole file.
CONTENT = {
    "empty": b"",
    "zeroed": bytes(300),
    "cut": b'{"a": {"b',
    "not JSON": b"labels: yes",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "with a mark": b"\xef\xbb\xbf{}",
    "a list": b"[[]]",
    "a number": b"3",
    "null": b"null",
    "a text": b'"text"',
    "without its keys": b"{}",
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
}
#: Of a value: what cannot stand for an object, a list, a text or a number.
WRONG = ([[]], {"x": []}, True, "text", -3, float("nan"), None)


@pytest.fixture(scope="module")
def root(made_once, tmp_path_factory):
    """Predictions with a record, their calibration and evaluation, and a model."""
    made_once.calibrate()
    plans = model_folder.plans()
    (made_once.root / "id" / "pred" / "plans.json").write_text(json.dumps(plans))
    settings = {"trainer": "nnUNetTrainerSSN", "configuration": "3d_fullres", "checkpoints": {"fold_0": {}}, "seed": 0}
    settings |= {"members": 1, "aleatoric_source": "model", "epistemic_source": "aleatoric_samples"}
    entry = {"input_files": ["x_0000.nii.gz"], "mean_aleatoric": 0.2, "mean_epistemic": 0.1}
    record = {"settings": settings, "cases": dict.fromkeys(made_once.cases["id"], entry)}
    (made_once.root / "id" / "pred" / "uncertainty.json").write_text(json.dumps(record))
    assert made_once.evaluate(*made_once.all_tasks()) == 0
    model_folder.write_model_folder(made_once.root / "model")
    (made_once.root / "images").mkdir()
    return made_once.root


def _predict(root, *options):
    images = ["-i", str(root / "images"), "-o", str(root / "new"), "-m", str(root / "model"), "-f", "0"]
    return predict.main([*images, "-device", "cpu", "--disable_progress_bar", *options])


def _options(root, text):
    """Words of a command line, those that are no flags below the root."""
    return [word if word.startswith("-") else str(root / word) for word in text.split()] + QUIET


COMMANDS = {
    "predict": lambda root: _predict(root),
    "rescale": lambda root: _predict(root, "--rescale_epistemic", str(root / "id" / "pred")),
    "evaluate": lambda root: evaluate.main(
        _options(root, "-pred id/pred -gt id/gt -val val/pred -o new --no_pictures")
    ),
    "calibrate": lambda root: determine_calibration.main(
        ["-val", str(root / "id/pred"), "-gt", str(root / "id/gt"), *QUIET]
    ),
    "apply": lambda root: apply_calibration.main(
        _options(root, "-i id/pred -calibration val/pred/calibration.json -o new")
    ),
    "compare": lambda root: compare.main([str(root / "out"), str(root / "out"), "-o", str(root / "new")]),
    "report": lambda root: report.main([str(root / "out"), "-o", str(root / "new.html"), *QUIET]),
}

#: File, commands that read it, and values in it that each of WRONG but those in brackets is wrong for.
FILES = {
    "model/plans.json": (
        ["predict"],
        {
            ("image_reader_writer",): (),
            ("label_manager",): (),
            ("transpose_forward",): (),
            ("configurations",): (),
            ("configurations", "3d_fullres", "patch_size"): (),
            ("configurations", "3d_fullres", "spacing"): (),
            ("configurations", "3d_fullres", "normalization_schemes"): (),
            ("configurations", "3d_fullres", "use_mask_for_norm"): (),
            ("configurations", "3d_fullres", "resampling_fn_data_kwargs"): ("object",),
            ("configurations", "3d_fullres", "architecture"): (),
            ("configurations", "3d_fullres", "architecture", "network_class_name"): (),
            ("configurations", "3d_fullres", "architecture", "_kw_requires_import"): (),
            ("configurations", "3d_fullres", "architecture", "arch_kwargs", "nonlin"): ("null",),
        },
    ),
    "model/dataset.json": (
        ["predict"],
        {("labels",): (), ("file_ending",): (), ("channel_names",): ("object",), ("labels", "nodule"): ()},
    ),
    "id/pred/dataset.json": (
        ["evaluate", "calibrate", "apply"],
        {("labels",): (), ("file_ending",): (), ("labels", "nodule"): ()},
    ),
    "id/pred/plans.json": (["evaluate", "calibrate", "apply"], {("image_reader_writer",): ()}),
    "id/pred/uncertainty.json": (
        ["evaluate", "rescale"],
        {
            ("settings",): ("object",),
            ("cases",): (),
            ("cases", "a"): ("object",),
            ("cases", "a", "input_files"): ("null",),
            ("cases", "a", "mean_aleatoric"): ("null",),
            ("settings", "trainer"): ("null", "text"),
            ("settings", "checkpoints"): ("object",),
            ("settings", "members"): ("null",),
        },
    ),
    "val/pred/calibration.json": (
        ["evaluate", "apply"],
        {
            ("platt",): (),
            ("platt", "AU"): (),
            ("platt", "AU", "a"): ("number",),
            ("temperature",): ("null",),
            ("threshold",): (),
            ("threshold", "EU"): (),
            ("platt_per_image",): (),
            ("model",): ("null", "object"),
        },
    ),
    "out/summary.json": (
        ["compare", "report"],
        {
            ("tasks",): ("object",),
            ("model",): ("null", "object"),
            ("results",): (),
            ("left_out",): (),
            ("num_raters",): (),
        },
    ),
    "out/curves.json": (["report"], {("reliability",): (), ("confidence",): ()}),
}
KINDS = dict(zip(("list", "object", "true", "text", "number", "nan", "null"), WRONG, strict=True))


def check_one_line(command, root, capsys, file):
    capsys.readouterr()
    assert COMMANDS[command](root) == 1, file
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if file.split("/")[-1] in line]
    assert lines, error
    assert "Traceback" not in error
    assert max(map(len, error.splitlines())) < 700
    assert not [path for path in root.glob("new*") if path.is_file() or any(p.is_file() for p in path.rglob("*"))]


@pytest.mark.parametrize(("file", "command"), [(file, name) for file, (names, _) in FILES.items() for name in names])
def test_damage(root, capsys, file, command):
    path = root / file
    good = path.read_bytes()
    try:
        for damage, content in CONTENT.items():
            path.write_bytes(content)
            check_one_line(command, root, capsys, f"{damage} {file}")
        for place, allowed in FILES[file][1].items():
            for kind, value in KINDS.items():
                if kind in allowed:
                    continue
                content = json.loads(good)
                entry = content
                for key in place[:-1]:
                    entry = entry[key]
                assert place[-1] in entry
                entry[place[-1]] = value
                path.write_text(json.dumps(content))
                check_one_line(command, root, capsys, f"{place} {kind} {file}")
    finally:
        path.write_bytes(good)
        shutil.rmtree(root / "new", ignore_errors=True)
        (root / "new.html").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (ConversionFile, {"settings": {}, "parts": {"a": "train"}}, [{"settings": {}}, {"settings": [], "parts": {}}]),
        (CorruptionManifest, {"cases": {"a": {}}}, [{"cases": []}, {"cases": {"a": 1}}]),
        (
            DemoPlans,
            {
                "plans_name": "x",
                "configurations": {"3d_fullres": {"architecture": {"arch_kwargs": {}}}, "c": {"inherits_from": "a"}},
            },
            [
                {"plans_name": "x", "configurations": {"3d_fullres": {}}},
                {"plans_name": "x", "configurations": {"3d_fullres": {"architecture": {"arch_kwargs": None}}}},
                {"configurations": {}},
            ],
        ),
        (
            DescribedModel,
            {"name": "Müller's / $x [red] _y", "seed": 0},
            [{"name": "a\nb"}, {"epistemic": "a\0"}, {"dataset": 3}, {"seed": "0"}],
        ),
        (
            DatasetJson,
            {"labels": {"background": 0, "_x [b] $": 1}, "file_ending": ".png"},
            [{"labels": {"background": 0, "a\nb": 1}, "file_ending": ".png"}],
        ),
        (DemoRecord, {"done": {"plan": "x"}}, [{"done": []}, {"done": {"plan": 1}}]),
        (ImageSpacing, {"spacing": [1, 2.0, 3]}, [{"spacing": [1, 2]}, {"spacing": [0, 1, 1]}, {"spacing": "111"}]),
        (JobRecord, {"how": {}, "seconds": 2.5}, [{"how": []}, {"command": "x"}, {"seconds": -1}]),
        (
            Splits,
            [{"train": ["a"], "val": []}],
            [[], [{}], [{"train": ["a"], "val": "b"}], [{"train": [1], "val": []}]],
        ),
        (
            PlannedConfigurations,
            {"configurations": {"a": {"data_identifier": "x"}, "b": {"inherits_from": "a"}}},
            [{"configurations": []}, {"configurations": {"a": {"inherits_from": "a"}}}],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_records_of_what_was_done(tmp_path, schema, good, bad):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(good))
    assert read_json(path, schema) == good
    for content in (*bad, None, 3, "text"):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"record\.json: .*; make it again") as error:
            read_json(path, schema, remedy="make it again")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", bytes(500)])
def test_an_empty_record_of_a_prediction_counts_as_absent(tmp_path, content):
    (tmp_path / "uncertainty.json").write_bytes(content)
    record = Record(tmp_path, {"seed": 0}, resume=True)
    assert record.cases == {}
    assert json.loads((tmp_path / "uncertainty.json").read_text()) == {"settings": {"seed": 0}, "cases": {}}


#: Files of an evaluation, who reads them, and places in them that nobody reads.
EVALUATION = [
    ("summary.json", read_runs, {"model.folds", "model.folds.0"}),
    ("summary.json", read_results, {"model.folds", "model.folds.0"}),
    ("images.csv", read_runs, ()),
    ("images.csv", read_results, ()),
    ("scores.csv", read_results, ()),
    ("curves.json", read_results, {"num_bins", "num_bins.reliability", "num_bins.confidence"}),
]


@pytest.mark.parametrize(("file", "read", "unread"), EVALUATION)
def test_every_value_of_an_evaluation(tmp_path, file, read, unread):
    """A sample of all damages: each is named in a line, or the value is one that may be there."""
    path = write_result(tmp_path / "run", num_cases=2) / file
    good = path.read_text()
    damages = (csv_damages if file.endswith(".csv") else json_damages)(good)
    refused = 0
    for damage, text in random.Random(0).sample(damages, min(len(damages), 150)):
        path.write_text(text)
        place, _, kind = damage.rpartition(": ")
        try:
            read([path.parent])
        except ValueError as error:
            refused += 1
            line = next(line for line in str(error).splitlines() if file in line or "seed" in damage)
            assert len(line) < 500 + len(str(tmp_path)), damage
        else:
            assert kind not in (*STRUCTURES, "true", "line break", "NUL") or place in unread, damage
    assert refused > 40


def test_a_byte_order_mark_is_no_damage(root, capsys):
    for file in FILES:
        path = root / file
        content = path.read_bytes()
        path.write_bytes(b"\xef\xbb\xbf" + content)
        assert read_json(path, dict) == json.loads(content)
        path.write_bytes(content)
