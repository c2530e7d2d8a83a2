"""Adapters of peft, folded into the weights of their base model."""
