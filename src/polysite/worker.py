"""A worker of the engine ``processes``: works on the sites that it is asked for, until its input ends."""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

PARENT_CHECK_S = 0.2


def end_with_parent() -> None:
    """End this process soon after its parent ended, so that no orphan writes into a run that was resumed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Serve requests ``{"site": …, "round": …}``, one JSON line each, on standard input."""
    parser = argparse.ArgumentParser(prog="python -m polysite.worker")
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    end_with_parent()

    import torch

    from polysite.errors import PolysiteError
    from polysite.federation.crew import assemble
    from polysite.federation.store import saving
    from polysite.run import open_run, prepared_cases

    torch.set_num_threads(arguments.threads)
    answers, sys.stdout = sys.stdout, sys.stderr
    with saving() as saver:
        crew = None
        for line in sys.stdin:
            request = json.loads(line)
            try:
                if crew is None:
                    run = open_run(arguments.folder)
                    crew = assemble(run, prepared_cases(run, arguments.folder), arguments.folder, saver)
                news, _ = crew.server_store().load(request["round"])
                message = crew.sites[request["site"]].work(request["round"], news)
                saver.wait()
                answer = {"weight": message.weight, "facts": dict(message.facts)}
            except PolysiteError as error:
                answer = {"error": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
