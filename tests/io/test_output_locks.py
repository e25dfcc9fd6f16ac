import multiprocessing
import signal

import pytest

from nnunet_stochastic.io.output_locks import locked_output_file, locked_output_folder, locked_output_folders
from nnunet_stochastic.io.staging import holds_anything

PARTS = [{"num_parts": 1}, {"num_parts": 2}, {"num_parts": 2, "part_id": 1}, {"num_parts": 3}]


@pytest.mark.parametrize("first", PARTS)
@pytest.mark.parametrize("second", PARTS)
def test_only_other_parts_of_the_same_number_are_let_in(tmp_path, first, second):
    with locked_output_folder(tmp_path, **first):
        if first.get("num_parts") == second.get("num_parts") == 2 and first != second:
            with locked_output_folder(tmp_path, **second):
                assert len(list(tmp_path.iterdir())) == 2
        else:
            with (
                pytest.raises(BlockingIOError, match=f"another command writes {tmp_path}: .*-num_parts"),
                locked_output_folder(tmp_path, **second),
            ):
                pass
    with locked_output_folder(tmp_path, **second):
        pass
    assert list(tmp_path.iterdir()) == []


def hold(folder, ready):
    with locked_output_folder(folder):
        ready.set()
        signal.pause()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(BlockingIOError), locked_output_folder(tmp_path, num_parts=2):
        pass
    process.kill()
    process.join()
    with locked_output_folder(tmp_path, num_parts=2):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_command_without_parts_names_its_own_option(tmp_path):
    with (
        locked_output_folder(tmp_path),
        pytest.raises(BlockingIOError, match=r"has ended, or choose another output folder with -val$"),
        locked_output_folder(tmp_path, option="-val"),
    ):
        pass
    file = tmp_path / f"{'long' * 60}.html"
    with (
        locked_output_file(file),
        pytest.raises(BlockingIOError, match=f"another command writes {file}: .* output file with -o$"),
        locked_output_file(file),
    ):
        pass


def test_all_folders_or_none(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    with locked_output_folder(folders[1]):
        with pytest.raises(BlockingIOError, match=f"{folders[1]}: "), locked_output_folders(folders):
            pass
        with locked_output_folders([folders[0], folders[2], folders[0]]):
            assert sorted(path.name for path in tmp_path.glob("*/.output.lock")) == [".output.lock"] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_made_goes_again_if_nothing_was_written(tmp_path):
    with locked_output_folder(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked_output_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_the_lock_of_a_killed_process_makes_no_folder_full(tmp_path):
    for name in (".output.lock", ".output_part0of4.lock"):
        (tmp_path / name).touch()
    assert not holds_anything(tmp_path)
    (tmp_path / ".other.lock").touch()
    assert holds_anything(tmp_path)
