"""The demo's data set: valid for nnU-Net, raters and majority consistent, complete or absent."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_stochastic.datasets import DATASET_NAME, load_nodules, write_demo_dataset
from nnunet_stochastic.patients import read_patients


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    calls = []
    folder = write_demo_dataset(
        tmp_path_factory.mktemp("raw"), num_train=2, num_test=1, on_case=lambda *call: calls.append(call)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    return folder


def test_nnunet_accepts_it(dataset, capsys):
    verify_dataset_integrity(str(dataset), num_processes=1)
    assert "verify_dataset_integrity Done" in capsys.readouterr().out


def test_files(dataset):
    assert sorted(path.name for path in dataset.parent.iterdir()) == [DATASET_NAME]
    names = sorted(str(path.relative_to(dataset).as_posix()) for path in dataset.rglob("*") if path.is_file())
    expected = ["ATTRIBUTION.txt", "dataset.json", "patients.csv"]
    for suffix, cases in (("Tr", ("nodule_000", "nodule_001")), ("Ts", ("nodule_076",))):
        for case in cases:
            expected += [f"images{suffix}/{case}_0000.nii.gz", f"labels{suffix}/{case}.nii.gz"]
            expected += [f"raters{suffix}/{case}_rater{rater}.nii.gz" for rater in range(4)]
    assert names == sorted(expected)
    cases = {f"nodule_{n:03d}": load_nodules()[n].patient for n in (0, 1, 76)}
    assert read_patients(dataset / "patients.csv", cases) == cases


def test_description_names_the_raters_and_says_what_is_simulated(dataset):
    description = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    assert description["num_raters"] == 4
    assert description["labels"] == {"background": 0, "nodule": 1}
    assert description["numTraining"] == 2
    assert "masks are real" in description["description"]
    assert "images are simulated" in description["description"]
    assert "CC BY 3.0" in description["licence"]


def test_label_is_the_majority_and_geometry_is_shared(dataset):
    nodule = load_nodules()[76]
    assert nodule.is_test
    image = sitk.ReadImage(str(dataset / "imagesTs" / "nodule_076_0000.nii.gz"))
    np.testing.assert_allclose(image.GetSpacing(), nodule.spacing_mm[::-1], rtol=1e-6)
    raters = [sitk.ReadImage(str(dataset / "ratersTs" / f"nodule_076_rater{k}.nii.gz")) for k in range(4)]
    label = sitk.ReadImage(str(dataset / "labelsTs" / "nodule_076.nii.gz"))
    for other in (*raters, label):
        assert other.GetSize() == image.GetSize()
        assert other.GetSpacing() == image.GetSpacing()
    votes = sum(sitk.GetArrayFromImage(rater).astype(int) for rater in raters)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), votes >= 2)
    assert [int(sitk.GetArrayFromImage(r).sum()) for r in raters] == nodule.masks.sum((1, 2, 3)).tolist()


def test_existing_data_set_is_left_alone(dataset):
    before = (dataset / "dataset.json").stat().st_mtime_ns
    with pytest.raises(ValueError, match="exists; remove it"):
        write_demo_dataset(dataset.parent, num_train=1, num_test=1)
    assert (dataset / "dataset.json").stat().st_mtime_ns == before


def test_interrupted_writing_leaves_no_data_set_and_can_be_repeated(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_dataset(tmp_path, num_train=1, num_test=1, on_case=stop)
    assert not (tmp_path / DATASET_NAME).exists()
    assert write_demo_dataset(tmp_path, num_train=1, num_test=1).exists()
    assert [path.name for path in tmp_path.iterdir()] == [DATASET_NAME]


@pytest.mark.parametrize(
    ("options", "message"), [({"num_train": 77}, "num_train.*76, got 77"), ({"num_test": 0}, "24")]
)
def test_impossible_sizes_are_refused_before_writing(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_demo_dataset(tmp_path, **options)
    assert not list(tmp_path.iterdir())
