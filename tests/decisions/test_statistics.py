"""Statistics of a case against its arrays, through JSON, and where voxels or structures are missing."""

import json

import numpy as np
import pytest

from nnunet_stochastic.decisions.risk_control import GRID, mask_losses
from nnunet_stochastic.decisions.statistics import CaseStatistics, case_statistics, image_scores
from nnunet_stochastic.metrics import border_length
from tests.decisions.simulated import VOXEL_ML, simulated_case


def equal(one, other):
    return json.dumps(one.as_json(), sort_keys=True) == json.dumps(other.as_json(), sort_keys=True)


def test_against_the_arrays():
    arrays = simulated_case(np.random.default_rng(0), "a", "p")
    found = case_statistics(**arrays)
    tumour = found.structures["tumour"]
    inside = arrays["segmentation"] == 1
    for index, reference in enumerate(arrays["references"]):
        true = reference == 1
        assert tumour.reference_voxels[index] == true.sum() > 0
        assert tumour.reference_ml[index] == pytest.approx(true.sum() * VOXEL_ML)
        assert tumour.dice[index] == pytest.approx(2 * (true & inside).sum() / (true.sum() + inside.sum()))
    assert tumour.mean_dice == pytest.approx(np.mean(tumour.dice))
    outer, inner = mask_losses(
        arrays["probabilities"]["tumour"], [r == 1 for r in arrays["references"]], has_structure=True
    )
    np.testing.assert_array_equal(tumour.outer_loss, outer)
    np.testing.assert_array_equal(tumour.inner_loss, inner)
    assert 0 < outer[60] < 1
    lesions = found.lesions["tumour"]
    assert lesions.shares[0] == 1
    assert lesions.matched[:, 0].all()
    assert lesions.num_reference.tolist() == [1, 1, 1]
    assert found.image_scores == arrays["scores"]


def test_json():
    found = case_statistics(**simulated_case(np.random.default_rng(1), "a", "p"))
    text = json.dumps(found.as_json(), allow_nan=False)
    again = CaseStatistics.from_json(json.loads(text))
    assert equal(again, found)
    assert again.structures["tumour"].row == found.structures["tumour"].row
    np.testing.assert_array_equal(again.lesions["tumour"].matched, found.lesions["tumour"].matched)
    empty = simulated_case(np.random.default_rng(1), "a", "p")
    empty["references"] = [np.zeros_like(reference) for reference in empty["references"]]
    found = case_statistics(**empty)
    assert np.isnan(found.structures["tumour"].outer_loss).all()
    assert equal(CaseStatistics.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))), found)
    assert found.structures["tumour"].dice == [0, 0, 0]
    assert not found.lesions["tumour"].matched.any()


def test_voxels_that_a_reference_does_not_label():
    """The other references count as ever; of this one its labelled voxels do."""
    arrays = simulated_case(np.random.default_rng(2), "a", "p")
    part = np.zeros(arrays["segmentation"].shape, bool)
    part[:, :, :7] = True
    whole = case_statistics(**arrays)
    arrays["references"][1] = np.where(part, 2, arrays["references"][1])
    found = case_statistics(**arrays, ignore_label=2)
    tumour = found.structures["tumour"]
    assert tumour.reference_ml[1] is None
    assert tumour.reference_ml[0] == whole.structures["tumour"].reference_ml[0]
    mine, true = arrays["segmentation"][~part] == 1, arrays["references"][1][~part] == 1
    assert tumour.dice[1] == pytest.approx(2 * (mine & true).sum() / (mine.sum() + true.sum()))
    assert tumour.dice[2] == whole.structures["tumour"].dice[2]
    probability = arrays["probabilities"]["tumour"]
    each = [mask_losses(probability, [arrays["references"][k] == 1], has_structure=True)[0] for k in (0, 2)]
    each.append(mask_losses(probability[~part], [true], has_structure=True)[0])
    np.testing.assert_allclose(tumour.outer_loss, np.mean(each, axis=0))
    assert found.lesions["tumour"].matched.shape == (2, 1)


def test_what_is_not_there():
    arrays = simulated_case(np.random.default_rng(3), "a", "p", num_samples=0)
    arrays |= {"voxel_ml": None, "probabilities": None}
    found = case_statistics(**arrays)
    tumour = found.structures["tumour"]
    assert (tumour.reference_ml, tumour.outer_loss) == ([None] * 3, None)
    assert np.isnan(found.lesions["tumour"].shares).tolist() == [True]
    assert equal(CaseStatistics.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))), found)
    arrays["segmentation"] = np.zeros_like(arrays["segmentation"])
    arrays["references"] = [arrays["segmentation"]]
    found = case_statistics(**{**arrays, "rows": [tumour.row]})
    assert found.structures["tumour"].dice == [None]
    assert found.structures["tumour"].mean_dice is None
    assert len(GRID) == len(mask_losses(np.zeros(3), [np.zeros(3, bool)], has_structure=False)[0])


def test_scores_of_an_image():
    arrays = simulated_case(np.random.default_rng(4), "a", "p")
    uncertainty = np.random.default_rng(5).random(arrays["segmentation"].shape)
    scores = image_scores({"EU": uncertainty}, arrays["segmentation"])
    assert scores == {
        "EU_mean": pytest.approx(uncertainty.mean()),
        "EU_border": pytest.approx(uncertainty.sum() / border_length(arrays["segmentation"])),
    }


def test_bad_input():
    arrays = simulated_case(np.random.default_rng(6), "a", "p")
    with pytest.raises(ValueError, match="a: references is empty"):
        case_statistics(**{**arrays, "references": []})
    with pytest.raises(ValueError, match="must agree"):
        case_statistics(**{**arrays, "references": [np.zeros((2, 2), int)]})
    with pytest.raises(ValueError, match="rows must have tumour"):
        case_statistics(**{**arrays, "rows": []})
