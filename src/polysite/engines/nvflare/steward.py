"""``python -m polysite.engines.nvflare.steward PARENT KIT JOB SITE …``: submits a job when all its sites are there.

Says what it does in JSON lines: ``{"missing": […]}`` whenever that changes, ``{"job": …}`` when it is submitted, and
``{"ended": …}`` with NVFlare's word for how the job ended.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from polysite.engines.nvflare.words import STEWARD
from polysite.parent import end_with

POLL_S = 0.5


def main() -> None:
    """See above."""
    parent, kit, job, *sites = sys.argv[1:]
    end_with(int(parent))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print does not get between the answers

    def say(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    os.chdir(kit)
    session = _session(kit)
    missing: list[str] | None = None
    while missing != []:
        there = {client.name for client in session.get_system_info().client_info}
        lacking = [site for site in sites if site not in there]
        if lacking != missing:
            missing = lacking
            say(missing=missing)
        if missing:
            time.sleep(POLL_S)
    name = session.submit_job(str(Path(job).absolute()))
    say(job=name)
    while True:
        status = str(session.get_job_meta(name).get("status"))
        if status.startswith("FINISHED"):
            say(ended=status)
            return
        time.sleep(POLL_S)


def _session(kit: str) -> Any:
    from nvflare.fuel.flare_api.flare_api import NoConnection, new_secure_session

    while True:  # the server is only just starting
        try:
            return new_secure_session(STEWARD, kit, timeout=5.0, auto_login_max_tries=1)
        except NoConnection:
            time.sleep(POLL_S)


if __name__ == "__main__":
    main()
