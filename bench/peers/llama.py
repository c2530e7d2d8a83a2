"""llama.cpp in BF16, Q8_0 and Q4_0: bench/llama_cpp.c prefills ids once for all beams; steps take any ids."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

from peers.cases import MODELS, token_ids
from peers.worker import Loading, Record, Run, peak_bytes, record

LIBRARIES = ("gguf",)
FLASH = {"": "0", "flash": "1"}  # its attention: variant -> what the program is told


def write(folder: Path, form: str, model: str) -> None:
    """A file in its format, every matrix in the same numbers."""
    from llama_cpp import write_gguf

    write_gguf(folder / "checkpoint", folder / f"{form}.gguf", form, MODELS[model].sizes)


def load(loading: Loading) -> Run:
    @cache
    def process(seconds: int, variant: str) -> subprocess.Popen[str]:
        """One for each prompt, with the model mapped."""
        words = [loading.extra, loading.folder / f"{loading.form}.gguf", loading.threads, FLASH[variant]]
        command = [str(word) for word in (*words, *token_ids(seconds))]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(seconds: int, beams: int, variant: str, tokens: int) -> Record:
        program = process(seconds, variant)
        assert program.stdin
        assert program.stdout
        print(beams, tokens - 1, file=program.stdin, flush=True)
        line = program.stdout.readline()
        if not line:
            raise SystemExit(f"llama.cpp ended with {program.wait()}")
        found = json.loads(line)
        total = np.add(found["prefill"], np.sum(found["steps"], axis=0))
        return {**record(found["prefill"], total.tolist(), tokens), "peak_bytes": peak_bytes(program.pid)}

    return run
