"""Aleatoric, epistemic and total uncertainty for nnU-Net v2.

What Python code needs of a trained model is here: predict arrays or folders, and evaluate what was predicted.

Importing this package imports neither torch nor nnU-Net: Python does it each time it starts (see ``discovery``). Each
name below is imported when it is first asked for.
"""

TYPE_CHECKING = False  # type checkers and editors take it for true; ``typing`` costs every start of Python too much
if TYPE_CHECKING:
    from nnunet_stochastic.evaluation import Evaluation, SetFolders, evaluate_folder
    from nnunet_stochastic.inference import (
        FolderReport,
        ImagePrediction,
        Prediction,
        PredictionOptions,
        StochasticPredictor,
        predict_folder,
    )

__all__ = [
    "Evaluation",
    "FolderReport",
    "ImagePrediction",
    "Prediction",
    "PredictionOptions",
    "SetFolders",
    "StochasticPredictor",
    "__version__",
    "evaluate_folder",
    "predict_folder",
]

__version__ = "0.1.0"

_PACKAGES = {
    "nnunet_stochastic.evaluation": ("Evaluation", "SetFolders", "evaluate_folder"),
    "nnunet_stochastic.inference": (
        "FolderReport",
        "ImagePrediction",
        "Prediction",
        "PredictionOptions",
        "StochasticPredictor",
        "predict_folder",
    ),
}

if not TYPE_CHECKING:

    def __getattr__(name):
        for package, names in _PACKAGES.items():
            if name in names:
                from importlib import import_module

                globals()[name] = getattr(import_module(package), name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
