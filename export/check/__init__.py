"""Every backend of an artifact against the reduced model in torch, through Polygraphy's Comparator."""
