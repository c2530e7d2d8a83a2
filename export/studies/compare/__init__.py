"""Methods, schedules and FLOPs levels on the same clips, at equal cost."""
