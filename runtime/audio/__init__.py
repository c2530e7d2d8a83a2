"""From an audio file to the audio rows of the decoder."""
