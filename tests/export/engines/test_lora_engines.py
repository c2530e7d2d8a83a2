"""Engines of graphs whose LoRA is as strong as the prompt makes it, and of the prompt adapter."""

from __future__ import annotations

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import BF16
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.engines.engine import build_engine
from fastadasp.export.engines.messages import EngineRequest, Expected
from fastadasp.export.engines.shapes import decode_profile, prefill_profile, prompt_adapter_profile
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import write_graphs
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.export.options import EngineOptions
from fastadasp.profiles import Profile
from torch_wavllm import TorchWavLLM

pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")

LIMITS = EngineOptions(max_audio_seconds=8, max_beams=4, max_text_rows=32, max_new_tokens=32)
AUDIO_ROWS = 100
PROFILES = {
    "decode": (lambda model: decode_profile(model, AUDIO_ROWS, LIMITS), 0),
    "prompt_adapter": (lambda model: prompt_adapter_profile(model, LIMITS), 3),
    "prefill.full": (lambda model: prefill_profile(model, AUDIO_ROWS, LIMITS), 2),
}
"""Engine -> its shapes, and the fused attention layers of the tiny model's three."""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The model, and a folder of its graphs with their weights in 16 bits."""
    root = tmp_path_factory.mktemp("wavllm")
    TorchWavLLM(seed=1).save(root / "checkpoint")
    model = load_model(Checkpoint(root / "checkpoint"))
    store = weight_store(model.tensors, "copy", BF16)
    resolved = [resolve_for(Profile("full", "full"), model)]
    write_graphs(root, model, resolved, store, TensorRTLowering(BF16, AUDIO_ROWS))
    store.write(root)
    return model, root


@pytest.mark.parametrize("name", PROFILES)
def test_a_graph_with_a_strength_becomes_an_engine(graphs, name):
    model, folder = graphs
    shapes, attentions = PROFILES[name]
    request = EngineRequest(
        product="tensorrt_rtx",
        name=f"{name} of a test",
        graph=folder / f"{name}.onnx",
        plan=folder / f"{name}.plan",
        profile=shapes(model),
        sm=80,
        plugins=None,
        expected=Expected({}, attentions, causal=name != "decode"),
        reproducible=False,
    )
    build_engine(request, folder / f"{name}.log")
    assert request.plan.stat().st_size > 0
