"""Scenes as Slicer reads them: whole, with windows by hand, and files of one world geometry."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands.scene import main
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.report.label_colours import itk_snap_labels, label_colours, slicer_colour_table

ON_POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
AFFINE = np.array([[0, -0.8, 0, 10], [0.7, 0, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
SHAPE = (6, 5, 4)
LABELS = {"background": 0, "left lung": 1, "nodule": 2}
#: Largest values of the maps; the one of total is the scale of the three.
HIGHEST = {"total": 0.6, "aleatoric": 0.4, "epistemic": 0.25, "variance": 0.125}


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.fixture
def predicted(tmp_path):
    """Predictions of two cases in a folder with a blank, and their images."""
    folder = tmp_path / "out put"
    ramp = np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    for case in ("case_1", "case_2"):
        save(folder / f"{case}.nii.gz", np.round(2 * ramp).astype(np.uint8))
        save(tmp_path / "images" / f"{case}_0000.nii.gz", (1000 * ramp - 200).astype(np.float32))
        for name, highest in HIGHEST.items():
            save(folder / name / f"{case}.nii.gz", highest * ramp)
    (folder / "dataset.json").write_text(
        json.dumps({"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}, "numTraining": 1})
    )
    return folder


def run(folder, *options):
    return main(["-i", str(folder), "--images", str(folder.parent / "images"), "-np", "1", *options])


def nodes_of(file):
    """Nodes by their identifiers, in order; each that one names must be there, but for those of Slicer itself."""
    root = ElementTree.parse(file).getroot()
    assert root.tag == "MRML"
    nodes = {node.get("id"): node for node in root}
    assert len(nodes) == len(root)
    for node in root:
        named = [part.partition(":")[2] for part in node.get("references", "").split(";") if part]
        named += [value for key, value in node.items() if key.endswith(("NodeRef", "VolumeID", "NodeID"))]
        assert set(named) - {"vtkMRMLColorTableNodeGrey", "vtkMRMLColorTableNodeFileViridis.txt"} <= nodes.keys()
    return nodes


def decoded(name):
    """A file name as Slicer decodes it: these signs in this order, and no others."""
    for sign in "\"<>' %":
        name = name.replace(f"%{ord(sign):X}", sign)
    return name


def volumes_of(file):
    """File, display node and volume node of each volume by name."""
    nodes = nodes_of(file)
    return {
        node.get("name"): (
            file.parent / decoded(nodes[node.get("storageNodeRef")].get("fileName")),
            nodes[node.get("displayNodeRef")],
            node,
        )
        for node in nodes.values()
        if node.tag in ("Volume", "LabelMapVolume")
    }


def test_windows_and_colours(predicted):
    assert run(predicted) == 0
    volumes = volumes_of(predicted / "scenes" / "case_1.mrml")
    assert list(volumes) == ["image", "segmentation", *HIGHEST]
    windows = {
        name: (float(display.get("level")), float(display.get("window")))
        for name, (_, display, _) in volumes.items()
        if name != "segmentation"
    }
    # From the 0.1 to the 99.9 percentile of a ramp from -200 to 800.
    assert windows["image"] == pytest.approx((300, 998))
    for name in ("total", "aleatoric", "epistemic"):
        assert windows[name] == pytest.approx((0.3, 0.6))
    assert windows["variance"] == pytest.approx((0.0625, 0.125))
    assert volumes["segmentation"][2].tag == "LabelMapVolume"
    assert volumes["segmentation"][1].get("colorNodeID") == "vtkMRMLColorTableNode1"
    assert volumes["image"][1].get("colorNodeID") == "vtkMRMLColorTableNodeGrey"

    nodes = nodes_of(predicted / "scenes" / "case_1.mrml")
    table = nodes["vtkMRMLColorTableNode1"]
    assert table.get("numcolors") == "3"
    assert nodes[table.get("storageNodeRef")].get("fileName") == "labels.ctbl"
    for view in ("Red", "Yellow", "Green"):
        shown = nodes[f"vtkMRMLSliceCompositeNode{view}"]
        assert shown.get("singletonTag") == shown.get("layoutName") == view
        names = [nodes[shown.get(f"{layer}VolumeID")].get("name") for layer in ("background", "foreground", "label")]
        assert names == ["image", "total", "segmentation"]


def test_files_are_named_relative_to_the_scene_and_lie_at_one_place_of_the_world(predicted, tmp_path):
    assert run(predicted, "-o", str(tmp_path / "for" / "slicer")) == 0
    scene = tmp_path / "for" / "slicer" / "case_2.mrml"
    assert volumes_of(scene)["total"][0].resolve() == predicted / "total" / "case_2.nii.gz"
    # Moved together, they still find each other.
    moved = tmp_path.parent / f"{tmp_path.name} moved"
    tmp_path.rename(moved)
    for file, *_ in volumes_of(moved / "for" / "slicer" / "case_2.mrml").values():
        assert not file.is_absolute() or file.is_relative_to(moved)
        np.testing.assert_allclose(nibabel.load(file).affine, AFFINE, atol=1e-6)
        image = sitk.ReadImage(str(file))
        # ITK's world has x and y the other way.
        corner = image.TransformIndexToPhysicalPoint((5, 4, 3))
        np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ AFFINE @ [5, 4, 3, 1], [*corner, 1], atol=1e-5)


@pytest.mark.parametrize("signs", ["100% é+(ü)&#;", "a%20b'c", pytest.param('<"%22>', marks=ON_POSIX)])
def test_signs_that_slicer_decodes_are_encoded(predicted, tmp_path, signs):
    folder = predicted.rename(tmp_path / f"of {signs}")
    case = f"case {signs}"
    for file in (*folder.rglob("case_1.nii.gz"), tmp_path / "images" / "case_1_0000.nii.gz"):
        file.rename(file.with_name(file.name.replace("case_1", case)))
    assert run(folder, "-o", str(tmp_path / "for slicer")) == 0
    scene = tmp_path / "for slicer" / f"{case}.mrml"
    written = [node.get("fileName") for node in nodes_of(scene).values() if node.get("fileName")]
    assert not set("".join(written)) & set(" '<>\"")
    volumes = volumes_of(scene)
    assert volumes["image"][0].resolve() == tmp_path / "images" / f"{case}_0000.nii.gz"
    assert {name: volumes[name][0].resolve() for name in HIGHEST} == {
        name: folder / name / f"{case}.nii.gz" for name in HIGHEST
    }


def test_maps_of_zeros_and_none_at_all(predicted):
    for name in HIGHEST:
        file = predicted / name / "case_1.nii.gz"
        save(file, np.zeros(SHAPE, np.float32)) if name != "variance" else file.unlink()
    assert run(predicted) == 0
    volumes = volumes_of(predicted / "scenes" / "case_1.mrml")
    assert list(volumes) == ["image", "segmentation", "total", "aleatoric", "epistemic"]
    assert {volumes[name][1].get("window") for name in ("total", "aleatoric", "epistemic")} == {"1"}


def test_a_case_without_image_is_named(predicted, capsys):
    (predicted.parent / "images" / "case_2_0000.nii.gz").unlink()
    assert run(predicted) == 1
    assert "case_2: no image (uncertainty.json names none); name the folder of the images with --images" in (
        capsys.readouterr().err
    )
    assert not (predicted / "scenes").exists()


def test_tables_of_labels():
    labels = EvaluatedLabels.from_dataset_json({"labels": {**LABELS, "ignore": 3}})
    assert slicer_colour_table(labels).splitlines()[1:] == [
        "0 background 0 0 0 0",
        "1 left_lung 242 61 61 255",
        "2 nodule 61 114 242 255",
        "3 ignore 128 128 128 255",
    ]
    rows = [line.split(maxsplit=7) for line in itk_snap_labels(labels).splitlines() if not line.startswith("#")]
    assert rows == [
        ["0", "0", "0", "0", "0", "0", "0", '"Clear Label"'],
        ["1", "242", "61", "61", "1", "1", "1", '"left lung"'],
        ["2", "61", "114", "242", "1", "1", "1", '"nodule"'],
        ["3", "128", "128", "128", "1", "1", "1", '"ignore"'],
    ]


def test_regions_have_the_name_of_the_smallest_and_all_labels_a_colour_of_their_own():
    labels = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "tumour": [1, 2], "core": [2]}})
    assert [name for name, _ in label_colours(labels).values()] == ["tumour", "core"]
    many = EvaluatedLabels.from_dataset_json({"labels": {f"l{value}": value for value in range(118)}})
    assert len({colour for _, colour in label_colours(many).values()}) == 117
