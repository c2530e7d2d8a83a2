"""The function bodies are valid ONNX, and their results do not depend on the number of threads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from fastadasp.plugins.body import DOMAIN
from fastadasp.plugins.merge_tokens.op import MERGE_EDGES, MERGE_PAIRS, RANDOM_SCORE

from .op_versions import OPS, Array, Heads, assert_same_bits, model, session, site

LAYOUTS = [Heads(4, 4, 16), Heads(4, 2, 64), Heads(8, 1, 128)]


@pytest.mark.parametrize("heads", LAYOUTS, ids=lambda heads: f"{heads.query}-{heads.kv}-{heads.dim}")
@pytest.mark.parametrize("op_type", OPS)
def test_the_checker_accepts_every_op(op_type: str, heads: Heads) -> None:
    attributes = (("seed", 3),) if op_type == RANDOM_SCORE else ()
    onnx.checker.check_model(model(op_type, heads, attributes), full_check=True)


@pytest.mark.parametrize("op_type", OPS)
def test_a_body_consists_of_standard_ops(op_type: str) -> None:
    for function in model(op_type, LAYOUTS[0]).functions:
        assert {node.domain for node in function.node} <= {"", DOMAIN}
        assert function.domain == DOMAIN


@pytest.mark.parametrize("op_type", OPS)
def test_inputs_and_outputs_keep_their_names(op_type: str) -> None:
    body = next(f for f in model(op_type, LAYOUTS[0]).functions if f.name == op_type)
    assert list(body.input) == list(OPS[op_type].takes)
    assert list(body.output) == list(OPS[op_type].gives)


def many_rows() -> dict[str, Array]:
    """Long and short runs, of enough rows that ONNX Runtime spreads them over threads."""
    rng = np.random.default_rng(0)
    rows, width = 6000, 1024
    hidden = rng.standard_normal((rows, width), np.float32)
    score, weight = rng.standard_normal(rows - 1, np.float32), rng.random(rows, np.float32)
    score[:2000] = 9  # one run of 2001 rows
    span, removed = site(0, rows, 4000)
    return {"hidden": hidden, "score": score, "weight": weight, "span": span, "removed": removed}


def test_merging_loses_no_row_when_threads_share_a_cluster() -> None:
    feeds = many_rows()
    alone = session(MERGE_EDGES).run(None, feeds)[0]
    together = session(MERGE_EDGES, threads=4)
    for _ in range(5):
        assert_same_bits(together.run(None, feeds)[0], alone)


def test_pairs_are_the_same_for_any_number_of_threads() -> None:
    feeds = many_rows()
    key = np.random.default_rng(1).standard_normal((1, len(feeds["hidden"]), 8), np.float32)
    feeds = {"hidden": feeds["hidden"], "key": key, "span": feeds["span"], "removed": feeds["removed"]}
    alone = session(MERGE_PAIRS).run(None, feeds)[0]
    for _ in range(3):
        assert_same_bits(session(MERGE_PAIRS, threads=4).run(None, feeds)[0], alone)
