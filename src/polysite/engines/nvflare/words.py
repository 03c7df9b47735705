"""Short words between the cells of the server and a hospital."""

HELLO = "hello"
"""A hospital's: the name of its process, new with every start."""
TAKEN = "taken"
"""The server's: another process of this hospital is there already; with the name of the one that has to go."""
