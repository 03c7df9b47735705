"""A network of this machine's own: a host for each name, all on one switch; lines can be long, slow, or cut."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DELAYED = Path(__file__).with_name("delayed_line.py")


class Network:
    """Hosts are network namespaces; ``prefix(host)`` starts a program there."""

    def __init__(self, name: str, hosts: list[str]) -> None:
        self._switch, self._name = f"{name}-switch", name
        self._hosts = {host: f"10.99.0.{number}" for number, host in enumerate(hosts, start=1)}
        self._carriers: list[subprocess.Popen[bytes]] = []

    def address(self, host: str) -> str:
        """Of a host."""
        return self._hosts[host]

    def prefix(self, host: str) -> tuple[str, ...]:
        """What to write before a command that is to run on a host."""
        return ("ip", "netns", "exec", f"{self._name}-{host}")

    def run(self, host: str, *command: str) -> str:
        """What a command on a host prints."""
        return _run(*self.prefix(host), *command)

    def make(self) -> None:
        """All hosts, connected."""
        _run("ip", "netns", "add", self._switch)
        _run("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "bridge", "up")
        for host in self._hosts:
            space = f"{self._name}-{host}"
            _run("ip", "netns", "add", space)
            _run("ip", "-n", space, "link", "set", "lo", "up")
            ends = ("line", "netns", space, "type", "veth", "peer", "name", host, "netns", self._switch)
            _run("ip", "link", "add", *ends)
            self._plug(host)

    def _plug(self, host: str) -> None:
        """Both ends of a host's line, once they are there."""
        space = f"{self._name}-{host}"
        _run("ip", "-n", self._switch, "link", "set", host, "master", "bridge", "up")
        _run("ip", "-n", space, "addr", "add", f"{self._hosts[host]}/24", "dev", "line")
        _run("ip", "-n", space, "link", "set", "line", "up")

    def remove(self) -> None:
        """Everything that was made."""
        for carrier in self._carriers:
            carrier.kill()
            carrier.wait()
        for space in (*(f"{self._name}-{host}" for host in self._hosts), self._switch):
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)

    def delay(self, host: str, ms: int) -> None:
        """Give a host a line on which everything is under way for so long, each way; before anything uses it."""
        space = f"{self._name}-{host}"
        _run("ip", "-n", space, "link", "del", "line")
        for end, (where, device) in zip(
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
            ((space, "line"), (self._switch, host)),
            strict=True,
        ):
            _run("ip", "-n", where, "tuntap", "add", "dev", device, "mode", "tap")
            command = ("ip", "netns", "exec", where, sys.executable, str(DELAYED), device, str(ms))
            with end:
                carrier = subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE)
            self._carriers.append(carrier)
            assert carrier.stdout is not None
            with carrier.stdout as said:
                assert said.readline() == b"ready\n"
        self._plug(host)

    def slow(self, host: str, kbit: int) -> None:
        """Let a host's line carry so much a second, each way."""
        shape = ("root", "tbf", "rate", f"{kbit}kbit", "burst", "16k", "latency", "400ms")
        self.run(host, "tc", "qdisc", "add", "dev", "line", *shape)
        _run("ip", "netns", "exec", self._switch, "tc", "qdisc", "add", "dev", host, *shape)

    def cut(self, host: str) -> None:
        """Nothing goes over a host's line any more; its own end does not notice."""
        _run("ip", "-n", self._switch, "link", "set", host, "nomaster")

    def mend(self, host: str) -> None:
        """After `cut`."""
        _run("ip", "-n", self._switch, "link", "set", host, "master", "bridge")


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def network(name: str, hosts: list[str]) -> Iterator[Network]:
    """Hosts that are there as long as the block."""
    if not all(shutil.which(program) for program in ("ip", "tc")):
        pytest.skip("needs the commands ip and tc (iproute2)")
    made = Network(name, hosts)
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot make network namespaces here: {error.stderr.strip()}")
        yield made
    finally:
        made.remove()
