"""Losses as functions of tensors, computed in float32, one idea a file."""
