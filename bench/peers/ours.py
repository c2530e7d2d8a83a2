"""Ours: an artifact under a profile. Decoders get rows of audio; the demo gets a clip."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers.cases import DEMO, MODELS, prompt
from peers.worker import Clock, Loading, Record, Run, record

PROFILES = ("full", "dense-constant-50")
LIBRARIES = ("fastadasp-export", "onnxruntime", "openvino")
BACKENDS = {  # how a system is called -> weights, backend and its options
    "onnxruntime fp32": ("none", "onnxruntime", {}),
    "onnxruntime int8": ("int8", "onnxruntime", {}),
    "onnxruntime int4": ("int4", "onnxruntime", {}),
    "openvino bf16": ("none", "openvino", {"precision": "bf16"}),
    "openvino bf16, int8 steps": ("int8", "openvino", {"precision": "bf16"}),
}


def write(folder: Path, form: str, model: str) -> None:
    """An artifact for the backend, with its weights in the format."""
    from fastadasp.export.options import BuildOptions
    from fastadasp.export.pipeline import build
    from fastadasp.profiles import load_profile

    weights, backend, _ = BACKENDS[form]
    full, half = map(load_profile, PROFILES)
    if (start := MODELS[model].start_layer) is not None:
        half = replace(half, start_layer=start)
    quantize = None if weights == "none" else weights
    options = BuildOptions((full, half), targets=(backend,), quantize=quantize)
    artifact = folder / f"ours-{weights}-{backend}"
    shutil.rmtree(artifact, ignore_errors=True)
    build((folder / "checkpoint").resolve(), artifact, options)


def load(loading: Loading) -> Run:
    from fastadasp.runtime import SpeechLM

    weights, backend, options = BACKENDS[loading.form]
    folder = loading.folder / f"ours-{weights}-{backend}"
    model = SpeechLM.load(folder, backend=backend, threads=loading.threads, **options)
    return _clips(model, loading) if loading.model == DEMO else _decoder(model, loading)


def _decoder(model: Any, loading: Loading) -> Run:
    from fastadasp.runtime.decoding.drive import drive, new_search
    from fastadasp.runtime.decoding.options import SearchOptions

    sizes = MODELS[loading.model].sizes

    def run(seconds: int, beams: int, profile: str, tokens: int) -> Record:
        decoder = Timed(model.decoder(profile, *prompt(sizes, seconds)))
        search = SearchOptions(num_beams=beams, max_new_tokens=tokens)
        decoder.clock = Clock()
        drive(new_search(search, sizes["vocab_size"]), decoder)
        return record(decoder.prefill, decoder.clock.read(), tokens)

    return run


class Timed:
    """A decoder that reads the clock after its prefill."""

    def __init__(self, decoder: Any) -> None:
        self.decoder, self.clock, self.prefill = decoder, Clock(), [0.0, 0.0]

    def start(self, k: int) -> Any:
        """The prefill."""
        found = self.decoder.start(k)
        self.prefill = self.clock.read()
        return found

    def step(self, *arguments: Any) -> Any:
        """One step."""
        return self.decoder.step(*arguments)


def _clips(model: Any, loading: Loading) -> Run:
    def run(seconds: int, beams: int, profile: str, tokens: int) -> Record:
        clip = loading.folder / f"{seconds}.wav"
        options = {"profile": profile, "num_beams": beams}

        def ask(count: int) -> tuple[list[float], str]:
            clock = Clock()
            found = model.generate(clip, "<asr>", max_new_tokens=count, min_new_tokens=count, **options)
            return clock.read(), found.text

        (total, text), (prefill, _) = ask(tokens), ask(1)  # one token takes no step
        return record(prefill, total, tokens, text)

    return run
