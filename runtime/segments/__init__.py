"""Audio of any length: speech is found in it as it is read, cut into segments, and each one is answered."""
