"""Kept positions against transformers: evicted rows behind a mask, merged ones at positions found by hand."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.plugins.merge_tokens.reference import random_score
from fastadasp.profiles import Profile
from fastadasp.profiles.profile import layer_seed
from fastadasp.profiles.schedule import removed
from fastadasp.runtime import SpeechLM

from .models import AFTER, BEFORE, forced_logits

ATOL = 3e-4  # of logits whose scale is 10: angles of 330 positions are rounded
TOKENS = np.array([17, 91, 203, 40])
FRAMES = 90


@pytest.fixture(scope="module")
def rows(model):
    hidden_size = model.get_decoder().config.hidden_size
    return np.random.default_rng(5).standard_normal((FRAMES, hidden_size), np.float32)


def masked_logits(model, rows, hidden_from):
    """Logits after prompt and tokens of transformers; columns are hidden from a layer on, by layer."""
    embed = model.get_input_embeddings()
    texts = [embed(torch.as_tensor(ids)) for ids in (BEFORE, AFTER, TOKENS)]
    x = torch.cat([texts[0], torch.as_tensor(rows), *texts[1:]])[None]
    hooks, columns = [], []
    for layer, module in enumerate(model.get_decoder().layers):
        columns = sorted({*columns, *hidden_from.get(layer, ())})
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
        mask[:, columns] = -torch.inf
        mask.fill_diagonal_(0)  # a hidden row has itself, lest its softmax be empty

        def hide(_, args, kwargs, mask=mask):
            return args, {**kwargs, "attention_mask": mask[None, None]}

        hooks.append(module.register_forward_pre_hook(hide, with_kwargs=True))
    try:
        with torch.no_grad():
            return model(inputs_embeds=x).logits[0, -len(TOKENS) - 1 :]
    finally:
        for hook in hooks:
            hook.remove()


def evicted(profile, num_layers):
    """Rows of the prompt that random eviction takes away, by the first layer that misses them."""
    rows, gone = list(range(len(BEFORE), len(BEFORE) + FRAMES)), {}
    for layer in range(profile.start_layer, num_layers):
        score = random_score(len(rows), layer_seed(profile, layer))
        places = np.argsort(score, kind="stable")[: removed(len(rows), profile.ratio)]
        gone[layer + 1] = [rows[place] for place in places]
        rows = [row for place, row in enumerate(rows) if place not in places]
    return gone


@pytest.mark.parametrize("ratio", ["1/9", "1/2"])
def test_evicted_rows_leave_the_others_where_they_were(model, checkpoint, rows, tmp_path, ratio):
    profile = Profile("mine", "random_evict", "constant", 1, ratio=Fraction(ratio), positions="kept")
    build(checkpoint, tmp_path / "artifact", BuildOptions((profile,)))
    ours = SpeechLM.load(tmp_path / "artifact", threads=1)
    dims = ours.manifest.decoder.dims
    expected = masked_logits(model, rows, evicted(profile, dims.num_layers))
    found = forced_logits(ours.decoder("mine", BEFORE, rows, AFTER), TOKENS, dims.vocab_size)
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    assert np.abs(expected - masked_logits(model, rows, {})).max() > 100 * ATOL


def test_merged_rows_stand_at_the_mean_of_their_positions(model, checkpoint, rows, tmp_path):
    profile = Profile("mine", "uniform_merge", "input", ratio=Fraction(1, 3), positions="kept")
    build(checkpoint, tmp_path / "artifact", BuildOptions((profile,)))
    ours = SpeechLM.load(tmp_path / "artifact", threads=1)
    found = forced_logits(
        ours.decoder("mine", BEFORE, rows, AFTER), TOKENS, ours.manifest.decoder.dims.vocab_size
    )
    first, second, third = (torch.as_tensor(rows[place::3]) for place in range(3))
    merged = torch.stack([(first + second) / 2, third], dim=1).flatten(0, 1)
    embed = model.get_input_embeddings()
    texts = [embed(torch.as_tensor(ids)) for ids in (BEFORE, AFTER, TOKENS)]
    x = torch.cat([texts[0], merged, *texts[1:]])[None]
    means = [at + place for at in range(0, FRAMES, 3) for place in (0.5, 2)]
    audio = len(BEFORE) + torch.tensor(means)
    gone = FRAMES // 3  # the last row of the prompt stands at the number of rows before it
    text = torch.arange(len(BEFORE) + FRAMES, len(BEFORE) + FRAMES + len(AFTER) + len(TOKENS))
    kept = torch.cat([torch.arange(len(BEFORE)), audio, text]) - gone
    expected, compact = (logits_at(model, x, positions) for positions in (kept, torch.arange(x.shape[1])))
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    assert np.abs(expected - compact).max() > 100 * ATOL


def logits_at(model, x, positions):
    """Logits after prompt and tokens of transformers, whose rows (1, rows, hidden_size) stand there."""
    with torch.no_grad():
        found = model(
            inputs_embeds=x,
            attention_mask=torch.ones(x.shape[:2], dtype=torch.int64),
            position_ids=positions[None],
        )
    return found.logits[0, -len(TOKENS) - 1 :]
