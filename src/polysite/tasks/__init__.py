"""What a site learns: one training loop a task; tasks know nothing of federation."""
