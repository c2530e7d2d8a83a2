"""Groups of neighbouring rows, of which the most diverse are selected."""
