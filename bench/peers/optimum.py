"""Optimum for OpenVINO in bf16, with weights as they are or in int8; it gets ids."""

from __future__ import annotations

from pathlib import Path

from peers.cases import token_ids
from peers.huggingface import generate
from peers.worker import Clock, Loading, Record, Run

LIBRARIES = ("optimum-intel", "openvino", "transformers", "torch")


def write(folder: Path, form: str, _: str) -> None:
    """By the exporter of the library."""
    from optimum.intel import OVModelForCausalLM

    int8 = form == "int8"
    model = OVModelForCausalLM.from_pretrained(folder / "text", export=True, compile=False, load_in_8bit=int8)
    model.save_pretrained(folder / f"optimum-{form}")


def load(loading: Loading) -> Run:
    import torch
    from optimum.intel import OVModelForCausalLM

    torch.set_num_threads(loading.threads)
    model = OVModelForCausalLM.from_pretrained(
        str(loading.folder / f"optimum-{loading.form}"),
        ov_config={
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": str(loading.threads),
            "NUM_STREAMS": "1",
        },
    )

    def run(seconds: int, beams: int, _: str, tokens: int) -> Record:
        ids = torch.from_numpy(token_ids(seconds))[None]
        mask = torch.ones_like(ids)
        return generate(model, Clock(), beams, tokens, input_ids=ids, attention_mask=mask)[0]

    return run
