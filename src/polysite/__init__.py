"""Personalised federated learning for MRI: every site gets the model that is best for it."""

__version__ = "0.1.0"
