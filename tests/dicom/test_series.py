"""Series of slices: their order and grid, and each thing that makes them no image."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import uid

from nnunet_stochastic.dicom.series import read_case, read_series, series_identity
from nnunet_stochastic.dicom.volume import write_volume
from nnunet_stochastic.io.grid import world_affine
from tests.dicom.series_files import (
    AXIAL,
    OBLIQUE,
    SAGITTAL,
    hounsfield,
    series_slices,
    uids,
    write_slices,
)

ORIENTATIONS = {"axial": AXIAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}


def by_itk(files):
    """Array and geometry that SimpleITK reads of slices in order."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(list(map(str, files)))
    image = reader.Execute()
    stuff = {"origin": image.GetOrigin(), "direction": image.GetDirection(), "spacing": image.GetSpacing()}
    return sitk.GetArrayFromImage(image), {"spacing": image.GetSpacing()[::-1], "sitk_stuff": stuff}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_in_files_of_any_order_and_the_grid_of_itk(tmp_path, orientation):
    array = hounsfield()
    files = write_slices(tmp_path / "a", series_slices(array, orientation=ORIENTATIONS[orientation]))
    assert [file.name for file in files] != sorted(file.name for file in files)
    series = read_series(tmp_path / "a")
    assert series.files == tuple(files)
    assert series.shape == array.shape
    voxels, grid = by_itk(files)
    np.testing.assert_array_equal(voxels, array.astype(int) - 1024)
    np.testing.assert_allclose(series.affine, world_affine(grid), atol=1e-5)
    assert [str(file) for file in files] == list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "a")))


def test_the_affine_of_an_axial_series_by_hand(tmp_path):
    write_slices(tmp_path / "a", series_slices(hounsfield()))
    expected = [[0, 0, -0.7, 10.5], [0, -0.8, 0, 20.25], [2.5, 0, 0, 300], [0, 0, 0, 1]]
    np.testing.assert_allclose(read_series(tmp_path / "a").affine, expected, atol=1e-6)


def test_its_identity_and_what_headers_may_lack(tmp_path):
    slices = series_slices(hounsfield(), seed="mine", AccessionNumber=None, PatientBirthDate=None)
    write_slices(tmp_path / "a", slices)
    names = {
        "study_instance_uid": "StudyInstanceUID",
        "series_instance_uid": "SeriesInstanceUID",
        "frame_of_reference_uid": "FrameOfReferenceUID",
    }
    expected = {name: uids("mine")[tag] for name, tag in names.items()}
    series = read_series(tmp_path / "a")
    assert series.identity == series_identity(tmp_path / "a") == expected
    assert [header["AccessionNumber"].is_empty for header in series.headers] == [True] * 7


def test_a_rescale_of_each_slice_is_applied_to_it(tmp_path):
    """Also where the first has none and ITK would read all as integers."""
    array = hounsfield()
    slices = series_slices(array, RescaleIntercept=0)
    slopes = [1, 0.5, 0.25, 1, 2, 0.125, 1]
    for each, slope in zip(slices, slopes, strict=True):
        each.RescaleSlope = slope
    files = write_slices(tmp_path / "a", slices)
    write_volume(read_series(tmp_path / "a"), tmp_path / "a.nii")
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii")))
    np.testing.assert_array_equal(voxels, array * np.array(slopes)[:, None, None])
    assert not np.array_equal(voxels, by_itk(files)[0])


def test_slices_of_one_type_are_written_as_itk_reads_them(tmp_path):
    files = write_slices(tmp_path / "a", series_slices(hounsfield(), RescaleSlope=0.3))
    write_volume(read_series(tmp_path / "a"), tmp_path / "a.nii")
    image = sitk.ReadImage(str(tmp_path / "a.nii"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), by_itk(files)[0])
    assert image.GetPixelID() == sitk.sitkFloat64


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless], ids=["RLE", "JPEG-LS"])
def test_compressed_slices(tmp_path, syntax):
    array = hounsfield()
    slices = series_slices(array, PixelRepresentation=0)
    for each in slices:
        each.compress(syntax, generate_instance_uid=False)
    write_slices(tmp_path / "a", slices)
    write_volume(read_series(tmp_path / "a"), tmp_path / "a.nii")
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii")))
    np.testing.assert_array_equal(voxels, array.astype(int) - 1024)


# What is refused


def drop(slices):
    del slices[3]


def drop_two(slices):
    del slices[2:4]


def repeat(slices):
    slices.append(slices[2].copy())


def tilt(slices):
    for number, each in enumerate(slices):
        each.ImagePositionPatient[1] += 0.4 * number


def move(slices):
    slices[3].ImagePositionPatient[2] += 0.9


def change(tag, value, which=2):
    def changed(slices):
        setattr(slices[which], tag, value)

    return changed


def other_series(slices):
    for name, value in uids("other").items():
        setattr(slices[5], name, value)


def localizer(slices):
    slices[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def compressed(slices):
    for each in slices:
        each.file_meta.TransferSyntaxUID = uid.HTJ2KLossless
        each.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00abcd"
        each["PixelData"].is_undefined_length = True


REFUSED = {
    "a missing slice": (drop, r"a lacks 1 slice, between IM\d+ and IM\d+: slices are 2.5 mm apart, and these 5 mm"),
    "two missing slices": (drop_two, r"lacks 2 slices, between IM\d+ and IM\d+: .* these 7.5 mm"),
    "a duplicate slice": (repeat, r"has duplicate slices, IM\d+ and IM\d+ lie at one place"),
    "a gantry tilt": (tilt, r"as a gantry tilt gives them: IM\d+ lies 3 pixels beside IM\d+"),
    "uneven slices": (move, r"has slices at uneven distances: IM\d+ lies 0.36 slices beside its place"),
    "mixed series": (other_series, r"holds slices of 2 studies \(1\.2\.[\d.]+ of IM\d+; 1\.2\.[\d.]+ of 6 files"),
    "another series": (change("SeriesInstanceUID", "1.2.3"), r"2 series \(1.2.3 of IM\d+; 1\.2\.[\d.]+ of 6 files"),
    "frames of reference": (change("FrameOfReferenceUID", "1.2.3"), r"2 frames of reference \(1.2.3 of IM\d+; "),
    "spacings": (change("PixelSpacing", [0.8, 0.71]), r"2 pixel spacings \(0.8000 0.7100 of IM"),
    "orientations": (change("ImageOrientationPatient", [1, 0, 0, 0, -1, 0]), r"2 orientations \("),
    "a localizer": (localizer, r"IM\d+ is a localizer and no slice of the image"),
    "another class": (change("SOPClassUID", uid.SecondaryCaptureImageStorage), r"IM\d+ is Secondary Capture Image"),
    "multi-frame": (change("SOPClassUID", uid.EnhancedCTImageStorage), r"is Enhanced CT Image Storage; slices of CT"),
    "an unknown class": (change("SOPClassUID", "1.2.99"), r"IM\d+ is unknown \('1.2.99'\); slices of CT"),
    "no identifier": (change("SeriesInstanceUID", "a"), r"IM\d+ has SeriesInstanceUID 'a': up to 64 digits and dots"),
    "no position": (change("ImagePositionPatient", None), r"IM\d+ has no ImagePositionPatient"),
    "a compression": (compressed, r"IM\d+ is compressed with High-Throughput JPEG 2000 .* not decoded here"),
    "no numbers": (
        change("ImagePositionPatient", ["nan", 0, 0]),
        r"IM\d+ has ImagePositionPatient .*: 3 finite numbers",
    ),
    "too few numbers": (change("PixelSpacing", 0.8), r"IM\d+ has PixelSpacing '0.8': 2 finite numbers are needed"),
    "two numbers of rows": (change("Rows", [12, 12]), r"IM\d+ has Rows \[12, 12\]: one whole number is needed"),
    "a modality LUT": (change("ModalityLUTSequence", []), "holds colours or a modality LUT"),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_image_is_refused_by_the_names_of_its_files(tmp_path, what):
    damage, message = REFUSED[what]
    slices = series_slices(hounsfield())
    damage(slices)
    write_slices(tmp_path / "a", slices)
    with pytest.raises(ValueError, match=message):
        read_series(tmp_path / "a")


def test_other_files_folders_and_single_slices_are_refused(tmp_path):
    files = write_slices(tmp_path / "a", series_slices(hounsfield()))
    (tmp_path / "a" / ".DS_Store").write_bytes(b"hidden")
    assert read_series(tmp_path / "a").files == tuple(files)
    (tmp_path / "a" / "notes.txt").write_text("of the series")
    with pytest.raises(OSError, match=r"notes\.txt is no DICOM file"):
        read_series(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").unlink()
    (tmp_path / "a" / "more").mkdir()
    with pytest.raises(ValueError, match="a has a folder more among the slices"):
        read_series(tmp_path / "a")
    write_slices(tmp_path / "one", series_slices(hounsfield()[:1]))
    with pytest.raises(ValueError, match="one has one slice, IM0000: an image of at least two is needed"):
        read_series(tmp_path / "one")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="none is empty"):
        read_series(tmp_path / "none")


@pytest.mark.parametrize("left", [-1, -100, 700, 200, 100])
def test_a_truncated_slice_is_named(tmp_path, left):
    files = write_slices(tmp_path / "a", series_slices(hounsfield()))
    files[2].write_bytes(files[2].read_bytes()[:left])
    with pytest.raises((OSError, ValueError), match=files[2].name):
        read_series(tmp_path / "a")


@pytest.mark.filterwarnings("ignore")
def test_damaged_headers_name_the_file_and_raise_nothing_else(tmp_path):
    """Random bytes of the header; what changes nothing that is read passes."""
    files = write_slices(tmp_path / "a", series_slices(hounsfield((3, 4, 5))))
    whole, numbers = files[1].read_bytes(), np.random.default_rng(1)
    found = {}
    for _ in range(150):
        damaged = bytearray(whole)
        for place in numbers.integers(128, len(whole) - 40, 3):
            damaged[place] = numbers.integers(256)
        files[1].write_bytes(damaged)
        try:
            read_series(tmp_path / "a")
            found["nothing"] = str(tmp_path)
        except (OSError, ValueError) as error:
            found[str(error)] = type(error).__name__
    assert {"OSError", "ValueError"} < set(found.values())
    assert [message for message in found if message != "nothing" and str(tmp_path / "a") not in message] == []


def test_pixels_that_cannot_be_decoded_name_the_series(tmp_path):
    slices = series_slices(hounsfield(), PixelRepresentation=0)
    for each in slices:
        each.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    slices[4].PixelData = slices[4].PixelData[:40] + bytes(len(slices[4].PixelData) - 40)
    write_slices(tmp_path / "a", slices)
    with pytest.raises(OSError, match=r"the slices of .*a cannot be decoded"):
        write_volume(read_series(tmp_path / "a"), tmp_path / "a.nii")


def test_channels_are_of_one_study_and_frame_of_reference(tmp_path):
    common = uids("one")
    for channel, seed in enumerate(("first", "second")):
        slices = series_slices(hounsfield(), **{**common, "SeriesInstanceUID": uids(seed)["SeriesInstanceUID"]})
        write_slices(tmp_path / f"{channel:04d}", slices)
    folders = [tmp_path / "0000", tmp_path / "0001"]
    assert [series.folder for series in read_case(folders)] == folders
    for tag, text in (("StudyInstanceUID", "studies"), ("FrameOfReferenceUID", "frames of reference")):
        write_slices(tmp_path / text, series_slices(hounsfield(), **{**common, tag: "1.2.9"}))
        with pytest.raises(ValueError, match=rf"are of several {text} \(1\.2\.[\d.]+ and 1\.2\.9\)"):
            read_case([folders[0], tmp_path / text])
