"""Names and colours of labels, as viewers read them: a colour table of 3D Slicer, label descriptions of ITK-SNAP.

    labels.ctbl    VALUE NAME RED GREEN BLUE OPACITY, 0 to 255 each; a name has no space in this format
    labels.txt     VALUE RED GREEN BLUE OPACITY (0 to 1) VISIBLE MESH "NAME"

The hue of label v is v - 1 golden sections of the circle of hues: labels that follow each other are far apart, and a
label keeps its colour however many there are. A label of several regions has the name of the smallest one.
"""

from __future__ import annotations

import colorsys
import re

from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["itk_snap_labels", "label_colours", "slicer_colour_table"]

_GOLDEN_SECTION = (5**0.5 - 1) / 2
_SATURATIONS = (0.75, 0.5)
_BRIGHTNESS = 0.95
_IGNORED_NAME, _IGNORED_COLOUR = "ignore", (128, 128, 128)


def label_colours(labels: EvaluatedLabels) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Name and colour (red, green, blue), 0 to 255 each, of every label value but the background."""
    found = {value: (name, _colour(value)) for value, name in labels.value_names().items()}
    if labels.ignore_label is not None:
        found[labels.ignore_label] = (_IGNORED_NAME, _IGNORED_COLOUR)
    return found


def slicer_colour_table(labels: EvaluatedLabels) -> str:
    """Content of a colour table, ``.ctbl``."""
    rows = []
    for value, (name, (red, green, blue)) in label_colours(labels).items():
        word = re.sub(r"\s", "_", name)
        rows.append(f"{value} {word} {red} {green} {blue} 255")
    return "\n".join(["# Color table of nnunet_stochastic", "0 background 0 0 0 0", *rows]) + "\n"


def itk_snap_labels(labels: EvaluatedLabels) -> str:
    """Content of a file of label descriptions."""
    line = "################################################"
    rows = [f'{0:5d} {0:5d} {0:5d} {0:5d} {0:8d} {0:2d} {0:2d}    "Clear Label"']
    for value, (name, (red, green, blue)) in label_colours(labels).items():
        shown = name.replace('"', "'")
        rows.append(f'{value:5d} {red:5d} {green:5d} {blue:5d} {1:8d} {1:2d} {1:2d}    "{shown}"')
    return "\n".join([line, "# ITK-SnAP Label Description File", "# IDX R G B A VIS MSH LABEL", line, *rows]) + "\n"


def _colour(value: int) -> tuple[int, int, int]:
    hue = (value - 1) * _GOLDEN_SECTION % 1
    shares = colorsys.hsv_to_rgb(hue, _SATURATIONS[(value - 1) // 8 % len(_SATURATIONS)], _BRIGHTNESS)
    red, green, blue = (round(255 * share) for share in shares)
    return red, green, blue
