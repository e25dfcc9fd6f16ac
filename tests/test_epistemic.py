"""The catalogue of epistemic methods, and that nothing else holds what is in it."""

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import nnunet_stochastic
from nnunet_stochastic.epistemic import (
    EPISTEMIC_METHODS,
    EPISTEMIC_OPTIONS,
    NUM_MEMBERS,
    SWAG_SCALE,
    methods_with,
)

PACKAGE = Path(nnunet_stochastic.__file__).parent
# The methods of the paper; a test of one of these must not change with another one.
ENT = ("none", "ensemble", "dropout", "swag", "swag_diag")
# Where a method's name is a folder of its files and not the method.
#: The folder of the snapshots, and the methods whose files a trainer leaves, which its module says.
ALLOWED = {
    *(("posteriors/snapshots.py", "swag"), ("training/swag.py", "swag"), ("training/swag.py", "swag_diag")),
    ("training/cyclic.py", "checkpoints"),
    # The trained weights of the folds, in a record of a prediction.
    *((f"{place}.py", "checkpoints") for place in ("inference/settings", "evaluation/model", "commands/predict")),
    *((f"{place}.py", "checkpoints") for place in ("evaluation/dicom_case", "evaluation/merging", "report/model_card")),
}


def test_it_imports_nothing_but_python():
    program = (
        "import sys\nknown = set(sys.modules)\nimport nnunet_stochastic.epistemic\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - known}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nnunet_stochastic"]


def test_names_titles_rows_and_colours_are_of_one_method_each():
    methods = EPISTEMIC_METHODS.values()
    for of in (lambda m: m.name, lambda m: m.title, lambda m: m.table_row):
        assert len({of(method) for method in methods}) == len(methods)
    assert list(EPISTEMIC_METHODS) == [method.name for method in methods]
    of_the_paper = sorted((EPISTEMIC_METHODS[name] for name in ENT), key=lambda method: method.table_row)
    assert [method.title for method in of_the_paper] == ["No EU", "Dropout", "SWAG-D", "SWAG", "Ensemble"]


def test_posteriors_are_there():
    from nnunet_stochastic.posteriors import WeightPosterior, posterior_class

    assert all(issubclass(posterior_class(method), WeightPosterior) for method in EPISTEMIC_METHODS.values())


def test_options_are_those_of_a_prediction():
    from nnunet_stochastic.inference import PredictionOptions

    fields = {field.name: field for field in dataclasses.fields(PredictionOptions)}
    for option in EPISTEMIC_OPTIONS:
        assert fields[option.name].default == option.default
    drawn = [method.name for method in methods_with(NUM_MEMBERS)]
    assert [name for name in drawn if name in ENT] == ["dropout", "swag", "swag_diag"]
    assert PredictionOptions(num_members=3, swag_scale=0.1).of_epistemic_method(EPISTEMIC_METHODS["swag"]) == {
        "num_members": 3,
        "swag_scale": 0.1,
    }


def test_suffixes_are_those_of_trainers():
    trainers = {
        node.name
        for file in (PACKAGE.parent / "trainers").glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    for method in EPISTEMIC_METHODS.values():
        assert {f"nnUNetTrainerMoB{method.trainer_suffix}", f"nnUNetTrainerSSN{method.trainer_suffix}"} <= trainers
        assert {method.example_trainer(has_samples=has_samples) for has_samples in (True, False)} <= trainers


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        (NUM_MEMBERS, (0, -1, None), "num_members must be at least 1"),
        (SWAG_SCALE, (0.0, -1.0, float("nan"), float("inf")), "swag_scale must be"),
    ],
)
def test_values_out_of_range(option, values, message):
    for value in values:
        with pytest.raises(ValueError, match=message):
            option.check(value)
    option.check(option.default)


def test_no_other_file_holds_a_method_by_name():
    names = set(EPISTEMIC_METHODS) - {"none"} | {m.title for m in EPISTEMIC_METHODS.values()}
    found = set()
    for file in PACKAGE.rglob("*.py"):
        place = file.relative_to(PACKAGE).as_posix()
        if place != "epistemic.py":
            tree = ast.parse(file.read_text(encoding="utf-8"))
            exported = {
                id(name)
                for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
                for name in ast.walk(node)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and node.value in names and id(node) not in exported:
                    found.add((place, node.value))
    assert found == ALLOWED
