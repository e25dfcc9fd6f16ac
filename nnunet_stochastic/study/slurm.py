"""SLURM, as Snakemake's plug-in reaches it: what the plug-in is told besides, and why a job failed.

The plug-in asks ``sacct`` how its jobs are, where that program is there; on a cluster without accounting it answers
nothing, and a failed job is not noticed for minutes. There it is told to ask ``squeue``. Why a job failed stands in
Snakemake's log and in what ``scontrol show job`` says for some minutes.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_stochastic.study.job import Key

__all__ = ["Failure", "FailureLog", "plug_in_options", "uses_slurm"]

_PLUG_IN = "snakemake_executor_plugin_slurm"
_STATUS_COMMAND, _FIRST_LOOK = "--slurm-status-command", "--slurm-init-seconds-before-status-checks"
_SECONDS_TO_FIRST_LOOK = 10
_SECONDS_TO_ANSWER = 20
_WITHOUT_ACCOUNTING = ("accounting_storage/none", "(null)")
#: What to do about a job that SLURM has ended.
_ADVICE = {
    "OUT_OF_MEMORY": "give it more: resources: {{{kind}: {{mem_mb: …}}}}",
    "TIMEOUT": "give it more: resources: {{{kind}: {{runtime: …}}}}; started again, it goes on from what is there",
}


@dataclass(frozen=True)
class Failure:
    """A job that failed: why, by SLURM, and SLURM's log of it, None where it was not started."""

    key: Key
    reason: str
    log: Path | None


def uses_slurm(options: Sequence[str]) -> bool:
    """Whether options of Snakemake name SLURM as the executor."""
    joined = " ".join(options)
    return re.search(r"(?:^| )(?:--executor|-e)(?: |=)slurm(?: |$)", joined) is not None


def plug_in_options(options: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Options of the plug-in on top of the user's, who has the last word.

    Parameters
    ----------
    options
        Options of Snakemake that the user gave.
    environment
        Environment of Snakemake.

    Raises
    ------
    ValueError
        If the plug-in is not installed, this machine submits no jobs, or SLURM does not answer.
    """
    if importlib.util.find_spec(_PLUG_IN) is None:
        raise ValueError(
            f'--executor slurm needs {_PLUG_IN}: run pip install ".[slurm]" in the checkout of nnunet_stochastic'
        )
    if shutil.which("sbatch", path=environment.get("PATH")) is None:
        raise ValueError("there is no sbatch on PATH; start the study on a machine from which jobs are submitted")
    given = {option.partition("=")[0] for option in options}
    more = [] if _FIRST_LOOK in given else [_FIRST_LOOK, str(_SECONDS_TO_FIRST_LOOK)]
    if _STATUS_COMMAND not in given and not _has_accounting(environment):
        more += [_STATUS_COMMAND, "squeue"]
    return tuple(more)


class FailureLog:
    """Failures of SLURM's jobs in Snakemake's log, as it grows.

    Parameters
    ----------
    file
        The log; what it has now is of earlier runs.
    environment
        Environment of Snakemake.
    """

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self._file, self._environment = file, environment
        self._position = file.stat().st_size if file.is_file() else 0
        self._text = ""

    def read(self, *, at_end: bool = False) -> list[Failure]:
        """Failures that are new; such as are being written are left to the next time, unless this is the end."""
        with self._file.open("rb") as stream:
            stream.seek(self._position)
            new = stream.read()
        self._position += len(new)
        self._text += new.decode("utf-8", errors="replace")
        if new and not at_end:
            return []
        text, self._text = self._text, ""
        found = (self._failure(block) for block in re.split(r"^Error in rule ", text, flags=re.MULTILINE)[1:])
        return [failure for failure in found if failure is not None]

    def _failure(self, block: str) -> Failure | None:
        kind = block.partition(":")[0]
        message = re.search(r"^    message: (.*?)^    jobid: ", block, re.DOTALL | re.MULTILINE)
        output = re.search(rf"^    output: done/{re.escape(kind)}/(.+)\.json$", block, re.MULTILINE)
        if message is None or output is None:
            return None
        log = re.search(r"^    log: (.+?) \(check", block, re.MULTILINE)
        number = re.search(r"^    external_jobid: (\S+)$", block, re.MULTILINE)
        refused = re.search(r"The error message was '(.*?)'\.\n", message[1], re.DOTALL)
        if refused is not None:
            asked = f"what it asks for is in resources: {{{kind}: …}}"
            reason = f"sbatch refused it: {_one_line(refused[1])}; {asked}"
        elif number is not None:
            reason = self._reason(kind, number[1]) or _one_line(message[1])
            reason += _said_by_slurm(None if log is None else Path(log[1]))
        else:
            reason = _one_line(message[1])
        return Failure((kind, output[1]), reason, None if log is None else Path(log[1]))

    def _reason(self, kind: str, number: str) -> str | None:
        """What SLURM says of a job; None where it does not know it any more."""
        text = _answer(["scontrol", "show", "job", "--oneliner", number], self._environment)
        says = dict(part.partition("=")[::2] for part in (text or "").split())
        if "JobState" not in says:
            return None
        state = says["JobState"]
        used = f"{says.get('RunTime', '?')} of {says.get('TimeLimit', '?')} on {says.get('NodeList', '?')}"
        reason = f"job {number} ended as {state}, reason {says.get('Reason', '?')}, after {used}"
        advice = _ADVICE.get(state, "").format(kind=kind)
        return f"{reason}; {advice}" if advice else reason


def _said_by_slurm(log: Path | None) -> str:
    """The first error of SLURM itself in its log of a job, to be read behind the reason."""
    if log is None or not log.is_file():
        return ""
    text = log.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^(?:slurmstepd|srun)[^:\n]*: error: (.+)$", text, re.MULTILINE)
    return "" if found is None else f"; {found[1].strip()}"


def _has_accounting(environment: Mapping[str, str]) -> bool:
    text = _answer(["scontrol", "show", "config"], environment)
    if text is None:
        raise ValueError("SLURM does not answer (scontrol show config); start the study when it does")
    found = re.search(r"^AccountingStorageType\s*=\s*(\S+)", text, re.MULTILINE)
    return found is not None and found[1] not in _WITHOUT_ACCOUNTING


def _answer(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """What a command of SLURM prints; None where it fails."""
    program = shutil.which(command[0], path=environment.get("PATH"))
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]], env=dict(environment), capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
