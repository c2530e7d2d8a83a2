"""The demo model on a backend: every output of every graph against torch, then whole answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from .artifacts import build_artifact, load
from .checkout import ROOT
from .records import Check
from .stages import Context

if TYPE_CHECKING:
    from fastadasp.runtime import SpeechLM

DEMO, CLIPS = ROOT / "demo/model", ROOT / "demo/clips"
PROFILES = "full", "dense-constant-50", "dense-decay-50", "sparse-50"
KEPT = "dense-constant-50-kept"  # reduced rows keep their positions
RIGHT_ANSWERS = 8  # of the ten clips, at least; in float32 on a CPU it is all of them
SAME_ANSWERS = 8  # of those alone, at least, where requests share steps, which round in another order


def parity(context: Context, artifact: Path, backend: str, precision: str, *options: str) -> Iterator[Check]:
    """Build the demo model for a backend into a folder, and compare.

    Args:
        context: of the stage.
        artifact: where it goes; it is kept.
        backend: of the runtime.
        precision: "bf16" or "fp16".
        options: of `build`, which choose the target or the engine.

    Raises:
        BuildError, FastAdaSPError: it is not built, or does not load.
    """
    from fastadasp.export.check.check import check_artifact
    from fastadasp.export.check.options import CheckOptions, demo_clips
    from fastadasp.runtime.artifact.artifact import open_artifact

    profiles = *PROFILES, str(_kept_profile(context.folder))
    build_artifact(DEMO, artifact, profiles, "--precision", precision, *options)
    model, ran_on = load(artifact, backend, context.device)
    with model:
        verdicts = check_artifact(
            open_artifact(artifact), CheckOptions(clips=demo_clips(), backends=(backend,))
        )
        for verdict in verdicts:
            finding = verdict.finding
            name = f"{verdict.graph.kind} {verdict.profile or ''} {verdict.case}, {precision}"
            figures = {
                "output": finding.output,
                "error": finding.error if isfinite(finding.error or 0.0) else None,
                "tolerance": str(verdict.tolerance),
                "device": model.device,
            }
            fault = None if finding.passed else f"{finding.output}: {verdict.where or finding.error}"
            yield Check(" ".join(name.split()), finding.passed, ran_on, figures, fault)
        yield from _answers(model, ran_on, precision)


def mark_verified(artifact: Path, gpu: str) -> None:
    """Write into the manifest on which GPU the engines agreed with the reference."""
    from fastadasp.runtime.artifact.artifact import open_artifact
    from fastadasp.runtime.artifact.manifest import FILE_NAME

    manifest = open_artifact(artifact).manifest
    assert manifest.engines is not None
    verified = replace(manifest, engines=replace(manifest.engines, verified_on=gpu))
    (artifact / FILE_NAME).write_text(verified.to_json(), "utf-8")


def _kept_profile(folder: Path) -> Path:
    text = (ROOT / "profiles/builtin/dense-constant-50.toml").read_text("utf-8")
    path = folder / f"{KEPT}.toml"
    path.write_text(f'{text}positions = "kept"\n', "utf-8")
    return path


def _answers(model: SpeechLM, ran_on: str | None, precision: str) -> Iterator[Check]:
    """What the unreduced model says of the demo's clips, beside what is said in them; then of all at once."""
    clips = [json.loads(line) for line in (CLIPS / "transcripts.jsonl").read_text("utf-8").splitlines()]
    answers = [model.generate(CLIPS / clip["audio"], clip["prompt"], profile="full").text for clip in clips]
    right = sum(answer == clip["text"] for answer, clip in zip(answers, clips, strict=True))
    passed = right >= RIGHT_ANSWERS
    figures = {"clips": len(clips), "right": right, "answers": answers}
    fault = None if passed else f"{right} of {len(clips)} clips are answered right"
    yield Check(f"answers, {precision}", passed, ran_on, figures, fault)
    yield _together(model, ran_on, precision, clips, answers)


def _together(
    model: SpeechLM, ran_on: str | None, precision: str, clips: list[dict[str, str]], alone: list[str]
) -> Check:
    """The same requests, submitted at once: where the backend can, they share steps over buffers in place."""
    submitted = [model.submit(CLIPS / clip["audio"], clip["prompt"], profile="full") for clip in clips]
    same = sum(request.result().text == text for request, text in zip(submitted, alone, strict=True))
    passed = same >= SAME_ANSWERS
    fault = None if passed else f"{same} of {len(clips)} clips are answered as alone"
    figures = {"clips": len(clips), "same": same}
    return Check(f"answers together, {precision}", passed, ran_on, figures, fault)
