"""SLURM on this machine alone, for tests: one node, no accounting, nothing left behind.

    python tests/slurm/cluster.py COMMAND ...     # run a command whose sbatch, squeue and srun are those of the cluster

Needs root and the programs of Debian's slurm-wlm and munge. The daemons are children of this process with files and
ports of their own; each is ended by its id. The one thing outside their folder is the link /etc/slurm/slurm.conf, for
the jobs of Snakemake's plug-in do not inherit SLURM_CONF; a machine that has such a file is in a cluster already.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["missing", "running_cluster"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol")
_CONFIGURATION_FILE = Path("/etc/slurm/slurm.conf")
_SECONDS_TO_START = 60
_SECONDS_TO_END = 20

#: ``EnforcePartLimits`` lets sbatch refuse what no node can ever give, in place of a job that waits for ever.
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill,UsePss
AccountingStorageType=accounting_storage/none
EnforcePartLimits=ALL
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=1-00:00:00 State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here; None if one can."""
    path = _path()
    if absent := [name for name in _PROGRAMS if shutil.which(name, path=path) is None]:
        return f"SLURM is not installed (no {', '.join(absent)}): apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    if _CONFIGURATION_FILE.exists():
        return f"this machine is in a cluster already, by {_CONFIGURATION_FILE}"
    return None


@contextmanager
def running_cluster(*, cpus: int = 2, memory_mb: int | None = None) -> Iterator[dict[str, str]]:
    """A cluster of one node for the time of a block.

    Parameters
    ----------
    cpus
        Number of CPUs that jobs may ask for, at least 1.
    memory_mb
        Memory in MiB that jobs may ask for; default: nine tenths of this machine's.

    Yields
    ------
    dict
        The environment of commands that use it.

    Raises
    ------
    RuntimeError
        If the node is not ready within a minute; the message has the end of the daemons' logs.
    """
    if memory_mb is None:
        memory_mb = int(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20)
    with ExitStack() as stack:
        # Short: the path of a socket has 107 characters at most.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm_", ignore_cleanup_errors=True)))
        environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        ports = _free_ports(2)
        (folder / "slurm.conf").write_text(
            _CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                folder=folder,
                cpus=cpus,
                memory_mb=memory_mb,
                controller_port=ports[0],
                node_port=ports[1],
            )
        )
        files = ("socket", "pid", "log", "seed")
        places = [f"--{name}{'' if name == 'socket' else '-file'}={folder}/munge.{name}" for name in files]
        _CONFIGURATION_FILE.parent.mkdir(exist_ok=True)
        _CONFIGURATION_FILE.unlink(missing_ok=True)  # a link that a killed run has left leads nowhere
        _CONFIGURATION_FILE.symlink_to(folder / "slurm.conf")
        stack.callback(_CONFIGURATION_FILE.unlink)
        _start(stack, ["munged", "--foreground", "--force", f"--key-file={key}", *places], environment, folder)
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        _start(stack, ["slurmctld", "-D"], environment, folder)
        _start(stack, ["slurmd", "-D"], environment, folder)
        _wait(lambda: _output(["sinfo", "--noheader", "--format=%T"], environment) == "idle", folder)
        stack.callback(_end_jobs, environment)
        yield environment


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _start(stack: ExitStack, command: Sequence[str], environment: dict[str, str], folder: Path) -> None:
    """Start a daemon in the foreground; the stack ends it."""
    with (folder / f"{command[0]}.output").open("w") as stream:
        program = shutil.which(command[0], path=environment["PATH"])
        process = subprocess.Popen(
            [str(program), *command[1:]], env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    stack.callback(_end, process)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_jobs(environment: dict[str, str]) -> None:
    """Cancel all jobs and wait until the node has ended their processes."""
    subprocess.run(["scancel", "--user=root"], env=environment, check=False, capture_output=True)
    end = time.monotonic() + _SECONDS_TO_END
    while _output(["squeue", "--noheader"], environment) and time.monotonic() < end:
        time.sleep(0.2)


def _output(command: Sequence[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


def _wait(is_ready, folder: Path) -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while not is_ready():
        if time.monotonic() > end:
            logs = [*sorted(folder.glob("*.output")), *sorted(folder.glob("*.log"))]
            raise RuntimeError("\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in logs))
        time.sleep(0.1)


def main() -> int:
    """Run a command in the cluster; return its exit status."""
    if not sys.argv[1:]:
        sys.exit(__doc__)
    if (reason := missing()) is not None:
        sys.exit(reason)
    with running_cluster() as environment:
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
