"""The accuracy of profiles: what `eval` is made of, and the command itself."""
