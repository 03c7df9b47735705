"""Start-up kits for a consortium: certificates from an authority of its own, and where the server is.

NVFlare's provisioning makes the certificates; its state, with the authority's private key, is kept in ``authority/``,
so a hospital can be added later and all other kits stay as they are.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from polysite.config.consortium import Consortium
from polysite.engines.nvflare.words import STEWARD
from polysite.errors import ConfigError, PolysiteError


def provision(consortium: Consortium, out: Path) -> list[Path]:
    """Make the kits that are not there yet: ``server``, and ``hospitals/NAME`` for each; the new folders.

    Raises
    ------
    ConfigError
        If the folder belongs to another consortium, or its server is elsewhere now.
    """
    _require_same(consortium, out)
    wanted = {out / "server": ("server", consortium.server)}
    wanted |= {out / "hospitals" / name: ("client", name) for name in consortium.hospitals}
    missing = {folder: what for folder, what in wanted.items() if not folder.exists()}
    if not missing:
        return []
    authority = out / "authority"
    authority.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=authority) as scratch:
        work = Path(scratch) / consortium.name
        (work / "state").mkdir(parents=True)
        if (authority / "cert.json").exists():
            shutil.copy(authority / "cert.json", work / "state")
        made = _made(consortium, Path(scratch))
        for folder, (role, name) in missing.items():
            also = {"steward": made / STEWARD} if role == "server" else {}
            about = {"role": role, "name": name, "org": consortium.name}
            _place({"": made / name, **also}, folder, about)
        kept = work / "state" / "cert.json"
        kept.chmod(0o600)
        shutil.move(kept, authority / "cert.json")
    _write(authority / "consortium.json", _settled(consortium))
    return list(missing)


def _settled(consortium: Consortium) -> dict[str, Any]:
    """What cannot change once kits are out."""
    return {"name": consortium.name, "server": consortium.server, "port": consortium.port}


def _require_same(consortium: Consortium, out: Path) -> None:
    path = out / "authority" / "consortium.json"
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise ConfigError(f"{out}: is there already and holds no kits; choose another folder")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read; restore it from a backup") from error
    for key, value in _settled(consortium).items():
        if before.get(key) != value:
            raise ConfigError(
                f"{key}: {value!r}, but the kits in {out} were made for {before.get(key)!r}; choose another folder "
                "for new kits"
            )


def _place(sources: dict[str, Path], folder: Path, about: dict[str, str]) -> None:
    """One kit, whole or not at all: certificates and addresses, none of the scripts."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for inner, source in sources.items():
        startup = temporary / inner / "startup"
        startup.mkdir(parents=True, mode=0o700)
        for file in sorted((source / "startup").iterdir()):
            if file.suffix in (".json", ".crt", ".key", ".pem"):
                shutil.copy2(file, startup)
    _write(temporary / "kit.json", about)
    temporary.rename(folder)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _made(consortium: Consortium, root: Path) -> Path:
    """Let NVFlare make kits of everybody; the folder that holds them by name."""
    try:
        from nvflare.lighter.constants import CtxKey
        from nvflare.lighter.entity import Project
        from nvflare.lighter.impl.cert import CertBuilder
        from nvflare.lighter.impl.static_file import StaticFileBuilder
        from nvflare.lighter.impl.workspace import WorkspaceBuilder
        from nvflare.lighter.provisioner import Provisioner
    except ImportError as error:
        raise ConfigError("nvflare is not installed here: pip install 'polysite[nvflare]'") from error

    project = Project(consortium.name, "hospitals", props={"api_version": 3})
    project.set_server(
        consortium.server,
        consortium.name,
        {"fed_learn_port": consortium.port, "admin_port": consortium.port},
    )
    for name in consortium.hospitals:
        project.add_client(name, consortium.name, {})
    project.add_admin(STEWARD, consortium.name, {"role": "project_admin"})
    builders = [
        WorkspaceBuilder(),
        StaticFileBuilder(config_folder="config", scheme="grpc"),
        CertBuilder(root_valid_days=consortium.valid_days),
    ]
    told: list[str] = []
    ctx = Provisioner(str(root), builders).provision(project, logger=_Quiet(told))
    if ctx.get(CtxKey.BUILD_ERROR):
        raise PolysiteError(f"nvflare could not make the kits: {' '.join(told)}")
    return Path(ctx[CtxKey.CURRENT_PROD_DIR])


class _Quiet:
    """Keeps what NVFlare's provisioning says instead of printing it."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def debug(self, message: str) -> None:
        """Not kept."""

    def info(self, message: str) -> None:
        """Not kept."""

    def warning(self, message: str) -> None:
        """Kept."""
        self._told.append(message)

    error = warning
