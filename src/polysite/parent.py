"""A process that must not outlive the one that started it."""

import os
import threading
import time

PARENT_CHECK_S = 0.2


def end_with(parent: int) -> None:
    """End this process soon after its parent ended, so that no orphan writes into a run that was resumed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
