import json

import pytest

from nnunet_stochastic.inference.collapse import STAND_IN_NOTE, collapse_warning, epistemic_factor, epistemic_ratio


def write(path, cases, **settings):
    path.write_text(json.dumps({"settings": settings, "cases": cases}))
    return path


def test_ratio_of_means():
    assert epistemic_ratio({"mean_aleatoric": 0.4, "mean_epistemic": 0.1}) == 0.25
    assert epistemic_ratio({"mean_aleatoric": 0.4, "mean_epistemic": 0.1}, factor=5) == pytest.approx(0.05)
    assert epistemic_ratio({"mean_aleatoric": 0.0, "mean_epistemic": 0.0}) is None
    assert epistemic_ratio({"mean_total": 0.4}) is None


def test_warning_names_the_lowest_case():
    cases = {
        name: {"epistemic_to_aleatoric": ratio} for name, ratio in zip("abcd", (0.2, 0.01, 0.049, 0.05), strict=True)
    }
    cases["e"] = {"epistemic_to_aleatoric": None}
    warning = collapse_warning(cases, num_members=5)
    assert "below 0.05 in 2 of 4 cases (lowest 0.01, b)" in warning
    assert "the members nearly agree" in warning
    assert "--rescale_epistemic corrects the scale" in warning
    assert collapse_warning({"a": cases["a"], "d": cases["d"], "e": cases["e"]}, num_members=5) is None


def test_warning_of_one_member_speaks_of_its_samples():
    cases = {"a": {"epistemic_to_aleatoric": 0.01}, "b": {"epistemic_to_aleatoric": 0.2}}
    warning = collapse_warning(cases, num_members=1)
    assert "below 0.05 in 1 of 2 cases (lowest 0.01, a)" in warning
    assert "the aleatoric samples that stand in for members nearly agree" in warning
    assert "several trained folds" in warning
    assert "rescale_epistemic" not in warning  # of what is no epistemic uncertainty
    assert collapse_warning({"b": cases["b"]}, num_members=1) is None


def test_note_of_one_member():
    assert "stand in for the members" in STAND_IN_NOTE
    assert "not to be read as epistemic uncertainty" in STAND_IN_NOTE


def test_factor_is_the_ratio_of_the_means(tmp_path):
    cases = {
        "a": {"mean_aleatoric": 0.3, "mean_epistemic": 0.01},
        "b": {"mean_aleatoric": 0.1, "mean_epistemic": 0.03},
        "c": {"mean_total": 1.0},
    }
    assert epistemic_factor(write(tmp_path / "uncertainty.json", cases)) == pytest.approx(10)


def test_records_that_give_no_factor(tmp_path):
    with pytest.raises(FileNotFoundError, match="name the folder of an earlier prediction"):
        epistemic_factor(tmp_path / "missing.json")
    both = {"a": {"mean_aleatoric": 0.3, "mean_epistemic": 0.01}}
    with pytest.raises(ValueError, match="was rescaled itself"):
        epistemic_factor(write(tmp_path / "scaled.json", both, epistemic_factor=3.0))
    with pytest.raises(ValueError, match="has 0 cases"):
        epistemic_factor(write(tmp_path / "total.json", {"a": {"mean_total": 1.0}}))
    with pytest.raises(ValueError, match="mean EU 0 in sum"):
        epistemic_factor(write(tmp_path / "zero.json", {"a": {"mean_aleatoric": 0.3, "mean_epistemic": 0.0}}))
