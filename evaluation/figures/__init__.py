"""From answers to figures: scores with bootstrap intervals, and what a profile loses."""
