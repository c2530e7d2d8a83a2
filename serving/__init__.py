"""An artifact behind HTTP: an OpenAI-compatible server, a page, and what larger installations put around it."""
