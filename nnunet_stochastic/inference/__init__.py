"""From a trained model folder and images to segmentations, uncertainty maps and samples in the images' geometry."""

from nnunet_stochastic.inference.collapse import collapse_warning, degeneration_warning, epistemic_factor
from nnunet_stochastic.inference.folder import FolderReport, predict_folder
from nnunet_stochastic.inference.image_objects import ImagePrediction
from nnunet_stochastic.inference.members import Member
from nnunet_stochastic.inference.model import Checkpoint, Model, load_model
from nnunet_stochastic.inference.options import PredictionOptions
from nnunet_stochastic.inference.predictor import StochasticPredictor
from nnunet_stochastic.inference.restore import GridPrediction, Prediction
from nnunet_stochastic.inference.structures import LesionChoice

__all__ = [
    "Checkpoint",
    "FolderReport",
    "GridPrediction",
    "ImagePrediction",
    "LesionChoice",
    "Member",
    "Model",
    "Prediction",
    "PredictionOptions",
    "StochasticPredictor",
    "collapse_warning",
    "degeneration_warning",
    "epistemic_factor",
    "load_model",
    "predict_folder",
]
