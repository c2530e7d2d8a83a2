"""What crosses the pipe between a build and its worker, each as one line of JSON: request, steps, outcome."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OptimizationProfile:
    """Least, usual and largest shapes of an engine's inputs; of inputs that shapes depend on, the values."""

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class Expected:
    """What the network must have after parsing, or the build fails by name."""

    plugin_layers: Mapping[str, int]  # op type -> how many
    attention_layers: int
    causal: bool  # whether every attention layer hides the rows that follow
    quantized: Mapping[str, int] = field(default_factory=dict)  # "int8" or "int4" -> matrices in it


@dataclass(frozen=True)
class EngineRequest:
    """What one build is asked for."""

    product: str  # the module tensorrt_rtx or tensorrt
    name: str  # that the plan carries inside
    graph: Path
    plan: Path
    profile: OptimizationProfile
    sm: int
    plugins: Path | None  # the plugin library, where the graph needs it
    expected: Expected
    reproducible: bool = False

    def seen_from(self, folder: Path) -> EngineRequest:
        """The same with paths relative to a folder, so that they do not depend on its place."""
        return replace(
            self,
            graph=_relative(self.graph, folder),
            plan=_relative(self.plan, folder),
            plugins=self.plugins and _relative(self.plugins, folder),
        )

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self), default=str)  # paths are what is no JSON

    @classmethod
    def from_json(cls, line: str) -> EngineRequest:
        """What `to_json` gave."""
        content = json.loads(line)
        shapes: dict[str, Any] = content["profile"]["shapes"]
        profile = {name: (tuple(low), tuple(opt), tuple(high)) for name, (low, opt, high) in shapes.items()}
        typed = {
            "graph": Path(content["graph"]),
            "plan": Path(content["plan"]),
            "profile": OptimizationProfile(profile),
            "plugins": content["plugins"] and Path(content["plugins"]),
            "expected": Expected(**content["expected"]),
        }
        return cls(**{**content, **typed})


@dataclass(frozen=True)
class Step:
    """How far the library is within one of its phases."""

    phase: str
    done: int
    steps: int

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Outcome:
    """What the worker says when the plan is there."""

    version: str  # of the product
    peak_bytes: int | None  # resident memory of the worker at its largest

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))


def answer_from_json(line: str) -> Step | Outcome:
    """A line of the worker."""
    content = json.loads(line)
    return Step(**content) if "phase" in content else Outcome(**content)


def _relative(path: Path, folder: Path) -> Path:
    return Path(os.path.relpath(path, folder))
