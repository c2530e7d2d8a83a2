"""Many clips transcribed: a list or a folder in, a line for each out, however often the run is stopped."""
