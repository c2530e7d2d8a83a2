"""Which profile a request is answered under, by the figures that an artifact holds of its profiles."""
