"""How the demo model is made: synthetic speech, cached encoder output, a small decoder trained on it."""
