"""Where CI runs, no test is skipped for want of a package or a program: all of them are installed there."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDED = re.compile(r'importorskip\("([\w.]+)"')
PROGRAM = re.compile(r'which\("([\w+]+)"\)')
JAVA = "java"  # which nothing here installs
PYAV = "av"  # `needs_pyav` of the tests of audio


pytestmark = pytest.mark.skipif("CI" not in os.environ, reason="elsewhere packages may be missing")


def test_every_package_that_tests_are_skipped_without_is_here() -> None:
    names = named_in_tests(NEEDED)
    assert {"torch", "openvino", "tensorrt_rtx"} <= names
    assert not [name for name in (*sorted(names), PYAV) if not is_here(name)]


def test_every_program_that_tests_are_skipped_without_is_here() -> None:
    names = named_in_tests(PROGRAM) - {JAVA}
    assert {"g++", "chromium", "chromedriver"} <= names
    assert not [name for name in sorted(names) if shutil.which(name) is None]


def named_in_tests(pattern: re.Pattern[str]) -> set[str]:
    texts = [path.read_text("utf-8") for path in Path(__file__).parent.rglob("*.py")]
    return {name for text in texts for name in pattern.findall(text)}


def is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # what it is a part of
        return False
