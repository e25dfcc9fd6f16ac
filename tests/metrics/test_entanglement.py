"""Delta against literal values of its equation, its symmetries and its policy at the edges."""

import numpy as np
import pytest

from nnunet_stochastic.metrics import entanglement

NAN = float("nan")


@pytest.mark.parametrize(
    ("correct", "wrong", "expected"),
    [
        (0.8, 0.8, 0.0),
        (1.0, 0.0, 1.0),
        (0.0, 1.0, -1.0),
        (np.sqrt(3), 1.0, 1 / 3),  # arctan is π/3
        (1.0, np.sqrt(3), -1 / 3),
        (0.9, 0.6, 0.2513318328),  # arctan(1.5) = 0.9827937232
        (-0.2, 0.5, -1.0),
        (0.5, -0.2, 1.0),
        (0.0, 0.0, 0.0),
        (-0.1, -0.3, 0.0),
        (NAN, 0.5, NAN),
        (0.5, NAN, NAN),
    ],
)
def test_literal_values(correct, wrong, expected):
    assert entanglement(correct, wrong) == pytest.approx(expected, abs=1e-10, nan_ok=True)
    assert entanglement(correct, wrong, lower_is_better=True) == pytest.approx(-expected, abs=1e-10, nan_ok=True)


def test_arrays_are_element_by_element_and_only_the_ratio_counts():
    correct, wrong = np.random.default_rng(0).random((2, 20))
    delta = entanglement(correct, wrong)
    assert delta.shape == (20,)
    assert delta.std() > 0.1
    np.testing.assert_allclose(delta, np.arctan(correct / wrong) / (np.pi / 4) - 1)
    np.testing.assert_allclose(entanglement(3 * correct, 3 * wrong), delta)
    np.testing.assert_allclose(entanglement(wrong, correct), -delta)
    assert isinstance(entanglement(0.5, 0.25), float)
