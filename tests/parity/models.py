"""Random models whose answers depend on every weight, and what the parity tests do with them."""

from functools import partial

import numpy as np
import onnx
import torch

from fastadasp.export.model.families.qwen2_audio import REFERENCE, ROWS_PER_TOKEN, encode_window
from fastadasp.export.reference.model import ReferenceDecoder
from fastadasp.export.reference.row_weights import row_weights
from fastadasp.runtime.artifact.artifact import TOKENIZER
from fastadasp.runtime.decoding.drive import drive, new_search
from fastadasp.runtime.latency import Stopwatch
from fastadasp.runtime.prompt import PromptCodec, PromptIds, tokenizer_of

SAMPLE_RATE = 16000
BEFORE = np.array([4, 60, 71, 82])  # <|audio_bos|> among some text
AFTER = np.array([5, 90, 101, 112, 123, 134])


def roughen(model, seed=0):
    """Draw every parameter anew, norms and biases included: attention is sharp and no weight is neutral."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                weight.copy_(1 + 0.25 * noise)
            elif "lm_head" in name:
                weight.copy_(0.35 * noise)
            elif "embed_tokens" in name or "linear.weight" in name:
                weight.copy_(noise)
            else:
                weight.copy_(0.25 * noise)


def sound(num_samples, seed=0):
    """A sweep in noise that grows and fades: neighbouring frames are alike, distant ones are not."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / SAMPLE_RATE
    sweep = np.sin(2 * np.pi * (200 + rng.uniform(50, 900) * time) * time)
    level = 0.2 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * time) ** 2
    wave = level * (0.3 * sweep + 0.05 * rng.standard_normal(num_samples))
    return wave.astype(np.float32)


def our_rows(speech_lm, samples):
    """Audio of any length through the front end and encoder: rows, and the attention that they get."""
    return speech_lm.audio_encoder.encode(samples, Stopwatch())


def codec(speech_lm):
    """The tokenizer and template of an artifact."""
    return PromptCodec(tokenizer_of(speech_lm.artifact.read(TOKENIZER), TOKENIZER), speech_lm.manifest.prompt)


def audio_rows(model, extractor, samples):
    """Audio of any length through transformers' extractor and encoder, window by window: (rows, hidden + 2).

    The last columns are the attention that rows get in its last layer.
    """
    size = extractor.n_samples
    return np.concatenate(
        [_window_rows(model, extractor, samples[at : at + size]) for at in range(0, len(samples), size)]
    )


def _window_rows(model, extractor, piece):
    inputs = extractor(
        piece,
        sampling_rate=SAMPLE_RATE,
        padding="max_length",
        return_attention_mask=True,
        return_tensors="np",
    )
    return window_rows(model, inputs["input_features"][0], int(inputs["attention_mask"][0].sum()))


def window_rows(model, features, frames):
    """One window through transformers' encoder: the rows of the decoder, and the attention that they get."""
    encode = partial(encode_window, model, features, frames)
    return np.concatenate(row_weights(model, REFERENCE.encoder, encode, ROWS_PER_TOKEN), axis=1)


def all_logits(top):
    """Logits (rows, vocab) in the order of the vocabulary, from the best `vocab` tokens."""
    logits = np.empty_like(top.logits)
    np.put_along_axis(logits, top.ids, top.logits, axis=1)
    return logits


def forced_logits(decoder, tokens, vocab_size):
    """Logits after the prompt and after each of `tokens`: (len(tokens) + 1, vocab)."""
    tops = [decoder.start(vocab_size)]
    tops += [decoder.step(np.array([token]), np.array([0]), vocab_size) for token in tokens]
    return np.concatenate([all_logits(top) for top in tops])


def reference_decoder(model, resolved, rows, before=BEFORE, after=AFTER, **edges):
    """The torch reference over the usual prompt."""
    return ReferenceDecoder(model, resolved, before, rows, after, **edges)


def prompt_ids(before=BEFORE, after=AFTER):
    """The usual prompt as a request takes it."""
    return PromptIds(before, after)


def check_graph(path):
    """onnx.checker with full shape inference, weights included."""
    onnx.checker.check_model(str(path), full_check=True)


def answers(decoder, options, vocab_size):
    """The hypotheses of a search of its own over a decoder, best first."""
    return drive(new_search(options, vocab_size), decoder)
