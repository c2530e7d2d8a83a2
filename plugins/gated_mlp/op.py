"""Identity of the MLP op."""

GATED_MLP = "GatedMLP"
"""(x, gate, up, down) -> output: down(silu(gate(x)) * up(x)); weights are (out, in)."""

ROW_CHUNK = 256
"""Rows that the function body handles at once: the wide hidden layer is never larger than this."""
