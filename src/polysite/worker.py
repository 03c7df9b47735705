"""A worker of the engine ``processes``: works on the sites that it is asked for, until its input ends."""

import argparse
import json
import signal
import sys
from pathlib import Path


def main() -> None:
    """Serve requests ``{"site": …, "round": …}``, one JSON line each, on standard input."""
    parser = argparse.ArgumentParser(prog="python -m polysite.worker")
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input

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
