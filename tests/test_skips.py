"""Where CI runs, no test is skipped for want of a package: all of them are installed there."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDED = re.compile(r'importorskip\("([\w.]+)"')
PYAV = "av"  # `needs_pyav` of the tests of audio


@pytest.mark.skipif("CI" not in os.environ, reason="elsewhere packages may be missing")
def test_every_package_that_tests_are_skipped_without_is_here() -> None:
    texts = [path.read_text("utf-8") for path in Path(__file__).parent.rglob("*.py")]
    names = {name for text in texts for name in NEEDED.findall(text)}
    assert {"torch", "openvino", "tensorrt_rtx"} <= names
    assert not [name for name in (*sorted(names), PYAV) if not is_here(name)]


def is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # what it is a part of
        return False
