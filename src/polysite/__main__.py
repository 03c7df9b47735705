"""``python -m polysite`` is ``polysite``."""

from polysite.cli import main

if __name__ == "__main__":
    main()
