"""Agreement with transformers, and with a torch reference of the reduced model."""
