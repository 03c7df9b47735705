"""Public data sets by name: what each looks like on disk, what its labels mean, what tells its sites apart."""
