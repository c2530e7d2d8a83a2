"""Where in the audio a row, and a word of the answer, stands."""
