"""Kept positions against models that keep every row where it is and hide the evicted ones behind a mask."""

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
