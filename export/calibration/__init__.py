"""Studies of a checkpoint: many profiles are built, and evaluated on the same clips."""
