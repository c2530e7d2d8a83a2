"""What an answer will cost on a device that is not at hand, from counts of FLOPs and bytes."""
