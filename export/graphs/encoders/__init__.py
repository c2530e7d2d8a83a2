"""Parts of encoders: how they begin, and attention within blocks of rows."""
