"""The noise of samples is no epistemic uncertainty, its bias is small, and it is another in every image."""

from __future__ import annotations

import math
from functools import cache

import nibabel
import numpy as np
import pytest
import torch
from scipy.special import entr

from nnunet_stochastic.distributions import DiagonalGaussian, LatentLogits
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, load_model, predict_folder
from nnunet_stochastic.maps import epistemic_map
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.training import BasisTrainer, DiagonalTrainer, LowRankTrainer
from tests.inference.predictors import PROPERTIES, TinyDiffusion, TinyProbUNet, TinySoftmax, TinySSN, build

ALL_LABELS = ["LABELS", "THREE_LABELS", "REGIONS", "SIX_LABELS"]


class WideDiagonal(DiagonalTrainer):
    log_variance_bias = 1.0


class WideLowRank(LowRankTrainer):
    rank, factor_scale = 4, 1.0


class SingleBasisVoxel(BasisTrainer):
    num_bases, rank, initial_scale = 1, 4, 1.5


class SingleBasisVolume(SingleBasisVoxel):
    noise_scope = "volume"


class MixtureVoxel(BasisTrainer):
    rank, partitions, initial_scale = 4, 2, 1.5


class MixtureVolume(MixtureVoxel):
    noise_scope = "volume"


FAMILIES = [
    WideDiagonal,
    WideLowRank,
    SingleBasisVoxel,
    SingleBasisVolume,
    MixtureVoxel,
    MixtureVolume,
    TinySSN,
    TinyProbUNet,
    TinyDiffusion,
    TinySoftmax,
]


def write_nearly_equal_folds(folders, folder, labels, trainer, *, relative=1e-4):
    """Three folds whose weights differ by so much."""
    folders.write_model_folder(
        folder,
        labels=getattr(folders, labels),
        trainer=trainer,
        dimension=2,
        patch_size=8,
        mirror_axes=(0,),
        folds=(0, 1, 2),
    )
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    weights = checkpoint["network_weights"]
    generator = torch.Generator().manual_seed(0)
    for name, weight in weights.items():  # so that the samples of a generative model differ as if it was trained
        if name.startswith(("latent_decoder", "prior", "output")):
            weight += 0.5 * torch.randn(weight.shape, generator=generator)
    for fold in range(3):
        checkpoint["network_weights"] = {
            name: weight * (1 + relative * torch.randn(weight.shape, generator=generator))
            for name, weight in weights.items()
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


@pytest.mark.parametrize("labels", ALL_LABELS)
@pytest.mark.parametrize("trainer", FAMILIES)
def test_members_that_agree_have_no_epistemic_uncertainty(tmp_path, folders, find_trainer, trainer, labels):
    """EU/AU < 0.002 with 10 samples for every family; the plug-in estimator takes their noise for EU > 0.005 AU."""
    if trainer is TinyDiffusion and labels == "REGIONS":
        pytest.skip("the diffusion model predicts exclusive classes")
    folder = write_nearly_equal_folds(folders, tmp_path / "model", labels, find_trainer(trainer))
    model = load_model(folder, folds=(0, 1, 2))
    image = folders.image_array(shape=(1, 8, 12))[None]
    aleatoric = "tta" if trainer is TinySoftmax else "model"

    def ratio(estimator):
        options = PredictionOptions(num_samples=10, estimator=estimator, aleatoric=aleatoric)
        maps = StochasticPredictor(model, options=options).predict_array(image, PROPERTIES).maps
        assert maps["aleatoric"].mean() > 0.01
        return maps["epistemic"].mean() / maps["aleatoric"].mean()

    assert ratio("mc") < 0.002
    if model.gaussian and model.space.scalar:
        assert ratio("auto") < 0.002
    if aleatoric == "model":
        assert ratio("plug_in") > 0.005


class ConstantLaw(torch.nn.Module):
    """One law at every voxel: logits N(means, sd² I), of two classes their difference N(mean, sd²)."""

    has_samples = is_gaussian = True

    def __init__(self, means, sd) -> None:
        super().__init__()
        self.means, self.sd = torch.tensor(means), sd

    def logit_distribution(self, x):
        shape = (1, len(self.means), *x.shape[2:])
        mean = self.means.view(1, -1, *[1] * (x.ndim - 2)).expand(shape).contiguous()
        return DiagonalGaussian(mean, torch.full(shape, self.sd**2 / (2 if len(self.means) == 2 else 1)))


@cache
def entropy_of_mean(means, sd) -> float:
    """Of E[softmax] of a law as above, by 200 nodes or a million samples."""
    if len(means) == 2:
        nodes, weights = np.polynomial.hermite_e.hermegauss(200)
        p = (weights / (1 + np.exp(-(means[1] - means[0] + sd * nodes)))).sum() / weights.sum()
        p = np.array([1 - p, p])
    else:
        logits = torch.tensor(means).double() + sd * torch.randn(
            1_000_000, len(means), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        p = logits.softmax(1).mean(0).numpy()
    return float(-(p * np.log(p)).sum())


@pytest.mark.parametrize(("num_samples", "tolerance"), [(10, 0.05), (30, 0.02)])
@pytest.mark.parametrize("sd", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("mean", [-6.0, -4.0, -2.0, 0.0, 3.0, 6.0])
def test_bias_of_aleatoric_uncertainty_of_two_classes(sweeping, mean, sd, num_samples, tolerance):
    """AU = H(p̄_e) of members with one law, on average over voxels: at most 5 % off with 10 samples, 2 % with 30."""
    network = ConstantLaw((0.0, mean), sd)
    moments = sweeping.sweep(
        [network, network], torch.zeros(1, 8, 64, 64), OutcomeSpace(2), patch_size=(8, 64, 64), num_samples=num_samples
    ).moments
    assert moments.expected_entropy.mean().item() == pytest.approx(entropy_of_mean((0.0, mean), sd), rel=tolerance)


@pytest.mark.parametrize(("num_samples", "tolerance"), [(10, 0.05), (30, 0.02)])
@pytest.mark.parametrize("sd", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("means", [(0.0, 0.0, 0.0), (0.0, -2.0, -6.0), (0.0, -6.0, -6.0), (0.0, -4.0, 1.0, -2.0)])
def test_bias_of_aleatoric_uncertainty_of_more_classes(sweeping, means, sd, num_samples, tolerance):
    network = ConstantLaw(means, sd)
    moments = sweeping.sweep(
        [network, network],
        torch.zeros(1, 4, 64, 64),
        OutcomeSpace(len(means)),
        patch_size=(4, 64, 64),
        num_samples=num_samples,
    ).moments
    expected = entropy_of_mean(means, sd)
    assert moments.expected_entropy.mean().item() == pytest.approx(expected, rel=tolerance)
    # One member: its samples' entropy and that of their mean are both right, so what is between them is too.
    alone = sweeping.sweep(
        network,
        torch.zeros(1, 4, 64, 64),
        OutcomeSpace(len(means)),
        patch_size=(4, 64, 64),
        num_samples=num_samples,
    ).moments
    assert OutcomeSpace(len(means)).entropy(alone.mean).mean().item() == pytest.approx(expected, rel=tolerance)


class LatentLaw(torch.nn.Module):
    """Logits that are one number of the whole image, times the image."""

    has_samples = True

    def __init__(self, sd=1.5) -> None:
        super().__init__()
        self.sd = sd

    def logit_distribution(self, x):
        def decode(latent):
            return torch.cat([torch.zeros_like(x), x * latent.view(-1, *[1] * (x.ndim - 1))], 1)

        shape = (1, 2, *x.shape[2:])
        return LatentLogits(torch.full((1, 1), -1.0), torch.full((1, 1), self.sd), decode, shape)


@pytest.mark.parametrize("num_samples", [10, 30])
def test_total_of_one_member_with_averaged_samples_is_corrected(sweeping, num_samples):
    """Over 300 images: H(p̄) + δ is nearer to the entropy of the limit than H(p̄), which lacks ½ Σ Var[p̄] / p̄."""
    image, space = torch.ones(1, 1, 8, 8), OutcomeSpace(2)
    plain, corrected, epistemic = [], [], []
    for number in range(300):
        moments = sweeping.sweep(
            LatentLaw(), image, space, patch_size=(8, 8), blends_laws=False, num_samples=num_samples, case=f"{number}"
        ).moments
        plain.append(space.entropy(moments.mean).mean().item())
        corrected.append(plain[-1] + moments.lost_entropy.mean().item())
        epistemic.append(epistemic_map(moments).mean().item())
    truth = entropy_of_mean((0.0, -1.0), 1.5)
    error = 3 * np.std(corrected) / 300**0.5
    assert abs(np.mean(corrected) - truth) < error + 0.2 * abs(np.mean(plain) - truth)
    assert abs(np.mean(corrected) - truth) < abs(np.mean(plain) - truth)
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    p = 1 / (1 + np.exp(1 - 1.5 * nodes))
    expected = truth - (weights * (entr(p) + entr(1 - p))).sum() / weights.sum()
    assert abs(np.mean(epistemic) - expected) < 3 * np.std(epistemic) / 300**0.5 + 0.02 * expected


@pytest.mark.parametrize("estimator", ["mc", "plug_in"])
def test_error_of_a_mean_over_images_falls_with_their_number(sweeping, estimator):
    """Of 24 images about as 1 / √24; with one noise for all images it was that of one image."""

    def mean_probability(case):
        swept = sweeping.sweep(
            LatentLaw(),
            torch.ones(1, 1, 8, 8),
            OutcomeSpace(2),
            patch_size=(8, 8),
            blends_laws=False,
            estimator=estimator,
            num_samples=5,
            case=case,
        )
        return swept.moments.mean.mean().item()

    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    truth = (weights / (1 + np.exp(1 - 1.5 * nodes))).sum() / weights.sum()
    errors = np.array([mean_probability(f"case_{number}") for number in range(24 * 20)]) - truth
    of_one, of_24 = math.sqrt((errors**2).mean()), math.sqrt((errors.reshape(20, 24).mean(1) ** 2).mean())
    assert of_one > 0.01
    assert 0.5 < of_24 / (of_one / math.sqrt(24)) < 1.5


@pytest.mark.parametrize("trainer", [WideLowRank, SingleBasisVoxel, TinyProbUNet])
def test_noise_belongs_to_the_case(tmp_path, folders, find_trainer, trainer):
    """Equal images of two names have other samples and other Monte-Carlo maps; of one name the same files."""
    folder = folders.write_model_folder(
        tmp_path / "model",
        labels=folders.THREE_LABELS,
        trainer=find_trainer(trainer),
        dimension=2,
        patch_size=8,
        mirror_axes=(0,),
        folds=(0, 1),
    )
    array = folders.image_array(shape=(2, 8, 12))
    for name in ("first/a", "first/b", "second/a"):
        folders.write_image(tmp_path / f"{name}_0000.nii.gz", array)
    predictor = build(folder, folds=(0, 1), num_samples=4, num_saved_samples=3, estimator="mc")
    for name in ("first", "second"):
        assert predict_folder(predictor, tmp_path / name, tmp_path / f"{name}_out").failures == {}

    def bytes_of(folder, case):
        files = sorted((tmp_path / folder).rglob(f"{case}*.nii.gz"))
        assert len(files) == 1 + 4 + 3
        return [file.read_bytes() for file in files]

    assert bytes_of("first_out", "a") == bytes_of("second_out", "a")

    def values(case, kind):
        files = sorted((tmp_path / "first_out" / kind).glob(f"{case}*.nii.gz"))
        return np.stack([nibabel.load(file).get_fdata() for file in files])

    for kind in ("total", "aleatoric", "variance"):
        assert np.abs(values("a", kind) - values("b", kind)).mean() > 1e-4, kind
    assert (values("a", "samples") != values("b", "samples")).mean() > 0.01


def test_names_of_arrays_are_their_noise(tmp_path, folders, find_trainer):
    trainer = find_trainer(TinyProbUNet)
    folder = write_nearly_equal_folds(folders, tmp_path / "model", "THREE_LABELS", trainer)
    image = folders.image_array(shape=(1, 8, 12))[None]
    predictor = build(folder, num_samples=4)
    unnamed, same, named = (
        predictor.predict_array(image, PROPERTIES, name=name).maps["total"] for name in ("", "", "a")
    )
    np.testing.assert_array_equal(unnamed, same)
    assert np.abs(unnamed - named).mean() > 1e-4
    np.testing.assert_array_equal(predictor.predict_array(image, PROPERTIES).maps["total"], unnamed)
