"""Scores of volumes against truth, and statistics over subjects."""
