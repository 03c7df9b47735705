"""Neural networks, one idea a file."""
