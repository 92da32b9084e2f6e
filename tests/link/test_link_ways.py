"""Which way leads to a host: ~/.ssh/config as OpenSSH means it, and jump hosts in their order."""

from __future__ import annotations

import os
import subprocess

import pytest
from sshd import ME, Place, fingerprint, make_key, printed, public

from deploy.errors import ConfigError, Unreachable
from deploy.keys import Ssh
from deploy.machine.ssh_config import Directions
from deploy.recipe.model import Host


def test_a_host_goes_by_its_name_in_the_configuration(place: Place) -> None:
    sshd = place.sshd()
    key = make_key(place.home / "other key")
    place.authorized.write_text(public(key))
    place.config(
        f'Host web1\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {ME}\n  IdentityFile "{key}"\n'
        "Host *\n  User nobody\n  Port 1\n"
    )
    assert printed(place.connect(Host("web1")), "echo in") == ["in"]


def test_what_invoke_yaml_says_wins_over_the_configuration(place: Place) -> None:
    sshd = place.sshd()
    place.config("Host *\n  User nobody\n  Port 1\n  IdentityFile ~/none\n")
    ssh = Ssh(identity=str(place.key))
    assert printed(place.connect(sshd.host, ssh), "echo in") == ["in"]


def test_two_jump_hosts_are_passed_in_their_order_and_each_shows_its_key(place: Place) -> None:
    """Each lets through to the next one only, so that any other order fails."""
    last = place.sshd(address="127.0.0.4")
    two = place.sshd(address="127.0.0.3", more=f"PermitOpen {last.address}:{last.port}")
    one = place.sshd(address="127.0.0.2", more=f"PermitOpen {two.address}:{two.port}")
    place.config(
        f"Host two\n  HostName {two.address}\n  Port {two.port}\n  ProxyJump nowhere.example.com\n"
        f"Host web1\n  HostName {last.address}\n  Port {last.port}\n  ProxyJump {ME}@{one.address}:{one.port},two\n"
    )
    machine = place.connect(Host("web1"))
    assert printed(machine, "echo in") == ["in"]
    assert [sshd.logins() for sshd in (one, two, last)] == [1, 1, 1]
    machine.reconnect()
    assert printed(machine, "echo again") == ["again"]


def test_a_stranger_among_the_jump_hosts_is_refused_by_name(place: Place) -> None:
    one, last = place.sshd(), place.sshd()
    two = place.sshd(known=False)
    place.config(f"Host web1\n  ProxyJump 127.0.0.1:{one.port},127.0.0.1:{two.port}\n  HostName 127.0.0.1\n")
    with pytest.raises(Unreachable) as caught:
        place.connect(Host("web1", ME, last.port))
    assert caught.value.what.startswith(
        f"its jump host {ME}@127.0.0.1:{two.port}: its host key {fingerprint(two.keys[0])}"
    )
    assert (one.logins(), two.logins(), last.logins()) == (1, 0, 0)


def test_a_changed_key_behind_a_jump_host_is_refused(place: Place) -> None:
    jump, last = place.sshd(), place.sshd(known=False)
    place.know(f"{last.name} {public(make_key(place.home / 'before'))}")
    place.config(f"Host 127.0.0.1\n  ProxyJump jump\nHost jump\n  HostName 127.0.0.1\n  Port {jump.port}\n")
    with pytest.raises(Unreachable, match=r"^its host key has changed"):
        place.connect(last.host)


def test_a_jump_host_that_passes_nothing_on_is_named_as_the_one_who_forbids(place: Place) -> None:
    jump, last = place.sshd(more="AllowTcpForwarding no"), place.sshd()
    place.config(f"Host web1\n  HostName 127.0.0.1\n  ProxyJump 127.0.0.1:{jump.port}\n")
    with pytest.raises(Unreachable, match=r"may not be passed on to by its jump host \(AllowTcpForwarding there\?\)"):
        place.connect(Host("web1", ME, last.port))


def test_a_host_that_its_jump_host_cannot_reach_is_told_from_the_jump_host(place: Place) -> None:
    jump, last = place.sshd(), place.sshd()
    last.stop()
    place.config(f"Host web1\n  HostName 127.0.0.1\n  ProxyJump 127.0.0.1:{jump.port}\n")
    with pytest.raises(Unreachable, match="it cannot be reached from its jump host: connect failed"):
        place.connect(Host("web1", ME, last.port), Ssh(connect_timeout=2))


# --- what the files say, against ssh -G ------------------------------------------------------------------------

FILES = {
    "config": """\
Include SSH/first/*.conf "SSH/spaced name"
User top
Host web*
    Include SSH/inner
    IdentityFile ~/.ssh/web
Match host web2.example.com
    Port 2202
host = WEB9
    User nine
Include SSH/missing
Match originalhost db1 !user other
    User dbadmin
Host *
    Port 2222
    User everyone
""",
    "first/a.conf": "Host web1\n  HostName 127.0.0.9\nHost web2\n  HostName web2.example.com\n",
    "first/b.conf": "Host db1\n  ProxyJump a.example.com,ops@b.example.com:2022\n",
    "spaced name": "Host web3\n  Port 33\n",
    "inner": "IdentitiesOnly yes\nHost web3\n  IdentityFile ~/.ssh/three\nHost db1\n  Port 1\n",
}


@pytest.mark.parametrize("name", ["web1", "web2", "web3", "web9", "WEB9", "db1", "other"])
def test_files_are_read_as_ssh_reads_them(place: Place, name: str) -> None:
    for path, text in FILES.items():
        (place.ssh_dir / path).parent.mkdir(exist_ok=True)
        # ssh takes ~ from the password file, we from HOME.
        (place.ssh_dir / path).write_text(text.replace("SSH", str(place.ssh_dir)).replace("~", str(place.home)))
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(place.ssh_dir / "config"), name], capture_output=True, text=True, check=True
    ).stdout
    said = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    files = [line.split(" ", 1)[1] for line in shown.splitlines() if line.startswith("identityfile ")]
    *jumps, hop = Directions(Ssh()).route(Host(name))
    assert (hop.address.lower(), hop.user, str(hop.port)) == (said["hostname"], said["user"], said["port"])
    assert hop.only == (said["identitiesonly"] == "yes")
    if hop.named:
        assert [str(path) for path in hop.identities] == files
    assert [str(each.address) for each in jumps] == [
        each.rpartition("@")[2].partition(":")[0] for each in said.get("proxyjump", "").split(",") if each
    ]


def test_an_include_is_looked_for_beside_the_user_s_configuration(place: Place) -> None:
    place.config("Include more\nInclude ~/.ssh/*.conf\n")
    (place.ssh_dir / "more").write_text("Host web1\n  User ann\n")
    (place.ssh_dir / "x.conf").write_text("Port 2222\n")
    (hop,) = Directions(Ssh()).route(Host("web1"))
    assert (hop.user, hop.port) == ("ann", 2222)


@pytest.mark.parametrize(
    ("host", "ssh", "typed"),
    [
        (Host("web1"), Ssh(), "ssh web1"),
        (Host("web1"), Ssh(config="{home}/.ssh/config"), "ssh web1"),
        (Host("web1", "eve", 2022), Ssh(), "ssh -p 2022 eve@web1"),
        (Host("web1"), Ssh(config="own config", identity="~/a key"), "ssh -F 'own config' -i '{home}/a key' web1"),
    ],
)
def test_what_is_to_be_typed_goes_the_way_that_greenroom_goes(place: Place, host: Host, ssh: Ssh, typed: str) -> None:
    """By the address it would pass by the jump host, and the key that the configuration names."""
    place.config("Host web1\n  HostName 10.0.0.5\n  ProxyJump ops@jump:2222\n")
    ssh.config = ssh.config.format(home=place.home)
    assert Directions(ssh).route(host)[-1].by_hand == typed.format(home=place.home)


def test_what_is_to_be_typed_for_a_jump_host_is_as_the_configuration_names_it(place: Place) -> None:
    place.config("Host web1\n  ProxyJump ops@jump:2222\nHost jump\n  HostName 10.0.0.9\n")
    assert Directions(Ssh()).route(Host("web1"))[0].by_hand == "ssh -p 2222 ops@jump"


@pytest.mark.parametrize("text", ["Include config\n", "Match tagged web\n", 'Host "web1\n'])
def test_a_file_that_makes_no_sense_is_refused_by_its_name(place: Place, text: str) -> None:
    place.config(text)
    with pytest.raises(ConfigError, match=r"\.ssh/config cannot be read: ."):
        Directions(Ssh())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Host web1\n  ProxyCommand nc %h %p\n", "gives it a ProxyCommand, which Greenroom does not start"),
        ("Host *\n  ProxyJump jump\n", "jump is its own jump host"),
        ("Host web1\n  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump a\n", "a is its own jump host"),
        ("Host web1\n  ProxyJump a:b:c\n", "'a:b:c' is no jump host"),
        ("Host web1\n  Port ssh\n", "config cannot be used"),
    ],
)
def test_what_leads_nowhere_is_refused_in_words(place: Place, text: str, words: str) -> None:
    place.config(text)
    with pytest.raises(Unreachable, match=words):
        Directions(Ssh()).route(Host("web1"))


@pytest.mark.parametrize(
    ("text", "through"),
    [
        ("Host web1\n  ProxyJump none\n  ProxyCommand nc\nHost *\n  ProxyJump jump\n", []),
        ("Host web1\n  ProxyCommand none\nHost web*\n  ProxyJump jump\n", []),
        ("Host web1\n  ProxyJump jump\n  ProxyCommand nc\n", ["jump"]),
        ("Host web1\n  ProxyJump ssh://ops@[2001:db8::1]:22\n", ["2001:db8::1"]),
        ("Host web1\n  ProxyJump c,d\nHost c\n  ProxyJump a,b\nHost d\n  ProxyJump x\n", ["a", "b", "c", "d"]),
    ],
)
def test_the_first_word_about_the_way_counts(place: Place, text: str, through: list[str]) -> None:
    place.config(text)
    assert [hop.address for hop in Directions(Ssh()).route(Host("web1"))] == [*through, "web1"]


@pytest.fixture
def nameless(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that /etc/passwd does not know, and an environment that says no name, as in many CI containers."""
    assert place.home.exists()  # pytest asks for the user id, too, before it makes one
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1 << 30)


@pytest.mark.usefixtures("nameless")
def test_who_has_no_name_here_logs_in_where_the_login_is_named(place: Place) -> None:
    sshd = place.sshd()
    place.config(f"Host web1\n  HostName 127.0.0.1\n  User {ME}\n")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]
    assert printed(place.connect(Host("web1", None, sshd.port)), "echo in") == ["in"]


@pytest.mark.usefixtures("nameless")
def test_who_has_no_name_here_and_names_no_login_is_told_how_to(place: Place) -> None:
    with pytest.raises(Unreachable, match="nothing says as whom to log in there, and the user id 1073741824") as caught:
        place.connect(Host("web1"))
    assert caught.value.mend == "write NAME@web1 among the env's hosts, or set USER=NAME"
