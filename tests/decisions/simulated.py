"""Cases to fit to and to judge: soft balls, samples of one shift each, raters who agree as far as the ball is sharp."""

from __future__ import annotations

import numpy as np

from nnunet_stochastic.decisions.lesions import find_lesions
from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.decisions.statistics import CaseStatistics, case_statistics, image_scores
from nnunet_stochastic.decisions.structures import ProbabilitySums, structure_rows

CLASSES = {"tumour": [1]}
VOXEL_ML = 0.01
_SHAPE = (8, 16, 16)
_DISTANCE = np.sqrt(
    sum(np.square(axis - (size - 1) / 2) for axis, size in zip(np.indices(_SHAPE), _SHAPE, strict=True))
)


def simulated_case(rng: np.random.Generator, case: str, patient: str, *, num_samples: int = 8, raters: int = 3):
    """Arguments of ``case_statistics``."""
    radius, softness = rng.uniform(2, 5), rng.gamma(3, 0.15) + 0.05
    latent = radius + softness * (rng.normal() + 0.4 * rng.normal(size=raters))
    samples = np.stack([_DISTANCE < radius + softness * rng.normal() for _ in range(max(num_samples, 2))])
    probability = (1 / (1 + np.exp((_DISTANCE - radius) / (0.6 * softness)))).astype(np.float32)
    segmentation = (probability > 0.5).astype(np.uint8)
    entropy = -probability * np.log(probability + 1e-9) - (1 - probability) * np.log(1 - probability + 1e-9)
    maps = {"TU": entropy, "AU": 0.7 * entropy, "EU": 0.3 * entropy}
    overlaps = Overlaps.of(samples.astype(np.uint8), classes=[[1]]) if num_samples else None
    return {
        "case": case,
        "patient": patient,
        "segmentation": segmentation,
        "references": [(_DISTANCE < each).astype(np.uint8) for each in latent],
        "classes": CLASSES,
        "rows": structure_rows(
            segmentation,
            CLASSES,
            probabilities={"tumour": ProbabilitySums.of(probability, segmentation == 1)},
            maps=maps,
            voxel_ml=VOXEL_ML,
            samples=overlaps,
        ),
        "voxel_ml": VOXEL_ML,
        "probabilities": {"tumour": probability},
        "lesions": {
            "tumour": find_lesions(
                "tumour",
                segmentation == 1,
                affine=np.eye(4),
                voxel_ml=VOXEL_ML,
                samples=samples[:num_samples],
            )
        },
        "scores": image_scores(maps, segmentation),
    }


def simulated_cases(seed: int, num_patients: int, **options: int) -> list[CaseStatistics]:
    """Statistics of patients with one or two cases each."""
    rng = np.random.default_rng(seed)
    return [
        case_statistics(**simulated_case(rng, f"case{patient}_{number}", f"patient{patient}", **options))
        for patient in range(num_patients)
        for number in range(1 + patient % 2)
    ]
