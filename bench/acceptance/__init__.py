"""The stages of `make accept-gpu`, and what runs them."""
