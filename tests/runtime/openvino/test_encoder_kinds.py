"""Every kind of encoder gives the rows on OpenVINO that it gives on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from tiny_families import TINY
from torch_wavllm import TorchWavLLM

pytest.importorskip("openvino")

OTHER_KINDS = "qwen2_5_omni", "qwen3_asr", "granite_speech", "vibevoice_asr"  # chunks, images, clips, waves
SAMPLES = 0.1 * np.random.default_rng(0).standard_normal(48000).astype(np.float32)
CLOSE = 1e-4  # of the spread of the rows


def save(family: str, folder: Path) -> None:
    if family == "wavllm":
        TorchWavLLM(seed=1).save(folder)
    else:
        folder.mkdir()
        TINY[family].save(folder)


@pytest.mark.parametrize("family", [*OTHER_KINDS, "wavllm"])
def test_rows_in_float32_are_those_of_onnxruntime(family, tmp_path):
    checkpoint, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
    save(family, checkpoint)
    options = BuildOptions((Profile("full", "full"),), targets=("onnxruntime", "openvino"))
    build(checkpoint, artifact, options)
    with SpeechLM.load(artifact, threads=1) as model:
        expected = model.encode(SAMPLES).rows
    with SpeechLM.load(artifact, backend="openvino", precision="fp32", threads=1) as model:
        found = model.encode(SAMPLES).rows
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < CLOSE * expected.std()
