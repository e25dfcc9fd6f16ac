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
from nnunet_stochastic.io.names import check_names

STRANGE = ("a\nb", os.fsdecode(b"a\xffb"), "a\tb", "a\x1b[31mb", "a\u2028b")
PLAIN = ("case", "\u0160umava", "\u5f71\u50cf", "x$_{$y", "[red]", "a b", ".hidden", "\U0001f9e0")


def images(folder):
    return [image.name for image in find_images(folder)]


def inputs(folder):
    return [case.name for case in find_input_cases(folder, file_ending=".png", num_channels=1)]


def predictions(folder):
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("_0000", "")))
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


def test_names(tmp_path):
    check_names(PLAIN, tmp_path)
    with pytest.raises(ValueError, match="and 2 more"):
        check_names([f"{n}\n" for n in range(7)], tmp_path)
    with pytest.raises(ValueError, match=r"the data set has names .*'a\\nb'"):
        Conversion("Dataset001_X", {}, {}, [Source("s", {"a\nb": "train"}, None, "s")], iter)
