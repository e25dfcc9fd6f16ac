"""JSON schemas (https://json-schema.org, draft 2020-12) of the JSON files that are written, by the files' names.

They are made of the models that the files are read by, so that the two cannot differ. What a schema does not name may
be there, but where ``additionalProperties`` is false. The version of a schema is raised when a number or text comes to
mean something else, and when files that are written would not be valid by the schema as it was.

What commands keep for themselves has none: records of a study's jobs and of cases under evaluation. Nor have plans.json
and predict_from_raw_data_args.json, which are nnU-Net's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.evaluation.summary_file import SummaryFile
from nnunet_stochastic.io.result_schemas import (
    CalibrationFile,
    ConfidenceFile,
    CurvesFile,
    DecisionsFile,
    PredictionRecord,
)
from nnunet_stochastic.io.schemas import ConversionFile, CorruptionManifest, DemoRecord, ModelDatasetJson, Splits

__all__ = ["FILE_SCHEMAS", "FileSchema", "json_schema_of"]


class _CalibrationFile(CalibrationFile):
    """calibration.json: what validation predictions say about a model."""

    decisions: Decisions | None = None  # type: ignore[assignment]  # there plain data, checked when they are used
    """Intervals, masks, predicted Dice and scores of structures."""


class _DecisionsFile(DecisionsFile):
    """decisions.json: what the files of decisions beside it were made of."""

    decisions: Decisions  # type: ignore[assignment]  # as above
    """That entry of calibration.json."""


@dataclass(frozen=True)
class FileSchema:
    """The schema of one kind of file.

    Attributes
    ----------
    file
        Name of the file.
    version
        Version of the schema, at least 1.
    written_by
        Commands that write such files.
    model
        Model that the schema is made of.
    """

    file: str
    version: int
    written_by: str
    model: type[BaseModel]

    @property
    def identifier(self) -> str:
        """Value of ``$id``, which names file and version; there is nothing to be fetched by it."""
        return f"urn:nnunet_stochastic:{self.file}:{self.version}"

    def to_json(self) -> dict[str, Any]:
        """The schema."""
        content = self.model.model_json_schema(by_alias=True, schema_generator=_Generator)
        head = {
            "$schema": GenerateJsonSchema.schema_dialect,
            "$id": self.identifier,
            "version": self.version,
            "title": self.file,
        }
        return {**head, **{key: value for key, value in content.items() if key not in head}}


class _Generator(GenerateJsonSchema):
    """Without titles that repeat the keys, and without ``null`` as the default of a key that is never ``null``."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        made = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made


#: All kinds of files, by the files' names. nnU-Net's own formats are here as far as this package reads them.
FILE_SCHEMAS: Mapping[str, FileSchema] = MappingProxyType(
    {
        entry.file: entry
        for entry in (
            FileSchema("uncertainty.json", 1, "nnunet_stochastic_predict", PredictionRecord),
            FileSchema("summary.json", 1, "nnunet_stochastic_evaluate", SummaryFile),
            FileSchema("curves.json", 1, "nnunet_stochastic_evaluate", CurvesFile),
            FileSchema("calibration.json", 1, "nnunet_stochastic_determine_calibration", _CalibrationFile),
            FileSchema("confidence.json", 1, "nnunet_stochastic_apply_calibration", ConfidenceFile),
            FileSchema("decisions.json", 1, "nnunet_stochastic_apply_calibration", _DecisionsFile),
            FileSchema("manifest.json", 1, "nnunet_stochastic_corrupt", CorruptionManifest),
            FileSchema("conversion.json", 1, "nnunet_stochastic_convert_…", ConversionFile),
            FileSchema("dataset.json", 1, "nnunet_stochastic_convert_…, …_make_rater_dataset", ModelDatasetJson),
            FileSchema("splits_final.json", 1, "nnunet_stochastic_convert_…, …_ensemble_splits", Splits),
            FileSchema("demo.json", 1, "nnunet_stochastic_demo", DemoRecord),
        )
    }
)


def json_schema_of(file: str) -> dict[str, Any]:
    """The JSON schema of files of a name.

    Parameters
    ----------
    file
        Name of the file, such as ``uncertainty.json``.

    Raises
    ------
    ValueError
        If no file of this name is written.
    """
    if file not in FILE_SCHEMAS:
        raise ValueError(f"{file} is no file with a schema: choose from {', '.join(FILE_SCHEMAS)}")
    return FILE_SCHEMAS[file].to_json()
