"""Which patient each case shows: the table ``case,patient`` that the converters write beside dataset.json.

Cases of one patient are alike (slices of a scan, nodules of a lung, both eyes), so the patient is what an interval
takes as drawn at random. A name of a case means the same patient in every set: a shifted copy shows that of its
original.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nnunet_stochastic.io.names import few
from nnunet_stochastic.io.tables import read_csv_table
from nnunet_stochastic.io.text import write_table

__all__ = ["PATIENTS_FILE", "read_patients", "write_patients"]

PATIENTS_FILE = "patients.csv"
_COLUMNS = ("case", "patient")


def read_patients(path: Path, cases: Iterable[str]) -> dict[str, str]:
    """Patient of each case.

    Parameters
    ----------
    path
        CSV in UTF-8 (a byte order mark may be there) whose header has the columns ``case`` and ``patient``; other
        columns and other cases are ignored, and so is white space around a value.
    cases
        Names of the cases that are needed: those of their files, without ending.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no such table, a name is empty, a case has two patients, or one of ``cases`` is not there; one message
        lists all that is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no table of patients {path}; name a CSV with the columns case,patient")
    table = read_csv_table(path, _COLUMNS, remedy="name a CSV with the columns case,patient")
    patients: dict[str, str] = {}
    problems = []
    for number, row in table.rows():
        case, patient = (row[column] for column in _COLUMNS)
        if not case or not patient:
            problems.append(f"line {number} has no name of the {'patient' if case else 'case'}")
        elif (other := patients.setdefault(case, patient)) != patient:
            problems.append(f"line {number}: {case} is of patient {patient}, further up of {other}")
    needed = dict.fromkeys(cases)
    if missing := sorted(needed.keys() - patients.keys()):
        problems.append(f"no line for {few(missing)}; a case is named as its file, without the ending")
    if problems:
        raise ValueError("\n  ".join([f"{path} does not say the patient of each case:", *problems]))
    return {case: patients[case] for case in needed}


def write_patients(path: Path, patients: Mapping[str, str]) -> None:
    """Write the table, in order of the cases' names: whoever looks finds the old content or the new."""
    write_table(path, _COLUMNS, (dict(zip(_COLUMNS, line, strict=True)) for line in sorted(patients.items())))
