import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_stochastic.inference.resampling import PlannedResampling, planned_resampling, resample_slab

# Thick along one axis or along none, as spacing of the network's grid and of the image.
SPACINGS = {
    "isotropic": ((1.0, 1.0, 1.0), (0.8, 0.7, 1.3)),
    "thick 0": ((1.0, 1.0, 1.0), (5.0, 1.0, 1.2)),
    "thick 1": ((1.0, 1.0, 1.0), (1.0, 5.0, 1.2)),
    "thick 2": ((1.0, 1.0, 1.0), (1.0, 1.2, 5.0)),
    "thick grid": ((6.0, 1.0, 1.0), (1.0, 1.1, 1.2)),
    "two thick axes": ((1.0, 1.0, 1.0), (5.0, 5.0, 1.0)),
}
SHAPES = [(7, 11, 9), (12, 6, 5), (6, 8, 14), (6, 13, 7), (9, 8, 7), (3, 4, 4)]  # of a volume of (6, 8, 7)
DEFAULT = "resample_data_or_seg_to_shape"
TORCH = "resample_torch_fornnunet"


@pytest.mark.parametrize("shape", [(7, 11, 9), (3, 4, 5), (12, 6, 5), (6, 8, 7), (1, 2, 20)])
def test_is_torchs_trilinear_interpolation(shape):
    volume = torch.rand(2, 6, 8, 7)
    expected = F.interpolate(volume[None], size=shape, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(resample_slab(volume, shape, 0, shape[0]), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nearest_along_an_axis_repeats_voxels(axis):
    """Twice and three times as many: each voxel so many times, whatever the rule for ties."""
    volume = torch.rand(2, 4, 5, 3)
    for rule in ("nearest", "nearest_torch"):
        rules = tuple(rule if index == axis else "linear" for index in range(3))
        for times in (2, 3):
            shape = tuple(size * (times if index == axis else 1) for index, size in enumerate((4, 5, 3)))
            expected = volume.repeat_interleave(times, axis + 1)
            assert torch.equal(resample_slab(volume, shape, 0, shape[0], rules=rules), expected)


@pytest.mark.parametrize(
    "rules",
    [
        ("linear", "linear", "linear"),
        ("nearest", "linear", "linear"),
        ("linear", "nearest", "linear"),
        ("linear", "linear", "nearest_torch"),
    ],
)
def test_slabs_are_parts_of_the_whole(rules):
    volume, shape = torch.rand(1, 5, 6, 7), (13, 9, 4)
    whole = resample_slab(volume, shape, 0, 13, rules=rules)
    slabs = [resample_slab(volume, shape, start, min(start + 4, 13), rules=rules) for start in range(0, 13, 4)]
    torch.testing.assert_close(torch.cat(slabs, dim=1), whole)
    constant = resample_slab(torch.full((1, 5, 6, 7), 0.3), shape, 0, 13, rules=rules)
    torch.testing.assert_close(constant, torch.full((1, *shape), 0.3))
    assert whole.min() >= volume.min()
    assert whole.max() <= volume.max()


@pytest.mark.parametrize("rule", ["linear", "nearest"])
def test_no_more_of_a_volume_is_taken_than_a_slab_needs(rule):
    """What lies beyond the two slices of the volume beside the slab's goes to no device."""
    volume, rules = torch.rand(1, 12, 4, 5), (rule, "linear", "linear")
    expected = resample_slab(volume, (24, 8, 10), 10, 14, rules=rules)
    volume[:, :4] = volume[:, 8:] = torch.nan  # 10 to 14 lie at 4.75 to 6.25
    assert torch.equal(resample_slab(volume, (24, 8, 10), 10, 14, rules=rules), expected)


def planned(folders, function, arguments, *, shape, spacing, image_spacing, transpose=(0, 1, 2), dimension=3):
    """What ``planned_resampling`` makes of a plan, an image's shape on its crop and its spacing."""
    plan = folders.plans(resampling=(function, arguments), spacing=spacing, transpose=transpose, dimension=dimension)
    manager = PlansManager(plan)
    configuration = manager.get_configuration(folders.configuration_name(dimension))
    properties = {
        "shape_after_cropping_and_before_resampling": shape,
        "spacing": [image_spacing[transpose.index(axis)] for axis in range(3)],
    }
    return planned_resampling(manager, configuration, properties)


def whole_and_slabs(resampling, volume, shape):
    """All slices, which their slabs have to be parts of."""
    slab_of = resampling.of(volume)
    whole = slab_of(0, shape[0])
    parts = [slab_of(start, min(start + 2, shape[0])) for start in range(0, shape[0], 2)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    return whole


@pytest.mark.parametrize("spacings", SPACINGS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"order": 1, "order_z": 0, "force_separate_z": None},
        {"order": 1, "order_z": 1, "force_separate_z": None},
        {"order": 1, "order_z": 0, "force_separate_z": True},
        {"order": 1, "order_z": 0, "force_separate_z": False},
        {"order": 1, "order_z": 0, "force_separate_z": None, "separate_z_anisotropy_threshold": 8.0},
        {"order": 1, "force_separate_z": None},
    ],
    ids=["nearest", "order_z 1", "always apart", "never apart", "threshold", "order_z by default"],
)
def test_rules_are_nnunets_function(folders, arguments, spacings):
    spacing, image_spacing = SPACINGS[spacings]
    volume = torch.randn(2, 6, 8, 7)
    for shape in SHAPES:
        resampling = planned(
            folders, DEFAULT, {"is_seg": False, **arguments}, shape=shape, spacing=spacing, image_spacing=image_spacing
        )
        assert resampling._function is None  # by the slab
        expected = resample_data_or_seg_to_shape(volume.numpy(), shape, spacing, image_spacing, **arguments)
        np.testing.assert_allclose(whole_and_slabs(resampling, volume, shape), expected, atol=1e-5)


@pytest.mark.parametrize("spacings", SPACINGS)
@pytest.mark.parametrize("force_separate_z", [None, True, False])
def test_rules_are_nnunets_torch_function(folders, force_separate_z, spacings):
    spacing, image_spacing = SPACINGS[spacings]
    volume = torch.randn(2, 6, 8, 7)
    arguments = {"is_seg": False, "force_separate_z": force_separate_z, "memefficient_seg_resampling": False}
    for shape in SHAPES:
        resampling = planned(folders, TORCH, arguments, shape=shape, spacing=spacing, image_spacing=image_spacing)
        expected = resample_torch_fornnunet(volume, shape, spacing, image_spacing, num_threads=1, **arguments)
        torch.testing.assert_close(whole_and_slabs(resampling, volume, shape), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("function", [DEFAULT, TORCH])
def test_positions_half_way_between_two_voxels_are_rounded_as_by_the_function(folders, function):
    """Of sizes whose quotient puts voxels there: an off-by-one would move whole slices."""
    stock = resample_data_or_seg_to_shape if function == DEFAULT else resample_torch_fornnunet
    arguments = {"force_separate_z": None, **({"order": 1} if function == DEFAULT else {})}
    for length in range(1, 14):
        volume = torch.arange(float(length)).view(1, -1, 1, 1).expand(1, length, 2, 3).contiguous()
        for size in range(1, 30):
            resampling = planned(
                folders,
                function,
                {"is_seg": False, **arguments},
                shape=(size, 2, 3),
                spacing=(5.0, 1.0, 1.0),
                image_spacing=(5.0, 1.0, 1.0),
            )
            data = volume.numpy() if function == DEFAULT else volume
            expected = stock(data, (size, 2, 3), (5.0, 1.0, 1.0), (5.0, 1.0, 1.0), **arguments)
            np.testing.assert_array_equal(resampling.of(volume)(0, size)[0, :, 0, 0], expected[0, :, 0, 0])


def test_axes_are_those_after_the_transposition(folders):
    """The image is thick along its last axis, which is the first of the network's."""
    volume, shape = torch.randn(1, 6, 8, 7), (9, 11, 5)
    arguments = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    resampling = planned(
        folders, DEFAULT, arguments, shape=shape, spacing=(1, 1, 1), image_spacing=(5.0, 1.0, 1.2), transpose=(2, 0, 1)
    )
    apart, together = (
        resample_data_or_seg_to_shape(
            volume.numpy(), shape, (1, 1, 1), (5.0, 1.0, 1.2), order=1, force_separate_z=force_separate_z
        )
        for force_separate_z in (None, False)
    )
    np.testing.assert_allclose(resampling.of(volume)(0, 9), apart, atol=1e-5)
    assert not np.allclose(apart, together, atol=0.1)


def test_slices_of_a_2d_network_stay_apart(folders):
    volume, shape = torch.randn(2, 6, 8, 7), (6, 11, 5)
    arguments = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    resampling = planned(
        folders, DEFAULT, arguments, shape=shape, spacing=(9.0, 1.0, 1.0), image_spacing=(4.0, 0.7, 1.3), dimension=2
    )
    spacing = (4.0, 1.0, 1.0), (4.0, 0.7, 1.3)  # as nnU-Net puts the image's own before that of the slices
    expected = resample_data_or_seg_to_shape(volume.numpy(), shape, *spacing, order=1, force_separate_z=None)
    np.testing.assert_allclose(whole_and_slabs(resampling, volume, shape), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (DEFAULT, {"order": 3, "order_z": 0, "force_separate_z": None}),
        (DEFAULT, {"order": 1, "order_z": 3, "force_separate_z": None}),
        (DEFAULT, {"force_separate_z": False}),
        (TORCH, {"force_separate_z": None, "mode": "nearest"}),
        (TORCH, {"force_separate_z": None, "aniso_axis_mode": "trilinear"}),
    ],
)
@pytest.mark.parametrize("spacings", ["isotropic", "thick 0"])
def test_other_functions_are_called(folders, function, arguments, spacings):
    spacing, image_spacing = SPACINGS[spacings]
    volume, shape = torch.randn(2, 6, 8, 7), (7, 11, 9)
    resampling = planned(
        folders, function, {"is_seg": False, **arguments}, shape=shape, spacing=spacing, image_spacing=image_spacing
    )
    stock = resample_data_or_seg_to_shape if function == DEFAULT else resample_torch_fornnunet
    expected = stock(volume.numpy(), shape, spacing, image_spacing, **arguments)
    np.testing.assert_allclose(whole_and_slabs(resampling, volume, shape), expected, atol=1e-5)


def test_a_function_is_not_called_where_the_shapes_are_equal():
    def fail(volume):
        raise AssertionError("called")

    volume = torch.rand(2, 5, 6, 7)
    assert torch.equal(PlannedResampling((5, 6, 7), None, fail).of(volume)(1, 4), volume[:, 1:4])


def test_rules_or_a_function():
    with pytest.raises(ValueError, match="one of the two"):
        PlannedResampling((1, 2, 3), None)
    with pytest.raises(ValueError, match="one of the two"):
        PlannedResampling((1, 2, 3), ("linear",) * 3, np.asarray)


def test_same_shape_is_the_identity():
    volume = torch.rand(2, 5, 6, 7)
    assert torch.equal(resample_slab(volume, (5, 6, 7), 1, 4), volume[:, 1:4])


def test_slices_outside_are_an_error():
    with pytest.raises(ValueError, match="not within 0 to 4"):
        resample_slab(torch.rand(1, 2, 2, 2), (4, 4, 4), 3, 5)
