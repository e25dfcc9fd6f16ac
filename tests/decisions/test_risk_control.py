"""Losses of masks against masks, thresholds against a search over all of the grid, the risk by simulation."""

import json

import numpy as np
import pytest

from nnunet_stochastic.decisions.risk_control import ALPHAS, GRID, RiskMasks, mask_losses, mean_by_patient


def soft_case(rng, shape=(6, 8, 8), raters=1):
    centre = rng.normal(size=shape)
    probability = 1 / (1 + np.exp(-2 * centre))
    references = [centre + rng.normal(0, rng.gamma(2, 0.4), shape) > 0.3 for _ in range(raters)]
    return probability, references


def test_losses_are_those_of_the_masks(monkeypatch):
    rng = np.random.default_rng(0)
    probability, references = soft_case(rng, raters=3)
    references[2] &= False
    probability.flat[:4] = [0, 1, GRID[5], GRID[70]]
    monkeypatch.setattr("nnunet_stochastic.decisions.risk_control._CHUNK", 50)
    outer, inner = mask_losses(probability, references, has_structure=True)
    shares = np.zeros((3, len(GRID)))
    missed = np.zeros((2, len(GRID)))
    for g, threshold in enumerate(GRID):
        mask = probability >= threshold
        for r, reference in enumerate(references):
            shares[r, g] = (mask & ~reference).sum() / mask.sum() if mask.any() else 0
            if r < 2:
                missed[r, g] = (reference & ~mask).sum() / reference.sum()
    np.testing.assert_allclose(outer, missed.mean(axis=0), atol=1e-15)
    monotone = np.array([[row[g:].max() for g in range(len(GRID))] for row in shares])
    np.testing.assert_allclose(inner, monotone.mean(axis=0), atol=1e-15)
    assert (np.diff(outer) >= 0).all()
    assert (np.diff(inner) <= 0).all()
    assert outer[0] == 0 == inner[-1]
    assert outer[-1] == 1
    assert (shares != monotone).any()  # there was something to make monotone


def test_what_has_no_loss():
    probability = np.full((2, 2), 0.3)
    outer, inner = mask_losses(probability, [np.zeros((2, 2), bool)], has_structure=False)
    assert np.isnan(outer).all()
    assert np.isnan(inner).all()
    outer, inner = mask_losses(probability, [np.zeros((2, 2), bool)], has_structure=True)
    assert np.isnan(outer).all()
    assert inner[0] == 1
    assert inner[-1] == 0


def test_thresholds_are_those_of_a_search_over_the_grid():
    rng = np.random.default_rng(1)
    cases = [mask_losses(*soft_case(rng), has_structure=True) for _ in range(25)]
    outer, inner = (np.array(losses) for losses in zip(*cases, strict=True))
    masks = RiskMasks.fit(outer, inner)
    for alpha in ALPHAS:
        bounds = [(losses.mean(axis=0) * 25 + 1) / 26 for losses in (outer, inner)]
        assert masks.at(alpha).outer == max(
            value for value, bound in zip(GRID, bounds[0], strict=True) if bound <= alpha
        )
        assert masks.at(alpha).inner == min(
            value for value, bound in zip(GRID, bounds[1], strict=True) if bound <= alpha
        )
    assert 0 < masks.at(0.05).outer < masks.at(0.2).outer <= 0.5
    assert 0.5 < masks.at(0.2).inner < masks.at(0.05).inner
    assert RiskMasks.fit(outer[::-1], inner[::-1]) == masks
    assert RiskMasks.model_validate(json.loads(json.dumps(masks.model_dump(mode="json")))) == masks


def test_expected_risk_of_a_new_patient():
    """Over validation sets drawn from many patients, each of whom has one to three cases of two raters."""
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(150), rng.integers(1, 4, 150)).astype(str)
    cases = [mask_losses(*soft_case(rng, (4, 5, 5), 2), has_structure=True) for _ in patients]
    outer, inner = (mean_by_patient(np.array(losses), patients) for losses in zip(*cases, strict=True))
    assert outer.shape == (150, len(GRID))
    risks: dict[float, list[tuple[float, float]]] = {alpha: [] for alpha in ALPHAS}
    for _ in range(300):
        order = rng.permutation(150)
        masks = RiskMasks.fit(outer[order[:40]], inner[order[:40]])
        for alpha in ALPHAS:
            of_outer = outer[order[40:], np.searchsorted(GRID, masks.at(alpha).outer)]
            of_inner = inner[order[40:], np.searchsorted(GRID, masks.at(alpha).inner)]
            risks[alpha].append((of_outer.mean(), of_inner.mean()))
    for alpha, found in risks.items():
        mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
        assert (mean <= alpha + 3 * error).all(), (alpha, mean)
        # Nor needlessly careful: the bound is conservative by 1 / (n + 1), and the grid by a step.
        assert (mean >= alpha - 1 / 41 - 0.02).all(), (alpha, mean)


def test_few_patients_give_the_whole_image_and_nothing():
    perfect = np.zeros((18, len(GRID)))
    perfect[:, -1] = 1
    few = RiskMasks.fit(perfect, np.zeros((18, len(GRID))))
    assert (few.at(0.05).outer, few.at(0.05).inner) == (0, 2)
    assert (few.at(0.1).outer, few.at(0.1).inner) == (GRID[-2], 0)
    enough = RiskMasks.fit(np.concatenate([perfect, perfect[:1]]), np.zeros((19, len(GRID))))
    assert (enough.at(0.05).outer, enough.at(0.05).inner) == (GRID[-2], 0)
    nothing = RiskMasks.fit(np.zeros((0, len(GRID))), np.zeros((0, len(GRID))))
    assert (nothing.at(0.2).outer, nothing.at(0.2).inner, nothing.num_patients_outer) == (0, 2, 0)


def test_means_by_patient():
    losses = np.array([[0.2, 0.4], [0.4, 0.6], [np.nan, np.nan], [1, 1]])
    np.testing.assert_allclose(mean_by_patient(losses, ["b", "b", "b", "a"]), [[1, 1], [0.3, 0.5]])
    order = [3, 1, 0, 2]
    np.testing.assert_allclose(
        mean_by_patient(losses[order], np.array(["b", "b", "b", "a"])[order].tolist()),
        mean_by_patient(losses, ["b", "b", "b", "a"]),
    )
    assert mean_by_patient(np.zeros((0, 3)), []).shape == (0, 3)


def test_bad_input():
    ok = np.zeros((2, 2))
    with pytest.raises(ValueError, match="references is empty"):
        mask_losses(ok, [], has_structure=True)
    with pytest.raises(ValueError, match="must be boolean"):
        mask_losses(ok, [ok], has_structure=True)
    with pytest.raises(ValueError, match="p must be in"):
        mask_losses(np.full((2, 2), np.nan), [ok > 0], has_structure=True)
    with pytest.raises(ValueError, match=r"outer must be in .* grow"):
        RiskMasks.fit(np.linspace(1, 0, len(GRID))[np.newaxis], np.zeros((1, len(GRID))))
    with pytest.raises(ValueError, match="one loss per λ"):
        RiskMasks.fit(np.zeros((2, 3)), np.zeros((1, len(GRID))))
    with pytest.raises(ValueError, match=r"alpha must be one of 0.05, 0.1, 0.2"):
        RiskMasks.fit(np.zeros((0, len(GRID))), np.zeros((0, len(GRID)))).at(0.3)
    with pytest.raises(ValueError, match="a patient for each"):
        mean_by_patient(np.zeros((2, 3)), ["a"])
