"""Carriers of a federation: they move payloads and decide nothing."""
