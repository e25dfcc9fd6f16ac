"""Annotations from nnU-Net's targets, by literal tables."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.targets import encode_target


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_labels_become_one_hot(dtype) -> None:
    target = encode_target(torch.tensor([[[0, 2, 1]]], dtype=dtype), 3)
    assert target.mask.tolist() == [[[1, 0, 0], [0, 0, 1], [0, 1, 0]]]
    assert target.counted.tolist() == [[[1, 1, 1]]]
    assert target.mask.dtype == target.counted.dtype == torch.float32


def test_ignored_voxels_are_of_no_class() -> None:
    target = encode_target(torch.tensor([[[0, 2, 1]]]), 2, ignore_label=2)
    assert target.mask.tolist() == [[[1, 0, 0], [0, 0, 1]]]
    assert target.counted.tolist() == [[[1, 0, 1]]]


def test_regions_overlap_and_their_last_channel_is_what_to_ignore() -> None:
    regions = torch.tensor([[[1, 1, 0], [0, 1, 0]]])
    target = encode_target(regions, 2, regions=True)
    assert target.mask.tolist() == regions.tolist()
    assert target.counted.tolist() == [[[1, 1, 1]]]
    target = encode_target(torch.cat([regions, torch.tensor([[[0, 1, 0]]])], 1), 2, regions=True, ignore_label=3)
    assert target.mask.tolist() == [[[1, 0, 0], [0, 0, 0]]]
    assert target.counted.tolist() == [[[1, 0, 1]]]


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 classes must have shape \(B, 1, \*S\), got \(1, 2, 4\)"):
        encode_target(torch.zeros(1, 2, 4), 2)
    with pytest.raises(ValueError, match=r"2 regions must have shape \(B, 3, \*S\), got \(1, 2, 4\)"):
        encode_target(torch.zeros(1, 2, 4), 2, regions=True, ignore_label=3)
