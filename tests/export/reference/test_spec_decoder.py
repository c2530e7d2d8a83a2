"""The decoder from a description agrees with code that shares nothing with it, in a family of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.reference.spec_decoder import SpecDecoder
from golden_folder import AFTER, BEFORE, CONFIG, LONG, edge, setting, write_golden

ATOL = 1e-4  # of logits whose scale is 10


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden") / "qwen_audio"
    write_golden(folder, [setting("full")])
    return folder


@pytest.mark.parametrize("with_scores", [False, True])
def test_a_qwen_audio_prompt_gives_the_recorded_logits(golden, with_scores):
    recorded, weights = load_file(golden / "golden.safetensors"), load_file(golden / "model.safetensors")
    decoder = SpecDecoder(load_model(Checkpoint(golden)).decoder)
    before, after = (decoder.embed(np.array(ids)) for ids in (BEFORE, AFTER))
    x = torch.cat([before, torch.from_numpy(recorded["audio_embeds"]).float(), after])
    for index in range(decoder.num_layers):
        attended = decoder.attend_with_scores(index, x)[0] if with_scores else decoder.attend(index, x)
        x = decoder.feed_forward(index, attended)
    row = x[-1].double().numpy()
    row *= weights["transformer.ln_f.weight"] / np.sqrt((row**2).mean() + CONFIG["layer_norm_epsilon"])
    np.testing.assert_allclose(weights["lm_head.weight"] @ row, recorded["logits.0"][0], atol=ATOL, rtol=0)


def test_a_prompt_beyond_the_training_gives_the_recorded_logits(tmp_path):
    write_golden(tmp_path / "long", [setting("full")], config=LONG, edges=[edge(setting("full"))])
    recorded = load_file(tmp_path / "long" / "golden.safetensors")
    weights = load_file(tmp_path / "long" / "model.safetensors")
    short = SpecDecoder(load_model(Checkpoint(tmp_path / "long")).decoder)
    before, after = (short.embed(np.array(ids)) for ids in (BEFORE, AFTER))
    prompt = torch.cat([before, torch.from_numpy(recorded["audio_embeds"]).float(), after])
    for decoder, agrees in ((short.for_rows(len(prompt)), True), (short, False)):
        x = prompt
        for index in range(decoder.num_layers):
            x = decoder.feed_forward(index, decoder.attend(index, x))
        row = x[-1].double().numpy()
        row *= weights["transformer.ln_f.weight"] / np.sqrt((row**2).mean() + LONG["layer_norm_epsilon"])
        found = weights["lm_head.weight"] @ row
        assert np.allclose(found, recorded["logits64.0"][0], atol=ATOL, rtol=0) is agrees


def test_another_scale_multiplies_every_score(golden):
    spec = load_model(Checkpoint(golden)).decoder
    usual, half = SpecDecoder(spec), SpecDecoder(replace(spec, attention_scale=spec.attention_scale / 2))
    x = usual.embed(np.arange(12))
    expected, found = (decoder.attend_with_scores(0, x)[1].probabilities for decoder in (usual, half))
    torch.testing.assert_close(found, (expected.log() / 2).softmax(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(half.attend(0, x), half.attend_with_scores(0, x)[0], atol=1e-4, rtol=0)
    assert not torch.allclose(half.attend(0, x), usual.attend(0, x), atol=1e-2)


def test_probabilities_are_causal_and_sum_to_1(golden):
    decoder = SpecDecoder(load_model(Checkpoint(golden)).decoder)
    _, scores = decoder.attend_with_scores(0, decoder.embed(np.arange(12)))
    assert scores.probabilities.shape == (CONFIG["num_attention_heads"], 12, 12)
    assert not scores.probabilities.triu(1).any()
    torch.testing.assert_close(scores.probabilities.sum(-1), torch.ones(CONFIG["num_attention_heads"], 12))
