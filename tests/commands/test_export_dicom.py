"""Exported objects, read back by pydicom and highdicom: the arrays of the predictions, at the places of the slices."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands.export_dicom import main
from nnunet_stochastic.evaluation import dicom_export
from tests.dicom.predictions import MAPS, REGIONS, MadePredictions, identity
from tests.dicom.series_files import AXIAL, OBLIQUE, SAGITTAL, hounsfield, series_slices, uids, write_slices

ORIENTATIONS = {"axial": AXIAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}
KINDS = ("segmentation", *MAPS, "probabilities")


def run(root, *more) -> int:
    folders = ["-i", str(root / "out"), "-dicom", str(root / "dicom"), "-o", str(root / "objects")]
    return main([*folders, "-np", "1", "--disable_progress_bar", *map(str, more)])


def dicom_files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.dcm")}


def by_source(image, made, **options):
    """Pixels of the frames of each source slice, in the order of the slices."""
    sources = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in made.files]
    return image.get_pixels_by_source_instance(sources, assert_missing_frames_are_empty=True, **options)


def check_places(image, made):
    """Each frame lies on the slice that it refers to, as ITK has it, with its orientation and spacing."""
    source = pydicom.dcmread(made.files[0])
    for name in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID", "PatientName", "StudyID", "StudyDate"):
        assert image[name].value == source[name].value, name
    assert str(image.PatientName) == "Müller^Jörg"
    shared = image.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
    measures = shared.PixelMeasuresSequence[0]
    assert measures.PixelSpacing == source.PixelSpacing
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5, abs=1e-5)
    places = {str(pydicom.dcmread(file).SOPInstanceUID): number for number, file in enumerate(made.files)}
    referred = {
        str(item.ReferencedSOPInstanceUID) for item in image.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referred == set(places)
    assert image.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    for frame in image.PerFrameFunctionalGroupsSequence:
        refers_to = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = made.image.TransformIndexToPhysicalPoint((0, 0, places[str(refers_to)]))
        np.testing.assert_allclose(frame.PlanePositionSequence[0].ImagePositionPatient, place, atol=2e-5)


def check_voxels(image, made, expected, **options):
    """Each voxel of highdicom's volume has the value that the prediction has, by ITK, at the same place in mm."""
    volume = image.get_volume(**options)
    indices = np.argwhere(np.ones(volume.spatial_shape))
    for index, place in zip(indices, volume.map_indices_to_reference(indices), strict=True):
        x, y, z = made.image.TransformPhysicalPointToIndex([float(value) for value in place])
        assert volume.array[tuple(index)] == expected[z, y, x]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_values_and_places_of_every_object(tmp_path, orientation):
    made = MadePredictions(tmp_path).add("a", ORIENTATIONS[orientation])
    assert run(tmp_path) == 0
    folder = tmp_path / "objects" / "a"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{kind}.dcm" for kind in KINDS)

    segmentation = highdicom.seg.segread(folder / "segmentation.dcm")
    assert segmentation.segmentation_type.value == "BINARY"
    np.testing.assert_array_equal(by_source(segmentation, made, combine_segments=True), made.segmentation)
    assert set(np.unique(made.segmentation)) == {0, 1, 2}
    check_places(segmentation, made)
    check_voxels(segmentation, made, made.segmentation, combine_segments=True)

    probabilities = highdicom.seg.segread(folder / "probabilities.dcm")
    assert probabilities.segmentation_type.value == "FRACTIONAL"
    assert (probabilities.SegmentationFractionalType, probabilities.MaximumFractionalValue) == ("PROBABILITY", 255)
    stored = by_source(probabilities, made, combine_segments=False)
    np.testing.assert_allclose(np.moveaxis(stored, -1, 0), made.probabilities[1:], atol=1 / 510 + 1e-6)
    check_places(probabilities, made)

    for kind in MAPS:
        image = highdicom.pm.ParametricMap.from_dataset(pydicom.dcmread(folder / f"{kind}.dcm"))
        check_places(image, made)
        assert image.pixel_array.dtype == np.float32
        places = [
            frame.PlanePositionSequence[0].ImagePositionPatient for frame in image.PerFrameFunctionalGroupsSequence
        ]
        numbers = [made.image.TransformPhysicalPointToIndex(list(map(float, place)))[2] for place in places]
        assert sorted(numbers) == list(range(7))
        np.testing.assert_array_equal(image.pixel_array, made.maps[kind][numbers])
    check_voxels(image, made, made.maps["variance"], dtype=np.float32)


@pytest.mark.parametrize("orient", ["RAS", "LPS", "PIR"])
def test_files_with_other_axes_give_the_same_objects(tmp_path, orient):
    """Reversed and permuted axes of the prediction's files are put back, voxel by voxel."""
    for name in ("as_read", "other"):
        MadePredictions(tmp_path / name, orient=orient if name == "other" else None).add("a", OBLIQUE)
    for root in ("as_read", "other"):
        assert run(tmp_path / root) == 0
    for kind in KINDS:
        mine, other = (
            pydicom.dcmread(tmp_path / root / "objects" / "a" / f"{kind}.dcm") for root in ("as_read", "other")
        )
        np.testing.assert_array_equal(mine.pixel_array, other.pixel_array)
        assert mine.PerFrameFunctionalGroupsSequence == other.PerFrameFunctionalGroupsSequence


def test_regions_overlap(tmp_path):
    made = MadePredictions(tmp_path, labels=REGIONS).add("a")
    assert run(tmp_path) == 0
    segmentation = highdicom.seg.segread(tmp_path / "objects" / "a" / "segmentation.dcm")
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["organ", "tumour"]
    expected = np.stack([made.segmentation > 0, made.segmentation == 2], axis=-1)
    np.testing.assert_array_equal(by_source(segmentation, made, combine_segments=False), expected)
    assert segmentation.SegmentsOverlap == "YES"
    probabilities = highdicom.seg.segread(tmp_path / "objects" / "a" / "probabilities.dcm")
    stored = by_source(probabilities, made, combine_segments=False)
    np.testing.assert_allclose(np.moveaxis(stored, -1, 0), made.probabilities, atol=1 / 510 + 1e-6)


def test_all_channels_are_referred_to(tmp_path):
    predictions = MadePredictions(tmp_path)
    made = predictions.add("a", SAGITTAL, channels=2)
    predictions.write_record(dicom_series=None)
    assert run(tmp_path) == 0
    for kind in ("segmentation", "total", "probabilities"):
        image = pydicom.dcmread(tmp_path / "objects" / "a" / f"{kind}.dcm")
        series = {str(item.SeriesInstanceUID) for item in image.ReferencedSeriesSequence}
        assert series == {uids(seed)["SeriesInstanceUID"] for seed in ("a", "a 1")}
        assert all(len(item.ReferencedInstanceSequence) == 7 for item in image.ReferencedSeriesSequence)
    segmentation = highdicom.seg.segread(tmp_path / "objects" / "a" / "segmentation.dcm")
    np.testing.assert_array_equal(by_source(segmentation, made, combine_segments=True), made.segmentation)


def test_headers_that_lack_much_or_are_wrong_about_distances(tmp_path):
    lacking = dict.fromkeys(("SliceThickness", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"))
    made = MadePredictions(tmp_path).add("a", OBLIQUE, SpacingBetweenSlices="-9", **lacking)
    assert run(tmp_path) == 0
    for kind in KINDS:
        image = pydicom.dcmread(tmp_path / "objects" / "a" / f"{kind}.dcm")
        measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5, abs=1e-5)
        assert measures.SliceThickness == measures.SpacingBetweenSlices
        assert image["PatientSex"].is_empty
        assert image["PatientBirthDate"].is_empty
    check_voxels(highdicom.seg.segread(tmp_path / "objects" / "a" / "segmentation.dcm"), made, made.segmentation,
                 combine_segments=True)  # fmt: skip


def test_headers_that_no_object_may_have_are_told_before_anything_is_written(tmp_path, capsys):
    predictions = MadePredictions(tmp_path)
    predictions.add("a")
    predictions.add("b", PatientSex="X")
    assert run(tmp_path) == 1
    error = capsys.readouterr().err
    assert (
        f"b: no object can be made that refers to {tmp_path / 'dicom' / 'b'}, because of what its headers say" in error
    )
    assert not dicom_files(tmp_path / "objects")


def test_what_segments_are_and_who_made_them(tmp_path, capsys):
    MadePredictions(tmp_path).add("a")
    assert run(tmp_path) == 0
    assert 'note: without --codes each label is "Tissue"' in capsys.readouterr().out
    image = pydicom.dcmread(tmp_path / "objects" / "a" / "segmentation.dcm")
    assert [(item.SegmentNumber, item.SegmentLabel) for item in image.SegmentSequence] == [
        (1, "nodule"),
        (2, "vessel ä"),
    ]
    for item in image.SegmentSequence:
        for sequence in (item.SegmentedPropertyCategoryCodeSequence, item.SegmentedPropertyTypeCodeSequence):
            assert (sequence[0].CodeValue, sequence[0].CodingSchemeDesignator) == ("85756007", "SCT")
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("nnunet_stochastic", "0.1.0")
        assert algorithm.AlgorithmParameters.startswith("trainer=nnUNetTrainerMoB,configuration=3d_fullres,")
        assert item.SegmentAlgorithmType == "AUTOMATIC"
    assert (image.DeviceSerialNumber, image.SoftwareVersions) == ("5e" * 32, "0.1.0")
    assert (image.Modality, image.ContentQualification) == ("SEG", "RESEARCH")

    nodule = {
        "SegmentedPropertyCategoryCodeSequence": _code("49755003", "Morphologically abnormal structure"),
        "SegmentedPropertyTypeCodeSequence": _code("27925004", "Nodule"),
        "AnatomicRegionSequence": _code("39607008", "Lung"),
        "SegmentedPropertyTypeModifierCodeSequence": _code("24028007", "Right"),
        "recommendedDisplayRGBValue": [255, 0, 0],
    }
    vessel = {
        "SegmentedPropertyCategoryCodeSequence": _code("123037004", "Anatomical Structure"),
        "SegmentedPropertyTypeCodeSequence": _code("59820001", "Blood vessel"),
    }
    (tmp_path / "codes.json").write_text(json.dumps({"nodule": nodule, "vessel ä": vessel}))
    assert run(tmp_path, "--codes", tmp_path / "codes.json") == 0
    first, second = pydicom.dcmread(tmp_path / "objects" / "a" / "segmentation.dcm").SegmentSequence
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Nodule"
    modifier = first.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (modifier.CodeValue, first.AnatomicRegionSequence[0].CodeMeaning) == ("24028007", "Lung")
    assert second.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert "AnatomicRegionSequence" not in second
    lightness, a, b = 53.24, 80.09, 67.20  # of sRGB's red in CIELAB, D65
    scaled = [lightness / 100 * 65535, (a + 128) / 255 * 65535, (b + 128) / 255 * 65535]
    np.testing.assert_allclose(first.RecommendedDisplayCIELabValue, scaled, rtol=5e-3)
    assert "RecommendedDisplayCIELabValue" not in second


def _code(value, meaning):
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def test_units_of_maps_and_what_must_be_known_of_them(tmp_path):
    settings = {"epistemic_source": "aleatoric_samples", "epistemic_factor": 2.5}
    made = MadePredictions(tmp_path, settings=settings).add("a")
    assert run(tmp_path) == 0
    remarks = {
        "total": "epistemic part times 2.5",
        "aleatoric": "",
        "epistemic": "stand-in by samples of one member; epistemic part times 2.5",
        "variance": "",
    }
    for kind, remark in remarks.items():
        image = pydicom.dcmread(tmp_path / "objects" / "a" / f"{kind}.dcm")
        groups = image.SharedFunctionalGroupsSequence[0]
        if "RealWorldValueMappingSequence" not in groups:
            groups = image.PerFrameFunctionalGroupsSequence[0]
        mapping = groups.RealWorldValueMappingSequence[0]
        unit = mapping.MeasurementUnitsCodeSequence[0]
        expected = ("1", "UCUM", "no units") if kind == "variance" else ("{nat}", "UCUM", "nats")
        assert (unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning) == expected
        assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept, mapping.LUTLabel) == (1, 0, kind)
        assert mapping.DoubleFloatRealWorldValueFirstValueMapped <= made.maps[kind].min()
        assert mapping.DoubleFloatRealWorldValueLastValueMapped >= made.maps[kind].max()
        assert image.ContentDescription == remark
        window = image.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
        assert window.VOILUTFunction == "LINEAR_EXACT"
        assert float(window.WindowWidth) == pytest.approx(made.maps[kind].max(), rel=1e-6)


def test_a_case_without_any_voxel_of_a_label(tmp_path):
    predictions = MadePredictions(tmp_path)
    made = predictions.add("a")
    empty = sitk.GetImageFromArray(np.zeros_like(made.segmentation))
    empty.CopyInformation(made.image)
    sitk.WriteImage(empty, str(tmp_path / "out" / "a.nii.gz"))
    assert run(tmp_path, "--objects", "segmentation", "total") == 0
    segmentation = highdicom.seg.segread(tmp_path / "objects" / "a" / "segmentation.dcm")
    assert len(segmentation.SegmentSequence) == 2
    assert not by_source(segmentation, made, combine_segments=True).any()
    assert set(dicom_files(tmp_path / "objects")) == {"a/segmentation.dcm", "a/total.dcm"}


def test_objects_are_valid(tmp_path):
    """By pydicom's rules for values, read and written; by dciodvfy where it is installed."""
    MadePredictions(tmp_path).add("a", OBLIQUE)
    assert run(tmp_path) == 0
    checker = shutil.which("dciodvfy")
    strict = {"reading_validation_mode": pydicom.config.RAISE, "writing_validation_mode": pydicom.config.RAISE}
    before = {name: getattr(pydicom.config.settings, name) for name in strict}
    identifiers = set()
    try:
        for name, mode in strict.items():
            setattr(pydicom.config.settings, name, mode)
        for path in sorted((tmp_path / "objects" / "a").iterdir()):
            image = pydicom.dcmread(path)
            assert len(list(image.iterall())) > 200
            image.save_as(tmp_path / "again.dcm", enforce_file_format=True)
            assert pydicom.dcmread(tmp_path / "again.dcm") == image
            identifiers |= {image.SOPInstanceUID, image.SeriesInstanceUID}
            if checker is not None:
                checked = subprocess.run([checker, str(path)], capture_output=True, text=True)
                assert "Error" not in checked.stdout + checked.stderr
    finally:
        for name, mode in before.items():
            setattr(pydicom.config.settings, name, mode)
    assert len(identifiers) == 2 * len(KINDS)


def test_an_export_that_is_done_again_gives_the_same_bytes_and_continues(tmp_path, capsys):
    predictions = MadePredictions(tmp_path)
    for seed, name in enumerate(("a", "b")):
        predictions.add(name, seed=seed)
    assert run(tmp_path) == 0
    first = dicom_files(tmp_path / "objects")
    assert run(tmp_path) == 0
    assert dicom_files(tmp_path / "objects") == first
    capsys.readouterr()
    assert run(tmp_path, "--continue_export") == 0
    assert " of 0 of 2 cases written" in capsys.readouterr().out

    (tmp_path / "objects" / "a" / "total.dcm").write_bytes(first["a/total.dcm"][:-4] + bytes(4))
    assert run(tmp_path, "--continue_export") == 0
    assert " of 1 of 2 cases written" in capsys.readouterr().out
    assert dicom_files(tmp_path / "objects") == first

    made = predictions.cases["b"]
    changed = sitk.GetImageFromArray(made.maps["total"] / 2)
    changed.CopyInformation(made.image)
    sitk.WriteImage(changed, str(tmp_path / "out" / "total" / "b.nii.gz"))
    assert run(tmp_path, "--continue_export") == 0
    assert " of 1 of 2 cases written" in capsys.readouterr().out
    now = dicom_files(tmp_path / "objects")
    assert {name for name in first if now[name] != first[name]} == {"b/total.dcm"}
    identifiers = [pydicom.dcmread(tmp_path / "objects" / "b" / "total.dcm").SOPInstanceUID]
    (tmp_path / "before.dcm").write_bytes(first["b/total.dcm"])
    assert identifiers != [pydicom.dcmread(tmp_path / "before.dcm").SOPInstanceUID]

    assert run(tmp_path, "--continue_export", "--objects", "segmentation") == 0
    assert set(dicom_files(tmp_path / "objects")) == {"a/segmentation.dcm", "b/segmentation.dcm"}


def test_an_interrupted_case_leaves_nothing_that_counts(tmp_path, monkeypatch):
    MadePredictions(tmp_path).add("a")
    saved = dicom_export.save

    def interrupt(made, path):
        if path.name == "epistemic.dcm":
            raise KeyboardInterrupt
        saved(made, path)

    monkeypatch.setattr(dicom_export, "save", interrupt)
    assert run(tmp_path) == 130
    assert [path.name for path in (tmp_path / "objects").iterdir()] == ["export.json"]
    monkeypatch.undo()
    assert run(tmp_path, "--continue_export") == 0
    assert len(dicom_files(tmp_path / "objects")) == len(KINDS)


def other_grid(root):
    made = MadePredictions(root).add("a")
    moved = sitk.Image(made.image)
    moved.SetOrigin([value + shift for value, shift in zip(moved.GetOrigin(), (0, 0, 2.5), strict=True)])
    written = sitk.GetImageFromArray(made.segmentation)
    written.CopyInformation(moved)
    sitk.WriteImage(written, str(root / "out" / "a.nii.gz"))


def other_spacing(root):
    made = MadePredictions(root).add("a")
    written = sitk.GetImageFromArray(np.repeat(made.segmentation, 2, axis=0))
    written.CopyInformation(sitk.Expand(made.image, [1, 1, 2]))
    sitk.WriteImage(written, str(root / "out" / "a.nii.gz"))


def other_map_grid(root):
    made = MadePredictions(root).add("a")
    written = sitk.GetImageFromArray(made.maps["total"])
    sitk.WriteImage(written, str(root / "out" / "total" / "a.nii.gz"))


def other_series(root):
    MadePredictions(root).add("a")
    write_slices(root / "dicom" / "a", series_slices(hounsfield(), seed="another"))


def no_series(root):
    MadePredictions(root).add("a")
    (root / "dicom" / "a").rename(root / "dicom" / "c")


def no_entry(root):
    predictions = MadePredictions(root)
    predictions.add("a")
    predictions.cases = {}
    predictions.write_record()


def no_record(root):
    MadePredictions(root).add("a")
    (root / "out" / "uncertainty.json").unlink()


def missing_slice(root):
    made = MadePredictions(root).add("a")
    made.files[3].unlink()


def foreign_files(root):
    MadePredictions(root).add("a")
    (root / "objects" / "a").mkdir(parents=True)
    (root / "objects" / "a" / "scan.dcm").write_bytes(b"mine")


def one_map_missing(root):
    predictions = MadePredictions(root)
    predictions.add("a")
    predictions.add("b")
    (root / "out" / "variance" / "b.nii.gz").unlink()


REFUSED = {
    other_grid: r"out/a.nii.gz \(7 x 12 x 10 voxels of 2.5 x 0.8 x 0.7 mm from 10.5, 20.25, 302.5\) is not on the "
    r"voxel grid of the series .*dicom/a \(7 x 12 x 10 voxels of 2.5 x 0.8 x 0.7 mm from 10.5, 20.25, 300\): nothing",
    other_spacing: r"\(14 x 12 x 10 voxels of 1.25 x 0.8 x 0.7 mm .* is not on the voxel grid of the series",
    other_map_grid: r"out/total/a.nii.gz differ in origin",
    other_series: r"out/a.nii.gz was predicted from the series 1\.2\.[\d.]+, and .*dicom/a holds 1\.2\.[\d.]+: name",
    no_series: "a: no folder of that name in -dicom",
    no_entry: "uncertainty.json beside .*a.nii.gz has no entry of it",
    no_record: "uncertainty.json: no such file; what nnunet_stochastic_predict has written is exported",
    missing_slice: "a: .*dicom/a lacks 1 slice, between IM",
    foreign_files: "objects holds a/, which no export has written: choose another output folder",
    one_map_missing: "b: no variance; predict again with it, or leave it out",
}


@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, capsys, damage):
    damage(tmp_path)
    assert run(tmp_path) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(REFUSED[damage], error), error
    written = list((tmp_path / "objects").rglob("*.dcm")) if (tmp_path / "objects").exists() else []
    assert [path.name for path in written] == (["scan.dcm"] if damage is foreign_files else [])


def test_predictions_of_converted_files_fit_any_series_on_their_grid(tmp_path):
    predictions = MadePredictions(tmp_path)
    predictions.add("a")
    predictions.write_record(dicom_series=None)
    write_slices(tmp_path / "dicom" / "a", series_slices(hounsfield(), seed="another"))
    assert run(tmp_path, "--objects", "segmentation") == 0
    image = pydicom.dcmread(tmp_path / "objects" / "a" / "segmentation.dcm")
    assert image.StudyInstanceUID == identity("another")["study_instance_uid"]


CODES = {
    "[]": "must be an object, got a list",
    '{"nodule": {"recommendedDisplayRGBValue": [256, 0, 0]}}': "(and 2 more)",
    '{"nodule": {}}': "SegmentedPropertyCategoryCodeSequence: is missing",
    "{}": "must have codes of the structures of dataset.json, nodule, vessel ä; it differs in nodule, vessel ä",
}


@pytest.mark.parametrize("text", CODES)
def test_codes_that_are_none(tmp_path, capsys, text):
    MadePredictions(tmp_path).add("a")
    (tmp_path / "codes.json").write_text(text)
    assert run(tmp_path, "--codes", tmp_path / "codes.json") == 1
    assert CODES[text] in capsys.readouterr().err
    assert not (tmp_path / "objects").exists()


def test_output_among_the_input(tmp_path, capsys):
    MadePredictions(tmp_path).add("a")
    for place in ("out", "dicom", "dicom/a"):
        folders = ["-i", str(tmp_path / "out"), "-dicom", str(tmp_path / "dicom"), "-o", str(tmp_path / place)]
        assert main([*folders, "--disable_progress_bar"]) == 1
        assert "error: -o must not be where" in capsys.readouterr().err


def test_times_are_those_of_the_prediction(tmp_path):
    MadePredictions(tmp_path).add("a")
    os.utime(tmp_path / "out" / "a.nii.gz", (1_700_000_000, 1_700_000_000))
    assert run(tmp_path, "--objects", "total") == 0
    image = pydicom.dcmread(tmp_path / "objects" / "a" / "total.dcm")
    made = datetime.datetime.fromtimestamp(1_700_000_000)
    assert (image.ContentDate, image.ContentTime) == (f"{made:%Y%m%d}", f"{made:%H%M%S}")
    assert image.InstanceCreationDate == image.SeriesDate == image.ContentDate
