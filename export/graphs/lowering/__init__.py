"""How the ops of the model description become nodes that one backend runs well."""
