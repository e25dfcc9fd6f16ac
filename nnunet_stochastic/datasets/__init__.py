"""Data sets: the demo's lung nodules, real masks by four radiologists in simulated CT images."""

from nnunet_stochastic.datasets.demo import DATASET_ID, DATASET_NAME, write_demo_dataset
from nnunet_stochastic.datasets.lidc_nodules import NUM_RATERS, Nodule, load_nodules
from nnunet_stochastic.datasets.simulated_ct import SimulatedCase, simulate_case

__all__ = [
    "DATASET_ID",
    "DATASET_NAME",
    "NUM_RATERS",
    "Nodule",
    "SimulatedCase",
    "load_nodules",
    "simulate_case",
    "write_demo_dataset",
]
