"""Steps as processes: skipped once done, repeated with all that follow, and failures with the end of their log."""

import io
import os
import sys

import pytest
from rich.console import Console

from nnunet_stochastic.commands._errors import minutes
from nnunet_stochastic.commands._steps import Step, read_done_steps, run_steps, write_done_steps


@pytest.fixture
def run(tmp_path):
    def run(*steps):
        output = io.StringIO()
        run_steps(list(steps), tmp_path, dict(os.environ), Console(file=output, width=200))
        return output.getvalue()

    write_done_steps(tmp_path, {})
    return run


def python(name, code, **options):
    return Step(name, f"title of {name}", (os.path.basename(sys.executable), "-c", code), **options)


def append(name, folder):
    return python(name, f"open({str(folder / 'trace')!r}, 'a').write({name!r})")


def test_steps_run_once_and_in_order(run, tmp_path):
    steps = [append(name, tmp_path) for name in "abc"]
    run(*steps)
    assert "done before" in run(*steps)
    assert (tmp_path / "trace").read_text() == "abc"
    assert read_done_steps(tmp_path) == {step.name: step.typed for step in steps}


def test_progress_is_drawn_in_a_terminal_unless_it_is_disabled(tmp_path):
    def printed(**options):
        write_done_steps(tmp_path, {})
        output = io.StringIO()
        terminal = Console(file=output, width=200, force_terminal=True, legacy_windows=False)
        run_steps([append("a", tmp_path)], tmp_path, dict(os.environ), terminal, **options)
        return output.getvalue()

    hide_cursor = "\x1b[?25l"
    assert hide_cursor in printed()
    assert hide_cursor not in printed(show_progress=False)


def test_a_changed_step_is_repeated_with_all_that_follow(run, tmp_path):
    a, b, c = (append(name, tmp_path) for name in "abc")
    run(a, b, c)
    run(a, python("b", f"open({str(tmp_path / 'trace')!r}, 'a').write('B')"), c)
    assert (tmp_path / "trace").read_text() == "abcBc"


def test_failure_shows_the_end_of_the_log_and_the_next_run_goes_on_from_there(run, tmp_path):
    a = append("a", tmp_path)
    failing = python("b", "for k in range(40): print('line', k)\nraise SystemExit(3)")
    with pytest.raises(ChildProcessError) as error:
        run(a, failing, append("c", tmp_path))
    message = str(error.value)
    assert "'b' failed with exit status 3" in message
    assert "line 39" in message
    assert "line 24" not in message
    assert len((tmp_path / "logs" / "2_b.log").read_text().splitlines()) == 40
    run(a, append("b", tmp_path), append("c", tmp_path))
    assert (tmp_path / "trace").read_text() == "abc"


def test_a_repeated_step_that_fails_is_no_longer_recorded_as_done(run, tmp_path):
    a, b = (append(name, tmp_path) for name in "ab")
    run(a, b)
    with pytest.raises(ChildProcessError):
        run(python("a", "raise SystemExit(1)"), b)
    assert read_done_steps(tmp_path) == {}


def test_variables_reach_the_step_alone(run, tmp_path):
    code = f"import os; open({str(tmp_path / 'trace')!r}, 'a').write(os.environ.get('NUMBER', '-'))"
    run(python("with", code, variables=(("NUMBER", "7"),)), python("without", code))
    assert (tmp_path / "trace").read_text() == "7-"


def test_output_is_shown_where_it_is_the_result(run):
    assert "[table]" in run(python("show", "print('[table]')", shows_output=True))
    assert "[table]" not in run(python("hide", "print('[' + 'table]')"))


def test_missing_command_says_what_to_do(run):
    with pytest.raises(FileNotFoundError, match=r"pip install \.` in the checkout"):
        run(Step("a", "title", ("no_such_command_anywhere",)))


@pytest.mark.skipif(os.name == "nt", reason="quoting of a POSIX shell")
def test_typed_command_can_be_pasted():
    step = Step("a", "title", ("train", "my folder"), (("NUMBER", "0"),))
    assert step.typed == "NUMBER=0 train 'my folder'"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 min 0 s"), (59.9, "0 min 59 s"), (125, "2 min 5 s")])
def test_minutes(seconds, text):
    assert minutes(seconds) == text
