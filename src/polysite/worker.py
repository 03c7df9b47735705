"""A worker of the engine ``processes``: works on the sites that it is asked for, until its input ends."""

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

from polysite.parent import end_with


def answers_apart() -> TextIO:
    """A stream for answers on what was standard output, which now leads to standard error.

    So nothing that a library prints, in Python or below it, gets between the answers.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def unexpected(error: Exception, request: dict[str, Any]) -> str:
    """One line about an error that no user caused: what it says and where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(str(error).split()) or "no further words"
    return (
        f"{request['site']}: round {request['round']} failed in its worker: {type(error).__name__}: {what} "
        f"({frame.filename}:{frame.lineno}); earlier rounds are safe: go on with --resume, "
        "with fewer engine.workers if memory ran out"
    )


def main() -> None:
    """Serve requests ``{"site": …, "round": …}``, one JSON line each, on standard input."""
    parser = argparse.ArgumentParser(prog="python -m polysite.worker")
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", required=True, help="on which it computes, whatever the run says")
    parser.add_argument("--parent", type=int, required=True, help="process that this one must not outlive")
    arguments = parser.parse_args()
    end_with(arguments.parent)
    answers = answers_apart()

    import torch

    from polysite.errors import PolysiteError
    from polysite.federation.crew import assemble
    from polysite.federation.saver import saving
    from polysite.run import open_run, prepared_cases, require_device

    torch.set_num_threads(arguments.threads)
    with saving() as saver:
        crew, arrived = None, -1
        news: dict[str, torch.Tensor] = {}
        for line in sys.stdin:
            request = json.loads(line)
            site, round_ = request["site"], request["round"]
            try:
                if crew is None:
                    require_device(arguments.device)
                    run = open_run(arguments.folder).model_copy(update={"device": arguments.device})
                    crew = assemble(run, prepared_cases(run, arguments.folder), arguments.folder, saver)
                if arrived != round_:
                    news, _ = crew.server_store().load(round_)
                    arrived = round_
                message = crew.sites[site].work(round_, news)
                saver.wait()
                answer = {"weight": message.weight, "facts": dict(message.facts)}
            except PolysiteError as error:
                answer = {"error": str(error)}
            except Exception as error:
                answer = {"error": unexpected(error, request)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
