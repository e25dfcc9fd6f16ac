"""What a segment is, in codes: category and type of each structure, by default "Tissue", which says no more than that.

A file of codes has an object for each structure of dataset.json, with the attributes that DICOM's Segment Description
macro (PS3.3, C.8.20.2) and the files of dcmqi have; recommendedDisplayRGBValue, a colour, is [255, 0, 0]:

    {"nodule": {"SegmentedPropertyCategoryCodeSequence": {"CodeValue": "49755003", "CodingSchemeDesignator": "SCT",
                                                          "CodeMeaning": "Morphologically abnormal structure"},
                "SegmentedPropertyTypeCodeSequence": {"CodeValue": "27925004", "CodingSchemeDesignator": "SCT",
                                                      "CodeMeaning": "Nodule"},
                "AnatomicRegionSequence": {"CodeValue": "39607008", "CodingSchemeDesignator": "SCT",
                                           "CodeMeaning": "Lung"}}}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from nnunet_stochastic.io.text import read_json

__all__ = ["TISSUE", "read_codes"]

Text = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\\\x00-\x1f]+$")]


_Level = Annotated[int, Field(ge=0, le=255)]


class _Code(BaseModel):
    """A coded term."""

    model_config = ConfigDict(extra="forbid", strict=True)

    CodeValue: Annotated[str, Field(min_length=1, max_length=16)]
    CodingSchemeDesignator: Annotated[str, Field(min_length=1, max_length=16)]
    CodeMeaning: Text


class _SegmentCodes(BaseModel):
    """What a segment is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    SegmentedPropertyCategoryCodeSequence: _Code
    SegmentedPropertyTypeCodeSequence: _Code
    SegmentedPropertyTypeModifierCodeSequence: _Code | None = None
    AnatomicRegionSequence: _Code | None = None
    recommendedDisplayRGBValue: Annotated[list[_Level], Field(min_length=3, max_length=3)] | None = None


class _CodesFile(RootModel[dict[str, _SegmentCodes]]):
    """Codes by the names of structures."""


_TISSUE = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
#: Category and type of a structure of which nothing is said.
TISSUE = {"SegmentedPropertyCategoryCodeSequence": _TISSUE, "SegmentedPropertyTypeCodeSequence": _TISSUE}


def read_codes(path: Path | None, structures: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Codes of each structure.

    Parameters
    ----------
    path
        File of codes; ``None``: each structure is "Tissue".
    structures
        Names of dataset.json.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, is not as the module says, or its names are not those of the structures.
    """
    if path is None:
        return dict.fromkeys(structures, TISSUE)
    remedy = "see nnunet_stochastic_export_dicom --help for what it holds"
    codes = read_json(path, _CodesFile, remedy=remedy)
    if unlike := sorted(codes.keys() ^ set(structures)):
        raise ValueError(
            f"{path} must have codes of the structures of dataset.json, {', '.join(structures)}; it differs in "
            f"{', '.join(unlike)}"
        )
    return codes
