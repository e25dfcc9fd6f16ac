"""Text and JSON: what is written, and what a message says of a file that cannot be used."""

import json
import os

import numpy as np
import pytest

from nnunet_stochastic.io.text import (
    FLOAT32_DIGITS,
    as_read_back,
    read_json,
    read_json_if_complete,
    read_json_unless_cut,
    write_json,
    write_table,
    write_text,
)


def test_text_is_written_in_one_piece_or_many(tmp_path):
    write_text(tmp_path / "a.csv", "a,é\n")
    assert (tmp_path / "a.csv").read_bytes() == "a,é\n".encode()
    write_text(tmp_path / "a.csv", (part for part in ("one", ", ", "two")))
    assert (tmp_path / "a.csv").read_text() == "one, two"


def test_parts_that_fail_leave_the_old_text(tmp_path):
    def parts():
        yield "half"
        raise ZeroDivisionError

    write_text(tmp_path / "page.html", "old")
    with pytest.raises(ZeroDivisionError):
        write_text(tmp_path / "page.html", parts())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("page.html", "old")]


def test_json_is_read_back(tmp_path):
    content = {"a": (1, 2.5), "b": {3: None}, "ü": "text"}
    write_json(tmp_path / "a.json", content)
    assert (tmp_path / "a.json").read_text() == json.dumps(content, indent=2) + "\n"
    assert (
        read_json(tmp_path / "a.json", dict) == as_read_back(content) == {"a": [1, 2.5], "b": {"3": None}, "ü": "text"}
    )
    assert read_json_if_complete(tmp_path / "a.json", dict) == as_read_back(content)


def test_numbers_that_json_has_not(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")], allow_nan=False)
    assert not os.listdir(tmp_path)


DAMAGED = {
    "empty": (b"", "not valid JSON, the file is empty; evaluate again"),
    "cut short": (b'{"a": 1,\n "b', "not valid JSON, line 2 column 2: Unterminated string starting at; evaluate again"),
    "zeroed": (bytes(20), "not valid JSON, line 1 column 1: Expecting value; evaluate again"),
    "not UTF-8": (
        b'{"a": "\xff"}',
        "not valid JSON, 'utf-8' codec can't decode byte 0xff in position 7: invalid start ",
    ),
    "too deep": (b"[" * 100_000, "not valid JSON, maximum recursion depth exceeded"),
    "a list": (b"[1]", "an object is needed, got a list; evaluate again"),
    "a number": (b"12", "an object is needed, got 12; evaluate again"),
    "a long text": (b'"' + b"x" * 10_000 + b'"', "an object is needed, got 'xxxxx"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_message_names_the_file_the_place_and_the_way_on(tmp_path, damage):
    path = tmp_path / "summary.json"
    content, message = DAMAGED[damage]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="summary") as error:
        read_json(path, dict, remedy="evaluate again")
    assert str(error.value).startswith(f"{path}: {message}")
    assert len(str(error.value)) < len(str(path)) + 200
    assert read_json_if_complete(path, dict) is None
    if "not valid JSON" in message:
        assert read_json_unless_cut(path, dict) is None
    else:  # whole, and someone else's
        with pytest.raises(ValueError, match="an object is needed"):
            read_json_unless_cut(path, dict, remedy="evaluate again")


def test_a_file_that_is_not_there(tmp_path):
    path = tmp_path / "plans.json"
    with pytest.raises(FileNotFoundError) as error:
        read_json(path, list, remedy="plan first")
    assert str(error.value) == f"{path}: no such file; plan first"
    assert read_json_if_complete(path, list) is None
    assert read_json_unless_cut(path, list) is None
    path.write_text("{}")
    with pytest.raises(ValueError, match="a list is needed, got an object"):
        read_json(path, list)


def test_digits_of_a_table(tmp_path):
    """Nine tell neighbouring float32 numbers apart; whole numbers, texts and what is not there stay as they are."""
    one = np.float32(0.1)
    values = [
        float(one),
        float(np.nextafter(one, np.float32(1))),
        1 / 3,
        float("inf"),
        123456789012,
        "0.1234567890123",
        None,
    ]
    write_table(tmp_path / "a.csv", ["x"], [{"x": value} for value in values], digits=FLOAT32_DIGITS)
    lines = (tmp_path / "a.csv").read_text().splitlines()[1:]
    assert lines == ["0.100000001", "0.100000009", "0.333333333", "inf", "123456789012", "0.1234567890123", '""']
    assert [np.float32(line) for line in lines[:2]] == [np.float32(value) for value in values[:2]]
    write_table(tmp_path / "a.csv", ["x"], [{"x": 1 / 3}])
    assert (tmp_path / "a.csv").read_text() == "x\n0.3333333333333333\n"
