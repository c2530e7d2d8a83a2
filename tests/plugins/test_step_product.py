"""The product of a decode step, whichever side the rows are on."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.plugins.step_product.op import MANY_ROWS, STEP_PRODUCT

from .op_versions import Version, every_version, optimised


@every_version
@pytest.mark.parametrize("rows", [1, 2, MANY_ROWS - 1, MANY_ROWS, 17])
@pytest.mark.parametrize("many", [False, True])
def test_few_rows_and_many_agree_with_plain_loops(version: Version, rows: int, many: bool) -> None:
    rng = np.random.default_rng(rows)
    x, weight = version.normal(rng, rows, 8), version.normal(rng, 24, 8)
    want = [[sum(float(a) * float(b) for a, b in zip(row, out, strict=True)) for out in weight] for row in x]
    version.assert_close(version(STEP_PRODUCT, x, weight, np.array(many)), want, 8)


@pytest.mark.parametrize(("branch", "left"), [("then_branch", "weight"), ("else_branch", "x")])
def test_no_optimisation_of_the_runtime_turns_the_products_back(branch: str, left: str) -> None:
    """Many rows are on the right, so that each weight is read once; few are on the left."""
    (node,) = (node for node in optimised(STEP_PRODUCT).graph.node if node.op_type == "If")
    (graph,) = (each.g for each in node.attribute if each.name == branch)
    (product,) = (node for node in graph.node if "MatMul" in node.op_type or "Gemm" in node.op_type)
    assert product.input[0] == left
