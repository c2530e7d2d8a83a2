"""Gated attention with relative positions: the chunks of a graph give what all pairs at once give."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from fastadasp.plugins.body import FLOAT, IR_VERSION, OPSET, Body, value
from fastadasp.plugins.relative_attention.function import (
    QUERY_CHUNK,
    append_relative_attention,
    append_skewed_bias,
)
from fastadasp.plugins.relative_attention.reference import relative_attention

HEADS, DIM, REACH = 3, 8, 20
NAMES = {"query": HEADS * DIM, "key": HEADS * DIM, "value": HEADS * DIM, "gate": HEADS}
ROWS = (1, 2, REACH, QUERY_CHUNK - 1, QUERY_CHUNK, QUERY_CHUNK + 1, 3 * QUERY_CHUNK + 5)


def inputs(rows, reach=REACH):
    rng = np.random.default_rng(rows)
    given = {name: rng.standard_normal((rows, width)) for name, width in NAMES.items()}
    return {**given, "bias": 3 * rng.standard_normal((HEADS, 2 * reach + 1))}


def session(count, reach=REACH):
    """The nodes in a graph of their own."""
    b = Body()
    skewed = append_skewed_bias(b, "bias", reach, b.dim("query", 0), count)
    y = append_relative_attention(b, (HEADS, DIM), "query", "key", "value", "gate", skewed)
    taken = [value(name, FLOAT, ["rows", width]) for name, width in NAMES.items()]
    taken.append(value("bias", FLOAT, [HEADS, 2 * reach + 1]))
    graph = helper.make_graph(b.nodes, "attention", taken, [value(y, FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def test_the_definition_agrees_with_plain_loops():
    given, rows = inputs(7, reach=3), 7
    q, k, v = (given[name].reshape(rows, HEADS, DIM) for name in ("query", "key", "value"))
    want = np.zeros((rows, HEADS, DIM))
    for head in range(HEADS):
        for i in range(rows):
            scores = np.array(
                [
                    q[i, head] @ k[j, head] / DIM**0.5
                    + given["gate"][i, head] * given["bias"][head, min(max(j - i, -3), 3) + 3]
                    for j in range(rows)
                ]
            )
            shares = np.exp(scores) / np.exp(scores).sum()
            want[i, head] = shares @ v[:, head]
    np.testing.assert_allclose(relative_attention(**given), want.reshape(rows, -1), atol=1e-12)


@pytest.mark.parametrize("count", [None, 1, 4], ids="{} chunks".format)
def test_chunks_give_what_all_pairs_give(count):
    """Of a fixed length, or a fixed number of them, which may be more than there are rows."""
    run = session(count)
    for rows in ROWS:
        given = inputs(rows)
        (found,) = run.run(None, {name: array.astype(np.float32) for name, array in given.items()})
        np.testing.assert_allclose(found, relative_attention(**given), atol=2e-5)


def test_a_bias_that_reaches_further_than_the_audio_is_read_by_distance():
    given = inputs(9, reach=200)
    (found,) = session(None, reach=200).run(None, {n: a.astype(np.float32) for n, a in given.items()})
    np.testing.assert_allclose(found, relative_attention(**given), atol=2e-5)
