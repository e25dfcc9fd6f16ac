"""What the JSON files hold that this package reads: nnU-Net's as far as it reads them, and its own.

``read_json(path, Schema)`` checks a file and names the place that is wrong. Values keep their type: "1" is no number,
1.0 no whole number, and true neither. What a schema does not name may be there and is let be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator
from pydantic_core import PydanticCustomError

from nnunet_stochastic.io.names import is_plain
from nnunet_stochastic.io.text import read_json

__all__ = [
    "MAX_RATERS",
    "Configuration",
    "ConversionFile",
    "CorruptionManifest",
    "Count",
    "DatasetJson",
    "DemoPlans",
    "DemoRecord",
    "DescribedPlans",
    "File",
    "ImageSpacing",
    "JobRecord",
    "ModelDatasetJson",
    "Name",
    "NamedPlans",
    "Number",
    "PlannedConfigurations",
    "PlansJson",
    "PredictionPlans",
    "RawDatasetJson",
    "Splits",
    "read_dataset_json",
    "rule",
]

MAX_RATERS = 1000

Measure = Literal["AU", "EU", "TU"]
Number = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]


def _plain(value: str) -> str:
    if not is_plain(value):
        raise rule(f"must be text without line breaks and other signs, got {value[:60]!a}")
    return value


def rule(message: str) -> PydanticCustomError:
    """An error of a validator, with a message of its own."""
    return PydanticCustomError("rule", "{message}", {"message": message})


Plain = Annotated[str, AfterValidator(_plain)]


class File(BaseModel):
    """An object of which the named keys are checked; values keep their type."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=(), use_attribute_docstrings=True)


# nnU-Net's dataset.json


def _label(value: Any) -> int:
    """A label value; nnU-Net converts texts and floats, too."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if not (number.is_integer() and 0 <= number < 2**16):
        raise rule(f"a label must be a whole number of at least 0, got {repr(value)[:60]}")
    return int(number)


def _labels(value: Any) -> dict[str, int | list[int]]:
    """Labels and regions by name, numbers that are given as texts converted."""
    if not isinstance(value, dict) or not value:
        raise rule(f"must be an object with the label of each name, got {repr(value)[:60]}")
    if "0" in value and all(isinstance(name, str) for name in value.values()):
        raise rule(
            'has names by label, as nnU-Net v1 had them; nnU-Net v2 has labels by name: {"background": 0, …}, which '
            "nnUNetv2_convert_old_nnUNet_dataset makes of it"
        )
    if strange := [name for name in value if not is_plain(name)]:
        raise rule(f"has names with line breaks or other signs: rename {strange[0][:60]!a}")
    if [] in value.values():
        raise rule("a region must have at least one label, got []")
    converted: dict[str, int | list[int]] = {}
    for name, entry in value.items():
        converted[name] = [_label(part) for part in entry] if isinstance(entry, list) else _label(entry)
    return converted


def _file_ending(value: str) -> str:
    if not value.startswith(".") or "/" in value or "\\" in value or len(value) < 2:
        raise rule(f"must be the ending of a file's name, such as .nii.gz, got {value[:60]!r}")
    return value


class RawDatasetJson(File):
    """dataset.json, as far as it says which images and raters a dataset has."""

    file_ending: Annotated[str, AfterValidator(_file_ending)]
    num_raters: Annotated[int, Field(ge=0, le=MAX_RATERS)] | None = None
    channel_names: dict[str, Any] | None = None
    modality: dict[str, Any] | None = None
    dataset: dict[str, dict[str, Any]] | None = None


class DatasetJson(RawDatasetJson):
    """dataset.json, as the evaluation reads it."""

    labels: Annotated[dict[str, Any], BeforeValidator(_labels)]
    regions_class_order: list[int] | None = None
    overwrite_image_reader_writer: str | None = None


class ModelDatasetJson(DatasetJson):
    """dataset.json of a trained model, or of a dataset to train on."""

    @model_validator(mode="after")
    def _complete(self) -> ModelDatasetJson:
        if not (self.channel_names or self.modality):
            raise rule("channel_names is missing")
        background = self.labels.get("background")
        if background != 0:
            raise rule(f"labels.background must be 0, got {'none' if background is None else background}")
        ignore = self.labels.get("ignore")
        values = {v for name, entry in self.labels.items() if name != "ignore" for v in _as_list(entry)}
        if ignore is not None and (isinstance(ignore, list) or ignore != max(values) + 1):
            raise rule(f"labels.ignore must be one more than the largest label, {max(values)}, got {ignore}")
        regions = [entry for name, entry in self.labels.items() if name != "ignore" and set(_as_list(entry)) != {0}]
        has_regions = any(isinstance(entry, list) and len(entry) > 1 for entry in regions)
        if has_regions and len(self.regions_class_order or ()) != len(regions):
            raise rule(f"regions_class_order must have a label for each of the {len(regions)} regions")
        return self


def read_dataset_json(
    path: Path, schema: type[DatasetJson] = ModelDatasetJson, *, remedy: str = "restore or correct it"
) -> dict[str, Any]:
    """Content of a dataset.json, labels as numbers where they are given as texts: nnU-Net takes them for the same."""
    content = read_json(path, schema, remedy=remedy)
    return {**content, "labels": _labels(content["labels"])}


def _as_list(entry: int | list[int]) -> list[int]:
    return entry if isinstance(entry, list) else [entry]


# nnU-Net's plans.json


class PlannedSpacing(File):
    """A configuration of plans.json, as far as it says the spacing."""

    spacing: list[Positive] | None = None
    inherits_from: str | None = None


class NamedPlans(File):
    """plans.json, as far as it names the dataset."""

    dataset_name: str | None = None


class DescribedPlans(NamedPlans):
    """plans.json beside predictions, as far as it describes their model."""

    plans_name: str | None = None
    configurations: dict[str, PlannedSpacing] = {}


class PredictionPlans(NamedPlans):
    """plans.json beside predictions, as the evaluation reads it."""

    image_reader_writer: Name


class PlannedConfigurations(File):
    """plans.json, as a study reads it."""

    configurations: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _inherit(self) -> PlannedConfigurations:
        for name, entry in self.configurations.items():
            parents = [name]
            while (parent := self.configurations[parents[-1]].get("inherits_from")) is not None:
                if not isinstance(parent, str) or parent not in self.configurations or parent in parents:
                    raise rule(f"configurations.{name}: inherits_from {repr(parent)[:60]}, which cannot be")
                parents.append(parent)
            if not isinstance(entry.get("data_identifier", ""), str):
                raise rule(f"configurations.{name}.data_identifier must be text")
        return self


class _PlannedArchitecture(File):
    arch_kwargs: dict[str, Any]


class _DemoConfiguration(File):
    inherits_from: str | None = None
    architecture: _PlannedArchitecture | None = None

    @model_validator(mode="after")
    def _complete(self) -> _DemoConfiguration:
        if self.inherits_from is None and self.architecture is None:
            raise rule("architecture is missing")
        return self


class DemoPlans(File):
    """plans.json of the demo's data set, of which one configuration is made smaller."""

    plans_name: str
    configurations: dict[str, _DemoConfiguration]


class PlansJson(PlannedConfigurations, PredictionPlans):
    """plans.json of a model, or of a dataset to train on."""

    dataset_name: str
    plans_name: str
    transpose_forward: list[Count]
    transpose_backward: list[Count]
    label_manager: Name = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, dict[str, Number]] | None = None
    foreground_intensity_properties_by_modality: dict[str, dict[str, Number]] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> PlansJson:
        axes = list(range(len(self.transpose_forward)))
        backward = [self.transpose_forward.index(axis) for axis in axes if axis in self.transpose_forward]
        if sorted(self.transpose_forward) != axes or len(axes) not in (2, 3) or self.transpose_backward != backward:
            raise rule(
                "transpose_forward and transpose_backward must be an order of the axes and its inverse, got "
                f"{str(self.transpose_forward)[:30]} and {str(self.transpose_backward)[:30]}"
            )
        return self


class Architecture(File):
    """The network of a configuration."""

    network_class_name: Name
    arch_kwargs: dict[str, Any]
    requires_import: list[str] = Field(alias="_kw_requires_import")


class Configuration(File):
    """A configuration of plans.json, inheritance resolved."""

    preprocessor_name: Name
    patch_size: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)]
    spacing: Annotated[list[Positive], Field(min_length=2, max_length=3)]
    normalization_schemes: Annotated[list[Name], Field(min_length=1)]
    use_mask_for_norm: list[bool]
    resampling_fn_data: Name
    resampling_fn_data_kwargs: dict[str, Any]
    resampling_fn_seg: Name
    resampling_fn_seg_kwargs: dict[str, Any]
    resampling_fn_probabilities: Name
    resampling_fn_probabilities_kwargs: dict[str, Any]
    architecture: Architecture
    previous_stage: str | None = None


# nnU-Net's splits_final.json and closing validation, and the spacing beside a 3D TIFF


class Split(File):
    """Cases of a fold."""

    train: list[str]
    val: list[str]


class Splits(RootModel[list[Split]]):
    """splits_final.json."""

    root: Annotated[list[Split], Field(min_length=1)]


class ValidatedCase(File):
    """A case of ``ValidationSummary``."""

    prediction_file: str


class ValidationSummary(File):
    """fold_X/validation/summary.json."""

    metric_per_case: list[ValidatedCase]


class ImageSpacing(File):
    """The file with the spacing of a 3D TIFF, in mm."""

    spacing: Annotated[list[Positive], Field(min_length=3, max_length=3)]


# records of what was done


class ConversionFile(File):
    """conversion.json."""

    settings: dict[str, Any]
    """What decided about the dataset; one with other settings is not continued."""
    parts: dict[str, str]
    """Part of each case: train, val, test, or a set of its own."""
    sources: dict[str, list[Any]] = {}
    """What each case was made of: files, with their sizes and times."""
    notes: list[str] = []
    """How the dataset was made, in words."""
    skipped: dict[str, str] = {}
    """What was skipped, and why."""


class CorruptionManifest(File):
    """The manifest of a folder of corrupted images."""

    cases: dict[str, dict[str, Any]]
    """Parameters of the corruption of each case, and what was found in its images."""
    shift: str | None = None
    """Name of the corruption."""
    seed: int | None = None
    """Seed that the parameters were drawn with."""
    range: dict[str, list[Number]] = {}
    """Least and largest value of each parameter."""
    meaning: dict[str, str] = {}
    """What a parameter is, with its unit."""
    source: str | None = None
    """Folder of the images."""
    versions: dict[str, str] = {}
    """Versions of this package and of the libraries that corrupt."""
    contrast: dict[str, Any] = {}
    """Share of the contrast that is left of each case, and what it is of; only when all are written."""


class DemoRecord(File):
    """demo.json."""

    done: dict[str, str]
    """Steps that are done by name, and the command that did each."""


class JobRecord(File):
    """What a study notes of a job."""

    how: dict[str, Any] | None = None
    command: int | None = None
    seconds: NotNegative | None = None
    memory_mib: NotNegative | None = None
    resumed: bool = False
