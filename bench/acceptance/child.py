"""A stage in a process of its own: a library may end it, and its GPU memory is given back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .records import FAILED, NO_TIME, NOT_HERE, Check, NotHereError, Skipped, StageResult, judged
from .stages import STAGES, Context, Finding

SCRIPT = Path(__file__).parents[1] / "accept_gpu.py"
KINDS: dict[str, type[Finding]] = {"check": Check, "skipped": Skipped}
NOT_HERE_LINE, DONE_LINE = "not here", "done"
TAIL = 600  # characters of the log that a result file has


def run_stage(
    name: str, context: Context, no_device: str | None, hear: Callable[[Finding], None] = lambda _: None
) -> StageResult:
    """Run a stage, if this machine can and there is time, and judge what it found.

    Args:
        name: of the stage.
        context: its device is None where there is none.
        no_device: why there is none.
        hear: called with each finding as it comes.
    """
    stage, begin = STAGES[name], time.monotonic()
    reasons = [] if no_device is None or stage.works_without_device else [no_device]
    if missing := stage.missing():
        reasons.append(f"not installed: {', '.join(missing)}")
    if reasons:
        return StageResult(name, NOT_HERE, "; ".join(reasons), 0.0)
    if not context.has(stage.least_seconds):
        return StageResult(name, NO_TIME, f"it takes {stage.least_seconds:.0f} s at least", 0.0)
    checks: list[Check] = []
    skipped: list[Skipped] = []
    stopped = None
    with closing(_lines(name, context)) as lines:
        for kind, content in lines:
            if kind in KINDS:
                finding = KINDS[kind](**content)
                (checks if isinstance(finding, Check) else skipped).append(finding)  # type: ignore[arg-type]
                hear(finding)
            elif kind != DONE_LINE:
                stopped = kind, content
    return judged(name, time.monotonic() - begin, checks, skipped, context.device, stopped)


def _lines(name: str, context: Context) -> Generator[tuple[str, Any], None, None]:
    """What the process tells; last how it ended: DONE_LINE, or a status and its reason.

    Who stops listening ends the process.
    """
    log = context.artifacts / f"{name}.log"
    context.artifacts.mkdir(parents=True, exist_ok=True)
    receiver, sender = os.pipe()
    words = [sys.executable, str(SCRIPT), "--child", name, str(sender), _text_of(context)]
    late = threading.Event()
    with log.open("w", encoding="utf-8") as output, os.fdopen(receiver, encoding="utf-8") as pipe:
        child = subprocess.Popen(
            words, stdout=output, stderr=output, pass_fds=(sender,), start_new_session=True
        )
        os.close(sender)
        timer = threading.Timer(
            min(context.deadline - time.monotonic(), threading.TIMEOUT_MAX), _kill, (child.pid, late)
        )
        timer.daemon = True
        timer.start()
        ended = None
        try:
            for line in pipe:
                ((kind, content),) = json.loads(line).items()
                if kind in KINDS:
                    yield kind, content
                else:
                    ended = kind, content
            code = child.wait()
        finally:
            timer.cancel()
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if late.is_set():
        ended = NO_TIME, "it was stopped when the budget was spent"
    said = log.read_text("utf-8", "replace").strip()[-TAIL:]
    yield ended or (FAILED, f"its process ended with {code}: {said}")


def _kill(pid: int, late: threading.Event) -> None:
    late.set()
    os.killpg(pid, signal.SIGKILL)


def _text_of(context: Context) -> str:
    return json.dumps(asdict(context) | {"deadline": _left(context)}, default=str)


def _left(context: Context) -> float | None:
    """Seconds; the clock of another process may begin elsewhere."""
    return None if context.deadline == float("inf") else context.deadline - time.monotonic()


def _context_of(text: str) -> Context:
    fields = json.loads(text)
    paths = {key: Path(fields[key]) for key in ("folder", "artifacts", "checkpoint") if fields[key]}
    left = fields.pop("deadline")
    context = Context(**(fields | paths))
    return context if left is None else replace(context, deadline=time.monotonic() + left)


def child_main(name: str, sender: int, context: str) -> None:
    """The process of a stage: a line of JSON for each finding."""
    with os.fdopen(sender, "w", encoding="utf-8") as pipe:

        def tell(kind: str, content: Any) -> None:
            pipe.write(json.dumps({kind: content}, allow_nan=False) + "\n")
            pipe.flush()

        try:
            for finding in STAGES[name].run(_context_of(context)):
                tell("check" if isinstance(finding, Check) else "skipped", asdict(finding))
        except NotHereError as error:
            tell(NOT_HERE_LINE, str(error))
        else:
            tell(DONE_LINE, None)
