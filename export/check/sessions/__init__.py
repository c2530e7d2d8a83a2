"""What stands between the graphs of an artifact and their comparison."""
