"""Greedy answers of a model in training, for a look at it on held-out voices."""

from __future__ import annotations

from collections import defaultdict

import jiwer
import numpy as np
import torch
from transformers import DynamicCache

from .batches import AFTER, BEFORE
from .features import Features
from .model import Model
from .tasks import questions
from .vocabulary import EOS, ID, TOKENS, ids

SPARE_TOKENS = 8


@torch.inference_mode()
def answer(model: Model, rows: torch.Tensor, prompt: str, longest: int) -> str:
    """The words that greedy search finds for encoder output (audio rows, 384)."""
    body, cache = model.model.language_model, DynamicCache()
    embedding = body.embed_tokens.weight
    parts = (
        embedding[list(BEFORE)],
        model.model.multi_modal_projector(rows),
        embedding[[*AFTER, *ids(prompt)]],
    )
    x, found = torch.cat(parts)[None], []
    while len(found) < longest:
        hidden = body(inputs_embeds=x, past_key_values=cache, use_cache=True).last_hidden_state[0, -1]
        token = int((hidden @ embedding.T).argmax())
        if token == ID[EOS]:
            break
        found.append(TOKENS[token])
        x = embedding[[token]][None]
    return " ".join(found)


def held_out_scores(model: Model, features: Features, clips: int, seed: int = 0) -> dict[str, float]:
    """Word error rate of every prompt over at most so many clips: of one-word answers, the wrong ones."""
    model.eval()
    draw, pairs = np.random.default_rng(seed), defaultdict(list)
    for clip in range(min(clips, len(features))):
        rows = torch.from_numpy(features.rows(clip))
        for asked in questions(features.facts[clip], draw):
            name = " ".join(asked.prompt.split()[:2])
            longest = len(asked.answer.split()) + SPARE_TOKENS
            pairs[name].append((asked.answer, answer(model, rows, asked.prompt, longest) or "-"))
    model.train()
    return {name: jiwer.wer(*map(list, zip(*found, strict=True))) for name, found in sorted(pairs.items())}
