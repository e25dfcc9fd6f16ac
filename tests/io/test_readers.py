"""Who reads which kind of file: each kind has one reader, which names the file, the place and the way on."""

from __future__ import annotations

import ast
from pathlib import Path

import nnunet_stochastic

PACKAGE = Path(nnunet_stochastic.__file__).parent
#: Calls that parse a file, and all places that may.
READERS = {
    "json.loads": {"io/text.py", "study/checks.py"},  # of a process of its own
    "json.load": set(),
    "load_json": set(),
    "csv.reader": {"io/tables.py"},
    "pd.read_csv": set(),
    "yaml.safe_load": set(),
    "yaml.load": set(),
    "pickle.load": set(),
    "pickle.loads": set(),
    "load_pickle": {"datasets/rater_preprocessing.py", "training/raters.py"},
    "np.load": {"datasets/lidc_nodules.py", "evaluation/readers.py"},
    "torch.load": {"checkpoints.py"},
}


def test_every_kind_of_file_has_its_reader():
    found = {name: set() for name in READERS}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in READERS:
                found[name].add(file.relative_to(PACKAGE).as_posix())
    assert found == READERS
