"""The tasks that tell whether an uncertainty is any good, from the results of the case sets: a file and an entry each.

    OODD     finds images out of distribution: AUROC of image scores, ID against each shift
    AMB      looks like the raters' disagreement: NCC of the map and the variance over raters
    CAL      says how often the prediction is wrong: ACE of the confidence from Platt scaling
    FD       finds bad segmentations: AURC, E-AURC and AUGRC with risk 1 - Dice; failure-AUROC
    FILTER   filters errors out and nothing else: score of QU-BraTS from filtered Dice
    GED      distance of samples and annotations          VOLUME   CRPS of the samples' volumes
    RATIO    mean EU over mean AU                         CURVAS   the challenges' metrics
    DECISIONS  whether intervals, masks, predicted Dice and lesions hold

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.4; Kahl et al.,
ValUES, https://arxiv.org/abs/2401.08501.
"""

from nnunet_stochastic.evaluation.tasks.calibration_error import CALIBRATION_ERROR
from nnunet_stochastic.evaluation.tasks.catalogue import RANKED, TASKS, UNRANKED, describe_convention, find_task
from nnunet_stochastic.evaluation.tasks.compute import compute_tasks
from nnunet_stochastic.evaluation.tasks.decisions import DECISIONS
from nnunet_stochastic.evaluation.tasks.energy_distance import ENERGY_DISTANCE, check_distances_are_named
from nnunet_stochastic.evaluation.tasks.failure_detection import FAILURE_DETECTION
from nnunet_stochastic.evaluation.tasks.out_of_distribution import OUT_OF_DISTRIBUTION
from nnunet_stochastic.evaluation.tasks.ratio import RATIO
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import ARROWS, Task

__all__ = [
    "ARROWS",
    "CALIBRATION_ERROR",
    "DECISIONS",
    "ENERGY_DISTANCE",
    "FAILURE_DETECTION",
    "OUT_OF_DISTRIBUTION",
    "RANKED",
    "RATIO",
    "TASKS",
    "UNRANKED",
    "Resampled",
    "Task",
    "check_distances_are_named",
    "compute_tasks",
    "describe_convention",
    "find_task",
]
