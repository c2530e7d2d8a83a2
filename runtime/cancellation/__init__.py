"""How a request ends before its answer: by whoever holds its `Cancellation`, or by its deadline."""
