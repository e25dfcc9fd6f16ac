"""The names that ``nnunet_stochastic`` itself offers: lazy, complete, and those that the documentation calls stable."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_stochastic
from nnunet_stochastic import evaluation, inference

ROOT = Path(nnunet_stochastic.__file__).resolve().parents[1]


def test_starting_python_imports_no_library() -> None:
    """Python imports these two each time it starts; a library would make every start wait for it."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import nnunet_stochastic, nnunet_stochastic.discovery\n"
        "dir(nnunet_stochastic)\n"
        "print(*sorted({'torch', 'numpy', 'nnunetv2'} & set(sys.modules)))\n"
        "nnunet_stochastic.evaluate_folder\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)\n"
        "from nnunet_stochastic import StochasticPredictor\n"
        "print('torch' in sys.modules)"
    )
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout.splitlines() == ["", "False True", "True"]


@pytest.mark.parametrize("name", sorted(set(nnunet_stochastic.__all__) - {"__version__"}))
def test_names_are_those_of_the_packages(name: str) -> None:
    (home,) = (package for package in (evaluation, inference) if name in package.__all__)
    assert getattr(nnunet_stochastic, name) is getattr(home, name)
    assert name in dir(nnunet_stochastic)
    assert getattr(nnunet_stochastic, name).__doc__


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'nnunet_stochastic' has no attribute 'Predictor'"):
        _ = nnunet_stochastic.Predictor


def test_the_documentation_lists_these_names_as_stable() -> None:
    page = Path(__file__).resolve().parents[1].joinpath("docs/reference/stability.md")
    section = page.read_text(encoding="utf-8")
    (line,) = re.findall(r"^\* the names of the package itself: (.*?)[;.]$", section, flags=re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", line)) == sorted(nnunet_stochastic.__all__)
