"""Model folders of other tools and versions: what can be read is, of the rest the file and place are named."""

import json

import numpy as np
import pytest

from nnunet_stochastic.inference.model import load_model
from nnunet_stochastic.inference.volumes import structure_volumes


def change(folder, file, **entries):
    path = folder / file
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: entry for name, entry in content.items() if entry is not ...}, default=str))


def test_labels_that_are_texts_are_numbers(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "model")
    change(folder, "dataset.json", labels={"background": "0", "nodule": "1"})
    model = load_model(folder, folds=(0,))
    assert model.dataset_json["labels"] == {"background": 0, "nodule": 1}
    segmentation = np.array([[0, 1, 1]])
    assert structure_volumes(segmentation, model.dataset_json["labels"], 0.5) == {"nodule": 1.0}


@pytest.mark.parametrize(
    ("file", "entries", "message"),
    [
        ("dataset.json", {"labels": {"0": "background", "1": "nodule"}}, r"labels: has names by label, as nnU-Net v1"),
        ("dataset.json", {"labels": {"background": 0, "nodule": "one"}}, r"labels: a label must be a whole number"),
        ("dataset.json", {"labels": {"background": 1, "nodule": 2}}, r"labels\.background must be 0, got 1"),
        ("dataset.json", {"labels": {"nodule": 1}}, r"labels\.background must be 0, got none"),
        ("dataset.json", {"labels": {"background": 0, "a": 1, "ignore": 1}}, r"labels\.ignore must be one more than"),
        (
            "dataset.json",
            {"labels": {"background": 0, "a": [1, 2], "b": 2}},
            r"regions_class_order must have a label for",
        ),
        ("dataset.json", {"channel_names": {}}, r"channel_names is missing"),
        ("dataset.json", {"file_ending": "nii"}, r"file_ending: must be the ending of a file's name"),
        ("plans.json", {"image_reader_writer": "MyReader"}, r"image_reader_writer: nnunetv2\.imageio has no MyReader"),
        ("plans.json", {"configurations": {}}, r"configurations: there is no 3d_fullres, only none"),
        ("plans.json", {"transpose_forward": [0, 1, 1]}, r"transpose_forward and transpose_backward must be an order"),
        ("plans.json", {"configurations": {"3d_fullres": {}}}, r"configurations\.3d_fullres cannot be read"),
    ],
)
def test_other_folders_are_refused_by_name(tmp_path, folders, file, entries, message):
    folder = folders.write_model_folder(tmp_path / "model")
    change(folder, file, **entries)
    with pytest.raises(ValueError, match=rf"{file}: {message}") as error:
        load_model(folder, folds=(0,))
    assert "\n" not in str(error.value)
