"""A case at a glance, as a small WebP: the image with the outline of the prediction, and beside it the total
uncertainty from 0 to its maximum in the slice; one of them alone where the other is not there. The slice and window are
those of ``SliceView``.
"""

from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from nnunet_stochastic.io.grid import flipped_axes
from nnunet_stochastic.report.page.cases import CaseSource
from nnunet_stochastic.report.page.grey import grey_levels
from nnunet_stochastic.report.slice_view import SliceView

__all__ = ["THUMBNAIL_SIZE", "make_thumbnail", "thumbnail_view"]

SIDE, GAP = 80, 2  # pixels
THUMBNAIL_SIZE = (2 * SIDE + GAP, SIDE)
QUALITY = 70
OUTLINE_COLOUR = (240, 228, 66)  # yellow is seen on grey of any brightness
WINDOW = (0.5, 99.5)  # percentiles of the slice that are black and white


def thumbnail_view(prediction: np.ndarray, grid: dict, total: np.ndarray | None) -> SliceView:
    """Slice and window of a case's thumbnail, where the viewer starts as well.

    Parameters
    ----------
    prediction
        Segmentation (z, y, x).
    grid
        The reader's properties of it.
    total
        Map of total uncertainty, (z, y, x), if there is one.
    """
    return SliceView.of_case(prediction > 0, grid["spacing"], uncertainty=total, flipped=flipped_axes(grid))


def make_thumbnail(source: CaseSource) -> tuple[str, str | None]:
    """Thumbnail as a data URI, and what it lacks, if anything.

    Raises
    ------
    ValueError, OSError, RuntimeError
        The segmentation is missing or broken (``RuntimeError`` is what nnU-Net's readers raise).
    """
    prediction, grid = source.prediction()
    shape = prediction.shape
    total = source.map("total", shape, grid)
    view = thumbnail_view(prediction, grid, total)
    image = source.image(shape)

    missing = []
    if image is None:
        missing.append("image not recorded" if source.image_path is None else f"image not found: {source.image_path}")
    if total is None:
        missing.append("no map of total uncertainty")
    outline = view.cut(prediction > 0)
    # What is not there has no panel; the outline is drawn on what there is, or on black.
    panels = [] if image is None else [_panel(_grey(view.cut(image)), view, outline)]
    if total is not None:
        panels.append(_panel(_coloured(view.cut(total)), view, None if panels else outline))
    panels = panels or [_panel(np.zeros((1, 1, 3), np.uint8), view, outline)]
    canvas = Image.new("RGB", (len(panels) * (SIDE + GAP) - GAP, SIDE), (255, 255, 255))
    for place, panel in enumerate(panels):
        canvas.paste(panel, (place * (SIDE + GAP), 0))
    stream = io.BytesIO()
    canvas.save(stream, format="WEBP", quality=QUALITY)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/webp;base64,{encoded}", "; ".join(missing) or None


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(rows, columns, 3), uint8."""
    if pixels.ndim == 3:
        return np.clip(pixels, 0, 255).astype(np.uint8)
    return np.repeat(grey_levels(pixels, WINDOW)[..., None], 3, axis=-1)


def _coloured(pixels: np.ndarray) -> np.ndarray:
    top = float(pixels.max())
    return matplotlib.colormaps["magma"](pixels / top if top > 0 else pixels, bytes=True)[..., :3]


def _panel(pixels: np.ndarray, view: SliceView, mask: np.ndarray | None = None) -> Image.Image:
    """The pixels in a black square, in the patient's proportions, with the border of a mask on them."""
    rows, columns = pixels.shape[:2] if mask is None else mask.shape
    height, width = (count * size for count, size in zip((rows, columns), view.pixel_size, strict=True))
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR))
    if mask is not None:
        enlarged = np.array(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)).astype(bool)
        resized[enlarged & ~binary_erosion(enlarged)] = OUTLINE_COLOUR
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(Image.fromarray(resized), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square
