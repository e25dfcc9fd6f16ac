"""The energy score against GED, enumerated laws and closed forms; the loss against its two parts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nnunet_stochastic.distributions import BasisGaussian, LogitDistribution, LowRankGaussian, PointMass
from nnunet_stochastic.losses import energy_score, energy_score_loss
from nnunet_stochastic.metrics.ged import generalized_energy_distance
from nnunet_stochastic.targets import Target, encode_target


def masks(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def as_regions(annotation: torch.Tensor) -> Target:
    return encode_target(annotation, annotation.shape[1], regions=True)


def distance(p: torch.Tensor, q: torch.Tensor) -> float:
    """1 - IoU of two masks and one more voxel that both have."""
    overlap = float((p * q).sum()) + 1
    return 1 - overlap / (float(p.sum() + q.sum()) + 2 - overlap)


def test_is_the_mean_distance_less_half_that_of_different_samples() -> None:
    samples = torch.rand(4, 2, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    annotation = masks(2, 3, 5, 6)
    expected = []
    for image, region in itertools.product(range(2), range(3)):
        drawn, y = samples[:, image, region], annotation[image, region]
        between = [distance(p, q) for p, q in itertools.permutations(drawn, 2)]
        expected.append(np.mean([distance(p, y) for p in drawn]) - np.mean(between) / 2)
    result = energy_score(samples, as_regions(annotation), regions=True)
    assert float(result) == pytest.approx(np.mean(expected), abs=1e-6)


def test_of_equal_binary_samples_is_the_distance_to_the_annotation() -> None:
    sample, annotation = masks(1, 1, 4, 5), masks(1, 1, 4, 5, seed=1)
    score = energy_score(sample.expand(3, -1, -1, -1, -1), as_regions(annotation), regions=True)
    assert float(score) == pytest.approx(distance(sample, annotation), abs=1e-6)
    assert float(energy_score(annotation.expand(3, -1, -1, -1, -1), as_regions(annotation), regions=True)) == 0


def test_differences_between_models_are_half_those_of_ged() -> None:
    """Over all raters, with masks so large that the added voxel is nothing, and each sample with itself counted."""
    raters = masks(4, 1, 1, 60_000)
    results = []
    for samples in (masks(6, 1, 1, 60_000, seed=1), torch.zeros(6, 1, 1, 60_000).index_fill(3, torch.arange(9_000), 1)):
        unbiased = np.mean([float(energy_score(samples, as_regions(y), regions=True)) for y in raters])
        pairs = [distance(p, q) for p, q in itertools.permutations(samples, 2)]
        score = unbiased + np.mean(pairs) / 2 * (1 - 5 / 6)
        labels = [each[:, 0, 0].numpy().astype(np.uint8) for each in (samples, raters)]
        results.append((score, generalized_energy_distance(*labels, classes=[[1]])["iou"]))
    (score, energy), (other_score, other_energy) = results
    assert abs(energy - other_energy) > 0.1
    assert 2 * (score - other_score) == pytest.approx(energy - other_energy, abs=1e-3)


def kernel_matrix(voxels: int) -> torch.Tensor:
    """1 - d between all binary masks of so many voxels, float64."""
    every = [torch.tensor(bits, dtype=torch.float64) for bits in itertools.product((0.0, 1.0), repeat=voxels)]
    return torch.tensor([[1 - distance(p, q) for q in every] for p in every], dtype=torch.float64)


@pytest.mark.parametrize("voxels", [1, 3, 5])
def test_is_strictly_proper_on_binary_masks(voxels: int) -> None:
    """The expected score of a law Q under P exceeds that of P by ½ (Q - P)ᵀ k (Q - P), and k is positive definite."""
    assert float(torch.linalg.eigvalsh(kernel_matrix(voxels))[0]) > 1e-6


def test_descends_to_the_law_of_the_annotations() -> None:
    """Weights of all masks of three voxels, fitted to the exact score of a law far from uniform."""
    kernel, truth = kernel_matrix(3), torch.tensor([0.3, 0, 0.05, 0.05, 0, 0.1, 0.1, 0.4], dtype=torch.float64)
    logits = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        law = logits.softmax(0)
        score = law @ (1 - kernel) @ truth - law @ (1 - kernel) @ law / 2
        score.backward()
        return score

    optimizer.step(closure)
    torch.testing.assert_close(logits.softmax(0).detach(), truth, atol=2e-3, rtol=0)


def test_a_law_with_the_spread_of_the_raters_beats_the_best_single_mask() -> None:
    """Nested masks of 20 to 40 voxels: the mean distance alone would choose one of them for all samples."""
    nested = (torch.arange(60) < torch.arange(20, 41)[:, None]).float()[:, None, None]
    spread = np.mean([float(energy_score(nested, as_regions(y), regions=True)) for y in nested])
    for mask in nested:
        alike = mask.expand(5, 1, 1, 60)
        assert np.mean([float(energy_score(alike, as_regions(y), regions=True)) for y in nested]) > spread


def test_estimate_is_unbiased_in_the_number_of_samples() -> None:
    """Its mean over all pairs of different samples is its value for all of them."""
    samples, annotation = torch.rand(5, 1, 1, 7, generator=torch.Generator().manual_seed(0)), masks(1, 1, 7)
    pairs = [samples[list(pair)] for pair in itertools.combinations(range(5), 2)]
    mean = np.mean([float(energy_score(pair, as_regions(annotation), regions=True)) for pair in pairs])
    assert mean == pytest.approx(float(energy_score(samples, as_regions(annotation), regions=True)), abs=1e-6)


def test_does_not_depend_on_the_order_of_voxels_and_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, annotation = torch.rand(4, 2, 2, 30, generator=generator), masks(2, 2, 30)
    voxels, order = torch.randperm(30, generator=generator), torch.randperm(4, generator=generator)
    expected = energy_score(samples, as_regions(annotation), regions=True)
    changed = energy_score(samples[order][..., voxels], as_regions(annotation[..., voxels]), regions=True)
    torch.testing.assert_close(changed, expected)


def test_background_is_left_out_and_regions_are_not() -> None:
    samples = torch.rand(3, 1, 3, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(2)
    labels = torch.randint(3, (1, 1, 4, 5), generator=torch.Generator().manual_seed(1))
    target = encode_target(labels, 3)
    foreground = energy_score(samples[:, :, 1:], as_regions(target.mask[:, 1:]), regions=True)
    torch.testing.assert_close(energy_score(samples, target), foreground)
    with pytest.raises(ValueError, match="at least one foreground class"):
        energy_score(samples[:, :, :1], encode_target(torch.zeros(1, 1, 4, 5), 1))


def test_ignored_voxels_count_for_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 10, generator=generator)
    labels = torch.randint(3, (1, 1, 10), generator=generator)
    labels[..., 6:] = 9
    short, ignored = encode_target(labels[..., :6], 3), encode_target(labels, 3, ignore_label=9)
    samples = torch.rand(4, 1, 3, 10, generator=generator)
    torch.testing.assert_close(energy_score(samples, ignored), energy_score(samples[..., :6], short))
    torch.testing.assert_close(
        energy_score_loss(PointMass(logits), ignored, 2), energy_score_loss(PointMass(logits[..., :6]), short, 2)
    )
    nothing = encode_target(torch.full((1, 1, 10), 9), 3, ignore_label=9)
    assert energy_score_loss(PointMass(logits), nothing, 2).item() == 0


def test_of_a_point_mass_is_soft_iou_and_cross_entropy() -> None:
    logits, labels = torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(0)), masks(2, 1, 4, 5).long()
    probabilities = logits.softmax(1)[:, 1]
    scores = [distance(p, y) - distance(p, p) / 2 for p, y in zip(probabilities, labels[:, 0], strict=True)]
    expected = np.mean(scores) + 3 * float(cross_entropy(logits, labels[:, 0]))
    result = energy_score_loss(PointMass(logits), encode_target(labels, 2), 4, weight_cross_entropy=3.0)
    assert float(result) == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_is_that_of_the_predictive_mean(monkeypatch) -> None:
    """With regions, the mixture's likelihood of what a voxel is labelled in all regions together."""
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(2, 2, 4, 3, generator=generator), torch.rand(2, 2, 4, 3, generator=generator)
    distribution = LowRankGaussian(mean, variance, torch.randn(2, 2, 3, 4, 3, generator=generator))
    samples: list[torch.Tensor] = []
    draw = LogitDistribution.rsample
    monkeypatch.setattr(
        LogitDistribution, "rsample", lambda *given, **more: samples.append(draw(*given, **more)) or samples[-1]
    )
    for regions in (False, True):
        samples.clear()
        target = as_regions(masks(2, 2, 4, 3)) if regions else encode_target(masks(2, 1, 4, 3), 2)
        losses = []
        for weight in (2.0, 0.0):
            torch.manual_seed(0)
            losses.append(energy_score_loss(distribution, target, 3, regions=regions, weight_cross_entropy=weight))
        weighted, score = losses
        logits = torch.cat(samples[:3])
        if regions:
            likelihood = -binary_cross_entropy_with_logits(logits, target.mask.expand_as(logits), reduction="none").sum(
                2
            )
        else:
            likelihood = (logits.log_softmax(2) * target.mask).sum(2)
        expected = -likelihood.exp().mean(0).log().mean() / (2 if regions else 1)
        torch.testing.assert_close(weighted - score, 2 * expected)


def test_half_precision_is_computed_in_float32() -> None:
    """A volume of 80,000 voxels is beyond float16's largest number."""
    samples = torch.ones(2, 1, 1, 80_000, dtype=torch.float16)
    annotation = torch.ones(1, 1, 80_000)
    annotation[..., 40_000:] = 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = energy_score(samples, as_regions(annotation), regions=True)
    assert float(score) == pytest.approx(1 - 40_001 / 80_001, abs=1e-6)


def parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"mean": (2, 3, 4, 2), "variance": (2, 3, 4, 2), "scale": (2, 2, 4, 2), "bases": (2, 1, 1, 3, 2)}
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes.values()]
    values[1] = values[1].square() + 0.1
    return [value.requires_grad_() for value in values]


def volume_loss(*values: torch.Tensor, recompute: bool = True) -> torch.Tensor:
    torch.manual_seed(3)
    labels = torch.randint(3, (2, 1, 4, 2), generator=torch.Generator().manual_seed(2))
    return energy_score_loss(
        BasisGaussian(*values, noise_scope="volume"), encode_target(labels, 3), 3, recompute=recompute
    )


def test_gradient() -> None:
    assert gradcheck(volume_loss, parameters())


def test_recomputation_changes_neither_value_nor_gradient() -> None:
    results = []
    for recompute in (True, False):
        values = parameters()
        loss = volume_loss(*values, recompute=recompute)
        results.append((loss, *torch.autograd.grad(loss, values)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_bad_input_is_refused() -> None:
    target = as_regions(masks(1, 2, 5))
    with pytest.raises(ValueError, match="do not match a target of shape"):
        energy_score(torch.zeros(2, 1, 2, 6), target, regions=True)
    with pytest.raises(ValueError, match="at least 2 are needed, got 1"):
        energy_score(torch.zeros(1, 1, 2, 5), target, regions=True)
    distribution = PointMass(torch.zeros(1, 2, 5))
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        energy_score_loss(distribution, target, 1, regions=True)
    with pytest.raises(ValueError, match="weight_cross_entropy must be at least 0"):
        energy_score_loss(distribution, target, 2, regions=True, weight_cross_entropy=-1.0)
