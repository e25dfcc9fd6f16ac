"""What dataset.json says of labels and regions, compared with nnU-Net's own LabelManager."""

import numpy as np
import pytest

from nnunet_stochastic.evaluation import EvaluatedLabels
from nnunet_stochastic.labels import voxels_of

ORGANS = {"labels": {"background": 0, "spleen": 2, "liver": 1, "ignore": 3}}
TUMOUR = {
    "labels": {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
    "regions_class_order": [1, 2, 3],
}


def test_labels_are_in_the_order_of_their_channels():
    labels = EvaluatedLabels.from_dataset_json(ORGANS)
    assert labels.names == ("liver", "spleen")
    assert labels.classes == ((1,), (2,))
    assert (labels.num_labels, labels.num_channels, labels.ignore_label) == (3, 3, 3)
    assert [labels.channel(index) for index in range(2)] == [1, 2]
    assert labels.value_names() == {1: "liver", 2: "spleen"}


def test_regions_are_in_the_order_of_dataset_json():
    labels = EvaluatedLabels.from_dataset_json(TUMOUR)
    assert labels.names == ("whole tumour", "core", "enhancing")
    assert (labels.num_labels, labels.num_channels, labels.ignore_label) == (4, 3, 4)
    assert [labels.channel(index) for index in range(3)] == [0, 1, 2]
    np.testing.assert_array_equal(labels.target(np.array([0, 1, 2, 3]), 1), [False, False, True, True])
    assert labels.value_names() == {1: "whole tumour", 2: "core", 3: "enhancing"}


@pytest.mark.parametrize("dataset_json", [ORGANS, TUMOUR])
def test_agrees_with_nnunet(dataset_json):
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    theirs = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    ours = EvaluatedLabels.from_dataset_json(dataset_json)
    assert ours.has_regions == theirs.has_regions
    assert ours.num_channels == theirs.num_segmentation_heads
    assert ours.ignore_label == theirs.ignore_label
    foreground = theirs.foreground_regions if theirs.has_regions else theirs.foreground_labels
    assert list(ours.classes) == [values if isinstance(values, tuple) else (values,) for values in foreground]


@pytest.mark.parametrize(
    ("labels", "message"),
    [({"background": 0}, "only label"), ({"background": 0, "nodule": 2}, r"consecutive from 0.*\[0, 2\]")],
)
def test_labels_that_cannot_be_evaluated(labels, message):
    with pytest.raises(ValueError, match=message):
        EvaluatedLabels.from_dataset_json({"labels": labels})


def test_voxels_of_some_values():
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for values in ((4,), (0, 5), (1, 2, 3)):
        np.testing.assert_array_equal(voxels_of(labels, values), np.isin(labels, values))
