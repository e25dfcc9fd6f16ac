"""The fit on preprocessed cases, against automatic differentiation through the whole network and by brute force."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from nnunet_stochastic.fitting import laplace
from nnunet_stochastic.fitting.curvature_pass import add_case
from nnunet_stochastic.fitting.fold_cases import find_fold_cases
from nnunet_stochastic.fitting.laplace import LaplaceFitting
from nnunet_stochastic.fitting.tile_features import CaseTiles
from nnunet_stochastic.fitting.unfinished_fit import UNFINISHED_FILE
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor
from nnunet_stochastic.inference.sliding_window import tiles
from nnunet_stochastic.networks.last_layer import features_of, last_layer
from nnunet_stochastic.posteriors.laplace_fit import LAPLACE_FILE, LaplaceFit
from nnunet_stochastic.posteriors.last_layer_curvature import FullCurvature
from tests.inference.predictors import half_precision_weights
from tests.inference.test_fold_data import write_validation

CPU = torch.device("cpu")
PATCH = (16, 16, 16)


def fit(model, *, index=0, device=CPU, **options):
    fitting = LaplaceFitting(model, device, **options)
    checkpoint = model.checkpoints[index]
    return fitting.fit(checkpoint, fitting.check(checkpoint, overwrite=True))


def keep_one_training_case(model):
    """Let the fold have case_0 for training and case_3 for validation."""
    splits = find_fold_cases(model, model.checkpoints[0]).folder.parent / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["case_0"], "val": ["case_3"]}]))


def shares_of(shape):
    """Share of each voxel's weight in each tile of an image, (tiles, *patch)."""
    weights, total = half_precision_weights(PATCH), torch.zeros(shape, dtype=torch.float64)
    found = tiles(shape, PATCH, 0.5)
    for tile in found:
        total[tile] += weights
    return [(tile, weights / total[tile]) for tile in found]


def hessian_through_the_network(model, case, loss_of_logits):
    """Of Σ_tiles Σ_n share_n loss_n in the last layer's weights, (C (F + 1), C (F + 1)), the bias last in each row."""
    network, layer = model.network, last_layer(model.network)
    number = len(network.decoder.seg_layers) - 1
    names = [f"decoder.seg_layers.{number}.{name}" for name in ("weight", "bias")]
    size = layer.weight.shape[:2]
    flat = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).detach().flatten()
    total = 0
    for tile, share in shares_of(case.image.shape[1:]):
        patch = case.image[(slice(None), *tile)][None]
        labels = torch.from_numpy(case.labels)[(slice(None), *tile)].long()

        def loss(flat, patch=patch, labels=labels, share=share):
            weights = flat.view(size[0], -1)
            values = weights[:, :-1].reshape(layer.weight.shape), weights[:, -1]
            logits = torch.func.functional_call(network, dict(zip(names, values, strict=True)), (patch,))
            return (share * loss_of_logits(logits, labels)[0]).sum()

        total = total + torch.autograd.functional.hessian(loss, flat)
    return total.double()


def close(found, expected):
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4 * float(expected.abs().max()))


def test_the_curvature_is_the_hessian_by_automatic_differentiation(make_model):
    model = make_model()
    keep_one_training_case(model)
    case = find_fold_cases(model, model.checkpoints[0]).load("case_0")
    expected = hessian_through_the_network(
        model, case, lambda logits, labels: functional.cross_entropy(logits, labels, reduction="none")
    )
    close(fit(model).curvature.matrix, expected)


@pytest.mark.parametrize("trainer", ["nnUNetTrainerSoftmax", "nnUNetTrainerSSN"])
def test_a_last_layer_of_3x3_is_a_layer_of_the_features_around(make_model, tiny_generative_models, trainer):
    """Σ φ̃ φ̃ᵀ of a case over its tiles, the inputs by convolutions that have one weight of 1 each."""
    model = make_model(trainer, scale=0.3)
    keep_one_training_case(model)
    case = find_fold_cases(model, model.checkpoints[0]).load("case_0")
    layer = last_layer(model.network)
    assert layer.weight.shape[2:] == (3, 3, 3)
    num_inputs = layer.weight[0].numel() + 1
    units = torch.eye(num_inputs - 1).view(-1, *layer.weight.shape[1:])
    expected = torch.zeros(num_inputs, num_inputs, dtype=torch.float64)
    for tile, share in shares_of(case.image.shape[1:]):
        features = features_of(model.network, case.image[(slice(None), *tile)][None]).detach()
        inputs = functional.conv3d(features, units, padding=1)[0].flatten(1).double()
        inputs = torch.cat([inputs, torch.ones_like(inputs[:1])])
        expected += (inputs * share.flatten()) @ inputs.T
    curvature = FullCurvature(1, num_inputs)
    for tile in CaseTiles(model, case, CPU, step_size=0.5).features():
        inputs = tile.inputs(torch.arange(len(tile.shares)))
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
        curvature.add(inputs, torch.ones(len(inputs), 1), tile.shares)
    close(curvature.matrix, expected)
    result = fit(model)
    assert (result.curvature.num_logits, result.curvature.num_inputs) == (len(layer.weight), num_inputs)


def test_voxels_without_annotation_do_not_count(make_model):
    model = make_model(labels="ignore")
    keep_one_training_case(model)
    case = find_fold_cases(model, model.checkpoints[0]).load("case_0")
    assert (case.labels == 3).mean() > 0.1
    expected = hessian_through_the_network(
        model, case, lambda logits, labels: functional.cross_entropy(logits, labels, ignore_index=3, reduction="none")
    )
    result = fit(model)
    close(result.curvature.matrix, expected)
    assert result.voxels == (case.labels != 3).sum()


def test_regions_have_a_sigmoid_each(make_model):
    model = make_model(labels="regions")
    keep_one_training_case(model)
    case = find_fold_cases(model, model.checkpoints[0]).load("case_0")

    def loss(logits, labels):
        targets = torch.stack([labels > 0, labels == 2], 1).float()
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)

    result = fit(model)
    close(result.curvature.matrix, hessian_through_the_network(model, case, loss))
    assert result.regions


@pytest.mark.parametrize("trainer", ["nnUNetTrainerDiagonal", "nnUNetTrainerMoBVolume"])
def test_of_a_gaussian_model_it_is_that_of_the_expected_loss_in_the_mean(make_model, trainer):
    """Of the loss on sampled logits, by common samples of all weights; only the mean's weights are in it."""
    model = make_model(trainer, labels="regions", scale=0.3)
    keep_one_training_case(model)
    case = find_fold_cases(model, model.checkpoints[0]).load("case_0")
    tile, share = shares_of(case.image.shape[1:])[0]
    patch = case.image[(slice(None), *tile)][None]
    with torch.no_grad():
        distribution = model.network.logit_distribution(patch)
        samples = distribution.rsample(64, generator=torch.Generator().manual_seed(0))[:, 0]
        p = samples.sigmoid().double()
        variance = (p * (1 - p)).mean(0)
        # One region: the block of its own weights, from the features by hand.
        recorded = []
        hook = last_layer(model.network).register_forward_pre_hook(lambda layer, inputs: recorded.append(inputs[0]))
        model.network(patch)
        hook.remove()
        inputs = torch.cat([recorded[0][0].flatten(1), torch.ones(1, share.numel())]).double()
        blocks = [(inputs * (share * each).flatten()) @ inputs.T for each in variance]
    case_tiles = CaseTiles(model, case, CPU, step_size=0.5)
    case_tiles._tiles = case_tiles._tiles[:1]
    curvature = FullCurvature(2, len(inputs))
    with torch.inference_mode():
        add_case(curvature, model.space, case_tiles, name="case_0")
    found = curvature.matrix.view(2, len(inputs), 2, len(inputs))
    for region in range(2):
        torch.testing.assert_close(
            found[region, :, region], blocks[region], rtol=0.03, atol=0.03 * float(blocks[region].max())
        )
    assert found[0, :, 1].abs().max() == 0


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        ("nnUNetTrainer", {"dimensions": 2}),
        ("nnUNetTrainer", {"residual": True, "channels": 2}),
        ("nnUNetTrainerMoB", {"cascade": True}),
        ("nnUNetTrainerLowRank", {}),
        ("nnUNetTrainerMoBDropout", {"labels": "ignore"}),
    ],
)
def test_kinds_of_models(make_model, trainer, options):
    """The fit is of the checkpoint, lowers the likelihood's loss, and its members predict."""
    model = make_model(trainer, **options)
    checkpoint = model.checkpoints[0]
    result = fit(model)
    assert result.record["nll"] < result.record["nll_trained"]
    assert result.record["training_cases"] == ["case_0", "case_1", "case_2"]
    assert not (checkpoint.folder / UNFINISHED_FILE).exists()
    again = LaplaceFit.load(checkpoint.folder)
    again.require_origin(
        checkpoint.path, checkpoint_sha256=checkpoint.sha256, plans_sha256=result.record["plans_sha256"]
    )
    assert torch.equal(again.curvature.matrix, result.curvature.matrix)
    predictor = StochasticPredictor(model, options=PredictionOptions(epistemic="laplace", num_members=3))
    case = find_fold_cases(model, checkpoint).load("case_3")
    grid = predictor.predict_grid(case.image)
    assert grid.epistemic.mean() > 0


def test_an_interrupted_fit_goes_on_to_the_same_result(make_model, monkeypatch):
    model = make_model()
    folder = model.checkpoints[0].folder
    undisturbed = fit(model)
    (folder / LAPLACE_FILE).unlink()
    whole = laplace.add_case, laplace.collect_points
    seen = []

    def interrupted(*arguments, name, **options):
        if name in ("case_1", "case_3") and name not in seen:
            seen.append(name)
            if name == "case_1":  # half-way: what has been added of the case must not count
                whole[0](*arguments, name=name, **options)
            raise KeyboardInterrupt
        seen.append(name)
        return whole[name == "case_3"](*arguments, name=name, **options)

    monkeypatch.setattr(laplace, "add_case", interrupted)
    monkeypatch.setattr(laplace, "collect_points", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit(model)
        assert (folder / UNFINISHED_FILE).is_file()
        assert not (folder / LAPLACE_FILE).exists()
    resumed = fit(model)
    assert seen == ["case_0", "case_1", "case_1", "case_2", "case_3", "case_3"]
    assert torch.equal(resumed.curvature.matrix, undisturbed.curvature.matrix)
    assert (resumed.temperature, resumed.prior_precision) == (undisturbed.temperature, undisturbed.prior_precision)
    assert resumed.record == undisturbed.record
    assert not (folder / UNFINISHED_FILE).exists()


def test_an_unfinished_fit_of_other_settings_is_not_gone_on_with(make_model, monkeypatch):
    model = make_model()
    with monkeypatch.context() as patched:
        patched.setattr(laplace, "collect_points", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(model)
    added = []
    monkeypatch.setattr(laplace, "add_case", lambda *a, name, **o: added.append(name) or add_case(*a, name=name, **o))
    fit(model, step_size=1.0)
    assert added == ["case_0", "case_1", "case_2"]


def test_folds_have_their_own_fits(make_model, make_dataset):
    model = make_model(folds=(0, 1))
    splits = find_fold_cases(model, model.checkpoints[0]).folder.parent / "splits_final.json"
    names = [f"case_{index}" for index in range(4)]
    splits.write_text(json.dumps([{"train": names[:3], "val": names[3:]}, {"train": names[1:], "val": names[:1]}]))
    first, second = fit(model), fit(model, index=1)
    assert second.record["training_cases"] == names[1:]
    assert not torch.allclose(first.curvature.matrix, second.curvature.matrix)
    predictor = StochasticPredictor(model, options=PredictionOptions(epistemic="laplace", num_members=2))
    assert [member.name for member in predictor.members] == [
        *("fold_0_laplace_0", "fold_0_laplace_1", "fold_1_laplace_0", "fold_1_laplace_1")
    ]
    case = find_fold_cases(model, model.checkpoints[0]).load("case_3")
    assert predictor.predict_grid(case.image).epistemic.mean() > 0


def test_all_cases_have_no_validation(make_model):
    model = make_model(folds=("all",))
    with pytest.raises(ValueError, match=r"fold_all has no validation cases.*--fit marginal_likelihood"):
        fit(model)
    result = fit(model, criterion="marginal_likelihood")
    assert result.record["training_cases"] == [f"case_{index}" for index in range(4)]
    assert "nll" not in result.record
    assert result.temperature == result.record["temperature_of_scores"] < 0.1


@pytest.mark.parametrize("trainer", ["nnUNetTrainerDiffusion", "nnUNetTrainerProbUNet"])
def test_models_without_a_last_layer_are_refused(make_model, tiny_generative_models, trainer):
    model = make_model(trainer)
    with pytest.raises(
        ValueError, match=rf"{trainer}: .* has no decoder with seg_layers.*latent variable and diffusion"
    ):
        LaplaceFitting(model, CPU)


def test_gaussian_models_of_many_classes_are_refused(make_model, monkeypatch):
    model = make_model("nnUNetTrainerDiagonal")
    monkeypatch.setattr(type(model.label_manager), "num_segmentation_heads", 6)
    with pytest.raises(ValueError, match=r"Gaussian over 6 exclusive classes.*up to 5 classes"):
        LaplaceFitting(model, CPU)


def damage_nothing_there(model, base):
    (base / "tiny_3d").rename(base / "elsewhere")


def damage_plans(model, base):
    plans = json.loads((base / "nnUNetPlans.json").read_text())
    plans["configurations"]["3d_fullres"]["spacing"] = [2.0, 1.0, 1.0]
    (base / "nnUNetPlans.json").write_text(json.dumps(plans))


def damage_splits(model, base):
    (base / "splits_final.json").unlink()


def damage_folds(model, base):
    (base / "splits_final.json").write_text(json.dumps([{"train": ["case_0"], "val": ["case_9"]}]))


def damage_split_of_training(model, base):
    """Replace the splits after nnU-Net's closing validation, as ensemble_splits does."""
    splits = json.loads((base / "splits_final.json").read_text())
    write_validation(model.checkpoints[0].folder, splits[0]["val"])
    LaplaceFitting(model, CPU).check(model.checkpoints[0], overwrite=False)  # these are the training's
    cases = sorted([*splits[0]["train"], *splits[0]["val"]])
    moved = splits[0]["train"][:1]
    (base / "splits_final.json").write_text(
        json.dumps([{"train": [case for case in cases if case not in moved], "val": moved}])
    )


def damage_file(model, base):
    (model.checkpoints[0].folder / LAPLACE_FILE).write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (damage_nothing_there, FileNotFoundError, "there is no folder .*tiny_3d.*nnUNetv2_preprocess"),
        (damage_plans, ValueError, "differ in spacing: the preprocessed cases are not those of the training"),
        (damage_splits, FileNotFoundError, "splits_final.json is missing"),
        (damage_folds, FileNotFoundError, "lacks 1 cases of fold_0: case_9"),
        (damage_split_of_training, ValueError, "not that of the training of fold_0.*restore the splits"),
        (damage_file, ValueError, "laplace.pth is there: --overwrite"),
    ],
)
def test_what_would_stop_a_fit_is_found_before_it(make_model, damage, error, message):
    model = make_model()
    base = find_fold_cases(model, model.checkpoints[0]).folder.parent
    damage(model, base)
    with pytest.raises(error, match=message):
        LaplaceFitting(model, CPU).check(model.checkpoints[0], overwrite=False)


def test_features_that_are_not_finite_name_the_case(make_model):
    model = make_model()
    cases = find_fold_cases(model, model.checkpoints[0])
    path = model.checkpoints[0].path
    content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.seg_layers.1.bias"] = torch.tensor([0.0, float("nan"), 0.0])
    torch.save(content, path)
    with pytest.raises(ValueError, match="case_0: the network's features or logits have NaN"):
        LaplaceFitting(model, CPU).fit(model.checkpoints[0], cases)


def test_labels_of_several_raters_count_by_their_shares(make_model, monkeypatch):
    """The likelihood is the mean over the raters'."""
    model = make_model()
    cases = find_fold_cases(model, model.checkpoints[0])
    masks = {rater: np.full((1, 16, 20, 18), rater, np.int16) for rater in (0, 1)}
    raters = type("Raters", (), {"num_raters": 2, "load": lambda self, case, rater: (masks[rater], {})})()
    object.__setattr__(cases, "raters", raters)
    found = cases.load("case_0")
    assert found.labels.shape == (2, 16, 20, 18)
    targets = CaseTiles(model, found, CPU, step_size=0.5).targets(torch.from_numpy(found.labels).flatten(1)[:, :3])
    assert targets.tolist() == [[0.5, 0.5, 0.0]] * 3


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"labels": "regions"}, {"trainer": "nnUNetTrainerMoB"}])
def test_on_a_cuda_device_it_is_that_of_the_cpu(make_model, options):
    """Up to the half precision of its convolutions."""
    model = make_model(**options)
    on_cpu, on_cuda = fit(model), fit(model, device=torch.device("cuda"))
    scale = float(on_cpu.curvature.matrix.abs().max())
    torch.testing.assert_close(on_cuda.curvature.matrix, on_cpu.curvature.matrix, rtol=0, atol=0.02 * scale)
    assert on_cuda.record["nll_trained"] == pytest.approx(on_cpu.record["nll_trained"], rel=0.01)
    assert on_cuda.record["nll"] == pytest.approx(on_cpu.record["nll"], rel=0.01)
