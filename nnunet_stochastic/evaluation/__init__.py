"""Evaluation: pairs predictions with annotations, checks them, scores them, and pools the scores over cases."""

from nnunet_stochastic.evaluation.cases import (
    Case,
    CaseFiles,
    check_same_grid,
    find_cases,
    flipped_axes,
    load_case,
    read_label_map,
)
from nnunet_stochastic.evaluation.evaluate import check_cases, evaluate_cases, map_in_threads
from nnunet_stochastic.evaluation.labels import EvaluatedLabels
from nnunet_stochastic.evaluation.scores import (
    ALL_CLASSES,
    METRICS,
    REFERENCE,
    AnnotationScores,
    score_annotation,
    score_case,
)
from nnunet_stochastic.evaluation.summary import CONVENTIONS, RATERS, Evaluation, summarise

__all__ = [
    "ALL_CLASSES",
    "CONVENTIONS",
    "METRICS",
    "RATERS",
    "REFERENCE",
    "AnnotationScores",
    "Case",
    "CaseFiles",
    "EvaluatedLabels",
    "Evaluation",
    "check_cases",
    "check_same_grid",
    "evaluate_cases",
    "find_cases",
    "flipped_axes",
    "load_case",
    "map_in_threads",
    "read_label_map",
    "score_annotation",
    "score_case",
    "summarise",
]
