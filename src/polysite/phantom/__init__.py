"""Hospitals with known truth: procedural anatomy, signal equations and scanner effects."""
