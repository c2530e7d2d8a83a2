"""Commands killed at random moments, and before and after every call that renames, removes or syncs.

    python bench/kill_test.py --kills 200 -o bench/results/kill_test.json

After each kill: the output is whole, old or new, or not there; no process is left. After the next run of the
same command: it has succeeded, has named what it removed, and nothing but the output is there.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fastadasp.evaluation.results.files import read_results
from fastadasp.export import swap
from fastadasp.export.cli import main as command_line
from fastadasp.profiles.profile import load_profile
from fastadasp.runtime.artifact.artifact import open_artifact

DEMO = Path(__file__).parent.parent / "demo"
HOOKED = ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync")  # of `os`
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux
SECONDS = 300  # that a run may take
ENGINES = "build --engine"  # of which a run takes a minute: killed where it is asked for
COUNTED = "hooked calls: "
PATIENCE = 60  # seconds that a process has to end in, once its parent has


class BrokenError(AssertionError):
    """What a kill must not leave."""


@dataclass(frozen=True)
class Kill:
    """When a run is ended, and how."""

    number: int = signal.SIGKILL
    call: int | None = None  # the n-th of the hooked ones, from 1
    after: bool = False  # that call, rather than before it
    seconds: float | None = None  # from the start of the command

    def __str__(self) -> str:
        side = "after" if self.after else "before"
        place = f"{side} call {self.call}" if self.call else f"at {self.seconds:.3f} s"
        return f"{signal.Signals(self.number).name} {place}"


@dataclass(frozen=True)
class Case:
    """A command, what is there before it, and what whole means for its output."""

    name: str
    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]  # the run after the kill
    output: str
    before: Path | None  # what stands at the output's place
    check: Callable[[Path], None]
    must_exist: bool
    exit_codes: tuple[int, ...] = (0,)
    beside: tuple[str, ...] = ()  # what stands beside the output for good


def cases(checkpoint: Path, clips: Path, made: Path) -> Iterator[Case]:
    """What is killed; `made` holds an artifact and a result to replace."""
    built = ["--weights", "copy", "--profile", "full,dense-constant-20"]
    answered = ["--prompt", "<asr>", "--max-new-tokens", "16", "--resamples", "20"]

    def build(folder: Path) -> list[str]:
        return ["build", str(checkpoint), "-o", str(folder / "art"), *built]

    def forced(folder: Path) -> list[str]:
        return [*build(folder), "--force"]

    def evaluate(folder: Path) -> list[str]:
        output = str(folder / "eval.json")
        return ["eval", str(made / "art"), "--manifest", str(clips), *answered, "-o", output]

    def report(folder: Path) -> list[str]:
        return ["report", str(made / "eval.json"), "-o", str(folder / "report.html")]

    def compare(folder: Path) -> list[str]:
        grid = ["--methods", "weighted_merge", "--schedules", "constant", "--flops", "20"]
        output = str(folder / "compare.json")
        return ["compare", str(checkpoint), "--manifest", str(clips), *answered, *grid, "-o", output]

    def tune(folder: Path) -> list[str]:
        grid = ["--methods", "weighted_merge", "--schedules", "constant", "--start-layers", "2"]
        grid += ["--flops-levels", "10,20", "--positions", "compact", "--runs", "1", "--warmup", "0"]
        output = ["--max-loss", "100", "-o", str(folder / "tuned.toml")]
        return ["tune", str(checkpoint), "--manifest", str(clips), *answered, *grid, *output]

    def select(folder: Path) -> list[str]:
        output = ["--flops", "5", "--accuracy", "-o", str(folder / "selected.toml")]
        return ["select-layer", str(checkpoint), "--manifest", str(clips), *answered, *output]

    def transcribe(folder: Path) -> list[str]:
        output = ["--workers", "1", "--max-new-tokens", "4", "-o", str(folder / "out.jsonl")]
        return ["transcribe", str(made / "art"), str(clips), *output]

    def engines(folder: Path) -> list[str]:
        return [*build(folder), "--engine", "tensorrt-rtx", "--max-beams", "1"]

    def again(folder: Path) -> list[str]:
        return [*engines(folder), "--force"]

    yield Case("build", build, forced, "art", None, _whole_artifact, must_exist=False)
    yield Case("build --force", forced, forced, "art", made / "art", _whole_artifact, must_exist=True)
    yield Case("eval", evaluate, evaluate, "eval.json", made / "eval.json", _whole_result, must_exist=True)
    yield Case("compare", compare, compare, "compare.json", None, _whole_result, must_exist=False)
    yield Case("tune", tune, tune, "tuned.toml", None, _whole_profile, must_exist=False)
    yield Case("select-layer", select, select, "selected.toml", None, _whole_profile, must_exist=False)
    settings = ("out.jsonl.settings.json",)
    yield Case(
        *("transcribe", transcribe, transcribe, "out.jsonl", None, _whole_lines),
        must_exist=False,
        beside=settings,
    )
    yield Case(ENGINES, engines, again, "art", None, _whole_artifact, must_exist=False)
    yield Case("report", report, report, "report.html", None, _whole_page, must_exist=False)


def _whole_artifact(output: Path) -> None:
    opened = open_artifact(output, verify="always")
    found = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    if found != {*opened.manifest.files, "manifest.json"}:
        raise BrokenError(f"{output} holds {sorted(found)}")


def _whole_result(output: Path) -> None:
    read_results([output])


def _whole_lines(output: Path) -> None:
    """A run that was killed may leave half a line; each clip has one at most."""
    *lines, _ = output.read_bytes().split(b"\n")
    ids = [json.loads(line)["id"] for line in lines]
    if len(set(ids)) < len(ids):
        raise BrokenError(f"{output} has a clip twice: {ids}")


def _whole_profile(output: Path) -> None:
    load_profile(str(output))


def _whole_page(output: Path) -> None:
    if not output.read_text("utf-8").rstrip().endswith("</html>"):
        raise BrokenError(f"{output} is cut")


def attempt(case: Case, kill: Kill, work: Path) -> str:
    """One kill and the run after it; what became of the run that was to be killed.

    Raises:
        BrokenError: with what was left.
    """
    _set_out(case, work)
    output = work / case.output
    code, _ = run(case.words(work), kill)
    left = _debris(work)
    if os.path.lexists(output):
        case.check(output)
    elif case.must_exist:
        raise BrokenError("the output that was there is gone")
    if kill.number != signal.SIGKILL and left and code != -kill.number:
        raise BrokenError(f"it was told to end and left {left}")
    again, told = run(case.again(work), None)
    if again not in case.exit_codes:
        raise BrokenError(f"the next run ended with {again}: {told[-2000:]}")
    case.check(output)
    if (names := sorted(path.name for path in work.iterdir())) != [case.output, *case.beside]:
        raise BrokenError(f"after the next run there are {names}")
    if names := sorted(path.name for path in _temporary().iterdir()):
        raise BrokenError(f"after the next run there are temporary {names}")
    if unnamed := [name for name in left if name not in told]:
        raise BrokenError(f"the next run has not named {unnamed}")
    outcome = "ended before" if code in case.exit_codes else "killed"
    return f"{outcome}, left a temporary {'one' if left else 'none'}"


def _debris(work: Path) -> list[str]:
    """What is not to last: beside the output, and among the temporary files of the system."""
    beside = [path.name for path in work.iterdir() if ".fastadasp-" in path.name]
    return sorted((*beside, *(path.name for path in _temporary().iterdir())))


def _temporary() -> Path:
    """The system's folder for temporary files, which here is one of our own."""
    return Path(tempfile.gettempdir())


def run(words: list[str], kill: Kill | None) -> tuple[int, str]:
    """A command in a process of its own: its exit code (-9 for SIGKILL), and what it wrote to stderr.

    Raises:
        BrokenError: it does not end, or a process of it is left.
    """
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            _become(words, kill, told.fileno())
        if kill is not None and kill.seconds is not None:
            time.sleep(kill.seconds)
            os.kill(child, kill.number)
        code = _wait(child)
        _check_no_orphan()
        told.seek(0)
        return code, told.read().decode("utf-8", "replace")


def _become(words: list[str], kill: Kill | None, told: int) -> None:
    """In the child: run the command line, and never return."""
    code, calls = 99, None
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(told, 2)
        if kill is not None and kill.call is not None:
            calls = hook(kill)
        command_line(words, prog_name="fastadasp-export")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        if calls is not None:
            os.write(2, f"{COUNTED}{calls()}".encode())
        os._exit(code)


def hook(kill: Kill) -> Callable[[], int]:
    """End this process at its n-th call; what is returned counts the calls so far."""
    count = 0

    def hooked(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == kill.call and not kill.after:
                os.kill(os.getpid(), kill.number)
            try:
                return call(*args, **options)
            finally:
                if count == kill.call and kill.after:
                    os.kill(os.getpid(), kill.number)

        return counted

    for name in HOOKED:
        setattr(os, name, hooked(getattr(os, name)))
    swap.rename_with = hooked(swap.rename_with)
    return lambda: count


def calls_of(case: Case, work: Path) -> int:
    """How many hooked calls a run makes."""
    _set_out(case, work)
    _, told = run(case.words(work), Kill(call=sys.maxsize))
    return int(told.rsplit(COUNTED, 1)[1])


def _set_out(case: Case, work: Path) -> None:
    """The folder as it is before the run."""
    for folder in (work, _temporary()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    if case.before is not None:
        copy = shutil.copytree if case.before.is_dir() else shutil.copyfile
        copy(case.before, work / case.output)


def _wait(child: int) -> int:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    raise BrokenError(f"it did not end in {SECONDS} s")


def _check_no_orphan() -> None:
    """What a child has left becomes a child of this process."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if time.monotonic() > deadline:
            raise BrokenError("a process has outlived the command that started it")
        time.sleep(0.01)


def plan(case: Case, kills: int, work: Path, dice: random.Random) -> list[Kill]:
    """Kills for one case: two thirds at most at calls, drawn if there are more; the rest at random."""
    begin = time.monotonic()
    calls = calls_of(case, work)
    taken = time.monotonic() - begin
    at_calls = [Kill(call=n + 1, after=after) for n in range(calls) for after in (False, True)]
    most = max(1, kills * 2 // 3)
    chosen = at_calls if len(at_calls) <= most else dice.sample(at_calls, most)
    numbers = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
    while len(chosen) < kills:
        chosen.append(Kill(numbers[len(chosen) % 4], seconds=dice.uniform(0, 1.5 * taken)))
    return chosen


def prepare(checkpoint: Path, clips: Path, made: Path) -> None:
    """An artifact and a result that are replaced, and the modules that commands import."""
    for case in cases(checkpoint, clips, made):
        folder = made if case.name in ("build", "eval") else None
        if folder is not None:
            code, told = run(case.words(folder), None)
            if code:
                raise SystemExit(f"{case.name}: {told}")


def environment() -> dict[str, Any]:
    """Where it ran."""
    return {"kernel": platform.release(), "python": platform.python_version(), "cores": os.cpu_count()}


def main() -> int:
    """Print a line for each command, and write figures if asked; 1 where a kill has left what it must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all, shared out among the commands")
    parser.add_argument("--only", nargs="*", help="commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=DEMO / "model")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    dice, figures, faults = random.Random(options.seed), {}, []
    with tempfile.TemporaryDirectory() as place:
        made, temporary = Path(place) / "made", Path(place) / "temporary"
        made.mkdir()
        temporary.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        clips = _two_clips(Path(place) / "clips")
        prepare(options.checkpoint, clips, made)
        known = list(cases(options.checkpoint, clips, made))
        names = options.only or [case.name for case in known if case.name != ENGINES]
        chosen = [case for case in known if case.name in names]
        for case in chosen:
            outcomes: Counter[str] = Counter()
            for kill in plan(case, options.kills // len(chosen), Path(place) / "work", dice):
                try:
                    outcomes[attempt(case, kill, Path(place) / "work")] += 1
                except (BrokenError, OSError, ValueError) as error:
                    faults.append(f"{case.name}, {kill}: {error!r}")
                    print(faults[-1], file=sys.stderr, flush=True)
            figures[case.name] = dict(outcomes)
            print(f"{case.name}: {outcomes.total()} kills; {dict(outcomes)}", flush=True)
    if options.output:
        result = {"environment": environment(), "kills": figures, "faults": faults}
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if faults else 0


def _two_clips(folder: Path) -> Path:
    """Two clips of the demo as a clip list."""
    folder.mkdir()
    lines = [
        line for line in (DEMO / "clips/transcripts.jsonl").read_text("utf-8").splitlines() if "asr" in line
    ]
    for line in lines[:2]:
        shutil.copy(DEMO / "clips" / json.loads(line)["audio"], folder)
    (folder / "clips.jsonl").write_text("\n".join(lines[:2]) + "\n", "utf-8")
    return folder / "clips.jsonl"


if __name__ == "__main__":
    sys.exit(main())
