"""Whether images and masks of raters can become a data set: each file is read to its end before one is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_stochastic.datasets.conversion.common import Skipped, read_header, read_on_grid, reasons
from nnunet_stochastic.io.images import check_image_file

__all__ = [
    "CheckedCase",
    "RaterCase",
    "check_case",
    "check_labels",
    "check_same_values",
    "read_mask",
    "require_sound",
]

_MOST_LABELS = 256  # label maps are written as uint8
_MANY_VALUES = 64  # masks with more are images, or have been resampled as such


@dataclass(frozen=True)
class RaterCase:
    """Files of a case: a file per channel, or one with all of them; and a mask per rater."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class CheckedCase:
    """What reading a case has shown: values of its masks, size and colours of its image, and what is wrong."""

    values: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    num_colours: int = 0
    problems: tuple[str, ...] = ()
    of_masks: tuple[frozenset[int], ...] = ()


def check_case(files: RaterCase) -> CheckedCase:
    """Read all files of a case to their ends."""
    problems: list[str] = []
    values: set[int] = set()
    of_masks: list[frozenset[int]] = []
    try:
        for image in files.images:
            check_image_file(image)
            read_on_grid(image, read_header(files.images[0]))
        header = read_header(files.images[0])
    except (ValueError, OSError) as error:
        return CheckedCase(problems=(str(error),))
    for mask in files.masks:
        try:
            found = np.unique(read_mask(mask, header))
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        whole = found.astype(np.int64)
        if not (
            np.array_equal(whole, found) and len(found) <= _MANY_VALUES and 0 <= whole.min() <= whole.max() < 2**16
        ):
            problems.append(
                f"{mask} holds {len(found)} values, such as {', '.join(f'{value:g}' for value in found[:5])}: no labels"
            )
        else:
            values.update(whole.tolist())
            of_masks.append(frozenset(whole.tolist()))
    return CheckedCase(
        tuple(sorted(values)), header.GetSize(), header.GetNumberOfComponents(), tuple(problems), tuple(of_masks)
    )


def read_mask(path: Path, header: sitk.ImageFileReader) -> np.ndarray:
    """Values of a mask (*S) on the grid of its image, whose header this is."""
    array = read_on_grid(path, header)
    if array.ndim != header.GetDimension():
        raise ValueError(f"{path} holds colours or vectors; store one number per voxel")
    return array


def require_sound(found: Mapping[str, CheckedCase], num_channels: int) -> None:
    """Raise ``ValueError`` for all that is wrong with the files of the cases, and with their axes and colours."""
    wrong = [Skipped(case, problem) for case, result in found.items() for problem in result.problems]
    axes = Counter(len(result.size) for result in found.values() if result.size)
    usual = max(axes, key=lambda count: axes[count], default=0)
    for case, result in found.items():
        if result.problems:
            continue
        if len(result.size) != usual or usual not in (2, 3):
            wrong.append(Skipped(case, f"has {len(result.size)} axes; all images must have 2, or all of them 3"))
        # Colours are channels of a PNG, the only format of 2D images here that has them.
        elif result.num_colours not in (1, num_channels):
            wrong.append(Skipped(case, f"has {result.num_colours} colours, and --channel_names names {num_channels}"))
    if wrong:
        raise ValueError(f"nothing was written, because of these problems:{reasons(wrong)}")


def check_same_values(found: Mapping[str, CheckedCase], raters: Sequence[str]) -> None:
    """Raise where raters have no class in common: one may write 255 for what others write 1 for."""
    of_raters = {
        rater: {value for result in found.values() for value in result.of_masks[index] if value}
        for index, rater in enumerate(raters)
    }
    drawn = {rater: values for rater, values in of_raters.items() if values}
    first = next(iter(drawn), None)
    for rater, values in drawn.items():
        if first is not None and not values & drawn[first]:
            said = "; ".join(f"{name}: {', '.join(map(str, sorted(has)))}" for name, has in drawn.items())
            raise ValueError(
                f"{first} and {rater} use different values ({said}): store a class as the same value by all raters, or "
                "name the classes with --labels NAME=VALUE if they are different ones"
            )


def check_labels(labels: Mapping[str, int] | None, found: Mapping[str, CheckedCase]) -> dict[str, int]:
    """Value of each class in the masks, background the first."""
    values = sorted({value for result in found.values() for value in result.values})
    if labels is None:
        if 0 not in values or len(values) < 2:
            raise ValueError(
                f"the masks hold {', '.join(map(str, values))}: background is 0, and a class beside it is needed; name "
                "the classes with --labels NAME=VALUE"
            )
        names = ["foreground"] if len(values) == 2 else [f"class_{value}" for value in values[1:]]
        labels = {"background": 0, **dict(zip(names, values[1:], strict=True))}
    labels = {"background": 0, **labels}
    if labels["background"] != 0 or len(set(labels.values())) < len(labels) or min(labels.values()) < 0:
        raise ValueError(
            f"--labels {' '.join(f'{name}={value}' for name, value in labels.items())}: background is 0, and each "
            "class has a value of its own above it"
        )
    if not 2 <= len(labels) <= _MOST_LABELS:
        raise ValueError(f"--labels must name 1 to {_MOST_LABELS - 1} classes beside background, got {len(labels) - 1}")
    known = set(labels.values())
    wrong = [
        Skipped(
            case, f"masks hold {', '.join(map(str, sorted(set(result.values) - known)))}, which --labels does not name"
        )
        for case, result in found.items()
        if set(result.values) - known
    ]
    if wrong:
        raise ValueError(f"nothing was written, because of these problems:{reasons(wrong)}")
    if absent := [name for name, value in labels.items() if value not in values]:
        raise ValueError(
            f"no mask holds {', '.join(f'{name} ({labels[name]})' for name in absent)}; --labels names values of the "
            f"masks, which are {', '.join(map(str, values))}"
        )
    return labels
