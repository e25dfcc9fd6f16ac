import pytest
import torch
import torch.nn.functional as F

from nnunet_stochastic.inference.resampling import resample_slab


@pytest.mark.parametrize("shape", [(7, 11, 9), (3, 4, 5), (12, 6, 5), (6, 8, 7), (1, 2, 20)])
def test_is_torchs_trilinear_interpolation(shape):
    volume = torch.rand(2, 6, 8, 7)
    expected = F.interpolate(volume[None], size=shape, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(resample_slab(volume, shape, 0, shape[0]), expected)


def test_slabs_are_parts_of_the_whole():
    volume = torch.rand(1, 5, 6, 7)
    slabs = [resample_slab(volume, (13, 9, 4), start, min(start + 4, 13)) for start in range(0, 13, 4)]
    torch.testing.assert_close(torch.cat(slabs, dim=1), resample_slab(volume, (13, 9, 4), 0, 13))


def test_same_shape_is_the_identity():
    volume = torch.rand(2, 5, 6, 7)
    assert torch.equal(resample_slab(volume, (5, 6, 7), 1, 4), volume[:, 1:4])


def test_slices_outside_are_an_error():
    with pytest.raises(ValueError, match="not within 0 to 4"):
        resample_slab(torch.rand(1, 2, 2, 2), (4, 4, 4), 3, 5)
