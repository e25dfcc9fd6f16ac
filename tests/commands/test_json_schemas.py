"""Files as the commands write them, checked by the JSON schemas that ``nnunet_stochastic_info --schema_of`` prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands import (
    apply_calibration,
    convert_CURVAS,
    corrupt,
    determine_calibration,
    evaluate,
    info,
    predict,
)
from nnunet_stochastic.commands._steps import write_done_steps
from nnunet_stochastic.evaluation.json_schemas import FILE_SCHEMAS, json_schema_of
from tests.inference import model_folder

jsonschema = pytest.importorskip("jsonschema")

QUIET = ["-np", "1", "--disable_progress_bar"]
CASES = ("a", "b", "c", "d")
SHAPE = (14, 16, 15)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """Of each kind a file, made by its command from four images and two folds of random weights."""
    root = tmp_path_factory.mktemp("written")
    model_folder.write_model_folder(root / "model", folds=(0, 1))
    for index, case in enumerate(CASES):
        image = model_folder.image_array(index, SHAPE)
        model_folder.write_image(root / "images" / f"{case}_0000.nii.gz", image)
        for rater, threshold in enumerate((300, 340)):
            mask = (image > threshold).astype(np.uint8)
            model_folder.write_image(root / "raters" / f"{case}_rater{rater}.nii.gz", mask)
        model_folder.write_image(root / "labels" / f"{case}.nii.gz", mask)
    out, labels = root / "out", ["-gt", str(root / "labels"), "-gt_raters", str(root / "raters")]
    options = ["-f", "0", "1", "-device", "cpu", "--disable_tta", "-npp", "0", "-nps", "0", "--disable_progress_bar"]
    options += ["--aleatoric", "tta", "--num_samples", "4", "--save_samples", "3", "--save_probabilities"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_raw", "nnUNet_preprocessed"):
            patch.setenv(name, str(root / name))
        run(predict, "-i", root / "images", "-o", out, "-m", root / "model", *options, "--lesions", "nodule")
        content = json.loads((out / "dataset.json").read_text())
        (out / "dataset.json").write_text(json.dumps({**content, "num_raters": 2}))
        run(determine_calibration, "-val", out, *labels, *QUIET)
        calibration = out / "calibration.json"
        run(apply_calibration, "-i", out, "-calibration", calibration, *QUIET)
        decided = ["-o", root / "decided", "--method", "decisions"]
        run(apply_calibration, "-i", out, "-calibration", calibration, *decided, *QUIET)
        shutil.copytree(out, root / "shifted")
        run(
            evaluate,
            *("-pred", out, *labels, "-val", out, "-ood", f"blur={root / 'shifted'}", "-decisions", root / "decided"),
            *("-o", root / "evaluated", "--no_pictures", *QUIET),
        )
        run(corrupt, "-i", root / "images", "-o", root / "corrupted", "--shifts", "noise", *QUIET)
        write_curvas(root / "CURVAS")
        run(convert_CURVAS, "-i", root / "CURVAS", "-d", "11", *QUIET)
    (root / "demo").mkdir()
    write_done_steps(root / "demo", {"plan": "nnUNetv2_plan_and_preprocess -d 901"})
    converted = root / "nnUNet_raw" / "Dataset011_CURVAS"
    folders = {
        out: ("uncertainty.json", "calibration.json", "confidence.json"),
        root / "evaluated": ("summary.json", "curves.json"),
        root / "decided": ("decisions.json",),
        root / "corrupted" / "noise": ("manifest.json",),
        converted: ("conversion.json", "dataset.json", "splits_final.json"),
        root / "demo": ("demo.json",),
    }
    return {name: folder / name for folder, names in folders.items() for name in names}


def run(command, *arguments) -> None:
    assert command.main([str(argument) for argument in arguments]) == 0


def write_curvas(folder: Path) -> None:
    for case in "abcdef":
        (folder / case).mkdir(parents=True)
        voxels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2) // 2
        sitk.WriteImage(sitk.GetImageFromArray(voxels.astype(np.int16) - 1000), str(folder / case / "image.nii.gz"))
        for rater in (1, 2):
            sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / case / f"annotation_{rater}.nii.gz"))


def printed(capsys, name: str) -> dict:
    """What ``--schema_of`` prints."""
    assert info.main(["--schema_of", name]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_kind_is_written(written):
    assert written.keys() == FILE_SCHEMAS.keys()


@pytest.mark.parametrize("name", FILE_SCHEMAS)
def test_a_file_that_a_command_wrote_is_valid_by_its_schema(written, capsys, name):
    schema = printed(capsys, name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:nnunet_stochastic:{name}:{schema['version']}"
    assert schema["title"] == name
    jsonschema.validate(json.loads(written[name].read_text()), schema)


def unnamed(content, schema: dict, root: dict, place: str = "") -> set[str]:
    """Places of a valid file that its schema names nothing of, the keys of mappings by ``*``."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        fitting = [part for part in schema["anyOf"] if is_valid(content, part, root)]
        return min((unnamed(content, part, root, place) for part in fitting), key=len)
    found = set()
    if isinstance(content, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for key, value in content.items():
            if key in named:
                found |= unnamed(value, named[key], root, f"{place}.{key}")
            elif isinstance(others, dict):
                found |= unnamed(value, others, root, f"{place}.*")
            elif "properties" in schema:
                found.add(f"{place}.{key}")
    if isinstance(content, list) and isinstance(schema.get("items"), dict):
        for value in content:
            found |= unnamed(value, schema["items"], root, f"{place}.*")
    return found


def is_valid(content, schema: dict, root: dict) -> bool:
    return jsonschema.Draft202012Validator({**schema, "$defs": root.get("$defs", {})}).is_valid(content)


#: nnU-Net's, and what describes the data.
LET_BE = {
    "dataset.json": {".name", ".numTraining", ".description", ".reference", ".licence", ".release"},
}


@pytest.mark.parametrize("name", FILE_SCHEMAS)
def test_a_schema_names_every_key_that_is_written(written, name):
    schema = json_schema_of(name)
    assert unnamed(json.loads(written[name].read_text()), schema, schema) <= LET_BE.get(name, set())


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("uncertainty.json", ("cases", "a", "mean_total"), -0.1),
        ("uncertainty.json", ("cases", "a", "structures", "nodule", "num_voxels"), 2.5),
        ("uncertainty.json", ("cases", "a", "structures", "nodule", "sample_sd"), 1),
        ("uncertainty.json", ("settings", "epistemic_factor"), 0),
        ("summary.json", ("results", "raters", "nodule", "mean", "dice"), "good"),
        ("summary.json", ("tasks", "OODD", "TU"), [1]),
        ("summary.json", ("num_cases",), -1),
        ("curves.json", ("reliability", "ID", "raters", "nodule", "count"), [0.5]),
        ("calibration.json", ("platt", "AU", "a"), None),
        ("calibration.json", ("decisions", "num_patients"), "3"),
        ("confidence.json", ("method",), "isotonic"),
        ("decisions.json", ("decisions", "version"), 2),
        ("manifest.json", ("cases",), []),
        ("conversion.json", ("parts", "a"), 1),
        ("dataset.json", ("num_raters",), -1),
        ("splits_final.json", (0, "train"), "a"),
        ("demo.json", ("done", "plan"), None),
    ],
)
def test_a_wrong_value_is_not(written, name, place, value):
    content = json.loads(written[name].read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate(content, json_schema_of(name))
    found = tuple(caught.value.absolute_path)
    assert place in (found, found[:-1], (*found, place[-1]))


def test_all_at_once_and_a_file_without_a_schema(capsys):
    assert printed(capsys, "all") == {name: json_schema_of(name) for name in FILE_SCHEMAS}
    assert info.main(["--schema_of", "volumes.csv"]) == 1
    assert "error: volumes.csv is no file with a schema: choose from uncertainty.json, " in capsys.readouterr().err
