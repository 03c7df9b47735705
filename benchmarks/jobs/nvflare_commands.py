"""NVFlare 2.9: its own FedAvg recipe for NumPy arrays, in its simulator and with mutual TLS.

What is set, and why:

* `NumpyFedAvgRecipe` with the array as `initial_ckpt`, training script in the client's process (its default), Client
  API: no torch in any process. The recipe adds each result when it comes; off-loading results to disk is there for
  torch's tensors only.
* `task_request_interval` 0.1 s instead of 2 s, by `add_server_config`: with two sites, 100 MB and `http` a round took
  4.0 instead of 6.1 s.
* Simulator: `SimEnv` with a thread, hence a process, for each site (its default), and MALLOC_ARENA_MAX=4, as
  NVFlare's own start scripts have it. There is no TLS in it.
* Mutual TLS: kits of `nvflare provision`, not of its POC mode; scheme `grpc`, which was faster here than the default
  `http` (3.0 instead of 4.0 s for the same round) and is what Polysite's kits have. Server and clients
  run the kits' `sub_start.sh`, what their `start.sh` runs in the background. At the same moment an administrator's
  `ProdEnv` hands in the job, polls for its end every 0.5 s and shuts all down. That process is neither server nor
  site: its memory is in the column of all only.
* The same as it comes: scheme `http` and an interval of 2 s, for those who set neither.
"""

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jobs.job import HERE, Case, Command, Engine
from jobs.polysite_commands import free_port

ADMIN = "admin@nvidia.com"
INTERVAL_S = 0.1


def simulator(case: Case) -> list[Command]:
    """The recipe in `SimEnv`."""
    job = _job(case, INTERVAL_S, "--simulator", case.folder / "simulator")
    return [Command("all", job, {"MALLOC_ARENA_MAX": "4"})]


def mutual_tls(case: Case, *, interval_s: float = INTERVAL_S, scheme: str = "grpc") -> list[Command]:
    """Server, clients and the recipe handed to them by an administrator, all started at once."""
    kits = _provisioned(case, scheme)
    path = {"PATH": f"{Path(case.python).parent}:/usr/local/bin:/usr/bin:/bin"}  # the scripts say python3
    roles = {"server": "localhost", **{name: name for name in case.sites}}
    commands = [
        Command(role, ["bash", str(kits / name / "startup" / "sub_start.sh")], path)
        for role, name in roles.items()
    ]
    return [*commands, Command("console", _job(case, interval_s, "--kit", kits / ADMIN))]


def _job(case: Case, interval_s: float, *where: str | Path) -> list[str]:
    array = case.folder / "zeros.npy"
    np.save(array, np.zeros(case.n_values, dtype=np.float32))
    return [
        *(case.python, str(HERE / "nvflare_job.py")),
        *("--sites", str(case.n_sites), "--rounds", str(case.rounds)),
        *("--array", str(array), "--notes", str(case.notes), "--interval", str(interval_s)),
        *map(str, where),
    ]


def _provisioned(case: Case, scheme: str) -> Path:
    """The folder of the kits that `nvflare provision` makes."""
    port = free_port()
    server = {"name": "localhost", "type": "server", "fed_learn_port": port, "admin_port": port}
    project: dict[str, Any] = {
        "api_version": 3,
        "name": "trial",
        "participants": [
            {**server, "org": "trial"},
            *({"name": name, "type": "client", "org": "trial"} for name in case.sites),
            {"name": ADMIN, "type": "admin", "org": "trial", "role": "project_admin"},
        ],
        "builders": [
            {
                "path": "nvflare.lighter.impl.workspace.WorkspaceBuilder",
                "args": {"template_file": ["master_template.yml"]},
            },
            {
                "path": "nvflare.lighter.impl.static_file.StaticFileBuilder",
                "args": {"config_folder": "config", "scheme": scheme},
            },
            {"path": "nvflare.lighter.impl.cert.CertBuilder"},
            {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
        ],
    }
    file = case.folder / "project.yml"
    file.write_text(yaml.safe_dump(project, sort_keys=False), encoding="utf-8")
    made = case.folder / "kits"
    subprocess.run(
        [case.python, "-m", "nvflare.cli", "provision", "-p", str(file), "-w", str(made)],
        check=True,
        capture_output=True,
        cwd=case.folder,
    )
    return made / "trial" / "prod_00"


ENGINES = {
    "nvflare-simulator": Engine(
        "NVFlare's FedAvg recipe, simulator", "nvflare", "pip install nvflare==2.9.*", simulator
    ),
    "nvflare": Engine(
        "NVFlare's FedAvg recipe, mutual TLS", "nvflare", "pip install nvflare==2.9.*", mutual_tls
    ),
    "nvflare-as-it-comes": Engine(
        "the same as it comes",
        "nvflare",
        "pip install nvflare==2.9.*",
        partial(mutual_tls, interval_s=2.0, scheme="http"),
    ),
}
