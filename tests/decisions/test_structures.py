"""Rows of structures against sums over the voxels that are looked at one by one."""

import json

import numpy as np
import pytest

from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.decisions.structures import ProbabilitySums, StructureRow, border, structure_rows

CLASSES = {"liver": [1], "tumour": [2], "both": [1, 2], "kidney": [5]}


def image(rng, shape=(5, 7, 6)):
    segmentation = np.zeros(shape, np.uint8)
    segmentation[:, 2:, 1:4] = 1  # touches the border of the image
    segmentation[2, 4, 2] = 2
    maps = {measure: rng.random(shape).astype(np.float32) for measure in ("AU", "EU", "TU")}
    probabilities = {name: rng.random(shape).astype(np.float32) for name in CLASSES}
    return segmentation, maps, probabilities


def sums(probabilities, segmentation):
    return {
        name: ProbabilitySums.of(values, np.isin(segmentation, CLASSES[name])) for name, values in probabilities.items()
    }


def neighbours(inside):
    """The border, voxel by voxel."""
    edge = np.zeros(inside.shape, bool)
    for place in np.ndindex(inside.shape):
        for axis in range(inside.ndim):
            for step in (-1, 1):
                other = list(place)
                other[axis] += step
                if 0 <= other[axis] < inside.shape[axis]:
                    edge[place] |= inside[tuple(other)] != inside[place]
    return edge


def test_against_sums_over_voxels():
    rng = np.random.default_rng(0)
    segmentation, maps, probabilities = image(rng)
    samples = rng.integers(0, 3, (6, *segmentation.shape)).astype(np.uint8)
    overlaps = Overlaps.of(samples, classes=list(CLASSES.values()))
    members = Overlaps.of(samples[:2], classes=list(CLASSES.values()))
    rows = structure_rows(
        segmentation,
        CLASSES,
        probabilities=sums(probabilities, segmentation),
        maps=maps,
        voxel_ml=0.25,
        samples=overlaps,
        members=members,
    )
    assert [row.structure for row in rows] == list(CLASSES)
    for index, row in enumerate(rows[:3]):
        inside = np.isin(segmentation, CLASSES[row.structure])
        edge = neighbours(inside)
        np.testing.assert_array_equal(border(inside), edge)
        assert row.num_voxels == inside.sum()
        assert row.volume_ml == inside.sum() / 4
        assert row.expected_volume_ml == pytest.approx(probabilities[row.structure].sum() / 4, rel=1e-5)
        assert row.mean_p == pytest.approx(probabilities[row.structure][inside].mean())
        for measure, uncertainty in maps.items():
            assert row.inside[measure] == pytest.approx(uncertainty[inside].mean())
            assert row.border[measure] == pytest.approx(uncertainty[edge].mean())
        volumes = np.isin(samples, CLASSES[row.structure]).sum(axis=(1, 2, 3)) / 4
        assert (row.num_samples, row.num_members) == (6, 2)
        assert row.sample_mean_ml == pytest.approx(volumes.mean())
        assert row.sample_sd_ml == pytest.approx(volumes.std(ddof=1))
        assert row.sample_quantiles_ml["p5"] == pytest.approx(np.percentile(volumes, 5))
        assert row.pairwise_dice_samples == pytest.approx(overlaps.mean_dice()[index])
        assert row.pairwise_dice_members == pytest.approx(members.mean_dice()[index])
        assert row.pairwise_dice_samples != row.pairwise_dice_members
    absent = rows[3]
    assert (absent.num_voxels, absent.volume_ml, absent.mean_p) == (0, 0, None)
    assert set(absent.inside.values()) == {None} == set(absent.border.values())
    assert absent.pairwise_dice_samples is None
    assert absent.expected_volume_ml > 0


def test_as_plain_data_and_as_columns():
    rng = np.random.default_rng(1)
    segmentation, maps, probabilities = image(rng)
    overlaps = Overlaps.of(np.stack([segmentation] * 3), classes=list(CLASSES.values()))
    probabilities = sums(probabilities, segmentation)
    rows = structure_rows(segmentation, CLASSES, probabilities=probabilities, maps=maps, voxel_ml=1.0, samples=overlaps)
    for row in rows:
        assert StructureRow(**json.loads(json.dumps(row.as_json(), allow_nan=False))) == row
    bare = structure_rows(segmentation, CLASSES, probabilities={}, maps={}, voxel_ml=None)
    assert list(bare[0].as_columns()) == list(rows[0].as_columns())
    columns = rows[0].as_columns()
    assert columns["mean_EU_border"] == rows[0].border["EU"]
    assert columns["sample_p95_ml"] == columns["sample_p5_ml"] == rows[0].volume_ml
    assert columns["sample_sd_ml"] == 0
    assert columns["pairwise_dice_samples"] == 1
    assert columns["pairwise_dice_members"] is None


def test_without_probabilities_maps_samples_and_volume():
    segmentation, _, _ = image(np.random.default_rng(2))
    row = structure_rows(segmentation, CLASSES, probabilities={}, maps={}, voxel_ml=None)[0]
    assert row == StructureRow("liver", int((segmentation == 1).sum()), float((segmentation == 1).sum()))
    one = Overlaps.of(segmentation[np.newaxis], classes=list(CLASSES.values()))
    row = structure_rows(segmentation, CLASSES, probabilities={}, maps={}, voxel_ml=2.0, samples=one)[0]
    assert (row.sample_mean_ml, row.sample_sd_ml, row.pairwise_dice_samples) == (row.volume_ml, None, None)


def test_two_dimensions_as_nnunet_has_them():
    segmentation, maps, probabilities = (np.array([each]) for each in (np.eye(4, dtype=int), np.eye(4), np.eye(4)))
    line = ProbabilitySums.of(probabilities, segmentation == 1)
    row = structure_rows(segmentation, {"line": [1]}, probabilities={"line": line}, maps={"TU": maps}, voxel_ml=None)[0]
    assert (row.mean_p, row.inside["TU"], row.volume_ml) == (1, 1, None)
    assert row.border["TU"] == pytest.approx(4 / 10)


def test_bad_input():
    segmentation, maps, probabilities = image(np.random.default_rng(3))
    arguments = {"probabilities": sums(probabilities, segmentation), "maps": maps, "voxel_ml": 1.0}
    with pytest.raises(ValueError, match="must hold integers"):
        structure_rows(segmentation.astype(float), CLASSES, **arguments)
    with pytest.raises(ValueError, match="map EU"):
        structure_rows(segmentation, CLASSES, **{**arguments, "maps": {"EU": maps["EU"][1:]}})
    with pytest.raises(ValueError, match="got entropy"):
        structure_rows(segmentation, CLASSES, **{**arguments, "maps": {"entropy": maps["EU"]}})
    with pytest.raises(ValueError, match="no probabilities of tumour, both, kidney"):
        structure_rows(segmentation, CLASSES, **{**arguments, "probabilities": {"liver": ProbabilitySums(1.0, 1.0)}})
    with pytest.raises(ValueError, match="must have the same shape"):
        ProbabilitySums.of(maps["EU"][1:], segmentation == 1)
    with pytest.raises(ValueError, match="of the 4 structures, got 1"):
        structure_rows(segmentation, CLASSES, **arguments, samples=Overlaps(np.zeros((1, 2, 2), int)))
