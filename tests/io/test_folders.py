import pytest

from nnunet_stochastic.io.folders import require_writable


def test_a_folder_is_made_and_nothing_stays_in_it(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/out cannot be written \(Not a directory\); choose another with -val"):
        require_writable(tmp_path / "file" / "out", option="-val")
