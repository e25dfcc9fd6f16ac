"""A fit with the network on a CUDA device, without one: which tensors meet, and that the numbers are those of the CPU.

Tensors of the stand-in have values and lie on the CPU, and say that they are on CUDA; where one meets a tensor of the
CPU, an operation fails as CUDA's does.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from nnunet_stochastic.fitting import tile_features
from nnunet_stochastic.fitting.curvature_pass import add_case
from nnunet_stochastic.fitting.fold_cases import find_fold_cases
from nnunet_stochastic.fitting.tile_features import CaseTiles
from nnunet_stochastic.fitting.validation_points import collect_points
from nnunet_stochastic.posteriors.last_layer_curvature import FullCurvature, KroneckerCurvature

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class OnDevice(Tensor):
    """A tensor of the stand-in; what is computed of it is one, too."""


def on_cpu(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor) if isinstance(tensor, OnDevice) else tensor


def on_device(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(OnDevice)


class StandIn(TorchFunctionMode):
    """Keeps tensors of the two devices apart."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        first = arguments[0] if arguments else None
        if function == Tensor.device.__get__ and isinstance(first, OnDevice):
            return CUDA
        if function is Tensor.numpy and isinstance(first, OnDevice):
            raise TypeError("can't convert cuda device type tensor to numpy")
        if function is Tensor.cpu:
            return on_cpu(first)
        if function is Tensor.as_subclass:
            return function(*arguments, **keywords)
        values = (*arguments, *keywords.values())
        target = next((value for value in values if isinstance(value, (str, torch.device))), None)
        if function is Tensor.to and target is not None:
            rest = [value for value in arguments[1:] if value is not target]
            moved = on_cpu(first).to(*rest, **{name: value for name, value in keywords.items() if value is not target})
            return on_device(moved) if torch.device(target).type == "cuda" else moved
        tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
        of_device = [isinstance(tensor, OnDevice) for tensor in tensors]
        # Numbers may come from the CPU, and so may the indices of a tensor of the device.
        strangers = [tensor for tensor, here in zip(tensors, of_device, strict=True) if not here and tensor.ndim]
        indexed = function is Tensor.__getitem__ and isinstance(first, OnDevice)
        if any(of_device) and strangers and not indexed:
            raise RuntimeError(
                f"expected all tensors to be on the same device, found cuda and cpu in {function.__name__}"
            )
        return function(*arguments, **keywords)


@pytest.fixture
def network_on_device(monkeypatch):
    """Features in half precision and fields of laws come from the device, whatever the network ran on."""
    of_features, of_law, predict = (
        getattr(tile_features, name) for name in ("predict_features", "fields_of_law", "predict_of_features")
    )
    monkeypatch.setattr(
        tile_features, "predict_features", lambda network, patch: on_device(of_features(network, on_cpu(patch)).half())
    )
    monkeypatch.setattr(
        tile_features,
        "predict_of_features",
        lambda network, features: predict(network, on_cpu(features).float()),
    )
    monkeypatch.setattr(tile_features, "fields_of_law", lambda law, space: on_device(of_law(law, space)))


def test_the_stand_in_keeps_devices_apart():
    with StandIn():
        here, there = torch.arange(3.0), torch.arange(3.0).to(CUDA)
        assert (here.device.type, there.device.type, (2 * there).device.type) == ("cpu", "cuda", "cuda")
        assert there[torch.tensor([1])].cpu().tolist() == [1.0]
        assert (there + torch.tensor(1.0)).to("cpu", torch.float64).dtype == torch.float64
        for wrong in (lambda: here + there, lambda: here[there.long()], lambda: torch.cat([here, there]), there.numpy):
            with pytest.raises((RuntimeError, TypeError), match=r"same device|to numpy"):
                wrong()


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        ("nnUNetTrainer", {}),
        ("nnUNetTrainer", {"labels": "regions"}),
        ("nnUNetTrainer", {"labels": "ignore"}),
        ("nnUNetTrainerLowRank", {}),
        ("nnUNetTrainerDiagonal", {"labels": "regions"}),
    ],
)
@pytest.mark.parametrize("kind", [FullCurvature, KroneckerCurvature])
def test_sums_and_points_are_those_of_the_cpu(make_model, request, trainer, options, kind):
    """Up to the half precision of the features."""
    model = make_model(trainer, **options)
    case = find_fold_cases(model, model.checkpoints[0]).load("case_0")

    def run(device):
        curvature = kind(model.space.num_logits, 9)
        tiles = CaseTiles(model, case, device, step_size=1.0)
        sums = add_case(curvature, model.space, tiles, name="case_0")
        return curvature, sums, collect_points(tiles, name="case_0", num_points=500)

    with torch.inference_mode():
        expected = run(CPU)
        request.getfixturevalue("network_on_device")
        with StandIn():
            found = run(CUDA)
    for name, total in expected[0].tensors.items():
        assert type(found[0].tensors[name]) is Tensor
        torch.testing.assert_close(found[0].tensors[name], total, rtol=0, atol=2e-3 * float(total.abs().max()))
    assert found[1] == pytest.approx(expected[1], rel=2e-3)
    for name, values in expected[2].state().items():
        assert type(found[2].state()[name]) is Tensor
        assert found[2].state()[name].dtype == values.dtype
        torch.testing.assert_close(found[2].state()[name], values, rtol=0, atol=2e-3 * float(values.abs().max()))
