"""Evaluation: pairs predictions with annotations, checks and scores them, asks whether their uncertainty is good."""

from nnunet_stochastic.conventions import CONVENTIONS, PRESETS, Convention, find_convention
from nnunet_stochastic.evaluation.calibration import (
    CALIBRATION_FILE,
    Calibration,
    CaseStatistics,
    ValidationCase,
    case_statistics,
    fit_calibration,
)
from nnunet_stochastic.evaluation.case_inputs import CaseSettings
from nnunet_stochastic.evaluation.case_sets import (
    ID,
    CaseSet,
    SetFolders,
    describe_folders,
    find_case_sets,
    shift_folders,
)
from nnunet_stochastic.evaluation.cases import CaseFiles, EvaluatedCase, check_case, find_cases, load_case
from nnunet_stochastic.evaluation.evaluate import Evaluation, check_cases, evaluate_sets
from nnunet_stochastic.evaluation.folder import evaluate_folder
from nnunet_stochastic.evaluation.maps import FOLDERS, MEASURES, Measure, find_map, find_maps, read_map
from nnunet_stochastic.evaluation.model import (
    STAND_IN_FOOTNOTE,
    STAND_IN_MARK,
    check_same_model,
    describe_model,
    stand_in_mark,
)
from nnunet_stochastic.evaluation.parallel import Workers, map_in_processes, map_in_threads
from nnunet_stochastic.evaluation.readers import (
    ImageReader,
    read_first_channel,
    read_label_map,
    read_probabilities,
)
from nnunet_stochastic.evaluation.scores import (
    ALL_CLASSES,
    METRICS,
    RATERS,
    REFERENCE,
    AnnotationScores,
    score_annotation,
    score_case,
)
from nnunet_stochastic.evaluation.structure_scores import SURFACE_TOLERANCE_MM
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = [
    "ALL_CLASSES",
    "CALIBRATION_FILE",
    "CONVENTIONS",
    "FOLDERS",
    "ID",
    "MEASURES",
    "METRICS",
    "PRESETS",
    "RATERS",
    "REFERENCE",
    "STAND_IN_FOOTNOTE",
    "STAND_IN_MARK",
    "SURFACE_TOLERANCE_MM",
    "AnnotationScores",
    "Calibration",
    "CaseFiles",
    "CaseSet",
    "CaseSettings",
    "CaseStatistics",
    "Convention",
    "EvaluatedCase",
    "EvaluatedLabels",
    "Evaluation",
    "ImageReader",
    "Measure",
    "SetFolders",
    "ValidationCase",
    "Workers",
    "case_statistics",
    "check_case",
    "check_cases",
    "check_same_model",
    "describe_folders",
    "describe_model",
    "evaluate_folder",
    "evaluate_sets",
    "find_case_sets",
    "find_cases",
    "find_convention",
    "find_map",
    "find_maps",
    "fit_calibration",
    "load_case",
    "map_in_processes",
    "map_in_threads",
    "read_first_channel",
    "read_label_map",
    "read_map",
    "read_probabilities",
    "score_annotation",
    "score_case",
    "shift_folders",
    "stand_in_mark",
]
