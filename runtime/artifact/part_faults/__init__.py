"""What can be wrong with each part of a manifest."""
