"""The table of patients: what is read, and every way in which a table is refused."""

import pytest

from nnunet_stochastic.patients import PATIENTS_FILE, read_patients, write_patients


def test_what_is_written_is_read(tmp_path):
    patients = {"b": "LIDC-IDRI-0002", "a": "0001", 'say "c", please': "Müller, A."}
    write_patients(tmp_path / PATIENTS_FILE, patients)
    assert (tmp_path / PATIENTS_FILE).read_bytes().splitlines()[:2] == [b"case,patient", b"a,0001"]
    assert read_patients(tmp_path / PATIENTS_FILE, patients) == patients
    assert [path.name for path in tmp_path.iterdir()] == [PATIENTS_FILE]


@pytest.mark.parametrize(
    "content",
    [
        b"case,patient\na,1\nb,1\nc,02\n",
        b"\xef\xbb\xbfcase,patient\r\na,1\r\nb,1\r\nc,02\r\n",  # as Excel saves it
        b'patient,age,case\n1,50,a\n1,50,b\n\n"02",9,"c"',
        b" case , patient \na, 1\nb ,1\nc,02\na,1\nother,7\n",
    ],
)
def test_ways_to_write_it(tmp_path, content):
    (tmp_path / "table.csv").write_bytes(content)
    assert read_patients(tmp_path / "table.csv", "cab") == {"c": "02", "a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the header lacks case, patient, got 'nothing'"),
        (b"a,1\nb,1\n", "the header lacks case, patient, got 'a,1'"),
        (b"case;patient\na;1\n", "got 'case;patient'"),
        (b"case,patient,case\na,1,a\nb,1,b\n", "the header has 'case' 2 times"),
        (b"case,patient\na,1\n", "no line for b; a case is named as its file, without the ending"),
        (b"case,patient\na.nii.gz,1\nb.nii.gz,1\n", "no line for a, b;"),
        (b"case,patient\na,1\nb,1\na,2\n", "line 4: a is of patient 2, further up of 1"),
        (b"case,patient\na,1\nb,\n", "line 3 has no name of the patient"),
        (b"case,patient\na,1\nb, \n", "line 3 has no name of the patient"),
        (b"case,patient\n,1\na,1\nb,1\n", "line 2 has no name of the case"),
        (b"case,patient\na,1,x\nb,1\n", "line 2 has 3 values, the header 2"),
        (b"case,patient\na,1\nb\n", "line 3 has 1 values, the header 2"),
        (b"case,patient\na,M\xfcller\nb,1\n", "is no CSV file in UTF-8"),
        (b'case,patient\na,"1\nb,1\n', "is no CSV file in UTF-8"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"table\.csv") as error:
        read_patients(tmp_path / "table.csv", ["a", "b"])
    assert message in str(error.value)


def test_all_that_is_wrong_is_listed_at_once(tmp_path):
    (tmp_path / "table.csv").write_text("case,patient\na,1\na,2\nc,\n")
    with pytest.raises(ValueError, match="does not say the patient of each case") as error:
        read_patients(tmp_path / "table.csv", "abc")
    assert len(str(error.value).splitlines()) == 4
    with pytest.raises(FileNotFoundError, match="no table of patients"):
        read_patients(tmp_path, "a")
