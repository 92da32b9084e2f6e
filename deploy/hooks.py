"""The operator's own programs around the phases of a run: told what happens as JSON, and given a time.

One before a phase may say no, and the run is undone. One after a phase, or of a failure, is only told: what users have
does not hang on a chat that is down.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.console.events import Event
from deploy.errors import Failed, Refused
from deploy.recipe import hooks as recipe
from deploy.recipe.steps import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploy.console import Console
    from deploy.recipe.model import App, Hook, Release

TAIL = 20
"""Lines of a hook that failed which are shown."""

SHORT = 1_000
"""Characters of a fact that may stand in an environment; whole logs would make it too long for the kernel."""


def ready(app: App) -> None:
    """See that every program which may have to run here can be: before a flip is a bad moment to learn that.

    Raises:
        Refused: one is not there, or may not be run.

    """
    missing = [hook for hook in app.hooks if not hook.on_host and not shutil.which(hook.words[0])]
    if missing:
        raise Refused(
            "\n".join(f"hook {hook.moment}: {hook.words[0]} is not there, or may not be run" for hook in missing),
            mend="mend deploy.hooks, or chmod +x the program",
        )


@dataclass(frozen=True)
class Occasion:
    """One batch of a run, as its hooks are told of it."""

    app: App
    console: Console
    verb: str
    to: Release
    hosts: tuple[str, ...]

    @contextlib.contextmanager
    def around(self, *phases: Phase) -> Iterator[None]:
        """Run the hooks before a phase and after it, or before the first of some and after the last.

        Raises:
            Failed: a hook before it said no.

        """
        self.before(phases[0])
        yield
        self.after(phases[-1])

    def between(self, one: Phase, other: Phase) -> bool:
        """Say whether a hook is to run between two phases."""
        return bool(self.app.hooks_at(recipe.after(one)) or self.app.hooks_at(recipe.before(other)))

    def before(self, phase: Phase) -> None:
        """Run the hooks before a phase, each of which may say no."""
        for hook in self.app.hooks_at(recipe.before(phase)):
            if trouble := self._run(hook, {}):
                raise Failed(f"hook {hook.moment}: {trouble}", mend="mend the hook, or leave it out: deploy.hooks")

    def after(self, phase: Phase) -> None:
        """Run the hooks after a phase; whatever becomes of them, the run goes on."""
        self._tell(recipe.after(phase))

    def finished(self) -> bool:
        """Run the hooks after the last phase; say whether Ctrl-C broke them off."""
        return self._told_at_last(recipe.after(Phase.FINISH))

    def failure(self, error: str) -> None:
        """Run the hooks of a failure; Ctrl-C breaks them off, and the failure stands."""
        self._told_at_last(recipe.FAILURE, error=self.console.redacted(error))

    def _told_at_last(self, moment: str, **more: str) -> bool:
        """Tell how it ended. That is decided: an interrupt is no longer about the run, only about who is told."""
        try:
            self._tell(moment, **more)
        except KeyboardInterrupt:
            self.console.emit(Event("note", text=f"hook {moment}: broken off\n(a run does not hang on this)"))
            return True
        return False

    def _tell(self, moment: str, **more: str) -> None:
        for hook in self.app.hooks_at(moment):
            if trouble := self._run(hook, more):
                self.console.emit(Event("note", text=f"hook {hook.moment}: {trouble}\n(a run does not hang on this)"))

    def _run(self, hook: Hook, more: Mapping[str, str]) -> str:
        """Run one; return what went wrong, if anything did."""
        facts = recipe.told(self.app, hook.moment, self.verb, self.to, hosts=list(self.hosts), **more)
        self.console.emit(Event("note", text=f"hook {hook.moment}: {' '.join(hook.words)}"))
        said, trouble = run(hook.words, facts, self.app.hook_timeout)
        for line in said:
            self.console.emit(Event("line", title=f"hook {hook.moment}", text=line))
        return "\n    ".join([f"{hook.words[0]} {trouble}", *said[-TAIL:]]) if trouble else ""


def run(words: tuple[str, ...], facts: Mapping[str, Any], limit: float) -> tuple[list[str], str]:
    """Run a program that reads `facts` as JSON, and finds the short texts among them in its environment: GREENROOM_...

    Return what it said, and what went wrong, if anything did. After `limit` seconds it is ended, with all it started.
    """
    environment = {
        f"GREENROOM_{key.upper()}": value
        for key, value in facts.items()
        if isinstance(value, str) and len(value) <= SHORT
    }
    environment["GREENROOM_HOSTS"] = " ".join(facts.get("hosts", ()))
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is for the run: it decides what becomes of its hooks
        )
    except OSError as error:
        return [], f"cannot be run: {error.strerror}"
    with process:
        try:
            said, _ = process.communicate(json.dumps(facts).encode() + b"\n", timeout=limit)
            trouble = f"failed (exit status {process.returncode})" if process.returncode else ""
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            said, trouble = error.output or b"", f"was ended after {limit:g} s (deploy.hook_timeout)"
    return said.decode(errors="replace").splitlines(), trouble
