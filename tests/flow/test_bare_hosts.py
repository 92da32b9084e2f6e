"""The story of `inv setup`: it looks, says what it will do, asks, does it, and looks again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from deploy import config, setup
from deploy.console import Console
from deploy.errors import ConfigError, Failed, HostFailures, Refused, Unfit
from deploy.fleet import Fleet
from deploy.recipe import shell
from deploy.recipe.shell import Answer, Begin, End, Finished, Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.apply import Hold
    from deploy.recipe.model import Host
    from deploy.recipe.shell import Script, Signal


class Bare:
    """A host that knows the words of setup and no other, and refuses what could not be done in that order."""

    def __init__(self, host: Host, *, uid: str = "0", fails: str = "") -> None:
        self.host = host
        self.uid = uid
        self.fails = fails
        self.has: set[str] = set()
        self.words: list[str] = []

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Signal]:
        assert (script.run, parcel) == ("", None)
        for number, command in enumerate(script.commands):
            yield Begin(number)
            assert not stop()
            word, *arguments = command.words
            if word == self.fails:
                yield Line("E: no network")
                yield End(number, 100)
                return
            self.words.append(word)
            yield from getattr(self, word)(*arguments)
            yield End(number, 0)
        yield Finished()

    def hold(self, script: Script) -> Hold:
        raise AssertionError(f"setup takes no lock: {script}")

    def fetch(self, *_: object, **__: object) -> Any:
        raise AssertionError("setup sends no image")

    def reach(self, *_: object) -> Any:
        raise AssertionError("nobody looks through this one")

    def interact(self, *_: object) -> Any:
        raise AssertionError("nobody sits at a terminal here")

    def reconnect(self) -> None: ...
    def close(self) -> None: ...

    def setup_survey(self, user: str, base: str) -> list[Signal]:
        told: list[Signal] = [Answer("uid", (self.uid,)), Answer("os", ("debian", "", "trixie", "Debian 13"))]
        if "engine" in self.has:
            told += [
                Answer("docker", ("26.1.5" if "runs" in self.has else "",)),
                Answer("compose", ("docker compose",)),
            ]
        told += [Answer(key, (user,)) for key in ("user", "member") if f"user {user}" in self.has]
        told += [Answer("keys", ())] if f"keys {user}" in self.has else [Answer("keys_missing", ())]
        return [*told, *([Answer("base", ())] if f"base {base}" in self.has else [])]

    def setup_apt(self, *_packages: str) -> list[Signal]:
        self.has.add("engine")
        return []

    def setup_engine(self) -> list[Signal]:
        assert "engine" in self.has
        self.has.add("runs")
        return []

    def setup_user(self, user: str) -> list[Signal]:
        assert "engine" in self.has, "the group docker comes with the packages"
        self.has.add(f"user {user}")
        return []

    def setup_keys(self, user: str) -> list[Signal]:
        assert f"user {user}" in self.has
        self.has.add(f"keys {user}")
        return []

    def setup_base(self, user: str, base: str) -> list[Signal]:
        assert f"user {user}" in self.has
        self.has.add(f"base {base}")
        return []


ALL = ["setup_apt", "setup_engine", "setup_user", "setup_keys", "setup_base"]


class Admin:
    """Types `inv setup` against bare hosts."""

    def __init__(self, folder: Path, *hosts: str) -> None:
        (folder / ".env.prod").write_text("HTTP_PORT=10.0.0.5:8080\n")
        self.setup = config.load({"project": "app", "envs": {"prod": {"hosts": list(hosts)}}}, folder)
        self.machines = [Bare(host) for host in config.entered_by(self.setup, "root").hosts]
        self.out = io.StringIO()

    def run(self, **options: Any) -> str:
        setup.setup(self.setup, lambda: Fleet(self.machines), Console(out=self.out), setup.Options(**options))
        return self.out.getvalue()


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    return Admin(tmp_path, "deploy@web1", "web2:2222")


def test_it_says_what_it_will_do_and_does_nothing_without_a_yes(admin: Admin) -> None:
    with pytest.raises(Refused, match="nobody has agreed") as raised:
        admin.run()
    assert "--yes" in raised.value.mend
    said = admin.out.getvalue()
    assert "web1: Debian 13, docker not there, no compose" in said
    assert "web1       install packages" in said
    assert [machine.words for machine in admin.machines] == [["setup_survey"]] * 2


def test_every_host_becomes_ready_for_its_own_user(admin: Admin) -> None:
    said = admin.run(yes=True)
    web1, web2 = admin.machines
    assert web1.words == ["setup_survey", *ALL, "setup_survey"]
    assert web2.words == ["setup_survey", "setup_apt", "setup_engine", "setup_survey"]  # as root, as configured
    assert web1.has == {"engine", "runs", "user deploy", "keys deploy", "base greenroom/app"}
    assert "web1: no firewall is active here: let your provider's pass ssh and port 8080" in said
    assert "ready: web1, web2:2222; next: inv check --env=prod" in said
    assert "web2:2222: this is about root, as whom you came: hosts names nobody" in said
    assert "web1: this is about" not in said


def test_hosts_that_are_ready_are_left_alone_and_nobody_is_asked(admin: Admin) -> None:
    admin.run(yes=True)
    for machine in admin.machines:
        machine.words.clear()
    assert "web1: Debian 13, docker 26.1.5, docker compose: it is ready, nothing to do" in admin.run()
    assert [machine.words for machine in admin.machines] == [["setup_survey"]] * 2


def test_one_host_that_cannot_be_made_ready_keeps_all_as_they_are(admin: Admin) -> None:
    admin.machines[1].uid = "1000"
    with pytest.raises(HostFailures, match="web2:2222: only root can do this") as raised:
        admin.run(yes=True)
    assert isinstance(raised.value.failures["web2:2222"], Unfit)
    assert [machine.words for machine in admin.machines] == [["setup_survey"]] * 2


def test_what_fails_is_told_with_its_words_and_can_be_said_again(admin: Admin) -> None:
    admin.machines[0].fails = "setup_apt"
    with pytest.raises(Failed, match=r"web1: install packages: failed \(exit status 100\)"):
        admin.run(yes=True)
    assert "E: no network" in admin.out.getvalue()
    assert "runs" in admin.machines[1].has
    admin.machines[0].fails = ""
    assert "ready: web1, web2:2222" in admin.run(yes=True)
    assert admin.machines[1].words.count("setup_apt") == 1


def test_a_host_that_is_still_not_ready_is_said_to_be_so(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bare, "setup_engine", lambda _: [])
    with pytest.raises(HostFailures, match="web1: docker does not answer"):
        admin.run(yes=True)


def test_another_login_goes_through_sudo_and_root_does_not(admin: Admin) -> None:
    ubuntu = config.entered_by(admin.setup, "ubuntu")
    assert [host.user for host in (*ubuntu.hosts, *ubuntu.app.hosts)] == ["ubuntu"] * 4
    assert (ubuntu.ssh.sudo, config.entered_by(admin.setup, "root").ssh.sudo) == (True, False)
    assert [str(host) for host in ubuntu.hosts] == [str(host) for host in admin.setup.hosts]


def test_a_login_that_is_no_name_is_refused(admin: Admin) -> None:
    with pytest.raises(ConfigError, match="--login"):
        config.entered_by(admin.setup, "root@web1")


def test_no_word_of_setup_is_known_to_a_deploy() -> None:
    from deploy.host import library

    assert not [word for word in ALL if f"{word}()" in library(["observe"])]
    assert all(f"{word}()" in library(ALL) for word in ALL)
    assert str(shell.command("setup_user", "deploy")) == "setup_user deploy"
