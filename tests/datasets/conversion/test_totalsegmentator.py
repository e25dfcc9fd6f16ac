"""TotalSegmentator from a small made-up folder: labels, what is left out, splits, geometry."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands.convert_TotalSegmentator import main
from nnunet_stochastic.datasets.conversion.totalsegmentator import plan_totalsegmentator

SHAPE = (3, 4, 5)


def write(path, voxels, origin=(7.0, 8.0, 9.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.5, 1.5, 1.5))
    image.SetOrigin(origin)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))


def mask(*rows):
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[:, list(rows)] = 1
    return voxels


@pytest.fixture
def folder(tmp_path):
    """Twelve scans; the pancreas is in ten of them, the liver in those and in another one."""
    folder = tmp_path / "Totalsegmentator_dataset_v201"
    for n in range(12):
        scan = folder / f"s{n:04d}"
        write(scan / "ct.nii.gz", np.arange(60, dtype=np.int16).reshape(SHAPE) * 10 - 300 + n)
        write(scan / "segmentations" / "pancreas.nii.gz", mask(1) if n < 10 else mask())
        write(scan / "segmentations" / "liver.nii.gz", mask(2, 3) if n < 11 else mask())
    lines = ["image_id;age;gender", *(f"s{n:04d};50;f" for n in range(13))]
    (folder / "meta.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


def convert(folder, *more):
    return main(["-i", str(folder), "-d", "9", "-np", "1", "--disable_progress_bar", *more])


def test_one_structure(folder, raw, read, read_json, capsys):
    assert convert(folder, "-structures", "pancreas") == 0
    dataset = raw / "Dataset009_TotalSegmentator_pancreas"
    (split,) = read_json(dataset / "splits_final.json")
    test = sorted(path.name.removesuffix(".nii.gz") for path in (dataset / "labelsTs").iterdir())
    assert (len(split["train"]), len(split["val"]), len(test)) == (6, 2, 2)
    assert sorted(split["train"] + split["val"] + test) == [f"s{n:04d}" for n in range(10)]
    patients = (dataset / "patients.csv").read_text().splitlines()
    assert patients == ["case,patient", *(f"s{n:04d},s{n:04d}" for n in range(10))]
    assert not (dataset / "ratersTr").exists()
    description = read_json(dataset / "dataset.json")
    assert description["labels"] == {"background": 0, "pancreas": 1}
    assert "num_raters" not in description
    for name in split["train"]:
        image = dataset / "imagesTr" / f"{name}_0000.nii.gz"
        assert image.read_bytes() == (folder / name / "ct.nii.gz").read_bytes()
        label = sitk.ReadImage(str(dataset / "labelsTr" / f"{name}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label), mask(1))
        reference = sitk.ReadImage(str(image))
        np.testing.assert_allclose(label.GetOrigin(), reference.GetOrigin())
        np.testing.assert_allclose(label.GetDirection(), reference.GetDirection())
        np.testing.assert_allclose(label.GetSpacing(), reference.GetSpacing())
    output = capsys.readouterr().out
    assert "meta.csv lists 13 scans" in output
    assert "12 scans, 10 show pancreas: 6 training, 2 validation, 2 test" in output
    assert "Table 1, pancreas: 648 training, 130 validation, 163 test" in output
    assert "nnUNetv2_plan_and_preprocess -d 9 -pl nnUNetPlannerResEncL -c 3d_fullres" in output
    assert "preprocess_raters" not in output
    assert read_json(dataset / "conversion.json")["skipped"] == {
        "s0012": "in meta.csv, but its ct.nii.gz is missing",
        "s0010": "does not show pancreas",
        "s0011": "does not show pancreas",
    }


def test_several_structures(folder, raw, read, read_json):
    assert convert(folder, "-structures", "liver", "pancreas") == 0
    dataset = raw / "Dataset009_TotalSegmentator_liver_pancreas"
    assert read_json(dataset / "dataset.json")["labels"] == {"background": 0, "liver": 1, "pancreas": 2}
    labels = {path.name[:5]: path for kind in ("labelsTr", "labelsTs") for path in (dataset / kind).iterdir()}
    assert len(labels) == 11
    np.testing.assert_array_equal(read(labels["s0000"]), mask(2, 3) + 2 * mask(1))
    np.testing.assert_array_equal(read(labels["s0010"]), mask(2, 3))


def test_what_is_skipped(folder, raw, read_json, capsys):
    segmentations = [folder / f"s{n:04d}" / "segmentations" for n in range(5)]
    (segmentations[0] / "liver.nii.gz").unlink()
    write(segmentations[1] / "liver.nii.gz", mask(2), origin=(7.0, 8.0, 10.0))
    write(segmentations[2] / "liver.nii.gz", mask(1, 2))
    cut = segmentations[3] / "liver.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-20])
    scan = segmentations[4].with_name("ct.nii.gz")
    scan.write_bytes(scan.read_bytes()[:-20])
    (folder / "meta.csv").unlink()
    assert convert(folder, "-structures", "liver", "pancreas") == 0
    skipped = read_json(raw / "Dataset009_TotalSegmentator_liver_pancreas" / "conversion.json")["skipped"]
    assert "there is no meta.csv" in capsys.readouterr().out
    assert skipped["s0000"] == "has no file of liver"
    assert "liver.nii.gz has origin" in skipped["s0001"]
    assert "shares 15 voxels with another structure" in skipped["s0002"]
    assert "liver.nii.gz cannot be read" in skipped["s0003"]
    assert "ct.nii.gz cannot be read" in skipped["s0004"]
    assert skipped["s0011"] == "does not show liver or pancreas"
    assert len(skipped) == 6


def test_processes_write_what_one_process_writes(folder, raw):
    def written(*more):
        assert convert(folder, "-structures", "pancreas", *more) == 0
        return {path.name: path.read_bytes() for path in raw.rglob("*") if path.is_file()}

    assert written() == written("-np", "2", "--overwrite")


def test_the_split_follows_the_seed(folder):
    parts = [plan_totalsegmentator(folder, 9, ["pancreas"], seed=seed).parts for seed in (1, 1, 2)]
    assert parts[0] == parts[1]
    assert parts[0] != parts[2]


@pytest.mark.parametrize(
    ("structures", "message"),
    [
        (["spleen"], "no scan has a file of spleen; s0000 has liver, pancreas"),
        (["liver", "liver"], "more than once: liver"),
    ],
)
def test_bad_structures(folder, structures, message):
    with pytest.raises(ValueError, match=message):
        plan_totalsegmentator(folder, 9, structures)


def test_bad_folder(tmp_path):
    with pytest.raises(ValueError, match="has no scan"):
        plan_totalsegmentator(tmp_path, 9, ["liver"])


def test_labels_keep_the_forms_of_the_scan_and_bad_files_are_skipped(folder, raw, read_json):
    for path in folder.rglob("*.nii.gz"):
        scan = nibabel.load(path)
        coregistered = scan.affine + np.eye(4)[:, :1] * [0, 0, 0, 5]
        scan.set_sform(coregistered, 2)
        nibabel.save(scan, path)
    for name, value in (("s0000/ct", np.nan), ("s0001/segmentations/pancreas", np.nan)):
        path = folder / f"{name}.nii.gz"
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj).astype(np.float32)
        voxels[0, 0, 0] = value
        image.header.set_data_dtype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, None, image.header), path)
    twin = folder / "s0002" / "segmentations" / "pancreas.nii"
    nibabel.save(nibabel.load(twin.with_suffix(".nii.gz")), twin)
    assert convert(folder, "-structures", "pancreas") == 0
    dataset = raw / "Dataset009_TotalSegmentator_pancreas"
    skipped = read_json(dataset / "conversion.json")["skipped"]
    assert "1 voxels that are NaN" in skipped["s0000"]
    assert "pancreas.nii.gz has 1 voxels that are NaN" in skipped["s0001"]
    assert "pancreas.nii lies beside" in skipped["s0002"]
    for label in dataset.glob("labels*/*.nii.gz"):
        kept, wanted = nibabel.load(label).header, nibabel.load(folder / label.name[:5] / "ct.nii.gz").header
        np.testing.assert_allclose(kept.get_sform(), wanted.get_sform())
        np.testing.assert_allclose(kept.get_qform(), wanted.get_qform(), atol=1e-6)
        assert (kept["qform_code"], kept["sform_code"]) == (wanted["qform_code"], wanted["sform_code"])
