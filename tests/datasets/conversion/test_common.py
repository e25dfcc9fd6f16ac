"""Votes, draws and voxel grids."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.datasets.conversion.common import (
    Conversion,
    Source,
    draw,
    fifth,
    label_image,
    majority_vote,
    read_header,
    read_itk_image,
    read_on_grid,
)
from nnunet_stochastic.datasets.conversion.run import dataset_name


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ((0, 0, 0), 0),
        ((0, 0, 1), 0),
        ((0, 1, 1), 1),
        ((0, 1), 1),  # a tie of background and foreground
        ((0, 0, 1, 1), 1),
        ((0, 0, 3, 3), 3),
        ((1, 2, 3), 1),  # of foreground classes the lowest
        ((0, 2, 3), 2),
        ((3, 3, 2, 2, 0), 2),
        ((0, 0, 1, 2), 0),  # background has more votes than any class
        ((0, 0, 1, 2, 2), 2),
    ],
)
def test_majority_vote(votes, winner):
    raters = np.array(votes, np.uint8).reshape(-1, 1, 1)
    assert majority_vote(np.tile(raters, (1, 2, 3)), 4).tolist() == [[winner] * 3] * 2


def test_of_two_classes_the_vote_is_half_or_more():
    raters = np.random.default_rng(0).integers(0, 2, (4, 5, 6, 7))
    np.testing.assert_array_equal(majority_vote(raters, 2), 2 * raters.sum(0) >= 4)
    assert majority_vote(raters.astype(bool), 2).dtype == np.uint8


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (5, 1), (6, 2), (35, 7), (811, 163), (648, 130), (655, 131), (768, 154)]
)
def test_fifths_are_rounded_up(count, expected):
    assert fifth(count) == expected


def test_draw_depends_on_the_seed_alone():
    names = [f"case{n}" for n in range(20)]
    drawn, others = draw(names, 6, np.random.default_rng(3))
    assert len(drawn) == 6
    assert sorted(drawn + others) == sorted(names)
    assert draw(names[::-1], 6, np.random.default_rng(3)) == (drawn, others)
    assert draw(names, 6, np.random.default_rng(4))[0] != drawn
    with pytest.raises(ValueError, match="cannot split 1"):
        draw(["one"], 1, np.random.default_rng(0))


def test_cases_of_one_name_are_refused():
    sources = [Source("x", {"a": "train"}, None, "x"), Source("y", {"a": "val", "b": "val"}, None, "y")]
    with pytest.raises(ValueError, match="more than once: a;"):
        Conversion("D", {}, {}, sources, iter)


@pytest.mark.parametrize("number", [0, 1000])
def test_bad_numbers(number):
    with pytest.raises(ValueError, match="from 1 to 999"):
        dataset_name(number, "X")


def image(shape=(2, 3, 4), spacing=(1, 2, 3), origin=(4, 5, 6), flipped=1):
    result = label_image(np.arange(np.prod(shape)).reshape(shape))
    result.SetSpacing(spacing)
    result.SetOrigin(origin)
    result.SetDirection((flipped, 0, 0, 0, 1, 0, 0, 0, 1))
    return result


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"shape": (2, 3, 5)}, "voxels"),
        ({"spacing": (1, 2, 3.1)}, "spacing"),
        ({"origin": (4, 5.1, 6)}, "origin"),
        ({"flipped": -1}, "direction"),
    ],
)
def test_other_grids_are_refused(tmp_path, other, message):
    for name, content in (("image", image()), ("same", image()), ("other", image(**other))):
        sitk.WriteImage(content, str(tmp_path / f"{name}.nii.gz"))
    header = read_header(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(
        read_on_grid(tmp_path / "same.nii.gz", header), np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    )
    with pytest.raises(ValueError, match=rf"other.nii.gz has .*{message}"):
        read_on_grid(tmp_path / "other.nii.gz", header)


def test_files_that_cannot_be_read(tmp_path):
    for read in (read_header, read_itk_image):
        with pytest.raises(OSError, match="absent"):
            read(tmp_path / "absent.nii.gz")
    sitk.WriteImage(image(), str(tmp_path / "cut.nii"))
    (tmp_path / "cut.nii").write_bytes((tmp_path / "cut.nii").read_bytes()[:-5])
    with pytest.raises(OSError, match="truncated"):
        read_itk_image(tmp_path / "cut.nii")
