"""Host keys: a stranger is never taken for a friend, and a friend never for a stranger."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import paramiko
import pytest
from paramiko.hostkeys import HostKeys

from deploy.errors import Unreachable
from deploy.machine import KnownHosts, SshMachine
from deploy.recipe.model import Host

KEY, OTHER = (paramiko.ECDSAKey.generate() for _ in range(2))
CLIENT = paramiko.SSHClient()


def text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def known(tmp_path: Path, *lines: str, accept_new: bool = False) -> KnownHosts:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{line}\n" for line in lines))
    return KnownHosts(path, accept_new=accept_new)


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
    assert known(tmp_path, f"{names} {text(KEY)}").keys_of(name) == [KEY]


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
    assert known(tmp_path, f"{names} {text(KEY)}").keys_of(name) == []


@pytest.mark.parametrize("name", ["web1.example.com", "[web1.example.com]:2222"])
def test_hashed_names_are_found(tmp_path: Path, name: str) -> None:
    hashed = HostKeys.hash_host(name)
    keys = known(tmp_path, f"{hashed} {text(KEY)}")
    assert keys.keys_of(name) == [KEY]
    assert keys.keys_of("web2.example.com") == []


def test_every_key_of_a_host_is_good(tmp_path: Path) -> None:
    assert known(tmp_path, f"web1 {text(KEY)}", f"web1,web2 {text(OTHER)}").keys_of("web1") == [KEY, OTHER]


def test_a_comment_behind_a_key_is_no_part_of_it(tmp_path: Path) -> None:
    assert known(tmp_path, f"web1 {text(KEY)} ann's laptop").keys_of("web1") == [KEY]


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
        "web1 ssh-ed25519 AAAA",
        f"web1 ssh-unheard-of {OTHER.get_base64()}",
        f"|1|broken {text(OTHER)}",
        "\x00\xff",
    ],
)
def test_a_line_that_says_nothing_of_use_does_not_hide_the_others(tmp_path: Path, line: str) -> None:
    keys = known(tmp_path, line, f"web1 {text(KEY)}", line)
    assert keys.keys_of("web1") == [KEY]


def test_a_file_that_is_not_there_knows_nobody(tmp_path: Path) -> None:
    assert KnownHosts(tmp_path / "none", accept_new=False).keys_of("web1") == []


# --- revoked ---------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_good_for_nobody(tmp_path: Path) -> None:
    keys = known(tmp_path, f"web1 {text(KEY)}", f"web1 {text(OTHER)}", f"@revoked * {text(KEY)}")
    assert keys.keys_of("web1") == [OTHER]


def test_a_revoked_key_is_refused_even_where_new_ones_are_accepted(tmp_path: Path) -> None:
    keys = known(tmp_path, f"@revoked * {text(KEY)}", accept_new=True)
    with pytest.raises(Unreachable, match="is revoked in"):
        keys.missing_host_key(CLIENT, "web1", KEY)
    assert len((tmp_path / "known_hosts").read_text().splitlines()) == 1


def test_a_key_revoked_for_one_host_is_good_for_another(tmp_path: Path) -> None:
    keys = known(tmp_path, f"web1,web2 {text(KEY)}", f"@revoked web1 {text(KEY)}")
    assert (keys.keys_of("web1"), keys.keys_of("web2")) == ([], [KEY])


# --- unknown and changed ---------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_with_its_fingerprint_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        known(tmp_path).missing_host_key(CLIENT, "web1", KEY)
    assert "its host key SHA256:" in caught.value.what
    assert "is not in" in caught.value.what
    assert "accept-new" in caught.value.mend
    assert (tmp_path / "known_hosts").read_text() == ""


def test_a_new_key_is_accepted_and_kept_where_that_is_configured(tmp_path: Path) -> None:
    known(tmp_path, f"web1 {text(KEY)}", accept_new=True).missing_host_key(CLIENT, "[web2]:2222", OTHER)
    again = KnownHosts(tmp_path / "known_hosts", accept_new=False)
    assert again.keys_of("[web2]:2222") == [OTHER]
    assert again.keys_of("web1") == [KEY]


def test_a_changed_key_is_told_with_both_fingerprints_and_the_command_that_forgets_the_old_one(tmp_path: Path) -> None:
    error = known(tmp_path).changed("[web1]:2222", OTHER, KEY)
    now, before = (part.split()[0].rstrip(",") for part in str(error).split("SHA256:")[1:])
    assert now != before
    assert len(now) == len(before) == 43
    assert f"ssh-keygen -f {tmp_path / 'known_hosts'} -R '[web1]:2222'" in error.mend
    assert error.exit_code == 2


def test_a_fingerprint_is_written_as_ssh_writes_it(tmp_path: Path) -> None:
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not installed")
    (tmp_path / "key.pub").write_text(f"{text(KEY)}\n")
    printed = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "key.pub")], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    with pytest.raises(Unreachable) as caught:
        known(tmp_path).missing_host_key(CLIENT, "web1", KEY)
    assert printed in caught.value.what


# --- a new connection ------------------------------------------------------------------------------------------


class Wire:
    """A connection that can only be told from others and closed."""

    sock = None

    def __init__(self) -> None:
        self.transport = self
        self.open = True

    def set_keepalive(self, seconds: int) -> None:
        assert seconds > 0

    def close(self) -> None:
        self.open = False


def test_a_machine_that_reconnects_closes_the_old_connection_before_it_opens_a_new_one() -> None:
    wires: list[Wire] = []

    def open_one() -> Wire:
        assert not any(wire.open for wire in wires)
        wires.append(Wire())
        return wires[-1]

    machine = SshMachine(Host("web1"), open_one)
    machine.reconnect()
    assert [wire.open for wire in wires] == [False, True]
    machine.close()
    assert [wire.open for wire in wires] == [False, False]
