"""What all objects that are written have in common: who made them of what, and identifiers that follow from it.

    UID = f(source series, kind, digest of the content's files, time, versions)

so an export that is done again gives the same bytes, and one of another prediction another object.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
from highdicom import UID
from highdicom.content import AlgorithmIdentificationSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import nnunet_stochastic
from nnunet_stochastic.dicom.kinds import KINDS
from nnunet_stochastic.dicom.series import DicomSeries

__all__ = ["DicomObject", "Producer", "named_errors", "object_arguments", "save"]

#: An object that can be saved, of any class.
DicomObject = Dataset
#: Series numbers: far from those of scanners.
_FIRST_SERIES_NUMBER = 9001
#: Versions of what writes, which decide the rest of the content.
_WRITERS = (nnunet_stochastic.__version__, highdicom.__version__)
_UTF8 = "ISO_IR 192"
_NAME = "nnunet_stochastic"
_LONGEST_VALUE = 200


@dataclass(frozen=True)
class Producer:
    """What made a prediction.

    Attributes
    ----------
    version
        Version of this package.
    model
        SHA-256 of a checkpoint, or another name that tells models apart, at most 64 characters.
    parameters
        Settings of the prediction, by name; of long values the beginning is written.
    made
        When the prediction was made.
    """

    version: str
    model: str
    parameters: Mapping[str, str]
    made: datetime.datetime

    def algorithm(self) -> AlgorithmIdentificationSequence:
        """The algorithm, as the segments of a segmentation name it."""
        parameters = {name: value[:_LONGEST_VALUE] for name, value in self.parameters.items()}
        return AlgorithmIdentificationSequence(
            name=_NAME, family=codes.DCM.ArtificialIntelligence, version=self.version, parameters=parameters
        )


def object_arguments(kind: str, channels: Sequence[DicomSeries], producer: Producer, digest: str) -> dict[str, Any]:
    """Arguments that the classes of highdicom share.

    Parameters
    ----------
    kind
        What it is, of ``KINDS``.
    channels
        Series of the case, the first of which has the geometry; all are referenced.
    producer
        What made the prediction.
    digest
        Digest of all that the object is made of beside the series.
    """
    first, *others = channels
    made = producer.made.replace(microsecond=0)
    entropy = [*first.identity.values(), kind, digest, made.isoformat(), producer.version, *_WRITERS]
    return {
        "source_images": list(first.headers),
        "further_source_images": [header for series in others for header in series.headers] or None,
        "series_instance_uid": UID(generate_uid(entropy_srcs=[*entropy, "series"])),
        "series_number": _FIRST_SERIES_NUMBER + list(KINDS).index(kind),
        "sop_instance_uid": UID(generate_uid(entropy_srcs=[*entropy, "instance"])),
        "instance_number": 1,
        "manufacturer": _NAME,
        "manufacturer_model_name": _NAME,
        "software_versions": producer.version,
        "device_serial_number": producer.model,
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        "content_date": made.date(),
        "content_time": made.time(),
        "series_date": made.date(),
        "series_time": made.time(),
        "series_description": f"{_NAME}: {KINDS[kind]}",
        "specific_character_set": _UTF8,
    }


def save(made: Dataset, path: Path) -> None:
    """Write an object, without what highdicom draws at random or takes from the clock."""
    made.InstanceCreationDate, made.InstanceCreationTime = made.ContentDate, made.ContentTime
    for equipment in made.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = f"{made.ContentDate}{made.ContentTime}"
    organization = generate_uid(entropy_srcs=[made.SOPInstanceUID, "organization"])
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    made.save_as(path, enforce_file_format=True)


@contextmanager
def named_errors(series: DicomSeries) -> Iterator[None]:
    """Name the series in errors about what its headers hold."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        NotImplementedError,
    ) as error:  # what highdicom raises for headers
        raise ValueError(
            f"no object can be made that refers to {series.folder}, because of what its headers say: {error}"
        ) from error
