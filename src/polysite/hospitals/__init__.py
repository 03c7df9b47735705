"""Runs across hospitals: what works at the server and what works at each hospital, whatever carries between them."""
