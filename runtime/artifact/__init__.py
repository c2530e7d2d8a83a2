"""An artifact folder: its manifest, its files, their hashes, its weights."""
