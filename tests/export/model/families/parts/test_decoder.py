"""Each kind of decoder, read by its names: in torch and in the graphs of every target as in transformers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx.reference import ReferenceEvaluator

from fastadasp.export.check.sessions.step_of_one import step_feed
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.graphs.decode import build_decode
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.prefill import build_prefill
from fastadasp.export.model.families.parts.decoder import KINDS, read_decoder, read_decoder_settings
from fastadasp.export.model.families.parts.settings import refuse_faults
from fastadasp.export.model.spec import tensors_of
from fastadasp.export.reference.layers import TorchLayers
from fastadasp.export.reference.reduction import Span
from fastadasp.export.reference.spec_decoder import SpecDecoder
from fastadasp.profiles import Profile
from fastadasp.profiles.errors import CheckpointError
from fastadasp.profiles.flops import resolve
from fastadasp.profiles.signature import cache_names
from fastadasp.runtime.audio.front_end import FrontEnd
from fastadasp.runtime.audio.log_mel import LogMelConfig

from ....graphs.test_tensorrt_graphs import PLUGINS

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
MULTIPLIED = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.2,
    "logits_scaling": 1.7,
}
CASES = {
    "qwen2": ("Qwen2", {}),
    "qwen2, other base": ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "qwen3, tied": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3, biases": ("Qwen3", {"attention_bias": True, "head_dim": 8}),
    "llama": ("Llama", {}),
    "llama, biases": ("Llama", {"attention_bias": True, "head_dim": 12}),
    "granite": ("Granite", MULTIPLIED),
    "granite, tied": ("Granite", {**MULTIPLIED, "tie_word_embeddings": True}),
}
PROFILES = (
    Profile("full", "full"),
    Profile("merge", "weighted_merge", "constant", 0, ratio=Fraction(1, 3)),
)
LOWERINGS = {
    "onnxruntime": OnnxRuntimeLowering,
    "onnxruntime-cuda": lambda: OnnxRuntimeCudaLowering(FP32, 37, 64),
    "tensorrt": lambda: TensorRTLowering(FP32, 37),
}
FRONT_END = FrontEnd(LogMelConfig(window_seconds=2), rows_per_token=2)
BEFORE, AFTER, AUDIO = np.array([3, 14, 15]), np.array([9, 26]), 21
ATOL = 2e-4


@pytest.fixture(scope="module", params=CASES)
def decoder(request, tmp_path_factory):
    """A decoder of transformers with random weights, and what is read of its folder."""
    name, changes = CASES[request.param]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3 + (weight.ndim == 1))
    folder = tmp_path_factory.mktemp("decoder")
    model.save_pretrained(folder)
    checkpoint = Checkpoint(folder)
    return model, read(checkpoint, checkpoint.config)


def read(checkpoint, config):
    settings = read_decoder_settings("config.json", config, config["model_type"])
    refuse_faults(*settings.sections)
    assert not list(settings.notes())
    return read_decoder(checkpoint, settings, base="model", head="lm_head")


def audio():
    return np.random.default_rng(0).standard_normal((AUDIO, SIZES["hidden_size"])).astype(np.float32)


def test_the_decoder_in_torch_computes_what_transformers_does(decoder):
    model, spec = decoder
    ours = SpecDecoder(spec)
    rows = torch.cat([ours.embed(BEFORE), ours.entering(torch.from_numpy(audio())), ours.embed(AFTER)])
    for with_scores in (False, True):
        x = rows
        for i in range(ours.num_layers):
            x = ours.attend_with_scores(i, x)[0] if with_scores else ours.attend(i, x)
            x = ours.feed_forward(i, x)
        embed = model.get_input_embeddings()
        parts = embed(torch.from_numpy(BEFORE)), torch.from_numpy(audio()), embed(torch.from_numpy(AFTER))
        with torch.no_grad():
            expected = model.model(inputs_embeds=torch.cat(parts)[None]).last_hidden_state[0]
            torch.testing.assert_close(model.model.norm(x), expected, atol=ATOL, rtol=0)


def test_the_layers_of_transformers_called_one_by_one_compute_what_they_do_together(decoder):
    model, _ = decoder
    layers, tokens = TorchLayers(model), np.array([5, 6, 7])
    with torch.no_grad():
        layers.prefill(layers.embed(tokens[None, :2]), resolve(PROFILES[0], dims_of(decoder), 0), Span(0, 2))
        top = layers.top_tokens(layers.step(tokens[2:])[:, -1], SIZES["vocab_size"])
        expected = model(torch.from_numpy(tokens[None])).logits[0, -1].numpy()
    np.testing.assert_allclose(top.logits[0], expected[top.ids[0]], atol=ATOL, rtol=0)


def dims_of(decoder):
    return decoder[1].dims


@pytest.mark.parametrize("target", LOWERINGS)
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_graphs_of_each_target_compute_what_transformers_does(decoder, target, profile, tmp_path):
    model, spec = decoder
    lowering, resolved = LOWERINGS[target](), resolve(profile, spec.dims, AUDIO)
    store = weight_store(tuple(tensors_of(spec)), "copy")
    graphs = {
        "prefill": build_prefill(spec, FRONT_END, store, lowering, resolved),
        "decode": build_decode(spec, store, lowering),
    }
    store.write(tmp_path)
    for name, graph in graphs.items():
        (tmp_path / f"{name}.onnx").write_bytes(graph.SerializeToString())
    request = {
        "prefix_ids": BEFORE,
        "audio_embeds": audio(),
        "suffix_ids": AFTER,
        "num_candidates": np.array([7]),
    }
    layers = TorchLayers(model)
    with torch.no_grad():
        parts = layers.embed(BEFORE), torch.from_numpy(audio()), layers.embed(AFTER)
        x = layers.prefill(torch.cat(parts)[None], resolved, Span(len(BEFORE), AUDIO))
        top = layers.top_tokens(x[:, -1], 7)
    found = run(tmp_path / "prefill.onnx", target, request)
    np.testing.assert_allclose(found["top_logits"], top.logits, atol=ATOL, rtol=0)
    for i, (keys, values) in enumerate(layers.prefix):
        names = cache_names(i)
        for name, tensor in zip(names[:2], (keys, values), strict=True):
            np.testing.assert_allclose(found[name], tensor[0].detach(), atol=ATOL, rtol=0)
    with torch.no_grad():
        top = layers.top_tokens(layers.step(np.array([11]))[:, -1], 7)
    feeds = step(found, spec.dims, target)
    found = run(tmp_path / "decode.onnx", target, feeds)
    np.testing.assert_allclose(found["top_logits"], top.logits, atol=ATOL, rtol=0)
    np.testing.assert_array_equal(found["top_ids"], top.ids)


def step(prefill, dims, target):
    """The first step of one beam after a prefill, whose pool is empty."""
    feeds = {
        "token_ids": np.array([11]),
        "step": np.array([0]),
        "pool_mask": np.array([[True]]),
        "num_candidates": np.array([7]),
    }
    takes_one = target == "onnxruntime-cuda"  # and has room for its row
    for i in range(dims.num_layers):
        names = cache_names(i)
        pool = np.zeros((dims.num_kv_heads, int(takes_one), dims.head_dim), np.float32)
        feeds |= {name: prefill[name] for name in names[:2]} | dict.fromkeys(names[2:], pool)
    return feeds | {"pool_rows": np.array([0])} if takes_one else step_feed(feeds, dims)


def run(path, target, feeds):
    """The outputs of a graph by name; one for TensorRT by onnx, with the plugins as NumPy."""
    if target == "tensorrt":
        graph = onnx.load(path)
        names = [output.name for output in graph.graph.output]
        return dict(zip(names, ReferenceEvaluator(graph, new_ops=PLUGINS).run(None, feeds), strict=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model_type": "gemma"}, "model_type 'gemma' is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"mlp_bias": True}, "mlp_bias True"),
        ({"use_sliding_window": True}, "use_sliding_window True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type 'llama3'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_type 'linear'"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ({"rope_scaling": {"type": "default", "mrope_section": [2, 3, 3]}}, "mrope_section"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"attention_bias": None}, "attention_bias is None"),
        ({"embedding_multiplier": 0}, "embedding_multiplier is 0"),
    ],
    ids=str,
)
def test_what_is_not_exact_is_refused_by_name(changes, fault):
    settings = read_decoder_settings("config.json", {**SIZES, **changes}, "granite")
    with pytest.raises(CheckpointError, match=fault):
        refuse_faults(*settings.sections)


def test_positions_in_sections_are_taken_where_audio_is_alone():
    rope = {"type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}
    settings = read_decoder_settings(
        "config.json", {**SIZES, "rope_scaling": rope}, "qwen2", has_position_sections=True
    )
    refuse_faults(*settings.sections)
    assert not list(settings.notes())
    assert settings.rope.number("rope_theta") == 1e6


def test_defaults_are_those_of_transformers():
    for name in KINDS:
        config = transformers.AutoConfig.for_model(name)
        settings = read_decoder_settings("config.json", {}, name)
        for field in ("hidden_size", "intermediate_size", "vocab_size", "num_key_value_heads"):
            assert getattr(settings.dims, field.replace("num_key_value", "num_kv")) == getattr(config, field)
        assert settings.dims.head_dim == getattr(config, "head_dim", 128)
        assert settings.text.count("max_position_embeddings") == config.max_position_embeddings
        assert settings.text.number("rms_norm_eps") == config.rms_norm_eps
