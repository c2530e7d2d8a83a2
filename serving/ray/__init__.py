"""An artifact on the machines of a Ray cluster: requests over HTTP, and many clips at once."""
