"""Host keys: a stranger is never taken for a friend, and a friend never for a stranger."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from paramiko.hostkeys import HostKeys

from deploy.errors import Unreachable
from deploy.machine import SshMachine
from deploy.machine.known_hosts import KnownHosts, listed
from deploy.recipe.model import Host

KEY, OTHER = (paramiko.ECDSAKey.generate() for _ in range(2))


def text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def known(tmp_path: Path, *lines: str, accept_new: bool = False) -> KnownHosts:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{line}\n" for line in lines))
    return KnownHosts(path, accept_new=accept_new)


def good(keys: KnownHosts, name: str) -> list[paramiko.PKey]:
    """Return which of our two keys are believed under a name."""
    found: list[paramiko.PKey] = []
    for key in (KEY, OTHER):
        with contextlib.suppress(Unreachable):
            keys.verify(name, key)
            found.append(key)
    return found


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("web1.example.com", "web1.example.com"),
        ("other,web1.example.com,10.0.0.1", "10.0.0.1"),
        ("[web1.example.com]:2222", "[web1.example.com]:2222"),
        ("*.example.com", "web1.example.com"),
        ("web?.example.com", "web1.example.com"),
        ("[*.example.com]:2222", "[web1.example.com]:2222"),
        ("10.0.0.*", "10.0.0.7"),
        ("*.example.com,!db.example.com", "web1.example.com"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_key_is_good_for_the_names_that_its_line_means(tmp_path: Path, names: str, name: str) -> None:
    assert good(known(tmp_path, f"{names} {text(KEY)}"), name) == [KEY]


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("web1.example.com", "web2.example.com"),
        ("web1.example.com", "[web1.example.com]:2222"),
        ("[web1.example.com]:2222", "web1.example.com"),
        ("web1", "web1.example.com"),
        ("web?.example.com", "web10.example.com"),
        ("*.example.com,!db.example.com", "db.example.com"),
        ("!db.example.com,*.example.com", "db.example.com"),
        ("*,!*.example.org", "a.example.org"),
        ("[*]:2222,![10.0.0.5]:2222", "[10.0.0.5]:2222"),
        ("!web1.example.com", "web2.example.com"),
        ("web[12].example.com", "web1.example.com"),
    ],
)
def test_a_key_is_good_for_no_other_name(tmp_path: Path, names: str, name: str) -> None:
    assert good(known(tmp_path, f"{names} {text(KEY)}"), name) == []


@pytest.mark.parametrize("name", ["web1.example.com", "[web1.example.com]:2222"])
def test_hashed_names_are_found(tmp_path: Path, name: str) -> None:
    hashed = HostKeys.hash_host(name)
    keys = known(tmp_path, f"{hashed} {text(KEY)}")
    assert good(keys, name) == [KEY]
    assert good(keys, "web2.example.com") == []


def test_every_key_of_a_host_is_good(tmp_path: Path) -> None:
    assert good(known(tmp_path, f"web1 {text(KEY)}", f"web1,web2 {text(OTHER)}"), "web1") == [KEY, OTHER]


def test_a_comment_behind_a_key_is_no_part_of_it(tmp_path: Path) -> None:
    assert good(known(tmp_path, f"web1 {text(KEY)} ann's laptop"), "web1") == [KEY]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "# web1 is the old one",
        f"@cert-authority *.example.com {text(OTHER)}",
        "@cert-authority",
        "@revoked",
        "web1",
        "web1 ssh-ed25519",
        "web1 ssh-ed25519 not/base64!",
        "web1 ssh-ed25519 schlüssel",
        "web1 ssh-ed25519 AAAA",
        f"web1 ssh-unheard-of {OTHER.get_base64()}",
        f"|1|broken {text(OTHER)}",
        "\x00\xff",
    ],
)
def test_a_line_that_says_nothing_of_use_does_not_hide_the_others(tmp_path: Path, line: str) -> None:
    keys = known(tmp_path, line, f"web1 {text(KEY)}", line)
    assert good(keys, "web1") == [KEY]


def test_a_file_that_is_not_there_knows_nobody(tmp_path: Path) -> None:
    assert good(KnownHosts(tmp_path / "none", accept_new=False), "web1") == []


# --- revoked ---------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_good_for_nobody(tmp_path: Path) -> None:
    keys = known(tmp_path, f"web1 {text(KEY)}", f"web1 {text(OTHER)}", f"@revoked * {text(KEY)}")
    assert good(keys, "web1") == [OTHER]


def test_a_key_revoked_for_one_host_is_good_for_another(tmp_path: Path) -> None:
    keys = known(tmp_path, f"web1,web2 {text(KEY)}", f"@revoked web1 {text(KEY)}")
    assert (good(keys, "web1"), good(keys, "web2")) == ([], [KEY])


def test_a_key_revoked_for_a_host_is_revoked_on_each_of_its_ports(tmp_path: Path) -> None:
    assert good(known(tmp_path, f"[web1]:2222 {text(KEY)}", f"@revoked web1 {text(KEY)}"), "[web1]:2222") == []


# --- new -------------------------------------------------------------------------------------------------------


def test_a_host_that_is_known_by_one_key_is_not_new_with_a_key_of_another_kind(tmp_path: Path) -> None:
    keys = known(tmp_path, f"web1 {text(KEY)}", accept_new=True)
    with pytest.raises(Unreachable, match="its host key has changed"):
        keys.verify("web1", paramiko.RSAKey.generate(2048))


def test_a_key_that_is_new_to_many_at_once_is_written_down_once(tmp_path: Path) -> None:
    keys = known(tmp_path, accept_new=True)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: keys.verify("Jump", KEY), range(64)))
    assert (tmp_path / "known_hosts").read_text() == f"jump {text(KEY)}\n"


def test_a_new_key_gets_a_line_of_its_own_behind_one_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"web1 {text(KEY)}")
    KnownHosts(path, accept_new=True).verify("web2", OTHER)
    assert path.read_text() == f"web1 {text(KEY)}\nweb2 {text(OTHER)}\n"


def test_a_key_is_asked_for_by_the_algorithms_that_it_signs_with(tmp_path: Path) -> None:
    rsa = paramiko.RSAKey.generate(2048)
    keys = known(tmp_path, f"web1 {text(rsa)}", f"web1 {text(KEY)}", f"@revoked web1 {text(OTHER)}")
    assert keys.kinds("web1") == ["rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256"]


def test_a_host_is_listed_by_its_port_when_it_is_not_the_usual_one() -> None:
    assert (listed("Web1", 22), listed("Web1", 2222)) == ("web1", "[web1]:2222")


# --- a new connection ------------------------------------------------------------------------------------------


class Wire:
    """A connection that can only be told from others and closed: it opens no channel."""

    def __init__(self) -> None:
        self.transport = self
        self.open = True

    def close(self) -> None:
        self.open = False

    def open_session(self, timeout: float) -> None:
        raise EOFError(timeout)


def test_a_machine_that_reconnects_closes_the_old_connection_before_it_opens_a_new_one() -> None:
    wires: list[Wire] = []

    def open_one() -> Wire:
        assert not any(wire.open for wire in wires)
        wires.append(Wire())
        return wires[-1]

    machine = SshMachine(Host("web1"), lambda: [open_one()])
    machine.reconnect()
    assert [wire.open for wire in wires] == [False, True]
    machine.close()
    assert [wire.open for wire in wires] == [False, False]


def test_what_paramiko_logs_does_not_reach_the_terminal() -> None:
    code = "import logging, deploy.machine; logging.getLogger('paramiko.transport').error('a traceback')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("", "")
