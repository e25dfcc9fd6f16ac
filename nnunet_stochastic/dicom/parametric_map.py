"""A map as DICOM Parametric Map: its float32 numbers as they are, the unit a coded term.

Entropies are in nats. UCUM (https://ucum.org/ucum) has no unit of that name; its number 1 with an annotation, {nat}, is
how it writes what has no dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Code

from nnunet_stochastic.dicom.objects import Producer, named_errors, object_arguments
from nnunet_stochastic.dicom.series import DicomSeries

__all__ = ["DESCRIPTIONS", "MapDescription", "parametric_map"]

_NATS = Code("{nat}", "UCUM", "nats")
_NUMBER = Code("1", "UCUM", "no units")


@dataclass(frozen=True)
class MapDescription:
    """What the numbers of a map are: its unit, and its quantity in at most 64 characters."""

    unit: Code
    quantity: str


#: By the names of the folders of maps.
DESCRIPTIONS = {
    "total": MapDescription(_NATS, "predictive entropy, total uncertainty"),
    "aleatoric": MapDescription(_NATS, "expected entropy, aleatoric uncertainty"),
    "epistemic": MapDescription(_NATS, "mutual information, epistemic uncertainty"),
    "variance": MapDescription(_NUMBER, "predictive variance, summed over the classes"),
}


def parametric_map(
    name: str,
    array: np.ndarray,
    channels: Sequence[DicomSeries],
    producer: Producer,
    digest: str,
    *,
    remark: str | None = None,
) -> Dataset:
    """Make the object.

    Parameters
    ----------
    name
        Name of the map, of ``measures.MAPS``.
    array
        The map (slices, rows, columns) on the grid of the series, >= 0.
    channels, producer, digest
        As ``object_arguments`` takes them.
    remark
        What a reader must know of the map besides, at most 64 characters.
    """
    pixels = np.ascontiguousarray(array, dtype=np.float32)
    largest = float(pixels.max())
    window = largest if largest > 0 else 1.0
    recognizable = channels[0].headers[0].get("RecognizableVisualFeatures") == "YES"
    # Of windows below 1, as those of entropies are, only this function has a meaning (PS3.3, C.11.2.1.3).
    display = VOILUTTransformation(window_center=window / 2, window_width=window, voi_lut_function="LINEAR_EXACT")
    with named_errors(channels[0]):
        made = ParametricMap(
            pixel_array=pixels,
            contains_recognizable_visual_features=recognizable,
            real_world_value_mappings=[
                RealWorldValueMapping(
                    lut_label=name,
                    lut_explanation=DESCRIPTIONS[name].quantity,
                    unit=DESCRIPTIONS[name].unit,
                    value_range=(min(0.0, float(pixels.min())), max(1.0, largest)),
                    intercept=0.0,
                    slope=1.0,
                )
            ],
            voi_lut_transformations=[display],
            content_label=name.upper(),
            content_description=remark,
            **object_arguments(name, channels, producer, digest),
        )
        made.Laterality = channels[0].headers[0].get("Laterality")
    return made
