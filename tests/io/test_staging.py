"""The one staged write: what is found after a failure or an interruption at any step, and in which order it goes."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_stochastic.io.staging import (
    publish,
    remove_leftovers,
    stage,
    staged_file,
    staged_files,
    staged_folder,
    staging_path,
)

OLD, NEW = "old", "new"
CASE = [Path("maps/case.txt"), Path("case.txt")]


class Interruption(BaseException):
    """Ends the process: nothing on its way catches it, and nothing is tidied up."""


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def visible(folder: Path) -> dict[str, str]:
    return {name: text for name, text in contents(folder).items() if not name.startswith(".")}


@pytest.fixture
def steps(monkeypatch):
    """Calls of fsync, replace and unlink, by the names of what they are of."""
    calls = []
    fsync, replace, unlink = os.fsync, os.replace, Path.unlink

    def logged(step, function, name_of):
        def call(*arguments, **options):
            calls.append(f"{step} {name_of(*arguments)}")
            return function(*arguments, **options)

        return call

    def name_of(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return f"{path.name}/" if path.is_dir() else path.name

    monkeypatch.setattr(os, "fsync", logged("fsync", fsync, name_of))
    monkeypatch.setattr(os, "replace", logged("replace", replace, lambda source, target: Path(target).name))
    monkeypatch.setattr(Path, "unlink", logged("unlink", unlink, lambda path, **_: path.name))
    return calls


def write_case(folder: Path, text: str) -> None:
    with staged_files(folder, CASE, name="case") as staging:
        for file in reversed(CASE):
            (staging / file).write_text(text)


def test_one_file_is_on_the_disk_before_its_name_and_its_name_before_the_end(tmp_path, steps):
    folder = tmp_path / "out"
    folder.mkdir()
    for _ in range(2):  # the second time there is an old one
        steps.clear()
        with staged_file(folder / "a.txt") as staged:
            staged.write_text(NEW)
            assert staged.name == "a.txt"  # writers go by the ending, and torch keeps the name in the file
            assert staged.parent == staging_path(folder, "a.txt")
        assert steps == ["fsync a.txt", "replace a.txt", "fsync out/"]
        assert contents(tmp_path) == {"out/a.txt": NEW}


def test_the_file_that_makes_a_case_complete_goes_first_and_comes_last(tmp_path, steps):
    folder = tmp_path / "out"
    folder.mkdir()
    write_case(folder, OLD)
    assert steps == [
        *("fsync case.txt", "fsync case.txt"),
        *("replace case.txt", "fsync maps/"),
        *("replace case.txt", "fsync out/"),
    ]
    steps.clear()
    write_case(folder, NEW)
    assert steps[2:4] == ["unlink case.txt", "fsync out/"]
    assert steps[4:] == ["replace case.txt", "fsync maps/", "replace case.txt", "fsync out/"]
    assert contents(folder) == {"case.txt": NEW, "maps/case.txt": NEW}


@pytest.mark.skipif(os.name == "nt", reason="folders are not opened there")
def test_an_interruption_at_any_step_leaves_old_or_new_or_no_complete_case(tmp_path, steps, monkeypatch):
    folder = tmp_path / "counted"
    folder.mkdir()
    write_case(folder, OLD)
    steps.clear()
    write_case(folder, NEW)
    num_steps = len(steps)
    found = set()
    for at in range(num_steps):
        folder = tmp_path / f"interrupted_at_{at}"
        folder.mkdir()
        write_case(folder, OLD)
        steps.clear()
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
            for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
                patch.setattr(owner, name, interrupted_at(at, steps, getattr(owner, name)))
            with pytest.raises(Interruption):
                write_case(folder, NEW)
        left = visible(folder)
        state = (left.get("case.txt"), left["maps/case.txt"])
        found.add(state)
        assert state in {(OLD, OLD), (None, OLD), (None, NEW), (NEW, NEW)}
        assert len([path for path in folder.iterdir() if path.name.startswith(".case.unfinished-")]) == 1
        remove_leftovers(folder)
        write_case(folder, NEW)
        assert contents(folder) == {"case.txt": NEW, "maps/case.txt": NEW}
    assert found == {(OLD, OLD), (None, OLD), (None, NEW), (NEW, NEW)}


def interrupted_at(at, steps, function):
    def call(*arguments, **options):
        if len(steps) == at:
            raise Interruption
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize("error", [ValueError("no image"), OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_writer_that_raises_changes_nothing(tmp_path, error):
    (tmp_path / "a.txt").write_text(OLD)
    with pytest.raises(type(error)), staged_file(tmp_path / "a.txt") as staged:  # noqa: PT012
        staged.write_text("half")
        raise error
    assert contents(tmp_path) == {"a.txt": OLD}
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".npz", ".pth"])
def test_a_file_that_its_writer_cut_short_changes_nothing(tmp_path, ending):
    writers = {
        ".npz": lambda path: np.savez_compressed(path, a=np.arange(1000)),
        ".pth": lambda path: torch.save({"a": torch.arange(1000)}, path),
    }
    path = tmp_path / f"a{ending}"
    path.write_text(OLD)
    with pytest.raises(OSError, match=f"a{ending} was cut short"), staged_file(path) as staged:  # noqa: PT012
        image = sitk.GetImageFromArray(np.random.default_rng(0).random((9, 9, 9)))
        writers.get(ending, lambda path: sitk.WriteImage(image, str(path), True))(staged)
        os.truncate(staged, staged.stat().st_size // 2)
    assert contents(tmp_path) == {path.name: OLD}


def test_no_file_of_a_case_is_moved_where_one_is_missing_or_cut_short(tmp_path):
    write_case(tmp_path, OLD)
    with (
        pytest.raises(FileNotFoundError, match=r"maps/case\.txt"),
        staged_files(tmp_path, CASE, name="case") as staging,
    ):
        (staging / "case.txt").write_text(NEW)
    assert contents(tmp_path) == {"case.txt": OLD, "maps/case.txt": OLD}


def test_a_rename_that_fails_leaves_no_complete_case(tmp_path, monkeypatch):
    write_case(tmp_path, OLD)
    replace = os.replace

    def full(source, target):
        if Path(target) == tmp_path / "case.txt":
            raise OSError(errno.ENOSPC, "No space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_case(tmp_path, NEW)
    assert contents(tmp_path) == {"maps/case.txt": NEW}


def test_what_a_writer_puts_beside_a_file_is_published_before_it(tmp_path, steps):
    with staged_file(tmp_path / "b.tif") as staged:
        staged.write_bytes(b"")
        staged.with_suffix(".json").write_text("{}")
        staged.unlink()
        import tifffile

        tifffile.imwrite(staged, np.zeros((2, 3)))
    assert [step for step in steps if step.startswith("replace")] == ["replace b.json", "replace b.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "b.tif"]


def test_copies_of_foreign_files_are_not_checked(tmp_path):
    file = Path("padded.nii.gz")
    with staged_files(tmp_path, [file], name="case", copies=[file]) as staging:
        (staging / file).write_bytes(b"padded by another program")
    with pytest.raises(OSError, match="cut short"), staged_files(tmp_path, [file], name="case") as staging:
        (staging / file).write_bytes(b"padded by another program")


def test_before_the_last_file_the_others_are_in_their_places(tmp_path):
    staging = stage(tmp_path, "case")
    (staging / "maps").mkdir()
    for file in CASE:
        (staging / file).write_text(NEW)
    seen = []
    publish(staging, tmp_path, CASE, before_last=lambda: seen.append(visible(tmp_path)))
    assert seen == [{"maps/case.txt": NEW}]


def test_a_folder_appears_when_all_of_it_is_on_the_disk(tmp_path, steps):
    (tmp_path / "raw").mkdir()
    (tmp_path / "target.txt").write_text("linked")
    with staged_folder(tmp_path / "raw" / "set") as staged:
        (staged / "images").mkdir()
        (staged / "images" / "a.txt").write_text(NEW)
        (staged / "images" / "link.txt").symlink_to(tmp_path / "target.txt")
        assert not (tmp_path / "raw" / "set").exists()
    name = staging_path(tmp_path, "set").name
    assert steps == ["fsync a.txt", f"fsync {name}/", "fsync images/", "replace set", "fsync raw/"]
    with pytest.raises(Interruption), staged_folder(tmp_path / "raw" / "other") as staged:  # noqa: PT012
        (staged / "a.txt").write_text("half")
        raise Interruption
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["set"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO])
def test_a_folder_on_which_fsync_is_not_supported(tmp_path, monkeypatch, code):
    fsync = os.fsync

    def refuse(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir():
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    if code == errno.EIO:  # a disk that fails is no file system that cannot
        with pytest.raises(OSError, match=r"Input/output"), staged_file(tmp_path / "a.txt") as staged:
            staged.write_text(NEW)
    else:
        with staged_file(tmp_path / "a.txt") as staged:
            staged.write_text(NEW)
    assert visible(tmp_path) == {"a.txt": NEW}


def test_a_file_on_which_fsync_fails_is_not_published(tmp_path, monkeypatch):
    """As that of a network disk over its quota does."""

    def full(_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    (tmp_path / "a.txt").write_text(OLD)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"quota exceeded: .*a\.txt"), staged_file(tmp_path / "a.txt") as staged:
        staged.write_text(NEW)
    assert contents(tmp_path) == {"a.txt": OLD}


def test_leftovers_are_known_by_their_name_and_by_their_case(tmp_path):
    mine = [".case.unfinished-1", ".case.unfinished-22", ".other.case.unfinished-22", ".a\nb.unfinished-3"]
    for name in mine:
        (tmp_path / name / "maps").mkdir(parents=True)
        (tmp_path / name / "maps" / "case.txt").write_text("half")
    kept = {".case.unfinished-x", ".unfinished-1", "case.unfinished-1", ".case.unfinished"}
    for name in kept:
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path, {"case"})
    assert {path.name for path in tmp_path.iterdir()} == kept | set(mine[2:])
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    remove_leftovers(tmp_path / "nothing here")


def test_the_hidden_folder_is_no_file_of_its_ending(tmp_path):
    stage(tmp_path, "case.nii.gz")
    assert not list(tmp_path.glob("*.nii.gz"))


def test_a_read_only_copy_is_published(tmp_path):
    (tmp_path / "a.json").write_text(NEW)
    (tmp_path / "a.json").chmod(0o444)
    with staged_file(tmp_path / "b.json") as staged:
        shutil.copy2(tmp_path / "a.json", staged)
    assert (tmp_path / "b.json").read_text() == NEW


def test_names_that_a_pattern_would_take_for_more(tmp_path):
    """Cases may be named so; nothing of another case is removed."""
    for name in ("[ab]", "a", "*"):
        stage(tmp_path, name)
    remove_leftovers(tmp_path, {"[ab]", "*"})
    assert [path.name for path in tmp_path.iterdir()] == [staging_path(tmp_path, "a").name]


@pytest.mark.parametrize("name", ["a" * 251, "ü" * 125 + "a", "a.b" * 83 + "cc"], ids=["ascii", "umlauts", "dots"])
def test_names_as_long_as_file_systems_take(tmp_path, name):
    with staged_file(tmp_path / f"{name}.txt") as staged:
        staged.write_text(NEW)
    assert contents(tmp_path) == {f"{name}.txt": NEW}
    left, other = stage(tmp_path, f"{name}.txt"), stage(tmp_path, f"{name}.tif")
    assert left != other
    remove_leftovers(tmp_path, [f"{name}.txt"])
    assert (left.exists(), other.exists()) == (False, True)
    remove_leftovers(tmp_path)
    assert not other.exists()


@pytest.mark.parametrize("file", CASE)
def test_a_folder_in_the_place_of_a_file_changes_nothing(tmp_path, file):
    (tmp_path / file).mkdir(parents=True)
    staging = stage(tmp_path, "case")
    for each in CASE:
        (staging / each).parent.mkdir(exist_ok=True)
        (staging / each).write_text(NEW)
    with pytest.raises(IsADirectoryError, match=r"case\.txt is a folder, and a file of that name is to be written"):
        publish(staging, tmp_path, CASE)
    assert not visible(tmp_path)


def test_a_link_is_replaced_and_what_it_points_to_is_kept(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "case.txt"
    target.write_text(OLD)
    link.symlink_to(target)
    with staged_file(link) as staged:
        staged.write_text(NEW)
    assert (link.is_symlink(), link.read_text(), target.read_text()) == (False, NEW, OLD)


def test_what_the_same_process_left_is_no_part_of_the_next(tmp_path):
    (stage(tmp_path, "case.txt") / "beside.json").write_text(OLD)
    with staged_file(tmp_path / "case.txt") as staged:
        staged.write_text(NEW)
    assert contents(tmp_path) == {"case.txt": NEW}


@pytest.mark.skipif(os.name == "nt", reason="nobody can be asked there whether a process lives")
@pytest.mark.parametrize("num_others", [0, 1100])
def test_what_dead_processes_left_of_a_file_is_removed_with_its_next_writing(tmp_path, num_others):
    for number in range(num_others):
        (tmp_path / str(number)).touch()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = os.getppid()
    for name in ("page.html", "other.html"):
        for process in (dead.pid, alive):
            left = tmp_path / f".{name}.unfinished-{process}"
            left.mkdir()
            (left / name).write_text("half a page")
    for _ in range(2):
        with staged_file(tmp_path / "page.html") as staged:
            staged.write_text("page")
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(
        [f".other.html.unfinished-{dead.pid}", f".other.html.unfinished-{alive}", f".page.html.unfinished-{alive}"]
    )
    assert (tmp_path / "page.html").read_text() == "page"
