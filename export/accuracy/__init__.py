"""What the profiles of an artifact cost in accuracy: clips with references in, figures with intervals out."""
