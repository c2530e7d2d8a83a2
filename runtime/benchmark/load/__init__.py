"""A model under load: requests that arrive while others run."""
