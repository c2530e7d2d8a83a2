"""An artifact behind HTTP: an OpenAI-compatible server, and what larger installations put around it."""
