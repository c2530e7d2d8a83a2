"""The clips to measure on: requests with references."""
