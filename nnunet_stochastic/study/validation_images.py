"""``python -m nnunet_stochastic.study.validation_images DATASET FOLDER``: links to the images that validate fold 0."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from nnunet_stochastic.io.schemas import RawDatasetJson, Splits
from nnunet_stochastic.io.staging import remove_leftovers, staged_folder
from nnunet_stochastic.io.text import read_json

__all__ = ["link_validation_images", "main"]


def link_validation_images(raw: Path, splits: Path, folder: Path) -> int:
    """Make a folder of links to images of imagesTr; returns how many cases it has.

    Parameters
    ----------
    raw
        Folder nnUNet_raw/DATASET.
    splits
        File splits_final.json; without one nnU-Net will make its default.
    folder
        Folder to make; it is there when it is complete.

    Raises
    ------
    ValueError
        The split has no validation case, or one without image.
    """
    # nnU-Net takes seconds to import.
    from nnunet_stochastic.datasets.ensemble_splits import default_splits
    from nnunet_stochastic.datasets.rater_cases import find_training_images

    description = read_json(raw / "dataset.json", RawDatasetJson)
    ending = description["file_ending"]
    images = find_training_images(raw, description)
    present = read_json(splits, Splits) if splits.is_file() else default_splits(raw)
    names = present[0]["val"]
    if not names:
        raise ValueError(f"{splits} has no validation case in fold 0, and calibration needs some; change the split")
    if unknown := [name for name in names if name not in images]:
        raise ValueError(f"{splits} names {unknown[0]}, of which there is no image in {raw / 'imagesTr'}; restore one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent, {folder.name})
    with staged_folder(folder, of_copies=True) as staged:
        for name in names:
            for channel, image in enumerate(images[name]):  # a "dataset" in dataset.json names files as it likes
                _link(image.resolve(), staged / f"{name}_{channel:04d}{ending}")
            spacing = images[name][0].name[: -len(f"_0000{ending}")]
            if (spacing_file := images[name][0].with_name(f"{spacing}.json")).is_file():  # nnU-Net's, beside a 3D TIFF
                _link(spacing_file.resolve(), staged / f"{name}.json")
        shutil.rmtree(folder, ignore_errors=True)
    return len(names)


def _link(file: Path, link: Path) -> None:
    try:
        link.symlink_to(file)
    except OSError:  # Windows lets few users make links
        shutil.copyfile(file, link)


def main(argv: list[str] | None = None) -> int:
    """Link the images; return 0."""
    dataset, folder = sys.argv[1:] if argv is None else argv
    from nnunet_stochastic.datasets.folders import dataset_folders

    raw, preprocessed = dataset_folders(dataset)
    count = link_validation_images(raw, preprocessed / "splits_final.json", Path(folder))
    print(f"{count} validation cases: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
