"""`check` on quantised artifacts of tiny random families, one for each kind of encoder, and its reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

from fastadasp.export.check.backends import CheckedBackend
from fastadasp.export.check.cases import prefill_feed, random_cases
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.comparison import SessionRunner, compare, run
from fastadasp.export.check.graphs import prefill_of, signature_of
from fastadasp.export.check.localisation import first_difference
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.check.reference import load_for
from fastadasp.export.check.tolerance import LOGITS, TOLERANCES, tolerance_of
from fastadasp.export.check.torch_backend import TorchBackend
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles.errors import CheckpointError
from fastadasp.runtime.artifact.artifact import Artifact, open_artifact, record_of
from fastadasp.runtime.artifact.manifest import FILE_NAME
from parity.models import sound
from tiny_families import RATE, TINY

pytestmark = pytest.mark.usefixtures("one_thread")
ENCODERS = {
    "windows": "audioflamingo3",
    "rotated windows": "glmasr",  # its embedding is its head
    "blocks": "qwen3_asr",
    "conformer": "granite_speech",
    "SAN-M": "fun_asr_nano",
}
"""Kind of encoder -> a family that has it. Blocks of inputs are filled up in the last two."""


@pytest.fixture(scope="module", params=ENCODERS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(ENCODERS[request.param], tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    soundfile.write(path, sound(3 * RATE), RATE)
    return path


@pytest.fixture(scope="module")
def glmasr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("glmasr", tmp_path_factory.mktemp("checkpoint"))


def saved(family: str, folder: Path) -> Path:
    TINY[family].save(folder)
    return folder


def built(checkpoint: Path, folder: Path, quantize: str) -> Artifact:
    build(checkpoint, folder, BuildOptions((load_profile("full"),), quantize=quantize))
    return open_artifact(folder)


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_every_output_of_every_encoder_agrees(
    quantize: str, checkpoint: Path, speech: Path, tmp_path: Path
) -> None:
    artifact = built(checkpoint, tmp_path / "artifact", quantize)
    verdicts = check_artifact(artifact, CheckOptions(clips=(speech,)))
    assert {verdict.graph.kind for verdict in verdicts} == {"encoder", "prefill", "decode"}
    assert [str(verdict) for verdict in verdicts if not verdict.finding.passed] == []


def test_an_embedding_that_is_the_head_is_rounded_in_the_head_alone(glmasr: Path, tmp_path: Path) -> None:
    stored = load_file(glmasr / "model.safetensors")["language_model.model.embed_tokens.weight"]
    model = load_for(built(glmasr, tmp_path / "artifact", "int8"), None)
    steps = stored.abs().amax(1, keepdim=True) / 127
    rounded = model.get_output_embeddings().weight - stored
    assert model.get_input_embeddings().weight.equal(stored)
    assert 0 < (rounded / steps).abs().max() <= 0.501


def test_a_tolerance_of_audio_rows_is_told_apart_from_that_of_keys() -> None:
    words = "2 for scores, 1 for audio rows and 0.45 standard deviations for keys and values"
    assert [str(TOLERANCES[name]) for name in ("fp32", "int8")] == ["0.001", words]


FAULTS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "two outputs are swapped": ("values", lambda part: part.__setitem__([3, 4], part[[4, 3]])),
    "one scale is twice as large": (
        "scales",
        lambda part: part.reshape(-1).__setitem__(3, 2 * part.reshape(-1)[3]),
    ),
}


@pytest.mark.parametrize("projection", ["k_proj", "v_proj"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_small_fault_in_a_projection_of_keys_or_values_is_found(
    fault: str, projection: str, glmasr: Path, tmp_path: Path
) -> None:
    """Of the last layer, where it reaches one output of the prefill and no score of the others."""
    good = built(glmasr, tmp_path / "good", "int8")
    part, change = FAULTS[fault]
    bad = with_part(good, tmp_path / "bad", f"layers.2.self_attn.{projection}.weight.int8.{part}", change)
    graph, manifest = prefill_of("full"), good.manifest
    reference = TorchBackend(load_for(good, None), manifest)
    feed = prefill_feed(random_cases(manifest, 1.0)[0], manifest.decoder.dims.vocab_size)
    signature = signature_of(graph, manifest)
    expected = reference.session(graph).run(feed)
    tolerance = tolerance_of("int8", False).for_outputs_of([expected])
    for artifact, passed in ((good, True), (bad, False)):
        backend = CheckedBackend("onnxruntime", artifact)
        runners = [SessionRunner(each.name, each.session(graph), signature) for each in (reference, backend)]
        ((finding,),) = compare(run(runners, [feed]), [tolerance])
        assert finding.passed == passed, finding


def with_part(source: Artifact, folder: Path, name: str, change: Callable[[Any], None]) -> Artifact:
    """A copy with one tensor changed in its file, described anew, as if a build had written it so."""
    shutil.copytree(source.folder, folder)
    places = source.manifest.weights["fp32"].decoder
    (place,) = [place for tensor, place in places.items() if tensor.endswith(name)]
    kind = np.dtype(np.float32 if place.precision == "fp32" else np.int8)
    file = np.memmap(folder / place.file, np.uint8, "r+")
    size = int(np.prod(place.shape)) * kind.itemsize
    change(file[place.offset : place.offset + size].view(kind).reshape(place.shape))
    file.flush()
    files = {**source.manifest.files, place.file: record_of(folder / place.file)}
    (folder / FILE_NAME).write_text(replace(source.manifest, files=files).to_json(), "utf-8")
    return open_artifact(folder)


def test_tolerances_of_rounded_activations_grow_with_the_outputs() -> None:
    scores = np.random.default_rng(0).standard_normal((4, 1000)).astype(np.float32)
    found, small = (
        [tolerance_of(name, False).for_outputs_of([{"top_logits": size * scores}]) for name in TOLERANCES]
        for size in (10.0, 0.1)
    )
    assert small == [
        replace(it, audio_rows=it.by_output["audio_embeds"]) if it.measured_on else it
        for it in TOLERANCES.values()
    ]
    assert {name for name, it in TOLERANCES.items() if it.measured_on} == {"bf16", "int8", "int4"}
    for before, after in zip(TOLERANCES.values(), found, strict=True):
        grown = 10 / before.measured_on[LOGITS] if before.measured_on else 1
        assert after.scores == pytest.approx(before.scores * grown, rel=0.05)
        assert (after.rows, after.by_output["audio_embeds"]) == (
            before.rows,
            before.by_output["audio_embeds"],
        )


def test_where_no_place_differs_rounding_is_not_put_to_an_optimisation_alone(
    glmasr: Path, tmp_path: Path
) -> None:
    artifact = built(glmasr, tmp_path / "artifact", "int8")
    reference, backend = (
        TorchBackend(load_for(artifact, None), artifact.manifest),
        CheckedBackend("onnxruntime", artifact),
    )
    feed = prefill_feed(random_cases(artifact.manifest, 1.0)[0], artifact.manifest.decoder.dims.vocab_size)
    where = [
        first_difference(
            prefill_of("full"),
            reference,
            backend,
            feed,
            replace(TOLERANCES["int8"], rounding=1, scores=scores),
        )
        for scores in (1e-3, 1e3)
    ]
    assert where[0].startswith("no place stands out: errors that rounding explains add up to ")
    assert where[0].endswith(" in lm_head")
    assert "changes how activations are rounded" in where[1]


def test_weights_that_transformers_does_not_take_are_named(
    glmasr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastadasp.export.check import reference

    artifact = built(glmasr, tmp_path / "artifact", "int4")
    name = "audio_tower.layers.0.mlp.fc1.weight"
    widths = {f"{name}.int8.32.values": 16}
    monkeypatch.setattr(reference, "_inputs_of_products", lambda artifact: widths)
    with pytest.raises(CheckpointError, match=rf"{name} is \(128, 16\) instead of \(128, 32\)"):
        load_for(artifact, None)
