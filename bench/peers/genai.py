"""onnxruntime-genai in fp32 and int4, from the model that its own builder wrote; it gets ids."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from peers.cases import token_ids
from peers.worker import Clock, Loading, Record, Run, record

LIBRARIES = ("onnxruntime-genai", "onnxruntime")


def write(folder: Path, form: str, _: str) -> None:
    """By the builder of the library."""
    words = ["-i", folder / "text", "-o", folder / f"genai-{form}", "-p", form, "-e", "cpu"]
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *map(str, words)]
    subprocess.run([*command, "--extra_options", "hf_token=false"], check=True)


def load(loading: Loading) -> Run:
    import onnxruntime_genai as og

    config = og.Config(str(loading.folder / f"genai-{loading.form}"))
    session = {"intra_op_num_threads": loading.threads, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = og.Model(config)

    def run(seconds: int, beams: int, _: str, tokens: int) -> Record:
        ids = token_ids(seconds).astype(np.int32)
        length = len(ids) + tokens
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=length, min_length=length, num_beams=beams, do_sample=False)
        generator = og.Generator(model, params)
        clock = Clock()
        generator.append_tokens(ids)
        generator.generate_next_token()
        prefill = clock.read()
        for _step in range(tokens - 1):
            generator.generate_next_token()
        return record(prefill, clock.read(), tokens)

    return run
