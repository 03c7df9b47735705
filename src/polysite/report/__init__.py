"""One self-contained page from the files of finished runs."""
