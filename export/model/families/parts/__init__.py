"""What families read their models with: sections of settings, encoders and decoders by their names."""
