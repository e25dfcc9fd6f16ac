"""The slice of a volume that stands for a case, and how it is turned and cropped to be looked at.

The slice is perpendicular to z unless another axis is much coarser. It is the one where prediction and annotations
together hold most foreground, whatever the maps look like; without any foreground the one with the largest sum of total
uncertainty, else the middle one. The window is the bounding box of that foreground and half as much on every side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["SliceView", "choose_slice"]

# nnU-Net's reader of png and the like gives this spacing to images that have none.
SPACING_OF_PIXELS = (999.0, 1.0, 1.0)


@dataclass(frozen=True)
class SliceView:
    """A window in a slice of volumes (z, y, x) on one voxel grid.

    Attributes
    ----------
    axis, index
        The slice: where it is along which axis, counted from 0.
    num_slices
        Number of slices along that axis.
    window
        Rows and columns that are shown.
    spacing_mm
        Voxel size of the volume in mm, (z, y, x).
    flipped
        Which axes (z, y, x) run against superior, posterior, left. They are turned, so that superior or anterior is at
        the top and the patient's left at the right, as radiologists look at images.
    """

    axis: int
    index: int
    num_slices: int
    window: tuple[slice, slice]
    spacing_mm: tuple[float, ...]
    flipped: tuple[bool, ...] = (False, False, False)

    @classmethod
    def of_case(
        cls,
        foreground: np.ndarray,
        spacing_mm: Sequence[float],
        *,
        uncertainty: np.ndarray | None = None,
        flipped: Sequence[bool] = (False, False, False),
    ) -> SliceView:
        """Choose slice and window.

        Parameters
        ----------
        foreground
            Voxels predicted or annotated by anyone, (z, y, x), bool.
        spacing_mm
            Voxel size in mm, (z, y, x).
        uncertainty
            Map that decides where there is no foreground, (z, y, x).
        flipped
            Attribute of the class.
        """
        if foreground.ndim != 3 or len(spacing_mm) != 3 or len(flipped) != 3:
            raise ValueError(
                f"foreground, spacing_mm and flipped must have the axes (z, y, x), got shape {foreground.shape}, "
                f"spacing {tuple(spacing_mm)} and flipped {tuple(flipped)}; give a 2D image a first axis of length 1"
            )
        axis, index = choose_slice(foreground, spacing_mm, uncertainty=uncertainty)
        return cls(
            axis=axis,
            index=index,
            num_slices=foreground.shape[axis],
            window=_window(np.take(foreground, index, axis=axis)),
            spacing_mm=tuple(float(spacing) for spacing in spacing_mm),
            flipped=tuple(bool(flip) for flip in flipped),
        )

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """The part of a volume (z, y, x, ...) that is shown, (rows, columns, ...); the volume is not kept."""
        plane = np.take(volume, self.index, axis=self.axis)[self.window]
        # Rows are z, which points up, or y, which points down; columns are x, or y where the slice is sagittal.
        upside_down, mirrored = (flip for other, flip in enumerate(self.flipped) if other != self.axis)
        upside_down = upside_down if self.axis == 0 else not upside_down
        return plane[:: -1 if upside_down else 1, :: -1 if mirrored else 1]

    @property
    def where(self) -> str:
        """Plane and slice, counted as in the file; empty for 2D images."""
        if self.num_slices == 1:
            return ""
        plane = "".join(name for name in "xyz" if name != "zyx"[self.axis])
        return f"{plane} plane, slice {'zyx'[self.axis]} = {self.index} (0 to {self.num_slices - 1})"

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in ``unit``."""
        height, width = (spacing for other, spacing in enumerate(self.spacing_mm) if other != self.axis)
        return height, width

    @property
    def unit(self) -> str:
        """``mm``, or ``px`` for images without a spacing."""
        return "px" if self.spacing_mm == SPACING_OF_PIXELS else "mm"


def choose_slice(
    foreground: np.ndarray, spacing_mm: Sequence[float], *, uncertainty: np.ndarray | None = None
) -> tuple[int, int]:
    """Axis and index of the slice to show; the arguments are those of ``SliceView.of_case``."""
    coarsest = int(np.argmax(spacing_mm))
    if 1 in foreground.shape:  # a 2D image, whatever spacing its file gives to the axis it does not have
        axis = foreground.shape.index(1)
    else:
        # Nearly isotropic images are shown as readers expect them, in the plane of the first axis.
        axis = coarsest if spacing_mm[coarsest] > 1.5 * spacing_mm[0] else 0
    others = tuple(other for other in range(foreground.ndim) if other != axis)
    weight = foreground.sum(axis=others)
    if not weight.any() and uncertainty is not None:
        weight = uncertainty.sum(axis=others)
    return axis, int(np.argmax(weight)) if np.any(weight) else foreground.shape[axis] // 2


def _window(foreground: np.ndarray) -> tuple[slice, slice]:
    """Bounding box of the foreground of a slice and half as much on every side, at least 12 pixels."""
    if not foreground.any():
        return slice(None), slice(None)
    window = []
    for axis in range(2):
        filled = np.flatnonzero(foreground.any(axis=1 - axis))
        first, last = int(filled[0]), int(filled[-1]) + 1
        margin = max((last - first) // 2, 12)
        window.append(slice(max(first - margin, 0), last + margin))
    return window[0], window[1]
