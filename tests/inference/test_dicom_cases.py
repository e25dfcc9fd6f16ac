"""Predictions of DICOM series: those of the image files that SimpleITK makes of them, bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest
import SimpleITK as sitk

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, predict_folder
from tests.dicom.series_files import AXIAL, OBLIQUE, SAGITTAL, hounsfield, series_slices, uids, write_slices

SHAPE = (9, 14, 12)


def predictor_of(folder, folders, trainer, **options):
    model = folders.write_model_folder(folder, trainer=trainer, spacing=(2.0, 0.8, 0.8), **options)
    return StochasticPredictor.from_model_folder(
        model, folds=(0,), options=PredictionOptions(num_samples=2, mirroring=False)
    )


def convert(files, path):
    """What a user does: SimpleITK's series reader, and a file."""
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.ReadImage(list(map(str, files))), str(path))


def files_of(folder):
    """Contents of all files of the cases, and entries of the record that are not of the input."""
    endings = (".gz", ".nrrd", ".npz", ".pkl")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")
             if path.suffix in endings}  # fmt: skip
    cases = json.loads((folder / "uncertainty.json").read_text())["cases"]
    of_input = ("input_files", "input_sha256", "dicom_series")
    return found, {name: {k: v for k, v in entry.items() if k not in of_input} for name, entry in cases.items()}


@pytest.mark.parametrize(
    ("reader", "ending"),
    [
        ("SimpleITKIO", ".nii.gz"),
        ("SimpleITKIO", ".nrrd"),
        ("NibabelIO", ".nii.gz"),
        ("NibabelIOWithReorient", ".nii.gz"),
    ],
)
def test_predictions_are_those_of_the_converted_series(tmp_path, folders, stochastic_trainer, reader, ending):
    predictor = predictor_of(tmp_path / "model", folders, stochastic_trainer, reader_writer=reader, file_ending=ending)
    for seed, (name, orientation) in enumerate({"axial": AXIAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}.items()):
        slices = series_slices(hounsfield(SHAPE, seed), orientation=orientation, seed=name)
        convert(
            write_slices(tmp_path / "dicom" / name, slices, seed=seed), tmp_path / "images" / f"{name}_0000{ending}"
        )
    options = {"save_probabilities": True, "preprocessing_threads": 0, "export_threads": 0}
    for source in ("dicom", "images"):
        assert predict_folder(predictor, tmp_path / source, tmp_path / f"of_{source}", **options).failures == {}
    of_series, of_images = files_of(tmp_path / "of_dicom"), files_of(tmp_path / "of_images")
    assert len(of_series[0]) == 3 * 7
    assert of_series == of_images


def test_the_record_names_the_series_and_continues_with_them(tmp_path, folders, stochastic_trainer, capsys):
    predictor = predictor_of(tmp_path / "model", folders, stochastic_trainer)
    for name in ("a", "b"):
        write_slices(tmp_path / "dicom" / name, series_slices(hounsfield(SHAPE), seed=name))
    arguments = (predictor, tmp_path / "dicom", tmp_path / "out")
    assert predict_folder(*arguments).failures == {}
    cases = json.loads((tmp_path / "out" / "uncertainty.json").read_text())["cases"]
    assert cases["b"]["dicom_series"] == [
        {
            "study_instance_uid": uids("b")["StudyInstanceUID"],
            "series_instance_uid": uids("b")["SeriesInstanceUID"],
            "frame_of_reference_uid": uids("b")["FrameOfReferenceUID"],
        }
    ]
    assert cases["b"]["input_files"] == [str(tmp_path / "dicom" / "b")]
    assert [len(digest) for digest in cases["b"]["input_sha256"]] == [64]
    capsys.readouterr()
    written = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    write_slices(tmp_path / "dicom" / "b", series_slices(hounsfield(SHAPE, seed=1), seed="b"))
    assert predict_folder(*arguments, continue_prediction=True).failures == {}
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == written
    assert "case b is predicted again: its images are not those" in capsys.readouterr().err


def test_channels_are_series_of_their_own(tmp_path, folders, stochastic_trainer):
    predictor = predictor_of(tmp_path / "model", folders, stochastic_trainer, channels=2)
    common = {name: value for name, value in uids("study").items() if name != "SeriesInstanceUID"}
    for channel in range(2):
        slices = series_slices(hounsfield(SHAPE, channel), seed=str(channel), **common)
        files = write_slices(tmp_path / "dicom" / "a" / f"{channel:04d}", slices)
        convert(files, tmp_path / "images" / f"a_{channel:04d}.nii.gz")
    for source in ("dicom", "images"):
        assert predict_folder(predictor, tmp_path / source, tmp_path / f"of_{source}").failures == {}
    assert files_of(tmp_path / "of_dicom") == files_of(tmp_path / "of_images")
    entry = json.loads((tmp_path / "of_dicom" / "uncertainty.json").read_text())["cases"]["a"]
    series = [uids(str(channel))["SeriesInstanceUID"] for channel in range(2)]
    assert [identity["series_instance_uid"] for identity in entry["dicom_series"]] == series

    shutil.rmtree(tmp_path / "dicom" / "a" / "0001")
    write_slices(tmp_path / "dicom" / "a" / "0001", series_slices(hounsfield((9, 14, 11)), seed="1", **common))
    report = predict_folder(predictor, tmp_path / "dicom", tmp_path / "other")
    assert report.failures["a"].endswith("a/0001 are on different voxel grids: resample one to that of the other")


def test_a_series_that_is_no_image_fails_by_name_and_others_are_predicted(tmp_path, folders, stochastic_trainer):
    predictor = predictor_of(tmp_path / "model", folders, stochastic_trainer)
    write_slices(tmp_path / "dicom" / "a", series_slices(hounsfield(SHAPE), seed="a"))
    slices = series_slices(hounsfield(SHAPE), seed="b")
    del slices[4]
    write_slices(tmp_path / "dicom" / "b", slices)
    report = predict_folder(predictor, tmp_path / "dicom", tmp_path / "out")
    assert list(report.cases) == ["a"]
    assert f"{tmp_path / 'dicom' / 'b'} lacks 1 slice, between" in report.failures["b"]
    assert not (tmp_path / "out" / "b.nii.gz").exists()


def test_folders_that_are_laid_out_otherwise(tmp_path, folders, stochastic_trainer):
    predictor = predictor_of(tmp_path / "model", folders, stochastic_trainer)
    dicom = tmp_path / "dicom"
    write_slices(dicom / "a", series_slices(hounsfield(SHAPE)))
    with pytest.raises(ValueError, match=r"out is among the DICOM series in .*dicom: choose another output folder"):
        predict_folder(predictor, dicom, dicom / "out")
    with pytest.raises(FileNotFoundError, match="slices of DICOM series lie in a folder per case"):
        predict_folder(predictor, dicom / "a", tmp_path / "out")
    write_slices(dicom / "b" / "0000", series_slices(hounsfield(SHAPE)))
    write_slices(dicom / "b" / "0001", series_slices(hounsfield(SHAPE)))
    with pytest.raises(ValueError, match="b has 2 channels, the model's images 1: the slices of a case lie in"):
        predict_folder(predictor, dicom, tmp_path / "out")
    (dicom / "b" / "0001").rename(dicom / "b" / "second")
    with pytest.raises(ValueError, match="b has folders 0000, second"):
        predict_folder(predictor, dicom, tmp_path / "out")
    (dicom / "b" / "notes").write_text("")
    with pytest.raises(ValueError, match="b has both files and folders"):
        predict_folder(predictor, dicom, tmp_path / "out")
    photographs = predictor_of(
        tmp_path / "png", folders, stochastic_trainer, reader_writer="NaturalImage2DIO", file_ending=".png", dimension=2
    )
    with pytest.raises(ValueError, match=r"read for models of data sets whose files keep place and directions \("):
        predict_folder(photographs, dicom, tmp_path / "out")


def test_without_its_libraries_the_extra_is_named(tmp_path, folders, stochastic_trainer, monkeypatch):
    predictor = predictor_of(tmp_path / "model", folders, stochastic_trainer)
    write_slices(tmp_path / "dicom" / "a", series_slices(hounsfield(SHAPE)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'DICOM needs pydicom and highdicom: run pip install "\.\[dicom\]"'):
        predict_folder(predictor, tmp_path / "dicom", tmp_path / "out")
