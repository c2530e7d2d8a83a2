"""HTTP as OpenAI's clients speak it: requests, answers, faults, and what guards the server."""
