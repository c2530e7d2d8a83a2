"""Many requests at once: the queue that they are submitted to, and the decode steps that they share."""
