"""Names of files that no table, log or terminal takes are refused by each command that looks for cases."""

from __future__ import annotations

import os
import re
import sys

import pytest

from nnunet_stochastic.datasets.conversion.common import Conversion, Source
from nnunet_stochastic.datasets.corruptions.folder import find_images
from nnunet_stochastic.datasets.rater_cases import find_training_images
from nnunet_stochastic.evaluation.cases import find_cases as find_predictions
from nnunet_stochastic.inference.cases import find_input_cases
from nnunet_stochastic.io.names import check_names, counted

STRANGE = ("a\nb", os.fsdecode(b"a\xffb"), "a\tb", "a\x1b[31mb", "a\u2028b")
NAMES = ("good", "-good", "a b", "a_0000", "a_0000_0000", "\u00e9", "$x", "a.b", "a_rater0", "a_000")
PLAIN = ("case", "\u0160umava", "\u5f71\u50cf", "x$_{$y", "[red]", "a b", ".hidden", "\U0001f9e0")


def images(folder):
    return [image.name for image in find_images(folder)]


def inputs(folder):
    return [case.name for case in find_input_cases(folder, file_ending=".png", num_channels=1)]


def predictions(folder):
    for path in sorted(folder.iterdir(), key=lambda path: len(path.name)):
        path.rename(path.with_name(re.sub(r"_0000(?=\.)", "", path.name)))
    return [case.name for case in find_predictions(folder, None, file_ending=".png", probabilities=False)[0]]


def training(folder):
    (folder.parent / "imagesTr").symlink_to(folder)
    description = {"channel_names": {"0": "x"}, "file_ending": ".png"}
    return list(find_training_images(folder.parent, description))


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names that the file system does not take")
@pytest.mark.parametrize("find", [images, inputs, predictions, training])
@pytest.mark.parametrize("name", STRANGE)
def test_each_command_refuses_them_by_name(tmp_path, find, name):
    folder = tmp_path / "in"
    folder.mkdir()
    for case in ("good", name):
        (folder / f"{case}_0000.png").touch()
    with pytest.raises(ValueError, match=rf"in|imagesTr .*rename {re.escape(ascii(name))}"):
        find(folder)


@pytest.mark.parametrize("find", [images, inputs, predictions, training])
def test_files_of_macos_are_no_images(tmp_path, find):
    folder = tmp_path / "in"
    folder.mkdir()
    for case in ("good", "._good"):
        (folder / f"{case}_0000.png").touch()
    assert find(folder) == ["good"]


@pytest.mark.parametrize("find", [images, inputs, predictions, training])
def test_what_else_lies_among_images(tmp_path, find):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("Thumbs.db", ".DS_Store", "b_0000.png.part", ".c_0000.png", "notes.txt", "d_0000.png~"):
        (folder / name).touch()
    for case in NAMES:
        (folder / f"{case}_0000.png").touch()
    if find is training:
        (folder / ".c_0000.png").unlink()  # nnU-Net trains with hidden files
    assert sorted(find(folder)) == sorted(NAMES)


@pytest.mark.parametrize("find", [images, inputs, predictions, training])
def test_two_names_of_the_same_letters(tmp_path, find):
    folder = tmp_path / "in"
    folder.mkdir()
    for case in ("\u00e9", "e\u0301"):
        (folder / f"{case}_0000.png").touch()
    if len(list(folder.iterdir())) < 2:
        pytest.skip("a file system that takes them for one")
    with pytest.raises(ValueError, match="two forms of Unicode"):
        find(folder)


@pytest.mark.parametrize("find", [images, inputs, predictions])
def test_endings_in_capital_letters(tmp_path, find):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a_0000.png", "b_0000.PNG"):
        (folder / name).touch()
    with pytest.raises(ValueError, match=r"in .*(rename b(_0000)?\.PNG|1 of \.PNG)"):
        find(folder)


@pytest.mark.parametrize("find", [images, inputs])
def test_images_without_the_number_of_a_channel(tmp_path, find):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a_0000.png", "b.png"):
        (folder / name).touch()
    with pytest.raises(ValueError, match=r"(rename|of them) b\.png"):
        find(folder)


def test_predictions_and_references_in_two_forms_of_unicode(tmp_path):
    for folder, name in (("pred", "\u00e9"), ("gt", "e\u0301")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.png").touch()
    _, problems = find_predictions(tmp_path / "pred", tmp_path / "gt", file_ending=".png", probabilities=False)
    assert "\u00e9: named in two forms of Unicode" in problems[0]


def test_names(tmp_path):
    check_names(PLAIN, tmp_path)
    with pytest.raises(ValueError, match="and 2 more"):
        check_names([f"{n}\n" for n in range(7)], tmp_path)
    with pytest.raises(ValueError, match=r"the data set has names .*'a\\nb'"):
        Conversion("Dataset001_X", {}, {}, [Source("s", {"a\nb": "train"}, None, "s")], iter)


def test_numbers_and_their_nouns():
    told = [counted(number, noun) for number, noun in ((1, "case"), (0, "case"), (2, "class"), (3, "corrupted copy"))]
    assert told == ["1 case", "0 cases", "2 classes", "3 corrupted copies"]
