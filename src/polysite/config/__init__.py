"""The model of a run's YAML."""
