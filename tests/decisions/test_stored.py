"""Every damage of one value of stored decisions: a line that names it, or a value that may be there and is of use."""

import json
import random
import re
from itertools import pairwise

import numpy as np
import pytest

from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.review import CaseToReview
from nnunet_stochastic.evaluation import Calibration
from tests.commands.damage import STRUCTURES, json_damages
from tests.decisions.simulated import CLASSES, simulated_case, simulated_cases


@pytest.fixture(scope="module")
def stored():
    """Text of a calibration.json with all decisions."""
    decisions = fit_decisions(simulated_cases(0, 24), labels=CLASSES).model_dump(mode="json")
    content = {"platt": {}, "platt_per_image": {}, "temperature": None, "threshold": {"quantile": 0.5}}
    return json.dumps(content | {"decisions": decisions})


@pytest.fixture(scope="module")
def new_case():
    case = simulated_case(np.random.default_rng(1), "new", "new")
    return case["rows"], case["scores"], case["lesions"]["tumour"][0]


def use(path, new_case):
    """Read the file and ask all that is in it."""
    rows, scores, lesions = new_case
    decisions = Calibration.load(path).decisions
    if decisions is None:
        return
    found = CaseToReview.of("new", rows, scores, decisions)
    assert all(0 <= value <= 100 for value in found.percentiles.values())
    for of_structure in found.structures:
        assert of_structure.expected_loss is None or 0 <= of_structure.expected_loss <= 1
        bounds = [of_structure.dice_at_least[level] for level in sorted(of_structure.dice_at_least)]
        assert bounds == sorted(bounds, reverse=True)
        intervals = [of_structure.intervals_ml[level] for level in sorted(of_structure.intervals_ml)]
        assert all(wide[0] <= low <= high <= wide[1] for (low, high), wide in pairwise(intervals))
    for masks in (each.masks for each in decisions.structures.values() if each.masks):
        for alpha in decisions.alphas:
            masks.at(alpha)
    for lesion in lesions:
        probability = decisions.existence(lesion)
        assert probability is None or 0 <= probability <= 1
    decisions.remarks()


def test_every_value(stored, new_case, tmp_path):
    path = tmp_path / "calibration.json"
    damages = [each for each in json_damages(stored) if each[0].startswith("decisions.")]
    refused = 0
    for damage, text in random.Random(0).sample(damages, 1500):
        path.write_text(text)
        kind = damage.rpartition(": ")[2]
        try:
            use(path, new_case)
        except ValueError as error:
            line = str(error)
            refused += 1
            assert line.startswith(f"{path}: decisions: "), damage
            assert "make it again with nnunet_stochastic_determine_calibration" in line, damage
            assert len(line) < 500 + len(str(tmp_path)), damage
            assert "\n" not in line, damage
            assert "Value error" not in line, damage
        else:
            assert kind not in (*STRUCTURES, "true", "NaN"), damage
            assert kind in ("number", "removed", "null", "text"), damage
    assert refused > 1300


TUMOUR = ("decisions", "structures", "tumour")
WRONG = {
    "levels that fall": (("decisions", "levels"), lambda levels: levels[::-1], "levels: must ascend"),
    "no alphas": (("decisions", "alphas"), lambda _: [], "alphas: must be a longer list"),
    "an alpha that masks lack": (
        ("decisions", "alphas"),
        lambda _: [0.05, 0.2],
        "masks of tumour must be at [0.05, 0.2]",
    ),
    "an alpha above 1": (("decisions", "alphas"), lambda alphas: [*alphas, 2.0], "alphas.3: must be less than 1"),
    "scores that fall": (
        ("decisions", "image_scores", "EU_mean", "scores"),
        lambda scores: scores[::-1],
        "image_scores.EU_mean: scores must ascend and have a weight each",
    ),
    "a score less": (
        ("decisions", "image_scores", "EU_mean", "scores"),
        lambda scores: scores[1:],
        "image_scores.EU_mean: scores must ascend and have a weight each",
    ),
    "NaN as a score": (
        ("decisions", "image_scores", "EU_mean", "scores"),
        lambda scores: [float("nan"), *scores[1:]],
        "image_scores.EU_mean.scores.0: must be finite",
    ),
    "weights of less than 1": (
        ("decisions", "image_scores", "EU_mean", "weights"),
        lambda weights: [weight / 2 for weight in weights],
        "image_scores.EU_mean: weights must add up to 1",
    ),
    "quantiles that fall": (
        (*TUMOUR, "volume", "quantiles"),
        lambda found: [{"level": one["level"], "quantile": 1 - one["level"]} for one in found],
        "structures.tumour.volume.quantiles: levels and quantiles must ascend",
    ),
    "a negative quantile": (
        (*TUMOUR, "volume", "quantiles"),
        lambda found: [{**found[0], "quantile": -1.0}, *found[1:]],
        "structures.tumour.volume: quantiles must be at least 0",
    ),
    "a Dice below 0": (
        (*TUMOUR, "dice_bounds", "quantiles"),
        lambda found: [{**found[0], "quantile": -2.0}, *found[1:]],
        "structures.tumour.dice_bounds: quantiles must be in [-1, 1]",
    ),
    "masks that shrink": (
        (*TUMOUR, "masks", "thresholds"),
        lambda found: [{**one, "inner": one["alpha"]} for one in found],
        "structures.tumour.masks.thresholds: alpha and outer must ascend, and inner fall",
    ),
    "masks without a reason": ((*TUMOUR, "masks"), lambda _: None, "structures.tumour: masks or its reason must be"),
    "bounds without a model": (
        (*TUMOUR, "dice_bounds"),
        lambda _: None,
        "structures.tumour: dice and dice_bounds must both be there or not",
    ),
    "more missed than there are": (
        (*TUMOUR, "presence", "num_missed"),
        lambda _: 99,
        "structures.tumour.presence: num_missed, num_not_segmented, num_cases fall",
    ),
    "an unknown feature": (
        (*TUMOUR, "dice", "model", "features"),
        lambda found: ["x", *found[1:]],
        "structures.tumour.dice.model: features must be of soft_dice, ",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_message_names_file_and_field(stored, tmp_path, what):
    place, change, message = WRONG[what]
    content = json.loads(stored)
    entry = content
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = change(entry[place[-1]])
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(f"{path}: decisions: {message}")):
        Calibration.load(path)
