"""Probabilities as DICOM Segmentation, fractional: a segment per structure that holds round(255 p), so p to 1/510."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset

from nnunet_stochastic.dicom.objects import Producer, named_errors, object_arguments
from nnunet_stochastic.dicom.segmentation import segment_descriptions
from nnunet_stochastic.dicom.series import DicomSeries
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["fractional_segmentation"]


def fractional_segmentation(
    probabilities: Sequence[np.ndarray],
    labels: EvaluatedLabels,
    codes: Mapping[str, Mapping[str, Any]],
    channels: Sequence[DicomSeries],
    producer: Producer,
    digest: str,
) -> Dataset:
    """Make the object.

    Parameters
    ----------
    probabilities
        Predictive mean of each structure (slices, rows, columns) on the grid of the series, in [0, 1].
    labels, codes, channels, producer, digest
        As ``binary_segmentation`` takes them.
    """
    pixels = np.stack(probabilities, axis=-1).astype(np.float32).clip(0, 1)
    with named_errors(channels[0]):
        return Segmentation(
            pixel_array=pixels,
            segmentation_type="FRACTIONAL",
            fractional_type="PROBABILITY",
            max_fractional_value=255,
            segment_descriptions=segment_descriptions(labels, codes, producer),
            content_label="PROBABILITIES",
            content_qualification="RESEARCH",
            **object_arguments("probabilities", channels, producer, digest),
        )
