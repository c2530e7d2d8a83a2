"""constraints.txt has a version of every package that the project asks for without one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
UNTESTED = {"onnxruntime-gpu", "tensorrt"}  # neither runs without a GPU
OWN = "fastadasp-export"


def requirements() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for line in (
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ):
        yield Requirement(line)


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found)
    return {canonicalize_name(each[1]): each[2] for each in found if each}


def test_every_package_has_the_version_that_the_tests_ran_with() -> None:
    pinned = constraints()
    for each in requirements():
        name = canonicalize_name(each.name)
        if name in UNTESTED | {OWN}:
            continue
        if any(clause.operator == "==" for clause in each.specifier):
            assert name not in pinned, f"{name} is pinned twice"
        else:
            assert name in pinned, f"{name} has no version in constraints.txt"
            assert each.specifier.contains(pinned[name]), f"{name} is pinned outside of what is allowed"
