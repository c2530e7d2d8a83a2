"""A manifest that says what cannot be is refused when it is opened. Its digest is right, whoever wrote it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_tensorrt import with_engines
from fastadasp.runtime.artifact.manifest import FILE_NAME, MANIFEST_FORMAT

SOUND = np.full(8000, 0.1, np.float32)


def with_digest(content: dict[str, Any]) -> dict[str, Any]:
    """The manifest as it is when its writer means it: with the digest of what it says."""
    content = {key: value for key, value in content.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "digest": hashlib.sha256(canonical.encode()).hexdigest()}


@pytest.fixture(scope="module")
def with_plans(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact with engines, as a manifest has them on a machine with a GPU."""
    folder = tmp_path_factory.mktemp("manifest") / "artifact"
    artifact = with_engines(tiny_artifact, folder)
    engines = artifact.manifest.engines
    plan = replace(engines.plans["encoder"], peak_bytes=5, shapes={"mel": ((1, 2), (1, 3), (1, 4))})
    plan = replace(plan, plugin_layers={"MergeTokens": 2})
    write(
        folder,
        json.loads(
            replace(
                artifact.manifest, engines=replace(engines, plans={**engines.plans, "encoder": plan})
            ).to_json()
        ),
    )
    return folder


@pytest.fixture(scope="module")
def content(with_plans: Path) -> dict[str, Any]:
    """Its manifest."""
    found = json.loads((with_plans / FILE_NAME).read_text("utf-8"))
    del found["digest"], found["format_version"]
    return found


def text_of(content: dict[str, Any]) -> str:
    return json.dumps(with_digest({"format_version": MANIFEST_FORMAT, **content}))


def write(folder: Path, content: dict[str, Any]) -> None:
    (folder / FILE_NAME).write_text(text_of(content), "utf-8")
