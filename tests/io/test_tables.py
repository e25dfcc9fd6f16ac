"""CSV tables: what is read, whatever wrote it, and every way in which a table is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_stochastic.io.tables import read_csv_table


@pytest.mark.parametrize(
    "content",
    [
        b"name,number\na,1.5\nb,\n",
        b"\xef\xbb\xbfname,number\r\na,1.5\r\nb,\r\n",  # as Excel saves it
        b' name , number \n\n"a",  1.5\nb, \n,\n',
        b"name,number,,\na,1.5,,\nb,,,\n,,,\n",  # empty columns and lines of a spreadsheet
    ],
)
def test_ways_to_write_it(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    table = read_csv_table(tmp_path / "t.csv", ["name"], remedy="make it again")
    assert [row["name"] for _, row in table.rows()] == ["a", "b"]
    np.testing.assert_array_equal(table.numbers("number"), [1.5, np.nan])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the header lacks name, got 'nothing'"),
        (b"\xff\xfen\0a\0", "is no CSV file in UTF-8"),
        (b'name\n"a\n', "is no CSV file in UTF-8 (unexpected end of data)"),
        (b"number\n1\n", "the header lacks name, got 'number'"),
        (b"name,name\na,b\n", "the header has 'name' 2 times"),
        (b"name,number\na,1\nb\n", "line 3 has 1 values, the header 2"),
        (b"name,number\na,1,2\n", "line 2 has 3 values, the header 2"),
        (b'name,number\n"a\nb",1\n', "line 3 has a line break or another sign in 'a\\nb'"),
        (b"name,number\na\0,1\n", "line 2 has a line break or another sign in 'a\\x00'"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.csv: .*; make it again$") as error:
        read_csv_table(tmp_path / "t.csv", ["name"], remedy="make it again")
    assert message in str(error.value)


@pytest.mark.parametrize("value", ["inf", "-inf", "1e999", "low", "1,5", "9" * 10**5])
def test_what_is_no_number(tmp_path, value):
    (tmp_path / "t.csv").write_text(f'name,number\na,1\nb,"{value}"\n')
    with pytest.raises(ValueError, match=r"t\.csv: line 3: number must be a finite number or nothing") as error:
        read_csv_table(tmp_path / "t.csv", remedy="make it again").numbers("number")
    assert len(str(error.value)) < 300


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(ValueError, match="is a folder and no file"):
        read_csv_table(tmp_path, remedy="make it again")
