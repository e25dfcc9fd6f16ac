"""Every format that a prediction writes: whole files pass, and a file cut at any place is noticed."""

import gzip
import zipfile

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.inference.images import write_map
from nnunet_stochastic.io.written import check_checksums, check_written, has_right_checksums, is_whole

MAP = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
LABELS = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
SIMPLEITK = {
    "sitk_stuff": {"spacing": (1, 2, 3), "origin": (0, 0, 0), "direction": np.eye(3).flatten()},
    "spacing": [3, 2, 1],
}
NIBABEL = {"nibabel_stuff": {"original_affine": np.eye(4)}}
TIFF = {"spacing": [3, 2, 1]}


def savez(path):
    np.savez_compressed(path, probabilities=MAP)


WRITERS = {
    "map.nii.gz": lambda path: write_map(MAP, path, SIMPLEITK, SimpleITKIO),
    "map.nrrd": lambda path: write_map(MAP, path, SIMPLEITK, SimpleITKIO),
    "map.mha": lambda path: write_map(MAP, path, SIMPLEITK, SimpleITKIO),
    "map.gipl": lambda path: write_map(MAP, path, SIMPLEITK, SimpleITKIO),
    "nibabel.nii.gz": lambda path: write_map(MAP, path, NIBABEL, NibabelIO),
    "nibabel.nii": lambda path: write_map(MAP, path, NIBABEL, NibabelIO),
    "itk.nii": lambda path: write_map(MAP, path, SIMPLEITK, SimpleITKIO),
    "map.tif": lambda path: write_map(MAP, path, TIFF, Tiff3DIO),
    "map.tiff": lambda path: write_map(MAP, path, TIFF, Tiff3DIO),
    "flat.tif": lambda path: write_map(MAP[:1], path, {}, NaturalImage2DIO),
    "probabilities.npz": savez,
    "raw.nrrd": lambda path: sitk.WriteImage(sitk.GetImageFromArray(MAP), str(path), False),
    "raw.mha": lambda path: sitk.WriteImage(sitk.GetImageFromArray(MAP), str(path), False),
    "labels.nii.gz": lambda path: SimpleITKIO().write_seg(LABELS, str(path), SIMPLEITK),
    "labels.nrrd": lambda path: SimpleITKIO().write_seg(LABELS, str(path), SIMPLEITK),
    "labels.mha": lambda path: SimpleITKIO().write_seg(LABELS, str(path), SIMPLEITK),
    "labels.gipl": lambda path: SimpleITKIO().write_seg(LABELS, str(path), SIMPLEITK),
    "labels.nii": lambda path: NibabelIO().write_seg(LABELS, str(path), NIBABEL),
    "labels.tif": lambda path: Tiff3DIO().write_seg(LABELS, str(path), TIFF),
    "labels.png": lambda path: NaturalImage2DIO().write_seg(LABELS, str(path), {}),
    "labels.bmp": lambda path: NaturalImage2DIO().write_seg(LABELS, str(path), {}),
    "flat_labels.tif": lambda path: NaturalImage2DIO().write_seg(LABELS, str(path), {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_whole_files_pass_and_cut_files_do_not(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    check_written(path)
    whole = path.read_bytes()
    for length in sorted({0, 1, 3, 8, 20, len(whole) // 3, len(whole) // 2, len(whole) - 13, len(whole) - 1}):
        path.write_bytes(whole[:length])
        with pytest.raises(OSError, match=rf"{name} was cut short .* MiB are free"):
            check_written(path)
    path.write_bytes(whole)
    check_written(path)


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nrrd"])
def test_a_writer_that_loses_the_end_without_a_word_is_noticed(tmp_path, monkeypatch, name):
    write = sitk.WriteImage

    def write_to_a_full_disk(image, file_name, *arguments):
        write(image, file_name, *arguments)
        with open(file_name, "r+b") as file:
            file.truncate(300)

    monkeypatch.setattr(sitk, "WriteImage", write_to_a_full_disk)

    def write_and_check():
        write_map(MAP, tmp_path / name, SIMPLEITK, SimpleITKIO)
        check_written(tmp_path / name)

    with pytest.raises(OSError, match=rf"{name}(\.plain\.nii)? was cut short"):
        write_and_check()
    assert not list(tmp_path.glob("*.plain.nii"))


def test_a_gzip_stream_that_was_closed_early_is_noticed(tmp_path):
    """A disk that has room again when the file is closed: the stream ends well, but half of the voxels are missing."""
    path = tmp_path / "map.nii.gz"
    image = nibabel.Nifti1Image(MAP, np.eye(4))
    with nibabel.openers.Opener(path, "wb") as file:
        file.write(image.to_bytes()[: 352 + MAP.nbytes // 2])
    with pytest.raises(OSError, match=r"map.nii.gz was cut short"):
        check_written(path)


def test_missing_pages_of_a_tiff_are_noticed(tmp_path):
    with tifffile.TiffWriter(tmp_path / "map.tif") as file:
        file.write(MAP[:3], photometric="minisblack", metadata={"shape": MAP.shape})
    path = tmp_path / "map.tif"
    tifffile.tiffcomment(path, '{"shape": [4, 5, 6]}')
    with pytest.raises(OSError, match=r"map.tif was cut short"):
        check_written(path)


def test_the_error_names_what_the_library_found(tmp_path):
    path = tmp_path / "probabilities.npz"
    path.write_bytes(b"")
    with pytest.raises(OSError, match="was cut short") as caught:
        check_written(path)
    assert "zip" in str(caught.value.__cause__)


def test_other_formats_pass(tmp_path):
    path = tmp_path / "map.json"
    path.write_text("{")
    check_written(path)


def test_checksums(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"weights": torch.ones(100_000)}, path)
    whole = path.read_bytes()
    check_checksums(path)
    assert is_whole(path)
    path.write_bytes(whole[:100_000] + bytes(4096) + whole[104_096:])
    with pytest.raises(OSError, match=r"checkpoint.pth is damaged.*data/0"):
        check_checksums(path)
    for content in (whole[:1000], b""):
        path.write_bytes(content)
        assert not is_whole(path)
        with pytest.raises(OSError, match=r"checkpoint.pth is damaged"):
            check_checksums(path)


@pytest.mark.parametrize(
    "name", ["map.nii.gz", "map.nrrd", "map.mha", "probabilities.npz", "labels.png", "nibabel.nii"]
)
def test_zeros_within_a_file_of_the_same_size(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.read_bytes()
    assert has_right_checksums(path)
    place = -8 if name.endswith(".nii.gz") else len(whole) // 2  # the checksum of gzip, or data
    path.write_bytes(whole[:place] + bytes(4) + whole[place:][4:])
    assert path.stat().st_size == len(whole)
    assert path.read_bytes() != whole
    assert has_right_checksums(path) == (name == "nibabel.nii")  # which has none


def test_checkpoints_that_have_no_checksums(tmp_path):
    """As ``torch.serialization.set_crc32_options(False)`` writes them, and torch before 1.6."""
    path, weights = tmp_path / "checkpoint.pth", {"weights": torch.arange(1000.0)}
    computes = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(weights, path)
    finally:
        torch.serialization.set_crc32_options(computes)
    assert not any(entry.CRC for entry in zipfile.ZipFile(path).infolist())
    check_checksums(path)
    assert torch.equal(read_checkpoint(path)["weights"], weights["weights"])
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert is_whole(path)
    check_checksums(path)
    assert torch.equal(read_checkpoint(path)["weights"], weights["weights"])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"checkpoint.pth cannot be read as a checkpoint, it may be incomplete"):
        read_checkpoint(path)


def test_what_is_whole(tmp_path):
    path = tmp_path / "file.nii.gz"
    assert not is_whole(path)
    assert not is_whole(tmp_path)
    for content in (b"", bytes(1000), gzip.compress(bytes(352)), gzip.compress(b"")):
        path.write_bytes(content)
        assert not is_whole(path)
    (tmp_path / "text.csv").write_bytes(b"x")
    assert is_whole(tmp_path / "text.csv")
