"""Each kind of bad image file, given to each command that reads such a file: a message that names it, nothing done."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands import (
    apply_calibration,
    corrupt,
    determine_calibration,
    predict,
    preprocess_raters,
    report,
)
from tests.commands.conftest import MadeFolders
from tests.datasets.rater_dataset import write_rater_dataset
from tests.inference import model_folder
from tests.report import results

SHAPE = (14, 16, 15)  # z, y, x


def header_bytes(*changes: tuple[int, str, float]) -> Callable[[Path], None]:
    """Overwrite numbers of the header at these offsets."""

    def break_file(path: Path) -> None:
        content = bytearray(gzip.decompress(path.read_bytes()))
        for offset, number_type, value in changes:
            number = np.array(value, number_type).tobytes()
            content[offset : offset + len(number)] = number
        path.write_bytes(gzip.compress(bytes(content)))

    return break_file


def stored(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Store other voxels."""

    def break_file(path: Path) -> None:
        image = nibabel.load(path)
        array = change(np.asarray(image.dataobj))
        header = image.header.copy()
        header.set_data_dtype(array.dtype)
        nibabel.save(nibabel.Nifti1Image(array, None, header), path)

    return break_file


def moved(affine: np.ndarray) -> Callable[[Path], None]:
    """Another place in the patient."""

    def break_file(path: Path) -> None:
        image = nibabel.load(path)
        other = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine @ affine)
        other.set_qform(other.affine, 1)
        nibabel.save(other, path)

    return break_file


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32)
        array[2:4, 3, 1] = value
        return array

    return change


def twin(path: Path) -> None:
    nibabel.save(nibabel.load(path), path.with_suffix(""))


def shifted(millimetres: float) -> np.ndarray:
    affine = np.eye(4)
    affine[0, 3] = millimetres
    return affine


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the place of the file."""

    def break_file(path: Path) -> None:
        path.unlink()
        make(path)

    return break_file


def _voxels_and_affine(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.load(path)
    return np.asarray(image.dataobj), image.affine


def another_format(path: Path) -> None:
    other = path.with_name("other.mha")
    sitk.WriteImage(sitk.ReadImage(str(path)), str(other))
    other.replace(path)


SIZES, PIXDIM, SLOPE, INTERCEPT, QUATERNION, SFORM = 42, 80, 112, 116, 256, 280
CODES = ((252, "<i2", 1), (254, "<i2", 1))
#: What is wrong with a file of any kind, and what must be said of it.
ANY = {
    "twin": (twin, "lies beside"),
    "NaN": (stored(with_value(np.nan)), "2 voxels that are NaN or infinite"),
    "infinite": (stored(with_value(-np.inf)), "2 voxels that are NaN or infinite"),
    "slope ITK leaves out": (header_bytes((SLOPE, "<f4", 1e-17), (INTERCEPT, "<f4", 3)), "scl_slope 1e-17"),
    "intercept without slope": (header_bytes((SLOPE, "<f4", 0), (INTERCEPT, "<f4", 5)), "scl_slope 0 and scl_inter 5"),
    "complex": (stored(lambda array: array.astype(np.complex64)), "complex numbers"),
    "colours": (
        stored(lambda array: np.zeros(array.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "holds colours",
    ),
    "vectors": (stored(lambda array: np.stack([array] * 3, -1)[:, :, :, None]), r"a file per channel"),
    "NaN spacing": (header_bytes((PIXDIM, "<f4", np.nan)), "has spacing .*nan"),
    "infinite spacing": (header_bytes((PIXDIM, "<f4", np.inf)), "has spacing .*inf"),
    "spacing 0": (header_bytes((PIXDIM, "<f4", 0)), "has spacing .*0"),
    "negative spacing": (header_bytes((PIXDIM, "<f4", -1)), "has spacing .*-1"),
    "NaN sform": (header_bytes(*CODES, (SFORM, "<f4", np.nan)), "has sform .*nan"),
    "singular sform": (header_bytes(*CODES, *((SFORM + 4 * n, "<f4", 0) for n in range(3))), "has sform"),
    "NaN qform": (header_bytes(*CODES, (QUATERNION, "<f4", np.nan)), "has qform .*nan"),
    "no rotation": (header_bytes(*CODES, (QUATERNION, "<f4", 7)), "has qform .*7"),
    "cut": (lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9])), "is truncated"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "cut gzip": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read"),
    "more behind it": (lambda path: path.write_bytes(path.read_bytes() + b"more"), "cannot be read"),
    "NIfTI-2": (
        lambda path: nibabel.save(nibabel.Nifti2Image(*_voxels_and_affine(path)), path),
        "NIfTI-2 file, which ITK does not read",
    ),
    "another format": (another_format, "cannot be read"),
    "infinite slope": (header_bytes((SLOPE, "<f4", np.inf)), "scl_slope inf"),
    "beyond float32": (stored(lambda array: 1e300 * array.astype(float) + 1e300), "NaN or infinite in float32"),
    "no voxels": (header_bytes((SIZES, "<i2", 0)), "an image has"),
    "one axis": (header_bytes((SIZES - 2, "<i2", 1)), "an image has two or three axes"),
    "more voxels than bytes": (header_bytes((SIZES, "<i2", 30000)), "is truncated"),
}
#: With a file that is found by its name.
PLACE = {
    "folder": (replaced(Path.mkdir), "(no such file|missing)"),
    "link to nothing": (replaced(lambda path: path.symlink_to(path.with_name("none"))), "(no such file|missing)"),
}
#: And with a file that must lie on another's voxel grid.
GRID = {
    "mirrored": (moved(np.diag([-1, 1, 1, 1])), "differ in direction"),
    "apart": (moved(shifted(100)), "differ in origin"),
    "spacing": (moved(np.diag([1, 1, 2, 1])), "differ in spacing"),
    "size": (stored(lambda array: array[:-1]), "has size"),
    "two volumes": (stored(lambda array: np.stack([array] * 2, -1)), "(channels|differ in|has size)"),
    "a slice": (stored(lambda array: array[:, :, 0]), "has size"),
}
LABELS = {
    "fraction": (stored(with_value(0.5)), "holds 0.5"),
    "negative": (stored(with_value(-1)), "holds -1"),
    "unknown label": (stored(with_value(7)), "holds 7"),
}
MAPS = {
    "negative map": (stored(with_value(-1)), "finite values of at least 0"),
    "label map": (stored(lambda array: (array > 0.3).astype(np.uint8)), "holds whole numbers alone"),
}
#: Corrupted copies are read and written by nibabel, which reads these right.
BY_ITK = {"twin", "NIfTI-2", "slope ITK leaves out", "intercept without slope"}


@dataclass
class Reading:
    """A command, the file of it that gets broken, and how it is started: it returns the exit status."""

    file: Path
    start: Callable[[], int]
    outputs: list[Path] = field(default_factory=list)
    status: int = 1


def _predict(root: Path, file: str, *options: str) -> Reading:
    images = root / "images"
    start = ["-i", images, "-o", root / "out", "-m", root / "model/nnUNetTrainer__nnUNetPlans__3d_fullres"]
    options = (
        "-f",
        "0",
        "-device",
        "cpu",
        "--disable_tta",
        "--disable_progress_bar",
        "-npp",
        "0",
        "-nps",
        "0",
        *options,
    )
    written = [root / "out/b.nii.gz"]
    return Reading(images / file, lambda: predict.main([*map(str, start), *options]), written)


@pytest.fixture(scope="module")
def predicting(tmp_path_factory) -> Path:
    """A model of two channels, and a case."""
    root = tmp_path_factory.mktemp("predicting")
    folder = root / "model/nnUNetTrainer__nnUNetPlans__3d_fullres"
    model_folder.write_model_folder(folder, channels=2)
    for channel in range(2):
        array = model_folder.image_array(channel, SHAPE)
        model_folder.write_image(root / f"images/b_{channel:04d}.nii.gz", array)
    return root


@pytest.fixture(scope="module")
def evaluating(tmp_path_factory) -> MadeFolders:
    folders = MadeFolders(tmp_path_factory.mktemp("evaluating"))
    folders.add("id", ["case_a", "case_b"], seed=0)
    folders.add("val", ["case_a"], seed=1)
    folders.calibrate()
    return folders


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy", dirs_exist_ok=True)


def expect_message(reading: Reading, kind: tuple, capsys) -> None:
    break_file, message = kind
    break_file(reading.file)
    assert reading.start() == reading.status
    error = capsys.readouterr()
    text = error.err + error.out
    lines = [line for line in text.splitlines() if reading.file.name in line]
    assert lines, text
    assert "Traceback" not in text
    assert any(re.search(message, line) for line in lines), text
    for output in reading.outputs:
        assert not output.exists()


def cases(*kinds: dict, without: set[str] = frozenset()):
    merged = {name: kind for table in kinds for name, kind in table.items() if name not in without}
    return pytest.mark.parametrize("kind", merged.values(), ids=merged.keys())


@cases(ANY, PLACE, GRID)
def test_predict_a_channel(predicting, tmp_path, capsys, kind):
    expect_message(_predict(copy_of(predicting, tmp_path), "b_0001.nii.gz"), kind, capsys)


SOME = {"twin", "NaN", "infinite", "complex", "NaN spacing", "apart", "negative"}
REPORTED = ["predictions/case_0000", "predictions/total/case_0000", "raters/case_0000_rater1", "images/case_0000_0000"]
EVALUATED = ["raters/case_b_rater1", "pred/case_b", "pred/samples/case_b_002", "pred/total/case_b"]


@cases(ANY, PLACE, GRID, LABELS)
def test_evaluate_a_reference(evaluating, tmp_path, capsys, kind):
    folders = evaluating.copy(tmp_path / "copy")
    path = folders.root / "id/gt/case_b.nii.gz"
    expect_message(Reading(path, folders.evaluate, [folders.root / "out/summary.json"]), kind, capsys)


@pytest.mark.parametrize(("measure", "largest"), [("AU", 0.7), ("EU", 0.7), ("TU", 1.39)])
def test_maps_of_more_than_the_entropy_of_the_classes(evaluating, tmp_path, capsys, measure, largest):
    folders = evaluating.copy(tmp_path / "copy")
    path = folders.map_file("id", measure, "case_b")
    stored(with_value(largest))(path)
    if measure != "AU":
        assert folders.evaluate() == 0  # in spite of rounding
    kind = (stored(with_value(1.1 * largest)), f"which is more than {np.log(2) * (1 + (measure == 'TU')):g}")
    shutil.rmtree(folders.root / "out", ignore_errors=True)
    expect_message(Reading(path, folders.evaluate, [folders.root / "out/summary.json"]), kind, capsys)


@pytest.mark.parametrize("file", EVALUATED)
@cases({name: kind for name, kind in (ANY | GRID | LABELS).items() if name in SOME})
def test_evaluate_other_files(evaluating, tmp_path, capsys, kind, file):
    if kind in LABELS.values() and "total" in file:
        kind = MAPS["negative map"]
    folders = evaluating.copy(tmp_path / "copy")
    path = folders.root / "id" / f"{file}.nii.gz"
    expect_message(Reading(path, folders.evaluate, [folders.root / "out/summary.json"]), kind, capsys)


@pytest.mark.parametrize("file", ["gt/case_b", "pred/total/case_b"])
@cases({name: kind for name, kind in (ANY | GRID).items() if name in SOME})
def test_determine_calibration(evaluating, tmp_path, capsys, kind, file):
    folders = evaluating.copy(tmp_path / "copy")
    options = [*folders.options("id", "-val"), "-np", "1", "--disable_progress_bar"]
    path = folders.root / "id" / f"{file}.nii.gz"
    written = [folders.root / "id/pred/calibration.json"]
    expect_message(Reading(path, lambda: determine_calibration.main(options), written), kind, capsys)


@pytest.mark.parametrize("file", ["pred/case_b", "pred/total/case_b"])
@cases({name: kind for name, kind in ANY.items() if name in SOME})
def test_apply_calibration(evaluating, tmp_path, capsys, kind, file):
    folders = evaluating.copy(tmp_path / "copy")
    root = folders.root
    options = ["-i", root / "id/pred", "-calibration", root / "val/pred/calibration.json", "-o", root / "confidence"]
    start = [*map(str, options), "-np", "1", "--disable_progress_bar"]
    path = root / "id" / f"{file}.nii.gz"
    written = [root / "confidence/confidence_total/case_b.nii.gz"]
    expect_message(Reading(path, lambda: apply_calibration.main(start), written), kind, capsys)


@cases(ANY, GRID, without=BY_ITK)
def test_corrupt(predicting, tmp_path, capsys, kind):
    root = copy_of(predicting, tmp_path)
    options = ["-i", root / "images", "-o", root / "corrupted", "--shifts", "blur", "--disable_progress_bar"]
    reading = Reading(
        root / "images/b_0001.nii.gz",
        lambda: corrupt.main([*map(str, options)]),
        [root / "corrupted/blur/b_0000.nii.gz"],
    )
    if kind in GRID.values():
        kind = (kind[0], "(differ in|has size|has 2 channels)")
    expect_message(reading, kind, capsys)


def report_of(root: Path, set_name: str, file: str) -> Reading:
    """A page is written all the same; the case that cannot be read keeps its row, and what is wrong is said."""
    start = [str(root / "evaluation"), "-o", str(root / "page.html"), "-np", "1", "--disable_progress_bar"]
    return Reading(root / set_name / f"{file}.nii.gz", lambda: report.main(start), status=0)


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("reported")
    results.write_result(root, files=True, num_cases=1, shifts=(), shape=(4, 12, 10))
    return root


@pytest.mark.parametrize("file", REPORTED)
@cases({name: kind for name, kind in (ANY | GRID).items() if name in ("NaN", "another format", "apart")})
def test_report(reported, tmp_path, capsys, kind, file):
    root = copy_of(reported, tmp_path)
    for path in (root / "evaluation").glob("**/*.json"):
        path.write_text(path.read_text().replace(str(reported), str(root)))
    for path in root.glob("**/uncertainty.json"):
        path.write_text(path.read_text().replace(str(reported), str(root)))
    if "images" in file and kind in GRID.values():
        pytest.skip("an image is shown by its voxels")
    expect_message(report_of(root, "ID", file), kind, capsys)


#: Odd but right: what is read is what the file says, and the results are those of the plain file.
ODD = {
    "big-endian": lambda image: nibabel.Nifti1Image(
        image.get_fdata(dtype=np.float32), image.affine, image.header.as_byteswapped(">")
    ),
    "floats": lambda image: nibabel.Nifti1Image(image.get_fdata(), image.affine, dtype=np.float64),
    "four axes": lambda image: nibabel.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_files_give_the_results_of_plain_ones(evaluating, tmp_path, capsys, odd):
    folders = evaluating.copy(tmp_path / "copy")
    assert folders.evaluate() == 0
    plain = folders.summary()
    for path in (folders.root / "id").glob("**/case_b*.nii.gz"):
        nibabel.save(odd(nibabel.load(path)), path)
    assert folders.evaluate(out="odd") == 0, capsys.readouterr().err
    again = folders.summary("odd")
    for key in ("results", "tasks"):
        assert again[key] == plain[key]


@pytest.mark.parametrize("what", ["image", "mask"])
@cases(ANY)
def test_preprocess_raters(tmp_path, monkeypatch, capsys, kind, what):
    dataset = write_rater_dataset(tmp_path, monkeypatch)
    path = dataset.mask_file("case_1", 1) if what == "mask" else Path(dataset.image_files("case_1")[1])
    start = ["-d", "999", "-np", "1", "--disable_progress_bar"]
    expect_message(Reading(path, lambda: preprocess_raters.main(start), [dataset.raters / "case_1.json"]), kind, capsys)
