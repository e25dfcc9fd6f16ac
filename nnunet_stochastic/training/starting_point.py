"""Where the training of a stochastic model starts: from the deterministic nnU-Net of the same data, or from scratch.

*Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation* (MoB,
section 3.1) trains the deterministic nnU-Net to convergence first and then adds the heads. Its checkpoint is looked for
under ``nnUNet_results`` at the same dataset, plans, configuration and fold; ``nnUNet_stochastic_init`` overrides that
with the path of a checkpoint or the word ``scratch``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.networks import StochasticNetwork

__all__ = ["INIT_VARIABLE", "find_deterministic_checkpoint", "load_deterministic_weights"]

#: Environment variable that overrides the starting point: the path of a checkpoint, or ``scratch``.
INIT_VARIABLE = "nnUNet_stochastic_init"


def find_deterministic_checkpoint(fold_folder: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The checkpoint to start from, or ``None`` to train from scratch.

    Parameters
    ----------
    fold_folder
        ``fold_X`` of the deterministic trainer's results; its final checkpoint is preferred to its best.
    environment
        Environment that ``nnUNet_stochastic_init`` is read from.

    Raises
    ------
    FileNotFoundError
        If ``nnUNet_stochastic_init`` names a file that does not exist.
    """
    override = environment.get(INIT_VARIABLE)
    if override == "scratch":
        return None
    if override:
        path = Path(override)
        if not path.is_file():
            raise FileNotFoundError(
                f"{INIT_VARIABLE} is set to {shown(override)}, and there is no such file; give the path of a "
                "checkpoint (…/fold_X/checkpoint_final.pth) or 'scratch', or unset it to start from the deterministic "
                f"model in {fold_folder}"
            )
        return path
    candidates = (fold_folder / name for name in ("checkpoint_final.pth", "checkpoint_best.pth"))
    return next((path for path in candidates if path.is_file()), None)


def load_deterministic_weights(network: nn.Module, checkpoint: Path) -> None:
    """Copy every weight of a deterministic network into the network of the same plan, mean head included.

    Parameters
    ----------
    network
        The planned network with or without heads. What the heads add keeps its initial values.
    checkpoint
        An nnU-Net checkpoint.

    Raises
    ------
    ValueError
        If a weight of the backbone is missing, has another shape, or has no place in ``network``. ``network`` is
        unchanged.
    """
    weights: dict[str, Tensor] = read_checkpoint(checkpoint)["network_weights"]
    own = network.state_dict()
    added = network.names_of_added_weights() if isinstance(network, StochasticNetwork) else set()
    problems = [f"{name} is missing from the file" for name in own if name not in weights and name not in added]
    problems += [f"{name} has no place in this network" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(value.shape)} in the file, {tuple(own[name].shape)} here"
        for name, value in weights.items()
        if name in own and value.shape != own[name].shape
    ]
    if problems:
        raise ValueError(
            f"{checkpoint} does not fit the planned network ({len(problems)} weights, such as {problems[0]}); name one "
            f"of the same dataset, plans and configuration, or set {INIT_VARIABLE}=scratch to train without it"
        )
    network.load_state_dict(weights, strict=False)
