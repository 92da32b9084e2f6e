"""Whose key is believed, with real keys of real sshds: a stranger is never taken for a friend, nor a friend for one."""

from __future__ import annotations

import base64
import os
import stat
import subprocess

import pytest
from sshd import Place, Sshd, fingerprint, keygen, make_key, printed, public

from deploy.errors import ConfigError, Unreachable
from deploy.keys import Ssh
from deploy.recipe.model import Host

NEW = Ssh(host_keys="accept-new")


def refused(place: Place, sshd: Sshd, ssh: Ssh | None = None) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        place.connect(sshd.host, ssh)
    assert sshd.logins() == 0, "we showed our keys to a stranger"
    return caught.value


@pytest.mark.parametrize(
    "line",
    [
        "{name} {key}",
        "other.example.com,{name} {key} a comment",
        "{name}\t{key}",
        "  {name}   {key}",
        "[127.0.0.*]:{port} {key}",
        "[127.0.0.?]:{port} {key}",
        "*,!db.example.com {key}",
    ],
)
def test_a_key_that_a_line_knows_is_believed(place: Place, line: str) -> None:
    sshd = place.sshd(known=False)
    place.know(line.format(name=sshd.name, port=sshd.port, key=public(sshd.keys[0])))
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


@pytest.mark.parametrize(
    "line",
    [
        "127.0.0.1 {key}",
        "127.0.0.2 {key}",
        "[127.0.0.1]:1 {key}",
        "*,!{name} {key}",
        "!{name} {key}",
        "# {name} {key}",
        "{name} {kind}",
        "{name} {kind} AAAA",
        "{name} {kind} not/base64!",
        "{name} ssh-rsa {blob}",
        "@unheard-of {name} {key}",
        "|1|broken {key}",
        "\x00\xff",
    ],
)
def test_a_key_that_no_line_knows_is_refused_with_its_fingerprint(place: Place, line: str) -> None:
    sshd = place.sshd(known=False)
    key = public(sshd.keys[0])
    kind, blob = key.split()
    place.know(line.format(name=sshd.name, key=key, kind=kind, blob=blob))
    error = refused(place, sshd)
    assert f"its host key {fingerprint(sshd.keys[0])} (ssh-ed25519) is not in {place.known_hosts}" in error.what
    assert "accept-new" in error.mend


def test_names_that_ssh_keygen_has_hashed_are_found(place: Place) -> None:
    sshd = place.sshd()
    keygen("-H", "-f", place.known_hosts)
    assert place.known_hosts.read_text().startswith("|1|")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


def test_the_case_of_a_name_does_not_count(place: Place) -> None:
    sshd = place.sshd(known=False)
    place.config(f"Host WEB1\n  HostName LocalHost\n  Port {sshd.port}\n")
    place.know(f"[LOCALhost]:{sshd.port} {public(sshd.keys[0])}")
    assert printed(place.connect(Host("WEB1")), "echo in") == ["in"]


def test_a_host_key_alias_is_the_name_that_counts(place: Place) -> None:
    sshd = place.sshd(known=False)
    place.config("Host *\n  HostKeyAlias web1\n")
    place.know(f"web1 {public(sshd.keys[0])}")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


@pytest.mark.parametrize("known", range(3))
def test_a_host_with_several_keys_is_asked_for_the_one_that_is_known(place: Place, known: int) -> None:
    sshd = place.sshd("rsa", "ecdsa", "ed25519", known=False)
    place.know(sshd.line(known))
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


def test_a_host_may_have_a_second_key_of_the_same_kind(place: Place) -> None:
    """The old and the new one, while keys are changed everywhere."""
    sshd = place.sshd(known=False)
    place.know(f"{sshd.name} {public(make_key(place.home / 'old'))}", sshd.line())
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


# --- changed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ssh", [Ssh(), NEW], ids=["strict", "accept-new"])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_changed_key_is_refused_with_both_fingerprints_and_the_mend_works(place: Place, ssh: Ssh, kind: str) -> None:
    sshd = place.sshd(known=False)
    before = make_key(place.home / "before", kind)
    place.know(f"{sshd.name} {public(before)}")
    error = refused(place, sshd, ssh)
    assert (
        f"its host key has changed: {fingerprint(sshd.keys[0])} (ssh-ed25519) now, {fingerprint(before)}" in error.what
    )
    assert f"in line 1 of {place.known_hosts}" in error.what
    subprocess.run(error.mend.partition("say: ")[2], shell=True, check=True, capture_output=True)  # noqa: S602  # as one would paste it
    assert printed(place.connect(sshd.host, NEW), "echo in") == ["in"]


# --- revoked, and vouched for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ssh", [Ssh(), NEW], ids=["strict", "accept-new"])
@pytest.mark.parametrize("names", ["*", "{name}", "127.0.0.1"])
def test_a_revoked_key_is_refused_with_its_line(place: Place, ssh: Ssh, names: str) -> None:
    sshd = place.sshd()
    place.know(f"@revoked {names.format(name=sshd.name)} {public(sshd.keys[0])}")
    before = place.known_hosts.read_text()
    error = refused(place, sshd, ssh)
    assert f"{fingerprint(sshd.keys[0])} (ssh-ed25519) is revoked, in line 2 of" in error.what
    assert place.known_hosts.read_text() == before


def test_a_key_that_is_revoked_elsewhere_is_believed_here(place: Place) -> None:
    sshd = place.sshd()
    place.know(f"@revoked web1.example.com {public(sshd.keys[0])}")
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


def test_a_host_that_only_an_authority_vouches_for_is_refused_with_the_line_and_the_mend(place: Place) -> None:
    sshd = place.sshd(known=False)
    authority = make_key(place.home / "authority")
    keygen("-s", authority, "-I", "web1", "-h", "-n", "127.0.0.1", f"{sshd.keys[0]}.pub")
    place.know("# ours", f"@cert-authority [127.0.0.1]:* {public(authority)}")
    error = refused(place, sshd)
    assert "line 2 there trusts a certificate authority" in error.what
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {place.known_hosts}" in error.mend
    subprocess.run(error.mend.partition("itself: ")[2], shell=True, check=True, capture_output=True)  # noqa: S602  # as one would paste it
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


def test_an_authority_is_in_the_way_of_nobody_whose_key_is_known(place: Place) -> None:
    sshd = place.sshd(known=False)
    place.know(f"@cert-authority * {public(make_key(place.home / 'authority'))}", "@cert-authority", sshd.line())
    assert printed(place.connect(sshd.host), "echo in") == ["in"]


# --- new -------------------------------------------------------------------------------------------------------


def test_a_new_key_is_written_down_once_and_believed_from_then_on(place: Place) -> None:
    sshd = place.sshd(known=False)
    place.ssh_dir.rename(place.home / "elsewhere")
    ssh = Ssh(host_keys="accept-new", identity=str(place.home / "elsewhere" / "id_ed25519"))
    machine = place.connect(sshd.host, ssh)
    machine.reconnect()
    assert printed(machine, "echo in") == ["in"]
    assert place.known_hosts.read_text() == f"{sshd.line()}\n"
    assert stat.S_IMODE(place.known_hosts.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.ssh_dir.stat().st_mode) == 0o700
    strict = Ssh(identity=ssh.identity)
    assert printed(place.connect(sshd.host, strict), "echo in") == ["in"]


def test_a_last_line_without_an_end_is_not_spoiled_by_a_new_one(place: Place) -> None:
    one, two = place.sshd(known=False), place.sshd(known=False)
    place.known_hosts.write_text(one.line())
    place.connect(two.host, NEW)
    assert place.known_hosts.read_text() == f"{one.line()}\n{two.line()}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_new_key_that_cannot_be_written_down_is_refused(place: Place) -> None:
    sshd = place.sshd(known=False)
    place.known_hosts.touch(0o400)
    assert "cannot be written" in refused(place, sshd, NEW).what


def test_a_known_hosts_that_cannot_be_read_is_no_empty_one(place: Place) -> None:
    sshd = place.sshd(known=False)
    place.known_hosts.mkdir()
    with pytest.raises(ConfigError, match="known_hosts cannot be read"):
        place.connect(sshd.host, NEW)


def test_the_file_is_read_by_ssh_as_we_wrote_it(place: Place) -> None:
    sshd = place.sshd("ecdsa", known=False)
    place.connect(sshd.host, NEW)
    found = subprocess.run(
        ["ssh-keygen", "-F", sshd.name, "-f", str(place.known_hosts)], capture_output=True, text=True, check=True
    )
    assert base64.b64decode(found.stdout.split()[-1])
