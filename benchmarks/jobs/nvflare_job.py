"""The job as NVFlare's own FedAvg recipe, run in its simulator or handed to a server that runs."""

import argparse
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.fuel.flare_api.api_spec import TargetType
from nvflare.fuel.flare_api.flare_api import new_secure_session
from nvflare.recipe import ProdEnv, SimEnv

ADMIN = "admin@nvidia.com"
HERE = Path(__file__).parent


def recipe(arguments: argparse.Namespace) -> NumpyFedAvgRecipe:
    """The recipe; see `nvflare_commands.py` for what is set and why."""
    made = NumpyFedAvgRecipe(
        name="add-one",
        initial_ckpt=str(arguments.array),
        min_clients=arguments.sites,
        num_rounds=arguments.rounds,
        train_script=str(HERE / "nvflare_site.py"),
        train_args=f"--notes {arguments.notes}",
    )
    made.add_client_file(str(HERE / "work.py"))
    made.add_server_config({"server": {"task_request_interval": arguments.interval}})
    return made


def main() -> None:
    """Run the job to its end; with a kit, shut down the server and its clients then."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sites", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--array", type=Path, required=True, help=".npy")
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--interval", type=float, required=True, help="seconds between a client's requests")
    parser.add_argument("--simulator", type=Path, help="its workspace")
    parser.add_argument("--kit", type=Path, help="the administrator's")
    arguments = parser.parse_args()
    assert np.load(arguments.array, mmap_mode="r").ndim == 1
    if arguments.simulator:
        recipe(arguments).execute(
            SimEnv(num_clients=arguments.sites, workspace_root=str(arguments.simulator))
        )
        return
    job = recipe(arguments).execute(
        ProdEnv(startup_kit_location=str(arguments.kit), username=ADMIN, login_timeout=60)
    )
    session = new_secure_session(username=ADMIN, startup_kit_location=str(arguments.kit), timeout=60)
    session.monitor_job(job.get_job_id(), poll_interval=0.5)
    status = session.get_job_status(job.get_job_id())
    session.shutdown(TargetType.ALL)
    if "COMPLETED" not in str(status):
        raise SystemExit(f"the job ended with {status}")


if __name__ == "__main__":
    main()
