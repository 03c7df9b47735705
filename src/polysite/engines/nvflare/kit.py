"""A start-up kit at work: a folder in which NVFlare may run, whose rules Polysite writes itself.

A kit as it was made holds a certificate, its key and where the server is. What NVFlare may do on this machine is not
taken from the kit but written here, so a hospital need not trust whoever made it: no code arrives with a job, no
class is built but ours, no shell commands from afar, no log leaves.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polysite.engines.door import VARIABLE
from polysite.errors import ConfigError

Role = Literal["server", "client"]
RELAY = "polysite.engines.nvflare.relay.Relay"
MESSENGER = "polysite.engines.nvflare.messenger.Messenger"
RIGHTS = {
    "submit_job": "any",
    "clone_job": "none",
    "manage_job": "any",
    "download_job": "none",
    "view": "any",
    "operate": "any",
    "shell_commands": "none",
    "byoc": "none",
    "server-predeployed-flwr": "none",
}
"""What the consortium's server may ask of NVFlare; everybody else: nothing."""


LOG = "nvflare.txt"
"""What NVFlare says, in its workspace."""


@dataclass(frozen=True)
class Kit:
    """A kit: whose it is, in which consortium, and where its files lie."""

    folder: Path
    role: Role
    name: str
    org: str


def read_kit(folder: Path, role: Role) -> Kit:
    """A kit that `polysite provision` made.

    Raises
    ------
    ConfigError
        If it is none, or another end's.
    """
    path = folder / "kit.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        kit = Kit(folder.absolute(), raw["role"], raw["name"], raw["org"])
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; `polysite provision` makes kits"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is no kit of `polysite provision`") from error
    if kit.role != role:
        raise ConfigError(f"{folder}: is the kit of a {kit.role}; a {role}'s is needed here")
    return kit


def prepare_workspace(kit: Kit, folder: Path) -> Path:
    """Lay out a kit for NVFlare in a folder of its own, with the rules of this machine."""
    if folder.exists():
        shutil.rmtree(folder)
    (folder / "local").mkdir(parents=True, mode=0o700)
    (folder / "transfer").mkdir()
    shutil.copytree(kit.folder / "startup", folder / "startup")
    if kit.role == "server":
        shutil.copytree(kit.folder / "steward", folder / "steward")
        for name in ("local", "transfer"):
            (folder / "steward" / name).mkdir()
    for name, content in {
        "resources.json": _resources(kit.role, folder),
        "authorization.json": {"format_version": "1.0", "permissions": {"project_admin": RIGHTS}},
        "log_config.json": _LOGS,
    }.items():
        (folder / "local" / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return folder


def start(kit: Kit, workspace: Path, door: str) -> "subprocess.Popen[bytes]":
    """Start NVFlare's server or client; what it says goes to ``nvflare.txt`` in its workspace."""
    named = [f"uid={kit.name}"] if kit.role == "client" else []
    with (workspace / LOG).open("ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-u", "-m", "polysite.engines.nvflare.started", str(os.getpid())),
                f"nvflare.private.fed.app.{kit.role}.{kit.role}_train",
                *("-m", str(workspace), "-s", f"fed_{kit.role}.json"),
                *("--set", "secure_train=true", *named, f"org={kit.org}", "config_folder=config"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=workspace,
            start_new_session=True,  # Ctrl-C is for Polysite, which then ends it
            env={**os.environ, VARIABLE: door, "MALLOC_ARENA_MAX": "4"},
        )


def stop(process: "subprocess.Popen[bytes]", patience_s: float = 10) -> None:
    """End a process that `start` started; the jobs that it started end with it."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def write_job(folder: Path, name: str, sites: list[str], patience_s: int) -> Path:
    """A job that holds nothing but the names of our two classes."""
    if folder.exists():
        shutil.rmtree(folder)
    files: dict[str, Mapping[str, Any]] = {
        "meta.json": {
            "name": name,
            "resource_spec": {},
            "min_clients": len(sites),
            "mandatory_clients": sites,
            "deploy_map": {"app": ["server", *sites]},
        },
        "app/config/config_fed_server.json": {
            "format_version": 2,
            "server": {"heart_beat_timeout": 600, "task_request_interval": 0.1},
            "workflows": [{"id": "relay", "path": RELAY, "args": {"patience_s": patience_s}}],
            "components": [],
            "task_data_filters": [],
            "task_result_filters": [],
        },
        "app/config/config_fed_client.json": {
            "format_version": 2,
            "executors": [{"tasks": ["*"], "executor": {"path": MESSENGER, "args": {}}}],
            "components": [],
            "task_data_filters": [],
            "task_result_filters": [],
        },
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return folder


def _component(id_: str, path: str, **arguments: Any) -> dict[str, Any]:
    return {"id": id_, "path": f"nvflare.{path}", "args": arguments}


def _resources(role: Role, folder: Path) -> dict[str, Any]:
    """What NVFlare needs to run; components that stream logs, which its own kits have, are left out."""
    common = {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": [RELAY if role == "server" else MESSENGER],
        "allow_log_streaming": False,
    }
    if role == "client":
        resources = "app_common.resource_managers.gpu_resource_manager.GPUResourceManager"
        consumer = "app_common.resource_consumers.gpu_resource_consumer.GPUResourceConsumer"
        launcher = "app_common.job_launcher.client_process_launcher.ClientProcessJobLauncher"
        return {
            **common,
            "client": {"retry_timeout": 30},
            "components": [
                _component("resource_manager", resources, num_of_gpus=0, mem_per_gpu_in_GiB=0),
                _component("resource_consumer", consumer),
                _component("process_launcher", launcher),
            ],
        }
    storage = "app_common.storages.filesystem_storage.FilesystemStorage"
    persistor = "app_common.state_persistors.storage_state_persistor.StorageStatePersistor"
    scheduler = "app_common.job_schedulers.job_scheduler.DefaultJobScheduler"
    launcher = "app_common.job_launcher.server_process_launcher.ServerProcessJobLauncher"
    snapshots = {
        "path": f"nvflare.{storage}",
        "args": {"root_dir": str(folder / "snapshots"), "uri_root": "/"},
    }
    return {
        **common,
        "servers": [
            {
                "admin_storage": "transfer",
                "max_num_clients": 1000,
                "heart_beat_timeout": 600,
                "admin_timeout": 10.0,
            }
        ],
        "snapshot_persistor": {
            "path": f"nvflare.{persistor}",
            "args": {"uri_root": "/", "storage": snapshots},
        },
        "components": [
            _component(
                "job_scheduler", scheduler, max_jobs=1, min_schedule_interval=1.0, max_schedule_interval=5.0
            ),
            _component(
                "job_manager",
                "apis.impl.job_def_manager.SimpleJobDefManager",
                uri_root=str(folder / "jobs"),
                job_store_id="job_store",
            ),
            _component("job_store", storage),
            _component("process_launcher", launcher),
        ],
    }


_LOGS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "level": "INFO",
            "formatter": "plain",
            "stream": "ext://sys.stdout",
        }
    },
    "loggers": {"root": {"level": "INFO", "handlers": ["console"]}},
}
