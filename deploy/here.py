"""The operator's own machine, where it builds for the hosts: the words of the host library under its own sh.

Nothing but docker with compose is needed here, and nothing stays but the image: what was laid out goes with the run, or
with the next one, if this one was killed. No fence is needed, either: the locks of the hosts keep other runs away.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, cast

from deploy import clock, host
from deploy.apply import ask
from deploy.console.journal import memory
from deploy.errors import Interrupted, Overdue, Refused, StepFailed
from deploy.recipe import facts as questions
from deploy.recipe import image, plan, shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deploy.apply import Channel, Hold, Machine, Terminal
    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.recipe.shell import Command, Script, Signal
    from deploy.recipe.steps import Plan

BLOCK = 1 << 16
LOOK = 0.2
"""Seconds between two looks at whether somebody wants to break off."""

ENVIRONMENT = frozenset({"PATH", "HOME", "USER", "TMPDIR", "LANG", "SSH_AUTH_SOCK", "COMPOSE_DOCKER_CLI_BUILD"})
OF_DOCKER = ("DOCKER_", "BUILDX_", "BUILDKIT_", "XDG_")
PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})
"""What docker gets of the operator's environment. The rest stays away: it would win over the env file in compose."""

PLATFORM = "DOCKER_DEFAULT_PLATFORM"
"""Not the operator's to say: it is that of the hosts (host/here.sh)."""


@dataclass(frozen=True)
class Workshop:
    """This machine, and what its engine is. `app` is laid out here; `builds` are its builder's platforms."""

    machine: Machine
    app: App
    facts: Facts
    builds: str

    def fit(self, seen: Mapping[Host, Facts]) -> None:
        """Go no further where this machine cannot build for the hosts that were seen, and whose docker answers.

        Raises:
            Refused: with the reason, and what mends it.

        """
        _refuse(image.unfit_here(self.facts, self.builds, _known(seen)))

    def plans(self, release: Release, stamps: Mapping[str, str], seen: Mapping[Host, Facts]) -> dict[Host, Plan]:
        """Decide what this machine does for the hosts that were seen: nothing, where no docker answers on any of them.

        Raises:
            Refused: it cannot build for them.

        """
        self.fit(seen)
        known = _known(seen)
        return {self.machine.host: plan.plan_here(self.app, self.facts, release, stamps, known)} if known else {}

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Give an empty folder to build in for the time of the block, and of a lock: one run of the env at once.

        Nobody else may enter it. What a killed run left there goes.

        Raises:
            Refused: it cannot be made.

        """
        folder = Path(self.app.root)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise Refused(f"{folder} cannot be made, to build in it: {error.strerror}") from None
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _known(seen: Mapping[Host, Facts]) -> dict[Host, Facts]:
    """Leave out the hosts whose architecture nobody told: what they lack is told of each, and stops the deploy."""
    return {host: facts for host, facts in seen.items() if facts.architecture}


def workshop(app: App) -> Workshop:
    """Look at this machine.

    Raises:
        Refused: it has no docker that answers, or no compose.

    """
    machine = Here()
    here = replace(app, root=str(memory() / f"{app.project}-{app.env}.build"))
    answers = ask(machine, questions.variables(here), image.look_here())
    builds = "".join(answer.values[0] for answer in answers if answer.key == "builds")
    facts = questions.read(answer for answer in answers if answer.key != "builds")
    _refuse(image.unfit_here(facts, builds, {}))
    return Workshop(machine, here, facts, builds)


def _refuse(unfit: tuple[str, str]) -> None:
    what, mend = unfit
    if what:
        raise Refused(f"deploy.build: local: {what}", mend=mend)


class Here:
    """This machine as one that scripts run on, as `deploy.apply.Machine`."""

    host = image.HERE

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Signal]:
        """Run a script, and yield what it says, as it says it.

        Raises:
            Interrupted: `stop` said so.
            Overdue: it took longer than it may.
            StepFailed: it was ended by somebody else.

        """
        with contextlib.closing(_Sh(script, parcel, stop)) as sh:
            whole = False
            for line in sh.lines():
                for each in shell.parse(line, sh.token):
                    whole = whole or each == shell.Finished() or (isinstance(each, shell.End) and each.status != 0)
                    yield each
            if not whole:
                raise StepFailed("sh on this machine was ended before it came to an end")

    def fetch(self, script: Script, *, stop: Callable[[], bool] = lambda: False) -> Payload:
        return Payload(_Sh(script, None, stop))

    def reconnect(self) -> None:
        """There is no link."""

    def close(self) -> None:
        """There is nothing to close."""

    def hold(self, script: Script) -> Hold:
        _never(script)

    def reach(self, address: tuple[str, int]) -> Channel:
        _never(address)

    def interact(self, line: Command, kind: str, size: tuple[int, int]) -> Terminal:
        _never(line, kind, size)


def _never(*asked: object) -> NoReturn:
    raise AssertionError(f"this machine only builds; it was asked for {asked}")


class Payload:
    """What a script of this machine sends; its marks come by the standard error."""

    def __init__(self, sh: _Sh) -> None:
        self._sh = sh
        self._opening = shell.Opening(sh.token)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end.

        Raises:
            Interrupted: somebody wants to break off.
            Overdue: it took longer than it may.
            StepFailed: the script said no, or was ended.

        """
        while block := self._sh.read(size):
            if payload := self._opening.passed(block):
                return payload
        said = [each for line in self._sh.complaints() for each in shell.parse(line, self._sh.token)]
        if shell.Finished() not in said:
            tail = tuple(each.text for each in said if isinstance(each, shell.Line) and each.text)
            raise StepFailed("send the image: failed: " + "; ".join(tail[-3:]), tail=tail)
        return b""

    def close(self) -> None:
        self._sh.close()


class _Sh:
    """One script at work, in a process group of its own: Ctrl-C is for the run to decide about."""

    def __init__(self, script: Script, parcel: IO[bytes] | None, stop: Callable[[], bool]) -> None:
        self.token = secrets.token_hex(8)
        self._stop = stop
        self._limit = script.deadline
        self._deadline = clock.monotonic() + script.deadline
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the rest
        text = replace(script, run="").render(host.library(each.words[0] for each in script.commands), self.token)
        base = Path(dict(script.variables)["BASE"])
        if script.run:
            base.mkdir(exist_ok=True)
        with tempfile.TemporaryFile() as program, tempfile.TemporaryFile() as given:
            program.write(text.encode())
            program.seek(0)
            if parcel:
                shutil.copyfileobj(parcel, given)
                given.seek(0)
            self._process = subprocess.Popen(
                ("sh", f"/dev/fd/{program.fileno()}"),
                pass_fds=(program.fileno(),),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=self._errors if script.sends else subprocess.STDOUT,
                cwd=base if script.run else None,
                env=_environment(),
                start_new_session=True,
            )
        self._out = cast("IO[bytes]", self._process.stdout)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._out, selectors.EVENT_READ)

    def read(self, size: int) -> bytes:
        while not self._stop():
            if clock.monotonic() > self._deadline:
                raise Overdue(f"it had not come to an end after {self._limit:.0f} s")
            if self._ready.select(LOOK):
                return os.read(self._out.fileno(), size)
        raise Interrupted("broken off")

    def lines(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while block := self.read(BLOCK):
            *whole, rest = (rest + decoder.decode(block)).split("\n")
            yield from whole
        if rest:
            yield rest

    def complaints(self) -> list[str]:
        self._process.wait()
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace").split("\n")

    def close(self) -> None:
        """End what is still at work."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        self._ready.close()
        self._out.close()
        self._errors.close()


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in ENVIRONMENT or name.upper() in PROXIES or (name.startswith(OF_DOCKER) and name != PLATFORM)
    }
