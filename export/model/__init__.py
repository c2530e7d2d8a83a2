"""A model by role: what it is made of, whichever family it comes from."""
