"""Stages between a site's work and the server: pure functions of tensors, the same whatever carries the result."""
