"""A product of the rows of a decode step."""
