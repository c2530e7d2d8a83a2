"""What matrices are multiplied with while clips are read: each is reached, by the rows of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo_files import DEMO
from fastadasp.evaluation.clips.read import read_clips_of_any_task
from fastadasp.export.calibration.clips import Calibration, audio_encoder, prompt_rows
from fastadasp.export.calibration.inputs import Products, decoder_products
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.quantize import int4_matrices
from fastadasp.export.reference.model import load_reference
from fastadasp.export.reference.spec_decoder import SpecDecoder

pytestmark = pytest.mark.usefixtures("one_thread")
LAYER, PARTS = 5, ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


@pytest.fixture(scope="module")
def seen():
    """Model, clips as they are read, and the products of the decoder."""
    checkpoint = Checkpoint(DEMO / "model")
    model = load_model(checkpoint)
    names = {weight.name for weight in int4_matrices(model)}
    with audio_encoder(model, 1) as encoder:
        calibration = Calibration(checkpoint, model, encoder)
        clips = [
            calibration.read(clip) for clip in read_clips_of_any_task(DEMO / "clips/transcripts.jsonl")[:2]
        ]
    decoder = {}
    for products in decoder_products(model, clips, names):
        assert not decoder.keys() & products.keys()
        decoder |= products
    return model, clips, decoder


def test_every_matrix_of_4_bits_is_reached_once(seen):
    model, _, decoder = seen
    weights = {weight.name: weight for weight in int4_matrices(model)}
    assert decoder.keys() == weights.keys()
    for name, products in decoder.items():
        assert products.shape == (weights[name].shape[1],) * 2
        assert np.diag(products).min() >= 0


def test_the_decoder_multiplies_what_transformers_multiplies_answers_included(seen):
    model, clips, decoder = seen
    reference = load_reference(DEMO / "model").get_decoder()
    expected = dict.fromkeys(PARTS, 0.0)

    def adds(part):
        def hook(module, inputs):
            rows = inputs[0].flatten(0, -2).double()
            expected[part] = expected[part] + (rows.T @ rows).numpy()

        return hook

    for part in PARTS:
        reference.layers[LAYER].get_submodule(part).register_forward_pre_hook(adds(part))
    table = SpecDecoder(model.decoder)
    with torch.no_grad():
        for clip in clips:
            rows = torch.cat([prompt_rows(table, model, clip)[0], table.embed(clip.answer)])
            reference(inputs_embeds=rows[None])
    for part in PARTS:
        (name,) = (name for name in decoder if f".layers.{LAYER}.{part}." in name)
        scale = np.abs(expected[part]).max()
        np.testing.assert_allclose(decoder[name], expected[part], rtol=1e-3, atol=1e-4 * scale)


def test_products_add_up_over_rows():
    rows, products = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32), Products({"w"})
    for part in (rows[:2], rows[2:]):
        products.add("w", part)
        products.add("another", part)
    assert products.found.keys() == {"w"}
    np.testing.assert_allclose(products.found["w"], rows.T @ rows, rtol=1e-5)
