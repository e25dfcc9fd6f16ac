"""A label map as DICOM Segmentation, binary: a segment per structure, in the order of dataset.json; frames without any
voxel of a segment are left out, as is usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from nnunet_stochastic.dicom.objects import Producer, named_errors, object_arguments
from nnunet_stochastic.dicom.series import DicomSeries
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["binary_segmentation", "segment_descriptions"]


def binary_segmentation(
    segmentation: np.ndarray,
    labels: EvaluatedLabels,
    codes: Mapping[str, Mapping[str, Any]],
    channels: Sequence[DicomSeries],
    producer: Producer,
    digest: str,
) -> Dataset:
    """Make the object.

    Parameters
    ----------
    segmentation
        Label map (slices, rows, columns) on the grid of the series, integer, without the ignore label.
    labels
        The structures; regions, which overlap, are segments that do.
    codes
        What each structure is, as ``read_codes`` gives it.
    channels, producer, digest
        As ``object_arguments`` takes them.
    """
    if labels.has_regions:
        masks = [labels.target(segmentation, index) for index in range(len(labels.names))]
        pixels = np.stack(masks, axis=-1).astype(np.uint8)
    else:  # values are numbers of segments: the labels are 1, 2 and so on, in order
        pixels = segmentation.astype(np.uint8 if len(labels.names) < 256 else np.uint16)
    with named_errors(channels[0]):
        return Segmentation(
            pixel_array=pixels,
            segmentation_type="BINARY",
            segment_descriptions=segment_descriptions(labels, codes, producer),
            content_label="SEGMENTATION",
            content_qualification="RESEARCH",
            **object_arguments("segmentation", channels, producer, digest),
        )


def segment_descriptions(
    labels: EvaluatedLabels, codes: Mapping[str, Mapping[str, Any]], producer: Producer
) -> list[SegmentDescription]:
    """Name, codes and algorithm of each structure, numbered from 1."""
    found = []
    for number, name in enumerate(labels.names, start=1):
        of_segment = codes[name]
        region, colour = (of_segment.get(key) for key in ("AnatomicRegionSequence", "recommendedDisplayRGBValue"))
        description = SegmentDescription(
            number,
            name,
            _concept(of_segment["SegmentedPropertyCategoryCodeSequence"]),
            _concept(of_segment["SegmentedPropertyTypeCodeSequence"]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=producer.algorithm(),
            anatomic_regions=None if region is None else [_concept(region)],
            display_color=None if colour is None else CIELabColor.from_rgb(*colour),
        )
        if (modifier := of_segment.get("SegmentedPropertyTypeModifierCodeSequence")) is not None:
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(modifier)]
        found.append(description)
    return found


def _concept(code: Mapping[str, str]) -> CodedConcept:
    return CodedConcept(code["CodeValue"], code["CodingSchemeDesignator"], code["CodeMeaning"])
