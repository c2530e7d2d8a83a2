"""Tasks and their metrics: what an answer is worth against its references."""
