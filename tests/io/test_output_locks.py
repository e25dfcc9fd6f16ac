import multiprocessing
import signal

import pytest

from nnunet_stochastic.inference.folder_lock import locked_output_folder

PARTS = [{}, {"num_parts": 2}, {"num_parts": 2, "part_id": 1}, {"num_parts": 3}]


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
