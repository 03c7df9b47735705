"""What travels, what stays, and what is kept."""
