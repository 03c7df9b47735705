"""Cases in: readers, checks, preparation, splits and the on-disk cache of prepared volumes."""
