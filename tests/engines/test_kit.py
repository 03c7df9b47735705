"""What NVFlare may do on a machine is written by the machine's own Polysite; none of these tests needs NVFlare."""

import json
from pathlib import Path
from typing import Any

import pytest

from polysite.engines.nvflare.kit import MESSENGER, RELAY, prepare_workspace, read_kit, write_job
from polysite.errors import ConfigError


def made(folder: Path, role: str = "client", **extra: str) -> Path:
    for inner in ("startup", *(("steward/startup",) if role == "server" else ())):
        (folder / inner).mkdir(parents=True)
        (folder / inner / "client.key").write_text("secret")
    (folder / "local").mkdir()
    (folder / "local" / "resources.json").write_text('{"class_allow_list": ["*"]}')
    (folder / "kit.json").write_text(json.dumps({"role": role, "name": "north", "org": "trial", **extra}))
    return folder


@pytest.mark.parametrize("role", ["server", "client"])
def test_the_rules_are_our_own_whatever_the_kit_says(tmp_path: Path, role: Any) -> None:
    workspace = prepare_workspace(read_kit(made(tmp_path / "kit", role), role), tmp_path / "work")
    resources = json.loads((workspace / "local" / "resources.json").read_text())
    assert resources["class_allow_list"] == [RELAY if role == "server" else MESSENGER]
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert resources["allow_log_streaming"] is False
    assert "log" not in json.dumps([component["path"] for component in resources["components"]])
    rights = json.loads((workspace / "local" / "authorization.json").read_text())["permissions"]
    assert list(rights) == ["project_admin"]
    assert rights["project_admin"]["byoc"] == rights["project_admin"]["shell_commands"] == "none"
    assert (workspace / "startup" / "client.key").read_text() == "secret"
    again = prepare_workspace(read_kit(tmp_path / "kit", role), tmp_path / "work")
    assert again == workspace


def test_a_job_holds_nothing_but_the_names_of_two_classes(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", "polysite", ["north", "south"], 60)
    files = {str(path.relative_to(job)): json.loads(path.read_text()) for path in job.rglob("*.json")}
    assert len(files) == len([path for path in job.rglob("*") if path.is_file()]) == 3
    assert files["meta.json"]["mandatory_clients"] == ["north", "south"]
    (workflow,) = files["app/config/config_fed_server.json"]["workflows"]
    (executor,) = files["app/config/config_fed_client.json"]["executors"]
    assert workflow["path"] == RELAY
    assert executor["executor"] == {"path": MESSENGER, "args": {}}
    assert files["app/config/config_fed_server.json"]["server"]["task_request_interval"] == 0.1


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), ("{", "is no kit"), ("{}", "is no kit"), ("[]", "is no kit")],
)
def test_what_is_no_kit_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "kit.json").write_text(content)
    with pytest.raises(ConfigError, match=says):
        read_kit(tmp_path, "client")


def test_a_kit_of_the_other_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the kit of a server; a client's is needed"):
        read_kit(made(tmp_path / "kit", "server"), "client")
