"""From what a request asks for to its answer, one step a file; `SpeechLM` puts them together."""
