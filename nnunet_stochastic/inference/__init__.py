"""From a trained model folder and images to segmentations and uncertainty maps in the images' geometry."""

from nnunet_stochastic.inference.folder import predict_folder
from nnunet_stochastic.inference.model import Member, Model, load_model
from nnunet_stochastic.inference.options import PredictionOptions
from nnunet_stochastic.inference.predictor import StochasticPredictor
from nnunet_stochastic.inference.restore import GridPrediction, Prediction

__all__ = [
    "GridPrediction",
    "Member",
    "Model",
    "Prediction",
    "PredictionOptions",
    "StochasticPredictor",
    "load_model",
    "predict_folder",
]
