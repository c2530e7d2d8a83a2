"""What the fuzz tests share: how many examples, mutations of JSON, and what no example may do.

`make fuzz` runs them at length; FUZZ_EXAMPLES in the environment says how many examples each test tries.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fastadasp.profiles.errors import FastAdaSPError

HANG_SECONDS = 60  # far above what any example takes
Place = tuple[str | int, ...]
BAD = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**400, 0.5, -1e308, 1e308),
    *("", "x", "../x", "/etc/passwd", "a\0b", "1/0", [], [1], [[None]], {}, {"a": 1}),
)
"""Values that few fields can have."""

SCALARS = st.one_of(
    st.sampled_from([value for value in BAD if not isinstance(value, list | dict)]),
    *(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
)
VALUES = st.recursive(
    SCALARS,
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=4), of, max_size=3),
    max_leaves=5,
)


class Hang(BaseException):
    """An example that does not end; no test takes it for an error of the project."""


def fuzz(examples: int) -> settings:
    """So many examples, always the same ones; or as many others as FUZZ_EXAMPLES says."""
    asked = os.environ.get("FUZZ_EXAMPLES")
    return settings(
        max_examples=int(asked or examples),
        derandomize=asked is None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextmanager
def no_hang(seconds: float = HANG_SECONDS) -> Iterator[None]:
    """Break off what takes far too long."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"an example ran for {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answered(call: Callable[[], object]) -> object:
    """What a call gives: its answer, or the error of the project, which is a builtin one, too."""
    with no_hang():
        try:
            return call()
        except FastAdaSPError as error:
            found = error
    assert isinstance(found, ValueError | OSError | ImportError | RuntimeError)
    text = str(found)
    assert text.encode("utf-8", "strict")
    assert len(text) < 20_000
    return found


_opened: list[str] | None = None


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(args[0], str | bytes | os.PathLike):
        _opened.append(os.fsdecode(args[0]))


sys.addaudithook(_hear)  # it cannot be taken away again


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths that Python opens meanwhile."""
    global _opened
    _opened = found = []
    try:
        yield found
    finally:
        _opened = None


def places(content: Any, *, most: int = 14, place: Place = ()) -> Iterator[Place]:
    """Every place in JSON; of a list of more than `most` entries, the first two and the last."""
    if isinstance(content, dict | list):
        keys: list[Any] = list(content) if isinstance(content, dict) else list(range(len(content)))
        for key in keys if isinstance(content, dict) or len(keys) <= most else (*keys[:2], keys[-1]):
            yield (*place, key)
            yield from places(content[key], most=most, place=(*place, key))


def changed(content: Any, place: Place, change: Callable[[Any, Any], None]) -> Any:
    """A copy, in which `change` was called with what holds the last key of a place, and that key."""
    content = inner = copy.copy(content)
    for key in place[:-1]:
        inner[key] = inner = copy.copy(inner[key])
    change(inner, place[-1])
    return content


def set_to(value: Any) -> Callable[[Any, Any], None]:
    """A change that puts a value there."""

    def change(holder: Any, key: Any) -> None:
        holder[key] = copy.deepcopy(value)

    return change


def removed(holder: Any, key: Any) -> None:
    """A change that takes the entry out."""
    del holder[key]


def renamed(name: str) -> Callable[[Any, Any], None]:
    """A change that gives an entry of an object another name."""

    def change(holder: Any, key: Any) -> None:
        value = holder.pop(key)
        holder.append(value) if isinstance(holder, list) else holder.update({name: value})

    return change


@st.composite
def mutants(draw: st.DrawFn, content: Any) -> Any:
    """JSON in which up to three places were changed, removed, renamed, nested or exchanged."""
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(content))
        if not found:
            break
        place = draw(st.sampled_from(found))
        kind = draw(st.sampled_from(["set", "remove", "rename", "nest", "exchange", "add"]))
        other = content
        for key in draw(st.sampled_from(found)):
            other = other[key]
        change = {
            "set": set_to(draw(VALUES)),
            "remove": removed,
            "rename": renamed(draw(st.text(max_size=6))),
            "nest": lambda holder, key: set_to([holder[key]])(holder, key),
            "exchange": set_to(other),
            "add": lambda holder, key: set_to({"more": 1})(holder, key),
        }[kind]
        content = changed(content, place, change)
    return content


def write_json(path: Path, content: Any) -> Path:
    """Write JSON as our files have it."""
    path.write_text(json.dumps(content), "utf-8")
    return path
