"""Points of validation cases: means over them are those over all voxels, and what is blended is the prediction."""

import json

import numpy as np
import pytest
import torch

from nnunet_stochastic.fitting.curvature_pass import add_case
from nnunet_stochastic.fitting.fold_cases import find_fold_cases
from nnunet_stochastic.fitting.tile_features import CaseTiles, TileFeatures
from nnunet_stochastic.fitting.validation_points import ValidationPoints, collect_points
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor
from nnunet_stochastic.networks.last_layer import last_layer
from nnunet_stochastic.posteriors.last_layer_curvature import FullCurvature

CPU = torch.device("cpu")


def tiles_of(model, name="case_0", **options):
    case = find_fold_cases(model, model.checkpoints[0]).load(name)
    return CaseTiles(model, case, CPU, **{"step_size": 0.5, **options}), case


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerMoBVolume"])
@torch.inference_mode()
def test_all_voxels_have_the_blended_law_of_a_prediction(make_model, trainer):
    model = make_model(trainer)
    tiles, case = tiles_of(model)
    points = collect_points(tiles, name="case_0", num_points=10**6)
    assert points.weights.tolist() == pytest.approx([1 / case.labels.size] * case.labels.size)
    predictor = StochasticPredictor(model, options=PredictionOptions(epistemic="none", mirroring=False))
    collectors = []
    finish = predictor._collector

    def keep(*arguments):
        collectors.append(finish(*arguments))
        return collectors[-1]

    predictor._collector = keep
    predictor.predict_grid(case.image)
    (collector,) = collectors
    torch.testing.assert_close(points.fields.view(-1, *case.labels.shape[1:]), collector.fields, rtol=1e-4, atol=1e-4)
    layer = last_layer(model.network)
    logits = points.inputs[:, :-1] @ layer.weight.flatten(1).T + layer.bias
    free = model.space.num_log_ratios
    torch.testing.assert_close(model.space.log_ratios(logits.T), points.fields[:free], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(points.targets.argmax(1), case.labels[0].ravel())


def test_means_over_few_points_are_unbiased(make_model):
    """The mean of a function that is large at borders, over draws under many names."""
    model = make_model()
    tiles, case = tiles_of(model)
    function = torch.from_numpy(case.labels[0]).flatten().float() + torch.arange(case.labels.size) / case.labels.size
    whole, count = tuple(slice(0, size) for size in tiles.shape), case.labels.size
    windows = function.view(1, *tiles.shape, 1, 1, 1)
    tiles.features = lambda: iter([TileFeatures(whole, windows, torch.zeros(2, count), torch.ones(count))])
    means = []
    for number in range(60):
        points = collect_points(tiles, name=f"draw_{number}", num_points=200)
        assert float(points.weights.sum()) == pytest.approx(1, rel=1e-5)
        assert points.weights.max() > 1.5 * points.weights.min()
        means.append(float(points.inputs[:, 0] @ points.weights))
    error = np.std(means) / len(means) ** 0.5
    assert np.mean(means) == pytest.approx(float(function.mean()), abs=4 * error)
    assert error < 0.02


def test_a_case_without_annotation_has_no_points(make_model):
    model = make_model(labels="ignore")
    tiles, _ = tiles_of(model)
    tiles.annotated.zero_()
    with torch.inference_mode():
        assert collect_points(tiles, name="case_0", num_points=10) is None


def test_cases_count_the_same():
    def state(value, size):
        return {
            "inputs": torch.full((size, 2), float(value)),
            "fields": torch.zeros(1, size),
            "targets": torch.zeros(size, 2),
            "weights": torch.full((size,), 1 / size),
        }

    points = ValidationPoints.join([state(1, 2), state(4, 8)])
    assert float(points.inputs[:, 0] @ points.weights) == pytest.approx(2.5)


def test_squared_score_is_that_of_the_gradient_of_the_case(make_model):
    """By automatic differentiation of the cross-entropy in the last layer's weights, over the tiles by their shares."""
    model = make_model()
    tiles, case = tiles_of(model)
    layer = last_layer(model.network)
    curvature = FullCurvature(3, layer.weight.shape[1] + 1)
    with torch.inference_mode():
        sums = add_case(curvature, model.space, tiles, name="case_0")
    total = 0.0
    for tile in tiles._tiles:
        share = tiles._stitching.weights / tiles._stitching.total_weight[tile]
        labels = torch.from_numpy(case.labels)[(slice(None), *tile)].long()
        logits = model.network(case.image[(slice(None), *tile)][None])
        total = total + (share * torch.nn.functional.cross_entropy(logits, labels, reduction="none")[0]).sum()
    gradients = torch.autograd.grad(total, [layer.weight, layer.bias])
    expected = float(sum(gradient.double().square().sum() for gradient in gradients))
    assert sums["squared_score"] == pytest.approx(expected, rel=1e-3)
    assert sums["voxels"] == case.labels.size


def test_steps_of_tiles(make_model):
    """Each voxel counts once, however often it is predicted."""
    model = make_model()
    for step_size in (0.5, 1.0):
        tiles, case = tiles_of(model, step_size=step_size)
        with torch.inference_mode():
            total = sum(float(tile.shares.sum()) for tile in tiles.features())
        assert total == pytest.approx(case.labels.size, rel=1e-5)


def test_splits_are_those_of_the_fold(make_model):
    model = make_model(folds=(0, 1))
    base = find_fold_cases(model, model.checkpoints[0]).folder.parent
    (base / "splits_final.json").write_text(json.dumps([{"train": ["case_1"], "val": []}]))
    assert find_fold_cases(model, model.checkpoints[0]).training == ("case_1",)
    with pytest.raises(ValueError, match="has the folds 0 to 0 and not fold_1"):
        find_fold_cases(model, model.checkpoints[1])
