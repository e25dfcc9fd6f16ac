"""The shifts that test sets are made of: their names, how strong they are, and what is drawn at random for each image.

Drawing is apart from applying: `draw_parameters` turns a seed into numbers that can be written down, and
`corrupt_image` turns an image and these numbers into its corrupted version, without further randomness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnunet_stochastic.datasets.corruptions.acquisition import (
    NUM_BIAS_COEFFICIENTS,
    add_bias_field,
    add_ghosts,
    lower_resolution,
)
from nnunet_stochastic.datasets.corruptions.image_quality import add_noise, blur, compress_jpeg, equalise_contrast
from nnunet_stochastic.datasets.corruptions.planes import Planes
from nnunet_stochastic.datasets.corruptions.stored_image import StoredImage

__all__ = ["DEFAULT_SHIFTS", "SHIFTS", "Shift", "check_range", "corrupt_image", "draw_parameters"]


def _nothing(generator: np.random.Generator) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Shift:
    """One kind of corruption.

    Attributes
    ----------
    strength : str
        Name of the parameter of ``apply`` that says how strong it is; drawn uniformly from a range.
    meaning : str
        Meaning of that parameter, in words.
    default_range, allowed_range : tuple of 2 floats
        Ranges of the strength, ends included.
    apply : callable
        Function of `Planes` and the parameters as keywords that returns values of the same shape (C, S, H, W).
    draw_others : callable
        Function that draws the remaining parameters.
    is_whole : bool
        Whether the strength is an integer.
    with_default : dict
        Further parameters of ``apply`` that belong to the default range, and not to a range that is given.
    """

    strength: str
    meaning: str
    default_range: tuple[float, float]
    allowed_range: tuple[float, float]
    apply: Callable[..., np.ndarray]
    draw_others: Callable[[np.random.Generator], dict[str, Any]] = _nothing
    is_whole: bool = False
    with_default: Mapping[str, float] = field(default_factory=dict)


SHIFTS: dict[str, Shift] = {
    "blur": Shift(
        "sigma",
        "standard deviation over the shorter side of the plane, in pixels",
        (0.01, 0.04),
        (0, 1),
        blur,
        # 0.5 to 2 mm or pixels in nearly all images: a lung nodule keeps half of its contrast.
        with_default={"longest_mm": 50.0, "fewest_pixels": 50.0},
    ),
    "noise": Shift(
        "sigma",
        "standard deviation over that of the image",
        (0.1, 0.5),
        (0, math.inf),
        add_noise,
        lambda generator: {"noise_seed": int(generator.integers(2**53))},  # JSON readers keep 53 bits
    ),
    "contrast": Shift("clip_limit", "OpenCV's clip limit", (5, 5), (1, 256), equalise_contrast),
    "jpeg": Shift("quality", "JPEG quality", (10, 20), (1, 100), compress_jpeg, is_whole=True),
    "low_resolution": Shift(
        "factor", "slice thickness (of one plane: pixel size) over the image's", (2, 4), (1, math.inf), lower_resolution
    ),
    "ghosting": Shift(
        "intensity",
        "part of every n-th line of k-space that is lost",
        (0.5, 1),
        (0, 1),
        add_ghosts,
        lambda generator: {"num_ghosts": int(generator.integers(4, 11)), "axis": int(generator.integers(1, 3))},
    ),
    "bias_field": Shift(
        "magnitude",
        "largest coefficient of the log-field's polynomial",
        (0.5, 0.5),
        (0, 5),
        add_bias_field,
        lambda generator: {"coefficients": generator.uniform(-1, 1, NUM_BIAS_COEFFICIENTS).tolist()},
    ),
}
#: The test sets of Christensen et al. (ENT, see ``image_quality``).
DEFAULT_SHIFTS = ("blur", "noise", "contrast", "jpeg")


def check_range(name: str, limits: tuple[float, float] | None) -> None:
    """Raise ``ValueError`` unless ``limits`` is a range of strengths that the shift allows; None is the default."""
    shift = _find(name)
    low, high = limits or shift.default_range
    lowest, highest = shift.allowed_range
    if not (lowest <= low <= high <= highest and math.isfinite(high)):
        raise ValueError(
            f"{shift.strength} of {name} ({shift.meaning}) goes from a lower to a higher number in [{lowest}, "
            f"{highest}], got {low} to {high}"
        )
    if shift.is_whole and not (float(low).is_integer() and float(high).is_integer()):
        raise ValueError(f"{shift.strength} of {name} is an integer, got {low} to {high}")


def _find(name: str) -> Shift:
    if name not in SHIFTS:
        raise ValueError(f"there is no shift {name}, only {', '.join(SHIFTS)}")
    return SHIFTS[name]


def draw_parameters(name: str, limits: tuple[float, float] | None, seed: int) -> dict[str, Any]:
    """Parameters of a shift for one image, numbers and lists of numbers that JSON keeps exactly.

    Parameters
    ----------
    name
        Name of the shift.
    limits
        Ends of the range in which the strength is uniform, included; None: the default, with what belongs to it.
    seed
        Seed of this image and shift.
    """
    shift = _find(name)
    fixed = shift.with_default if limits is None else {}
    check_range(name, limits)
    limits = limits or shift.default_range
    generator = np.random.default_rng(seed)
    if shift.is_whole:
        strength: float = int(generator.integers(int(limits[0]), int(limits[1]), endpoint=True))
    else:
        strength = generator.uniform(*limits)
    return {shift.strength: strength, **shift.draw_others(generator), **fixed}


def corrupt_image(image: StoredImage, name: str, parameters: dict[str, Any], *, first_channel: int = 0) -> np.ndarray:
    """Values (C, z, y, x) of an image after a shift; the planes are across ``image.slice_axis``.

    Parameters
    ----------
    image
        Image whose channels are corrupted one by one, colours together.
    name, parameters
        Name of the shift, and what ``draw_parameters`` returned for it.
    first_channel
        Number of the first channel of this image, where a case has several files: each channel gets noise of its own.
    """
    axis = 1 + image.slice_axis
    channels = np.moveaxis(image.values, axis, 1)
    parts = channels[None] if image.is_colour else channels[:, None]
    corrupted = [
        SHIFTS[name].apply(
            Planes(np.ascontiguousarray(part), image.number_type, first_channel + index, image.pixel_mm), **parameters
        )
        for index, part in enumerate(parts)
    ]
    return np.moveaxis(np.concatenate(corrupted), 1, axis)
