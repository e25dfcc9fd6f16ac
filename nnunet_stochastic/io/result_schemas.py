"""What the JSON files of predictions and evaluations hold; summary.json is in ``evaluation.summary_file``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from nnunet_stochastic.io.schemas import Count, File, Measure, Name, NotNegative, Number, Plain, Positive, rule

__all__ = [
    "CalibrationFile",
    "ConfidenceFile",
    "CurvesFile",
    "DecisionsFile",
    "DescribedModel",
    "DicomRecord",
    "PredictionRecord",
]

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


class MergedPart(File):
    """Predictions that were merged with others."""

    folder: Name
    """Their folder, as an absolute path."""
    model_folder: str | None
    """Folder of the trained model, as an absolute path."""
    record_sha256: Name
    """SHA-256 of their uncertainty.json."""
    labels: dict[str, Count]
    """Labels of their structures in the merged label map, by name."""


class PredictionSettings(File):
    """How a folder was predicted."""

    trainer: str | None = None
    """Name of the trainer, as the checkpoint has it."""
    configuration: str | None = None
    checkpoints: dict[str, Any] = {}
    """File and SHA-256 of each fold."""
    members: Annotated[int, Field(ge=1)] | None = None
    """Number of networks whose predictions were averaged."""
    seed: int | None = None
    """Seed of all random numbers."""
    sample_intervals: SampleIntervals | None = None
    """What quantiles of this many samples can tell; with whole samples alone."""
    aleatoric_source: str | None = None
    """model, tta or none."""
    epistemic_source: str | None = None
    """Epistemic method; aleatoric_samples where samples of one member stand in; none."""
    training_data_of_folds: FoldsTrainedOn | None = None
    """Whether several folds were trained on the same cases."""
    epistemic_factor: Positive = 1.0
    """Factor of the epistemic map, 1 unless it was rescaled."""
    lesions: list[Name] = []
    """Structures whose lesions are listed."""
    min_lesion_ml: NotNegative = 0.0
    """Least volume of a lesion in ml."""
    model_folder: str | None = None
    """Folder of the trained model, as an absolute path."""
    plans_sha256: str | None = None
    """SHA-256 of the content of the plans."""
    dataset_sha256: str | None = None
    """SHA-256 of what decides in dataset.json."""
    num_samples: Count | None = None
    """Aleatoric samples of each member; without effect where the estimator is exact."""
    maps: list[Name] = []
    """Maps that were written."""
    estimator: str | None = None
    """exact, mc or none."""
    tiles_and_views: str | None = None
    """Whether laws of the logits were blended over tiles and mirrored views, or probabilities averaged."""
    swag_scale: Number | None = None
    """Scale of SWAG's covariance."""
    tta_shift_sd: Number | None = None
    """Standard deviation of the shifts of intensity of test-time augmentation."""
    num_saved_samples: Count | None = None
    """Whole samples of each case."""
    step_size: Number | None = None
    """Distance of tiles as a fraction of the patch."""
    views: dict[str, int | None] = {}
    """Mirrored views, with the samples of each where probabilities are averaged."""
    accumulate_on_device: bool | None = None
    """Whether sums were kept on the device."""
    device: str | None = None
    """cpu, cuda or mps."""
    units: dict[str, str] = {}
    """Unit of each map."""
    notes: list[str] = []
    """What is to be known about these predictions."""
    versions: dict[str, str] = {}
    """Versions of nnunet_stochastic, nnunetv2, torch and Python."""
    map_digits: Count | None = None
    """Binary digits of the numbers in maps."""
    save_probabilities: bool | None = None
    """Whether the predictive mean was written."""
    probability_format: str | None = None
    """Format of the predictive mean."""
    merged_from: list[MergedPart] | None = None
    """Of a merged prediction, what it was merged from."""
    merged_labels: str | None = None
    """Of a merged prediction, which structure is taken where several are."""
    merged_maps: str | None = None
    """Of a merged prediction, what its maps are of those of its parts."""


OfMeasures = dict[Measure, NotNegative | None]


class StructureEntry(File):
    """A structure of a predicted case: ``decisions.StructureRow`` without its name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    num_voxels: Count
    """Voxels of the segmentation."""
    expected_voxels: NotNegative
    """Sum of the mean probability over all voxels."""
    volume_ml: NotNegative | None = None
    """Volume of the segmentation in ml."""
    expected_volume_ml: NotNegative | None = None
    """Sum of the mean probability in ml."""
    mean_p: Share | None = None
    """Mean of the mean probability inside the segmentation."""
    inside: OfMeasures = {}
    """Mean uncertainty inside the segmentation, in nats."""
    border: OfMeasures = {}
    """Mean uncertainty on the border of the segmentation, in nats."""
    num_samples: Count = 0
    """Whole samples that the next four are of."""
    sample_mean_ml: NotNegative | None = None
    """Mean volume over the samples in ml."""
    sample_sd_ml: NotNegative | None = None
    """Standard deviation of the volume over the samples in ml."""
    sample_quantiles_ml: dict[str, NotNegative] = {}
    """Quantiles of the volume over the samples in ml, by level."""
    pairwise_dice_samples: Share | None = None
    """Mean Dice of pairs of samples."""
    num_members: Count = 0
    """Members that the next is of."""
    pairwise_dice_members: Share | None = None
    """Mean Dice of pairs of members' segmentations."""


class LesionEntry(File):
    """A lesion of a predicted case: ``decisions.Lesion``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    structure: Name
    number: Annotated[int, Field(ge=1)]
    candidate: bool
    """Whether samples have it and the segmentation does not."""
    num_voxels: Annotated[int, Field(ge=1)]
    volume_ml: NotNegative | None
    centre_mm: Annotated[list[Number], Field(min_length=3, max_length=3)]
    """Mean position of its voxels in NIfTI's world (right, anterior, superior), in mm."""
    centre_voxel: Annotated[list[Count], Field(min_length=3, max_length=3)]
    """Index of its voxel that is nearest to the centre, in the array's order of axes."""
    mean_p: Share | None = None
    """Mean of the mean probability inside."""
    max_p: Share | None = None
    """Largest mean probability inside."""
    existence: Share | None = None
    """Share of the samples, or members, that overlap it."""
    share_in_all_samples: Share | None = None
    """Share of its voxels that are in all samples."""
    mean: OfMeasures = {}
    """Mean uncertainty inside, in nats."""


class SeriesIdentity(File):
    """Unique identifiers of the DICOM series of a channel."""

    study_instance_uid: Name
    """StudyInstanceUID."""
    series_instance_uid: Name
    """SeriesInstanceUID."""
    frame_of_reference_uid: Name
    """FrameOfReferenceUID, which the objects that are exported share."""


class PredictedCase(File):
    """A case of a prediction; maps in nats."""

    input_files: Annotated[list[Name], Field(min_length=1)] | None = None
    """Files of its image, a channel each."""
    mean_aleatoric: NotNegative | None = None
    """Mean over all voxels in nats."""
    mean_epistemic: NotNegative | None = None
    """Mean over all voxels in nats."""
    mean_total: NotNegative | None = None
    """Mean over all voxels in nats."""
    mean_variance: NotNegative | None = None
    """Mean over all voxels, a squared probability."""
    epistemic_to_aleatoric: NotNegative | None = None
    """Mean epistemic over mean aleatoric uncertainty."""
    volume_ml: dict[str, NotNegative] | None = None
    """Volume of each structure in ml."""
    sample_volumes: dict[str, dict[str, Any]] | None = None
    """Volume of each structure over the samples in ml."""
    degenerate_samples: str | None = None
    """What is wrong with the samples: empty or full, where the segmentation is neither."""
    structures: dict[str, StructureEntry] = {}
    """By name."""
    lesions: list[LesionEntry] = []
    overlap_voxels: Count | None = None
    """Of a merged prediction, voxels in which several parts have a structure."""
    dicom_series: list[SeriesIdentity] | None = None
    """Of an image that was read from DICOM, its series, a channel each."""
    input_sha256: list[str] | None = None
    """SHA-256 of all files that were read for it."""
    files: dict[str, str] = {}
    """SHA-256 of all files that were written for it, by path."""


class PredictionRecord(File):
    """uncertainty.json."""

    settings: PredictionSettings = PredictionSettings()
    cases: dict[str, PredictedCase]
    other_cases: list[str] = []
    """Cases whose files may be there and that have no entry."""


# what the evaluation writes


class DescribedModel(File):
    """The model of a prediction, as ``describe_model`` says it."""

    name: Plain | None = None
    dataset: Plain | None = None
    trainer: Plain | None = None
    configuration: Plain | None = None
    plans: Plain | None = None
    folds: list[int | str] | None = None
    """Numbers of the folds, or all."""
    spacing_mm: list[Positive] | None = None
    """Spacing that images are resampled to, in mm."""
    aleatoric: Plain | None = None
    """Short name of the aleatoric model."""
    epistemic: Plain | None = None
    """Name of the epistemic method."""
    epistemic_is_stand_in: bool | None = None
    """Whether samples of one member stand in for members."""
    training_data_of_folds: FoldsTrainedOn | None = None
    members: int | None = None
    seed: int | None = None


class PlattParameters(File):
    """Of one measure: confidence = sigmoid(-(a(-u) + b)), u in nats."""

    a: Number
    b: Number


class CalibrationFile(File):
    """calibration.json."""

    platt: dict[Measure, PlattParameters]
    """Of all voxels of all cases together."""
    platt_per_image: dict[Measure, PlattParameters]
    """Means over cases of the fits to single cases."""
    temperature: Positive | None
    """Temperature of the probabilities."""
    threshold: dict[Literal["AU", "EU", "TU", "quantile"], NotNegative]
    """Threshold of each map in nats, and the quantile that it is."""
    decisions: dict[str, Any] | None = None
    """Intervals, masks, predicted Dice and scores of structures."""
    settings: PredictionSettings | None = None
    """How the validation images were predicted."""
    folders: dict[str, str | None] = {}
    """Folders that it was made from."""
    model: DescribedModel | None = None
    left_out: dict[str, str] = {}
    """Why something is missing."""
    num_cases: Count | None = None
    """Validation cases."""
    num_raters: Count | None = None
    """Raters of each case; 0: the reference alone."""
    conventions: dict[str, str] = {}
    """How each part was fitted."""


class ConfidenceFile(File):
    """confidence.json: what the confidences beside it were made of."""

    method: Literal["platt", "temperature"]
    calibration: dict[Literal["platt", "platt_per_image", "temperature", "threshold"], Any]
    """That part of calibration.json."""


class DecisionsFile(File):
    """decisions.json: what the files of decisions beside it were made of."""

    method: Literal["decisions"]
    predictions: Name
    """Folder of the predictions."""
    alpha: Share
    """Share that may be outside of the masks."""
    masks: list[Name]
    """Structures that have masks."""
    decisions: dict[str, Any]
    """That entry of calibration.json."""


class ReliabilityEntry(File):
    """Bins of a reliability diagram."""

    count: list[Count]
    """Voxels of each bin."""
    confidence_sum: list[NotNegative]
    """Sum of their confidences."""
    correct_sum: list[Count]
    """Number of correct ones."""

    @model_validator(mode="after")
    def _as_long(self) -> ReliabilityEntry:
        if not len(self.count) == len(self.confidence_sum) == len(self.correct_sum):
            raise rule("count, confidence_sum and correct_sum must be equally long")
        return self


class CurvesFile(File):
    """curves.json."""

    reliability: dict[str, dict[str, dict[str, ReliabilityEntry]]]
    """By set, annotation and class."""
    confidence: dict[str, dict[str, ReliabilityEntry]] = {}
    """By set and measure."""
    num_bins: dict[str, Count] = {}
    """Number of bins of each of the two."""


class DicomRecord(File):
    """records/CASE.json of an export to DICOM."""

    made_of: dict[str, Any]
    files: dict[str, str]
