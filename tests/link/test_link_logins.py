"""Who we are to a host: real agents, key files of every kind, passphrases that somebody types, or nobody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import ME, Place, fingerprint, keygen, make_key, printed, public

from deploy.errors import Unfit, Unreachable
from deploy.keys import Ssh
from deploy.machine import SshMachine, login, ssh_config
from deploy.machine.ssh_config import Directions


@pytest.fixture
def agent(place: Place) -> Iterator[Path]:
    """A real agent without keys; the path of its socket."""
    sock = place.home / "agent"
    environment = {**os.environ, "SSH_ASKPASS": str(place.home / "askpass"), "SSH_ASKPASS_REQUIRE": "force"}
    command = ["ssh-agent", "-D", "-a", str(sock)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not sock.exists():
            assert process.poll() is None
        yield sock
    finally:
        process.terminate()
        process.wait(10)


def add(agent: Path, *keys: Path | str) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", "-q", *map(str, keys)], env=environment, check=True, timeout=10)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_a_key_file_of_any_kind_opens(place: Place, kind: str) -> None:
    sshd = place.sshd()
    key = make_key(place.home / "own", kind)
    place.authorized.write_text(public(key))
    assert printed(place.connect(sshd.host, Ssh(identity=str(key))), "echo in") == ["in"]


@pytest.mark.parametrize("passphrase", ["", "sesame"])
def test_a_key_is_read_whatever_padding_its_file_needs(tmp_path: Path, passphrase: str) -> None:
    """Of one ECDSA key in three what stands in the file needs none, and ends with the length of the comment: 0."""
    for number in range(12):
        key = tmp_path / f"key{number}"
        keygen("-t", "ecdsa", "-N", passphrase, "-a", "1", "-C", "", "-f", key)
        assert login._load(key, passphrase or None).get_base64() == public(key).split()[1]


@pytest.fixture
def with_sudo(place: Place) -> Callable[[str], SshMachine]:
    """Connect to a host whose sudo is this program of sh."""

    def connect(program: str) -> SshMachine:
        (place.home / "sudo").write_text(f"#!/bin/sh\n{program}\n")
        (place.home / "sudo").chmod(0o755)
        sshd = place.sshd(more=f"SetEnv PATH={place.home}:/usr/bin:/bin")
        return place.connect(sshd.host, Ssh(sudo=True))

    return connect


def test_a_login_works_through_a_sudo_that_asks_for_nothing(with_sudo: Callable[[str], SshMachine]) -> None:
    machine = with_sudo('[ "$1" = -n ] && shift && BEHIND=sudo exec "$@"')
    assert printed(machine, 'echo "$BEHIND"') == ["sudo"]


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("echo 'sudo: a password is required' >&2; exit 1", "a password is required"),
        ("echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1", "you must have a tty"),
        ("exit 1", "not a word"),
    ],
)
def test_a_sudo_that_lets_nobody_in_is_refused_with_its_words_and_the_mend(
    with_sudo: Callable[[str], SshMachine], refusal: str, words: str
) -> None:
    with pytest.raises(Unfit, match=f"{ME} does not get through sudo .*{words}") as caught:
        with_sudo(refusal)
    assert f"{ME} ALL=(root) NOPASSWD: ALL" in caught.value.mend
    assert caught.value.exit_code == 2


def test_a_host_without_sudo_is_refused(place: Place) -> None:
    sshd = place.sshd(more=f"SetEnv PATH={place.home}")
    with pytest.raises(Unfit, match="does not get through sudo"):
        place.connect(sshd.host, Ssh(sudo=True))


def test_a_key_of_the_agent_opens(place: Place, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sshd = place.sshd()
    add(agent, place.key.rename(place.home / "moved"))
    with pytest.raises(Unreachable, match="there is no key to show"):
        place.connect(sshd.host)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    machine = place.connect(sshd.host)
    machine.reconnect()
    assert printed(machine, "echo in") == ["in"]


def test_a_comment_that_is_no_utf_8_hides_no_key_of_the_agent(place: Place, agent: Path) -> None:
    sshd = place.sshd()
    odd = make_key(place.home / "odd")
    subprocess.run(["ssh-keygen", "-q", "-c", "-C", b"j\xf6rg", "-f", odd], check=True)
    add(agent, odd, place.key.rename(place.home / "moved"))
    place.config(f"IdentityAgent {agent}\n")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


@pytest.mark.parametrize("said", ["{agent}", "~/agent", "$OURS", "${{OURS}}"])
def test_an_agent_that_the_configuration_names_is_asked(
    place: Place, agent: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    sshd = place.sshd()
    add(agent, place.key.rename(place.home / "moved"))
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    monkeypatch.setenv("OURS", str(agent))
    place.config(f"IdentityAgent {said.format(agent=agent)}\n")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


@pytest.mark.parametrize("line", ["IdentityAgent none", "IdentitiesOnly yes"])
def test_an_agent_that_is_not_to_be_asked_is_not(
    place: Place, agent: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    sshd = place.sshd()
    add(agent, place.key.rename(place.home / "moved"))
    place.key.with_name(f"{place.key.name}.pub").unlink()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    place.config(f"{line}\n")
    with pytest.raises(Unreachable, match="there is no key to show"):
        place.connect(sshd.host)


@pytest.mark.parametrize("named", ["own.pub", "own"])
def test_a_key_of_which_only_the_public_half_is_here_is_the_agent_s(place: Place, agent: Path, named: str) -> None:
    sshd = place.sshd()
    own = make_key(place.home / "own")
    place.authorized.write_text(public(own))
    add(agent, *(make_key(place.home / f"other{number}") for number in range(8)), own)
    own.unlink()
    place.config(f"IdentityAgent {agent}\nIdentitiesOnly yes\nIdentityFile {place.home / named}\n")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]
    place.authorized.write_text("")
    with pytest.raises(Unreachable) as caught:
        place.connect(sshd.host)
    assert caught.value.what == f"the login as {ME} is refused: it took none of 1 key"


@pytest.mark.parametrize(
    ("named", "words"),
    [("own.pub", "own.pub is a public key, and no agent holds"), ("own", "own cannot be read: No such")],
)
def test_a_public_half_whose_private_one_is_nowhere_is_told_with_the_refusal(
    place: Place, agent: Path, named: str, words: str
) -> None:
    sshd = place.sshd()
    make_key(place.home / "own").unlink()
    add(agent, place.key)
    place.config(f"IdentityAgent {agent}\nIdentitiesOnly yes\nIdentityFile {place.home / named}\n")
    with pytest.raises(Unreachable, match=f"there is no key to show; .*{words}"):
        place.connect(sshd.host)


@pytest.mark.parametrize("sock", ["/nowhere", "known_hosts"])
def test_an_agent_that_is_gone_is_none(place: Place, monkeypatch: pytest.MonkeyPatch, sock: str) -> None:
    sshd = place.sshd()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place.ssh_dir / sock))
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


def test_a_key_that_is_named_comes_before_all_others_of_an_agent_that_holds_too_many(
    place: Place, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd = place.sshd(more="MaxAuthTries 3")
    add(agent, *(make_key(place.home / f"other{n}") for n in range(6)))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    with pytest.raises(Unreachable, match="it hung up after 3 keys"):
        place.connect(sshd.host)
    assert printed(place.connect(sshd.host, Ssh(identity=str(place.key))), "echo in") == ["in"]


@pytest.mark.parametrize(("confirms", "why"), [("exit 1", "it refused"), ("sleep 4", "it did not answer within 1 s")])
def test_a_key_that_the_agent_does_not_sign_with_is_left_out_and_the_next_one_opens(
    place: Place, agent: Path, monkeypatch: pytest.MonkeyPatch, confirms: str, why: str
) -> None:
    sshd = place.sshd()
    (place.home / "askpass").write_text(f"#!/bin/sh\necho asked >>{place.home}/asked\n{confirms}\n")
    (place.home / "askpass").chmod(0o755)
    monkeypatch.setattr(login, "AGENT_ANSWERS", 1)
    declined = make_key(place.home / "declined")
    add(agent, "-c", declined)
    place.config(f"IdentityAgent {agent}\n")
    machine = place.connect(sshd.host)
    machine.reconnect()
    assert printed(machine, "echo in") == ["in"]
    assert (place.home / "asked").read_text() == "asked\n"
    place.authorized.write_text("")
    words = f"it took none of 1 key; the agent did not sign with {re.escape(fingerprint(declined))}: {why}"
    with pytest.raises(Unreachable, match=words):
        place.connect(sshd.host)


# --- passphrases -----------------------------------------------------------------------------------------------


@pytest.fixture
def locked(place: Place) -> Path:
    key = make_key(place.home / "locked", "ed25519", "open sesame")
    place.authorized.write_text(public(key))
    return key


def test_a_passphrase_is_asked_for_once(place: Place, locked: Path) -> None:
    jump, sshd = place.sshd(), place.sshd()
    place.config(f"Host 127.0.0.1\n  IdentityFile {locked}\n  ProxyJump localhost:{jump.port}\nHost localhost\n")
    place.config(
        f"Host web\n  HostName 127.0.0.1\n  ProxyJump 127.0.0.1:{jump.port}\nHost *\n  IdentityFile {locked}\n"
    )
    machine = place.connect(sshd.host.__class__("web", ME, sshd.port), passphrases=["open sesame"])
    machine.reconnect()
    assert printed(machine, "echo in") == ["in"]


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
@pytest.mark.parametrize("form", ["", "PEM"])
def test_an_encrypted_key_of_any_kind_is_opened_and_a_mistyped_passphrase_asked_for_again(
    place: Place, kind: str, form: str
) -> None:
    if (kind, form) == ("ed25519", "PEM"):
        pytest.skip("ssh-keygen writes no such file")
    sshd = place.sshd()
    key = make_key(place.home / "locked", kind, "open sesame", *(["-m", form] if form else []))
    place.authorized.write_text(public(key))
    ssh = Ssh(identity=str(key))
    assert printed(place.connect(sshd.host, ssh, ["sesame", "open", "open sesame"]), "echo in") == ["in"]
    with pytest.raises(Unreachable, match=r"there is no key to show; the passphrase of .*locked was wrong 3 times"):
        place.connect(sshd.host, ssh, ["a", "b", "c", "open sesame"])


def test_where_nobody_sits_an_encrypted_key_is_told_with_the_way_to_give_it_to_an_agent(
    place: Place, locked: Path
) -> None:
    sshd = place.sshd()
    with pytest.raises(Unreachable) as caught:
        place.connect(sshd.host, Ssh(identity=str(locked)))
    assert f"{locked} is encrypted, and there is no terminal" in caught.value.what
    assert f"ssh-add {locked}" in caught.value.what


def test_no_passphrase_is_asked_for_a_key_that_the_agent_holds(place: Place, agent: Path, locked: Path) -> None:
    sshd = place.sshd()
    plain = place.home / "plain"
    plain.write_bytes(locked.read_bytes())
    plain.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "open sesame", "-N", "", "-f", str(plain)], check=True)
    add(agent, plain)
    place.config(f"IdentityAgent {agent}\n")
    assert printed(place.connect(sshd.host, Ssh(identity=str(locked)), []), "echo in") == ["in"]


def test_a_usual_key_is_not_asked_for_when_the_agent_has_others(place: Place, agent: Path) -> None:
    sshd = place.sshd()
    other = make_key(place.home / "other")
    place.authorized.write_text(public(other))
    add(agent, other)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "later", "-f", str(place.key)], check=True)
    place.config(f"IdentityAgent {agent}\n")
    assert printed(place.connect(sshd.host, passphrases=[]), "echo in") == ["in"]


def test_an_empty_passphrase_goes_on_without_the_key(place: Place, locked: Path) -> None:
    sshd = place.sshd()
    with pytest.raises(Unreachable, match="locked is encrypted, and was left out"):
        place.connect(sshd.host, Ssh(identity=str(locked)), [""])


def test_ctrl_d_instead_of_a_passphrase_goes_on_without_the_key(place: Place, locked: Path) -> None:
    def ask(_: str) -> str:
        raise EOFError

    place.config(f"IdentityFile {locked}\n")
    hops = Directions(Ssh()).route(place.sshd().host)
    keys = login.Keys(ask)
    keys.read(hops)
    assert keys.troubles(hops[0]) == [f"{locked} is encrypted, and was left out"]


def test_without_a_terminal_there_is_nobody_to_ask() -> None:
    code = "from deploy.machine import login; raise SystemExit(login.terminal() is not None)"
    subprocess.run([sys.executable, "-c", code], check=True, start_new_session=True, stdin=subprocess.DEVNULL)
    assert login.TRIES == 3


# --- what a refusal says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (str, "cannot be read: No such file"),
        (Path.touch, "cannot be used: it is no RSA"),
        (Path.mkdir, "cannot be read: Is a directory"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_told_with_the_refusal(
    place: Place, make: Callable[[Path], object], words: str
) -> None:
    sshd = place.sshd()
    make(place.home / "own")
    with pytest.raises(Unreachable, match=words):
        place.connect(sshd.host, Ssh(identity=str(place.home / "own")))


@pytest.mark.parametrize("named", [True, False])
def test_a_key_file_that_cannot_be_looked_for_is_told_with_the_refusal_and_hides_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """As below a folder that one may not enter; which root may, but not even root a name that is too long."""
    far = str(place.home / ("long" * 100))
    monkeypatch.setattr(ssh_config, "USUAL", (far, str(place.key)))
    sshd = place.sshd()
    if named:
        place.config(f"IdentityFile {far}\nIdentityFile {place.key}\n")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]
    place.authorized.write_text("")
    with pytest.raises(Unreachable, match=r"it took none of 1 key; .*long cannot be read: File name too long"):
        place.connect(sshd.host)


@pytest.mark.parametrize("certificate", [b"", b"nonsense", b"ssh-rsa AAAA", b"\xff\xfe j\xf6rg"])
def test_a_key_whose_certificate_is_broken_is_used_without_it_and_the_refusal_tells(
    place: Place, certificate: bytes
) -> None:
    sshd = place.sshd()
    place.key.with_name(f"{place.key.name}-cert.pub").write_bytes(certificate)
    assert printed(place.connect(sshd.host), "echo in") == ["in"]
    place.authorized.write_text("")
    with pytest.raises(Unreachable, match=r"it took none of 1 key; .*-cert\.pub cannot be used: "):
        place.connect(sshd.host)


def test_a_key_that_the_host_does_not_take_is_told_with_the_login_and_how_to_look(place: Place) -> None:
    sshd = place.sshd()
    place.authorized.write_text("")
    with pytest.raises(Unreachable) as caught:
        place.connect(sshd.host)
    assert caught.value.what == f"the login as {ME} is refused: it took none of 1 key"
    assert caught.value.mend == f"try: ssh -p {sshd.port} {ME}@127.0.0.1"


def test_a_host_that_wants_more_than_a_key_says_what(place: Place) -> None:
    sshd = place.sshd(more="AuthenticationMethods publickey,password\nPasswordAuthentication yes")
    with pytest.raises(Unreachable, match="it takes the key, and wants password as well"):
        place.connect(sshd.host)


def test_a_host_that_takes_no_keys_says_what_it_takes(place: Place) -> None:
    sshd = place.sshd(more="PubkeyAuthentication no")
    with pytest.raises(Unreachable, match="it takes no keys, only "):
        place.connect(sshd.host)
