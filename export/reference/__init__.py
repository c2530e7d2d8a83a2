"""The model and its reductions in torch: what every graph is compared with."""
