"""What answers clips loads the artifact that the run was begun with, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastadasp.evaluation.answers.workers import Job
from fastadasp.profiles.errors import ArtifactError
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.runtime_options import RuntimeOptions


def test_another_artifact_in_the_place_of_the_first_is_refused(tiny_artifact: Path) -> None:
    digest = open_artifact(tiny_artifact).manifest.digest
    settings = (("full",), SearchOptions(), RuntimeOptions())
    assert callable(Job(tiny_artifact, digest, *settings).load())
    with pytest.raises(ArtifactError, match="was replaced meanwhile; run the command again"):
        Job(tiny_artifact, "0" * 64, *settings).load()
