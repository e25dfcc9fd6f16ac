"""Turn a folder of images and raters' masks into an nnU-Net dataset whose label is the raters' majority vote.

    python prepare.py SOURCE DATASET_FOLDER [--crop 64] [--spacing Z Y X | --test_spacing Z Y X]

SOURCE holds imagesTr, imagesTs (case_0000.nii.gz) and ratersTr, ratersTs (case_rater0.nii.gz …, binary masks).
``--crop`` keeps so many pixels in the middle of each axis in the plane. ``--spacing`` resamples the images (splines)
and masks (linearly, half and more is inside) to that spacing in mm, ``--test_spacing`` those of the test alone, for a
network whose grid has it. Of a slice Z is only written down; nnU-Net wants it to be larger than Y and X.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def centre(image: sitk.Image, size: int | None) -> sitk.Image:
    """The middle ``size`` x ``size`` pixels of each slice, or the whole image."""
    if size is None:
        return image
    width, height, depth = image.GetSize()
    return sitk.RegionOfInterest(image, [size, size, depth], [(width - size) // 2, (height - size) // 2, 0])


def at_spacing(image: sitk.Image, spacing: list[float] | None, *, is_mask: bool) -> sitk.Image:
    """The same extent with voxels of another size (z, y, x), or the image as it is."""
    if spacing is None:
        return image
    old_size, old_spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    size = np.maximum(np.round(old_size * old_spacing / spacing[::-1]), 1).astype(int)
    new_spacing = old_size * old_spacing / size
    first = (new_spacing / old_spacing - 1) / 2  # the outer borders coincide
    is_slice = old_size == 1
    new_spacing[is_slice], first[is_slice] = np.array(spacing[::-1])[is_slice], 0
    corner = image.TransformContinuousIndexToPhysicalPoint(first.tolist())
    interpolator = sitk.sitkLinear if is_mask else sitk.sitkBSpline
    source = sitk.Cast(image, sitk.sitkFloat32)
    spaced = (corner, new_spacing.tolist(), image.GetDirection())
    result = sitk.Resample(source, size.tolist(), sitk.Transform(), interpolator, *spaced)
    return sitk.Cast(result >= 0.5, sitk.sitkUInt8) if is_mask else result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("dataset_folder", type=Path, help="…/nnUNet_raw/Dataset501_Name, must not exist")
    parser.add_argument("--crop", type=int)
    spacings = parser.add_mutually_exclusive_group()
    spacings.add_argument("--spacing", type=float, nargs=3)
    spacings.add_argument("--test_spacing", type=float, nargs=3)
    arguments = parser.parse_args()
    target = arguments.dataset_folder
    target.mkdir(parents=True)
    for part, spacing in (("Tr", arguments.spacing), ("Ts", arguments.spacing or arguments.test_spacing)):
        for kind in ("images", "raters"):
            (target / f"{kind}{part}").mkdir()
            for path in sorted((arguments.source / f"{kind}{part}").glob("*.nii.gz")):
                image = centre(sitk.ReadImage(str(path)), arguments.crop)
                image = at_spacing(image, spacing, is_mask=kind == "raters")
                sitk.WriteImage(image, str(target / f"{kind}{part}" / path.name))
        (target / f"labels{part}").mkdir()
        for path in sorted((target / f"images{part}").glob("*_0000.nii.gz")):
            case = path.name.removesuffix("_0000.nii.gz")
            raters = [
                sitk.ReadImage(str(rater)) for rater in sorted((target / f"raters{part}").glob(f"{case}_rater*.nii.gz"))
            ]
            votes = sum(sitk.GetArrayFromImage(rater).astype(int) for rater in raters)
            label = sitk.GetImageFromArray((2 * votes >= len(raters)).astype(np.uint8))  # ties are foreground
            label.CopyInformation(raters[0])
            sitk.WriteImage(label, str(target / f"labels{part}" / f"{case}.nii.gz"))
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "nodule": 1},
        "numTraining": len(list((target / "imagesTr").iterdir())),
        "file_ending": ".nii.gz",
        "num_raters": len(raters),
    }
    (target / "dataset.json").write_text(json.dumps(dataset, indent=2))


if __name__ == "__main__":
    main()
