"""CONSORTIUM.yaml: hosts that can be in a certificate, and names that nobody takes for the server's."""

from pathlib import Path

import pytest
import yaml

from kit_files import consortium
from polysite.errors import ConfigError
from polysite.hospitals.site_file import load_consortium

GOOD = {"name": "trial", "server": "fl.example.org", "hospitals": ["north", "south"]}


@pytest.mark.parametrize("server", ["fl.example.org", "localhost", "10.0.0.1", "a-b.c1", "x" * 63])
def test_hosts(server: str) -> None:
    assert consortium(server=server).server == server


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"server": "a..b"}, "server: 'a..b' is no host name"),
        ({"server": "-a"}, "is no host name"),
        ({"server": "a b"}, "is no host name"),
        ({"server": "fl.example.org\n"}, "is no host name"),
        ({"server": "https://fl"}, "is no host name"),
        ({"server": ".".join(["x" * 32, "y" * 32])}, "is no host name"),
        ({"server": "10.0.0.256"}, "is no IPv4 address"),
        ({"server": "10.0.1"}, "is no IPv4 address"),
        ({"hospitals": ["north", "server"]}, "hospitals: 'server' is what the server is called"),
        ({"hospitals": ["SERVER"]}, "'SERVER' is what the server is called"),
        ({"server": "North", "hospitals": ["north"]}, "'north' is what the server is called"),
        ({"hospitals": ["north.east"]}, "letters, digits"),
        ({"hospitals": ["north", "north"]}, "listed twice"),
        ({"hospitals": ["north", "North"]}, "differ in capital letters alone"),
        ({"own_keys": ["east"]}, "own_keys: 'east' is not among `hospitals` (north, south)"),
        ({"member_days": 0}, "member_days"),
        ({"valid_days": 10**9}, "valid_days"),
    ],
)
def test_what_is_refused_with_its_line(tmp_path: Path, over: dict[str, object], says: str) -> None:
    path = tmp_path / "consortium.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **over}))
    with pytest.raises(ConfigError, match=r"consortium\.yaml:\d+: ") as caught:
        load_consortium(path)
    assert says in str(caught.value)
