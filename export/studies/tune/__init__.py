"""The profile that saves most within a budget of accuracy, and what clips it has not seen say about it."""
