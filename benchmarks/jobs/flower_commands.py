"""Flower 1.41.0: its FedAvg strategy, simulated.

What is set, and why:

* `flwr run APP local --stream` with the message interface: `run_simulation` in Python is deprecated. It starts a
  local SuperLink, that one Ray, and Ray a process for each processor (`client-resources-num-cpus=1`; the default 2
  would let one site at a time work on two processors). These take the sites in turn, and one of them is what the
  table calls a site's.
* `FedAvg` with all sites in every round and no evaluation; arrays are taken out of messages without a copy being kept.
* The SuperLink stays by design when the run has ended; it is told to end then, within the time to the end.
* Nothing is fetched or told to the outside: `OFFLINE`. State, ports and Ray's folder are the case's own. Ray puts
  sockets there, whose paths cannot be long: keep `--folder` short.
"""

import shutil
from pathlib import Path

from jobs.job import HERE, Case, Command, Engine
from jobs.polysite_commands import free_port

PROJECT = """\
[project]
name = "add-one"
version = "1.0.0"
license = "Apache-2.0"
dependencies = ["flwr[simulation]==1.41.0"]

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "flower_app:server"
clientapp = "flower_app:client"

[tool.flwr.app.config]
n-sites = {case.n_sites}
n-values = {case.n_values}
rounds = {case.rounds}
notes = "{case.notes}"
"""
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def simulation(case: Case) -> list[Command]:
    """`flwr run`, which starts a local SuperLink, which starts Ray."""
    app = case.folder / "app"
    app.mkdir()
    for name in ("flower_app.py", "work.py"):
        shutil.copy(HERE / name, app)
    (app / "pyproject.toml").write_text(PROJECT.format(case=case), encoding="utf-8")
    scripts = Path(case.python).parent
    federation = f"num-supernodes={case.n_sites} client-resources-num-cpus=1"
    environment = {
        **OFFLINE,
        "FLWR_HOME": str(case.folder / "home"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "RAY_TMPDIR": str(case.folder),
        "PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin",
    }
    arguments = ["run", str(app), "local", "--stream", "--federation-config", federation]
    return [Command("all", [str(scripts / "flwr"), *arguments], environment)]


ENGINES = {
    "flower": Engine(
        "Flower's simulation, FedAvg", "flwr", "pip install 'flwr[simulation]==1.41.0'", simulation
    )
}
