"""Audio files: what containers there are, where their audio ends, how it is decoded."""
