"""What the JSON files of predictions and evaluations hold; summary.json is in ``evaluation.summary_file``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from nnunet_stochastic.io.schemas import Count, File, Measure, Name, NotNegative, Number, Plain, Positive, rule

__all__ = ["CalibrationFile", "CurvesFile", "DecisionsFile", "DescribedModel", "DicomRecord", "PredictionRecord"]

# uncertainty.json


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SampleIntervals(File):
    """What a number of whole samples can tell."""

    num_samples: Annotated[int, Field(ge=1)]
    level: Share
    covers: Share
    least_num_samples: Count
    missed_with: Share
    missed_mode: Share
    num_samples_of_mode: dict[str, Count]


FoldsTrainedOn = Literal["same", "different", "unknown"]


class PredictionSettings(File):
    """How a folder was predicted."""

    trainer: str | None = None
    configuration: str | None = None
    checkpoints: dict[str, Any] = {}
    members: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    sample_intervals: SampleIntervals | None = None
    aleatoric_source: str | None = None
    epistemic_source: str | None = None
    training_data_of_folds: FoldsTrainedOn | None = None
    epistemic_factor: Positive = 1.0
    lesions: list[Name] = []
    min_lesion_ml: NotNegative = 0.0


OfMeasures = dict[Measure, NotNegative | None]


class StructureEntry(File):
    """A structure of a predicted case: ``decisions.StructureRow`` without its name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    num_voxels: Count
    expected_voxels: NotNegative
    volume_ml: NotNegative | None = None
    expected_volume_ml: NotNegative | None = None
    mean_p: Share | None = None
    inside: OfMeasures = {}
    border: OfMeasures = {}
    num_samples: Count = 0
    sample_mean_ml: NotNegative | None = None
    sample_sd_ml: NotNegative | None = None
    sample_quantiles_ml: dict[str, NotNegative] = {}
    pairwise_dice_samples: Share | None = None
    num_members: Count = 0
    pairwise_dice_members: Share | None = None


class LesionEntry(File):
    """A lesion of a predicted case: ``decisions.Lesion``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    structure: Name
    number: Annotated[int, Field(ge=1)]
    candidate: bool
    num_voxels: Annotated[int, Field(ge=1)]
    volume_ml: NotNegative | None
    centre_mm: Annotated[list[Number], Field(min_length=3, max_length=3)]
    centre_voxel: Annotated[list[Count], Field(min_length=3, max_length=3)]
    mean_p: Share | None = None
    max_p: Share | None = None
    existence: Share | None = None
    share_in_all_samples: Share | None = None
    mean: OfMeasures = {}


class SeriesIdentity(File):
    """Unique identifiers of the DICOM series of a channel."""

    study_instance_uid: Name
    series_instance_uid: Name
    frame_of_reference_uid: Name


class PredictedCase(File):
    """A case of a prediction; maps in nats."""

    input_files: Annotated[list[Name], Field(min_length=1)] | None = None
    mean_aleatoric: NotNegative | None = None
    mean_epistemic: NotNegative | None = None
    mean_total: NotNegative | None = None
    mean_variance: NotNegative | None = None
    epistemic_to_aleatoric: NotNegative | None = None
    volume_ml: dict[str, NotNegative] | None = None
    sample_volumes: dict[str, dict[str, Any]] | None = None
    degenerate_samples: str | None = None
    structures: dict[str, StructureEntry] = {}
    lesions: list[LesionEntry] = []
    dicom_series: list[SeriesIdentity] | None = None
    input_sha256: list[str] | None = None
    files: dict[str, str] = {}


class PredictionRecord(File):
    """uncertainty.json."""

    settings: PredictionSettings = PredictionSettings()
    cases: dict[str, PredictedCase]
    other_cases: list[str] = []


# what the evaluation writes


class DescribedModel(File):
    """The model of a prediction, as ``describe_model`` says it."""

    name: Plain | None = None
    dataset: Plain | None = None
    trainer: Plain | None = None
    configuration: Plain | None = None
    plans: Plain | None = None
    spacing_mm: list[Positive] | None = None
    aleatoric: Plain | None = None
    epistemic: Plain | None = None
    epistemic_is_stand_in: bool | None = None
    training_data_of_folds: FoldsTrainedOn | None = None
    members: int | None = None
    seed: int | None = None


class PlattParameters(File):
    """Of one measure."""

    a: Number
    b: Number


class CalibrationFile(File):
    """calibration.json."""

    platt: dict[Measure, PlattParameters]
    platt_per_image: dict[Measure, PlattParameters]
    temperature: Positive | None
    threshold: dict[Literal["AU", "EU", "TU", "quantile"], NotNegative]
    decisions: dict[str, Any] | None = None
    settings: PredictionSettings | None = None
    folders: dict[str, str | None] = {}
    model: DescribedModel | None = None
    left_out: dict[str, str] = {}


class DecisionsFile(File):
    """decisions.json: what the files of decisions beside it were made of."""

    method: Literal["decisions"]
    predictions: Name
    alpha: Share
    masks: list[Name]
    decisions: dict[str, Any]


class ReliabilityEntry(File):
    """Bins of a reliability diagram."""

    count: list[Count]
    confidence_sum: list[NotNegative]
    correct_sum: list[Count]

    @model_validator(mode="after")
    def _as_long(self) -> ReliabilityEntry:
        if not len(self.count) == len(self.confidence_sum) == len(self.correct_sum):
            raise rule("count, confidence_sum and correct_sum must be equally long")
        return self


class CurvesFile(File):
    """curves.json."""

    reliability: dict[str, dict[str, dict[str, ReliabilityEntry]]]
    confidence: dict[str, dict[str, ReliabilityEntry]] = {}


class DicomRecord(File):
    """records/CASE.json of an export to DICOM."""

    made_of: dict[str, Any]
    files: dict[str, str]
