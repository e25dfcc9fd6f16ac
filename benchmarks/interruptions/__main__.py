"""End each command at random moments, damage its newest file, run it again, and compare with an undisturbed run.

    python benchmarks/interruptions --kills 1000 --damages 200     # an hour; the default is a sample of minutes
    python benchmarks/interruptions --only corrupt convert_CURVAS

A kill is SIGKILL to the command and all that it has started, at a moment that is drawn from the time of its
undisturbed run. It is started again as its user would go on and killed again, up to five times, then run to its end.
Damage is what a power cut leaves: before a last run, of an interrupted or a finished output, the newest file is made
empty, cut, or gets a page of zeros. Every file must then have the content of the undisturbed run; or the command must
have refused with a message that names the damaged file, and end like that once the file is removed, or what else the
message says. Not part of `make test`: moments are random.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: One thread each: those of the process that forks would be missing in its forks.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLOSC_NTHREADS")
VARIABLES = {**dict.fromkeys(THREADS, "1"), "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
if os.environ | VARIABLES != os.environ:  # they count where Python starts: another version may be imported already
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | VARIABLES)

from commands import Command, make_commands, make_input  # noqa: E402
from content import contents, damage_newest  # noqa: E402
from forking import Ended, import_what, prepare_process, run, run_until  # noqa: E402

_MOST_KILLS_IN_A_ROW = 5
_SHARE_OF_WHOLE = 0.5
AS_UNDISTURBED, NAMED = "as undisturbed", "refused, the file named, then as undisturbed"


class Disturbed:
    """One command, its undisturbed result, and what became of it when it was interrupted."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command, self.folder = command, folder
        self.found: Counter[str] = Counter()
        self.kills = self.damages = 0
        for _ in range(2):  # the first one imports
            self._empty()
            undisturbed = self._run()
            if undisturbed.status != 0:
                raise RuntimeError(f"an undisturbed run failed: {undisturbed.message}")
            import_what(folder)
        self.seconds, self.expected = undisturbed.seconds, self._contents()
        self._empty()
        self._run()
        if differing := self._differing():
            raise RuntimeError(f"two undisturbed runs differ in {differing}")

    def round(self, random_numbers: random.Random, *, most_kills: int, damage: bool) -> None:
        """Some kills in a row, damage if asked for, and a run to the end."""
        self._empty()
        for _ in range(random_numbers.randint(1, max(1, min(most_kills, _MOST_KILLS_IN_A_ROW)))):
            ended = self._run(seconds=random_numbers.uniform(0, self.seconds))
            if ended.status is None:
                self.kills += 1
                continue
            if ended.status != 0:
                self.found[_failure("after a kill", ended)] += 1
                return
            break
        damaged = None
        if damage:
            if not self.command.output.is_dir() or random_numbers.random() < _SHARE_OF_WHOLE:
                self._run()  # to its end; or else most damage would be to what comes first
            damaged = damage_newest(self.command.output, random_numbers)
            self.damages += damaged is not None
        self.found[self._end(damaged)] += 1

    def print_row(self, name: str) -> int:
        """Print a row of the table, and each fault below it; returns how many."""
        other = {outcome: count for outcome, count in self.found.items() if outcome not in (AS_UNDISTURBED, NAMED)}
        faults = sum(other.values())
        numbers = (self.kills, self.damages, self.found.total(), self.found[AS_UNDISTURBED], self.found[NAMED], faults)
        print(f"| {name} | {' | '.join(map(str, numbers))} |", flush=True)
        for outcome, count in other.items():
            print(f"    {count} x {json.dumps(outcome)[:600]}", flush=True)
        return faults

    def _end(self, damaged: tuple[Path, str] | None) -> str:
        """Run to the end; what became of it."""
        ended, outcome = self._run(), AS_UNDISTURBED
        if ended.status != 0:
            if damaged is None or damaged[0].name not in ended.message:
                return _failure("" if damaged is None else f"after {damaged[0].name} was {damaged[1]}", ended)
            if "Traceback" in ended.message and not self.command.has_tracebacks:
                return _failure("", ended)
            outcome = NAMED
            anew = self.command.anew
            if anew and anew[0] in ended.message:
                again = self._run(anew=True)
            elif f"remove the folder {damaged[0].parent}" in ended.message:
                shutil.rmtree(damaged[0].parent)
                again = self._run()
            else:
                damaged[0].unlink(missing_ok=True)
                if copy := re.search(r"(\S+) is a copy", ended.message):
                    shutil.copyfile(copy[1], damaged[0])
                again = self._run()
                if again.status != 0 and anew is not None:
                    again = self._run(anew=True)
            if again.status != 0:
                return _failure(f"NO WAY ON after {damaged[0].name} was {damaged[1]}", again)
        if differing := self._differing():
            what = "" if damaged is None else f" after {damaged[0].name} was {damaged[1]}"
            return f"DIFFERS{what}: {differing}"
        return outcome

    def _run(self, *, seconds: float | None = None, anew: bool = False) -> Ended:
        command = self.command
        begun = command.output.is_dir() and any(command.output.iterdir())
        more = (command.anew or ()) if anew else command.resume if begun else ()
        return run_until(seconds, command.program, (*command.arguments, *more), command.environment, self.folder)

    def _empty(self) -> None:
        shutil.rmtree(self.command.output, ignore_errors=True)
        for path in self.command.emptied:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()

    def _contents(self) -> dict[str, str]:
        return contents(self.command.output, self.command.compared)

    def _differing(self) -> list[str]:
        now = self._contents()
        return [name for name in sorted(now | self.expected) if now.get(name) != self.expected.get(name)][:3]


def _failure(when: str, ended: Ended) -> str:
    lines = ended.message.strip().splitlines() or ["no message"]
    kind, line = ("TRACEBACK", lines[-1]) if "Traceback" in ended.message else ("REFUSED", lines[0])
    return f"{kind} {when}: {line}"


def main() -> int:
    """Print a line per command, and return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="number of kills of all commands (default: 60)")
    parser.add_argument("--damages", type=int, default=12, help="number of damaged files (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and damages (default: 0)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands, all kills to these (default: all)")
    arguments = parser.parse_args()
    prepare_process()
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if (made := run(lambda _: make_input(folder), (), os.environ.copy(), folder)).status != 0:
            raise SystemExit(made.message)
        import_what(folder)
        commands = make_commands(folder)
        if unknown := set(arguments.only or ()) - commands.keys():
            raise SystemExit(f"no command {', '.join(unknown)}; there are {', '.join(commands)}")
        chosen = {key: commands[key] for key in arguments.only or commands}
        shares = sum(command.share for command in chosen.values())
        print("| command | kills | damaged | ends | as undisturbed | refused, the file named | faults |")
        print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
        for key, command in chosen.items():
            random_numbers = random.Random(f"{arguments.seed} {key}")
            kills, damages = (round(all_ * command.share / shares) for all_ in (arguments.kills, arguments.damages))
            try:
                disturbed = Disturbed(command, folder)
            except RuntimeError as error:
                print(f"| {key} | 0 | 0 | 0 | 0 | 0 | 1 |\n    {error}", flush=True)
                faults += 1
                continue
            try:
                while disturbed.kills < kills or disturbed.damages < damages:
                    left = kills - disturbed.kills
                    disturbed.round(random_numbers, most_kills=left, damage=disturbed.damages < damages)
            finally:  # what was found until Ctrl-C, too
                faults += disturbed.print_row(key)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
