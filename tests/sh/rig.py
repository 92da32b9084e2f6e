"""A host made of a folder: real shells, real tools, and stand-ins for docker that know only what a test tells them.

Scripts go in exactly as an exec request would bring them (`sh -c LINE`, the text on the standard input) and are read
back with the house's own parser. A call that no test announced fails the test.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import IO

import pytest

from deploy.host import library
from deploy.recipe import shell
from deploy.recipe.shell import Answer, Command, End, Finished, Line, Script, Signal

TOKEN = "0123456789abcdef"  # noqa: S105  # it marks lines, it opens nothing
SHELLS = ("dash", "bash", "busybox")
EACH_SHELL = (SHELLS[0], *(pytest.param(shell, marks=pytest.mark.long) for shell in SHELLS[1:]))
"""The same as parameters of a test."""

TOOLS = (
    "awk", "basename", "cat", "cut", "date", "dd", "df", "find", "flock", "gzip", "head", "ln", "mkdir",
    "mktemp", "mv", "readlink", "rm", "rmdir", "sed", "sha256sum", "sleep", "sort", "tail", "tar", "timeout", "uniq",
)  # fmt: skip
"""Every program that the library may use on a host. Another one would have to be on every host."""

TURNS = count(1000)

VARIABLES = {
    "PROJECT": "app",
    "SETTINGS": "app-setting-prod",
    "SETTINGS_FILE": "setting_prod.yml",
    "PROXY": "nginx",
    "NETWORK": "settings",
    "HEALTH_HOST": "app.example.com",
    "HEALTH_PATH": "/healthz",
    "RELEASE": "r1",
    "COMPOSE": "docker compose",
}

NGINX_PS = (
    "ps -q --filter label=com.docker.compose.project=app-setting-prod"
    " --filter label=com.docker.compose.service=nginx --filter label=com.docker.compose.oneoff=False"
)


def of_stack(colour: str) -> str:
    """Return the question for the containers of a colour: an id a line, and what tells a person's own."""
    labels = '{{.Label "com.docker.compose.oneoff"}}{{.Label "greenroom.run"}}'
    return f"ps -a --filter label=com.docker.compose.project=app-{colour} --format {{{{.ID}}}} {labels}"


@dataclass(frozen=True)
class Outcome:
    """What came back of one script."""

    signals: tuple[Signal, ...]
    status: int

    @property
    def lines(self) -> list[str]:
        return [s.text for s in self.signals if isinstance(s, Line)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def ends(self) -> dict[int, int]:
        return {s.number: s.status for s in self.signals if isinstance(s, End)}

    @property
    def finished(self) -> bool:
        return Finished() in self.signals

    @property
    def answers(self) -> list[Answer]:
        return [s for s in self.signals if isinstance(s, Answer)]

    def values(self, key: str) -> list[tuple[str, ...]]:
        return [a.values for a in self.answers if a.key == key]

    def one(self, key: str) -> str:
        ((value,),) = self.values(key)
        return value


class Rig:
    """One host: a home, a PATH with one shell's tools, and stand-ins. `calls` is what the stand-ins were asked."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.home = folder / "home"
        self.base = self.home / "greenroom" / "app"
        self._folder = folder
        self._bin = folder / "bin"
        self._clock = ""
        self._rules: dict[str, list[tuple[str, str]]] = {}
        self._numbers = count()
        self._running: list[subprocess.Popen[bytes]] = []
        self._locks: list[IO[str]] = []
        for each in (self.base, self._bin, folder / "inside", folder / "said"):
            each.mkdir(parents=True)
        self.path = f"{self._bin}:{tools_of(kind)}"

    # --- what there is -----------------------------------------------------------------------------------------

    def release(self, ident: str = "r1", **files: str) -> Path:
        """Put a release's directory there."""
        folder = self.base / "releases" / ident
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
        return folder

    def rooms(self) -> None:
        """Make the directories that a hold makes."""
        for name in ("releases", "switch", "nginx"):
            (self.base / name).mkdir(exist_ok=True)

    def lock(self) -> None:
        """Hold the app's lock from now on, until the host is closed."""
        file = (self.base / "lock").open("a")
        self._locks.append(file)
        with suppress(BlockingIOError):  # it is held already
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def let_go(self) -> None:
        while self._locks:
            self._locks.pop().close()

    def program(self, name: str, text: str, *, inside: bool = False) -> None:
        """Put a program of one's own on PATH, or on the PATH inside the nginx container."""
        path = (self._folder / "inside" if inside else self._bin) / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def short_sleeps(self) -> None:
        """Waits are looks with pauses; tests take the looks without the pauses."""
        self.program("sleep", "exec /bin/sleep 0.02")

    def fast_clock(self, step: int = 10) -> None:
        """Each look at the time that waits go by finds it `step` seconds later."""
        clock = self._folder / "clock"
        clock.write_text("1000\n")
        self._clock = f'since_boot() {{ read -r n <{clock}; echo $((n + {step})) >{clock}; echo "$n"; }}\n'

    def docker(
        self, call: str, says: str | Sequence[str] = "", status: int | Sequence[int] = 0, does: str = ""
    ) -> None:
        """Announce a call; see `announce`."""
        self.announce("docker", call, says, status, does)

    def announce(
        self,
        program: str,
        call: str,
        says: str | Sequence[str] = "",
        status: int | Sequence[int] = 0,
        does: str = "",
    ) -> None:
        """Let `program` answer `call`, its arguments joined by blanks, where `*` stands for anything.

        Of several `says` or `status` the first call gets the first, and the last one stays. `does` is sh, run before.
        The newest announcement wins.
        """
        texts = [says] if isinstance(says, str) else list(says)
        states = [status] if isinstance(status, int) else list(status)
        rule = self._folder / "said" / str(next(self._numbers))
        rule.mkdir()
        for number in range(1, max(len(texts), len(states)) + 1):
            (rule / f"{number}.out").write_text(texts[min(number, len(texts)) - 1])
            (rule / f"{number}.status").write_text(f"{states[min(number, len(states)) - 1]}\n")
        pattern = "*".join(shlex.quote(part) if part else "" for part in call.split("*"))
        self._rules.setdefault(program, []).insert(0, (pattern, f"{does}\nsay {rule}"))
        self._write_stand_in(program)

    def _write_stand_in(self, program: str) -> None:
        """Write the stand-in: it logs its arguments, looks for an announcement, and knows nothing else."""
        arms = "\n".join(f"{pattern}) {action};;" for pattern, action in self._rules[program])
        self.program(
            program,
            f"""log={self._folder}/calls
asked={program} between=$(printf '\\037')
for word; do asked="$asked$between$word"; done
printf '%s\\036' "$asked" >>"$log"
say() {{
    n=1
    [ ! -f "$1/n" ] || read -r n <"$1/n"
    if [ -f "$1/$((n + 1)).out" ]; then echo $((n + 1)) >"$1/n"; fi
    while IFS= read -r line || [ -n "$line" ]; do printf '%s\\n' "$line"; done <"$1/$n.out"
    read -r status <"$1/$n.status"
    exit "$status"
}}
inside() {{ PATH={self._folder}/inside:{tools_of("dash")}; export PATH; exec "$@"; }}
case "$*" in
{arms}
esac
printf '%s\\n' "{program} $*" >>{self._folder}/unknown
echo "{program}: nobody announced: $*" >&2
exit 64""",
        )

    def nginx_runs(self, ident: str = "ngx1") -> None:
        """Let nginx run; what is executed in it runs for real, with the programs that a test put `inside`."""
        self.docker(NGINX_PS, f"{ident}\n")
        self.docker(f"exec -e no_proxy=* {ident} *", does='shift 4; inside "$@"')

    def colour_runs(self, colour: str, *idents: str) -> None:
        """Let a colour have these containers, all of them in good health."""
        self.docker(of_stack(colour), "".join(f"{i}\n" for i in idents))
        self.addresses(*idents, say="".join(f" 172.18.0.{3 + n} \n" for n in range(len(idents))))
        for ident in idents:
            self.inspects(ident, f"running 0 0 /app-{colour}-web-1")
            self.docker(f"inspect -f {{{{.Name}}}} {ident}", f"/app-{colour}-web-1\n")
            self.docker(f"logs --tail 30 {ident}", f"log of {ident}\n")

    def addresses(self, *idents: str, say: str) -> None:
        """Let docker say where these containers of one colour are: a line for each."""
        question = "{{range .NetworkSettings.Networks}} {{.IPAddress}} {{end}}"
        self.docker(f"inspect -f {question} {' '.join(idents)}", say)

    def inspects(self, ident: str, *says: str) -> None:
        """Let docker say `status exit-code restarts name` of a container, one after the other."""
        self.docker(
            f"inspect -f {{{{.State.Status}}}} {{{{.State.ExitCode}}}} {{{{.RestartCount}}}} {{{{.Name}}}} {ident}",
            [f"{text}\n" for text in says],
        )

    @property
    def calls(self) -> list[list[str]]:
        """What stand-ins were called with, in order: program, arguments."""
        log = self._folder / "calls"
        text = log.read_text() if log.exists() else ""
        return [call.split("\037") for call in text.split("\036")[:-1]]

    @property
    def said(self) -> list[str]:
        """Every call as one text."""
        return [" ".join(call) for call in self.calls]

    def forget_calls(self) -> None:
        (self._folder / "calls").unlink(missing_ok=True)

    def assert_nothing_unknown(self) -> None:
        path = self._folder / "unknown"
        assert not path.exists(), f"a stand-in was asked what nobody announced: {path.read_text()}"

    # --- what is done ------------------------------------------------------------------------------------------

    def script(self, *commands: Command, run: str = "", turn: int = 0, holds: bool = False, **variables: str) -> Script:
        """Make a script; one of a run is later than all before it, unless its `turn` says otherwise."""
        values = {**VARIABLES, "BASE": str(self.base), **variables}
        return Script(commands, tuple(values.items()), run=run, turn=turn or next(TURNS), holds=holds)

    def run(self, *commands: Command, payload: bytes = b"", run: str = "", turn: int = 0, **variables: str) -> Outcome:
        """Run a script to its end, in the app's directory, as the engine would have it after the fence."""
        script = self.script(*commands, run=run, turn=turn, holds=not run, **variables)
        return self.run_text(self._text(script), payload)

    def look(self, *commands: Command, **variables: str) -> Outcome:
        """Run a script that only looks, from the login's home."""
        return self.run_text(self._text(self.script(*commands, run="", turn=0, holds=False, **variables)))

    def _text(self, script: Script) -> str:
        return script.render(library(command.words[0] for command in script.commands) + self._clock, TOKEN)

    @property
    def library(self) -> str:
        """The library, with the clock that a test gave it."""
        return library() + self._clock

    def fetch(self, *commands: Command) -> tuple[bytes, Outcome]:
        """Run a script that sends something; return that, and what it said."""
        script = replace(self.script(*commands), sends=True)
        first = shell.framed(script.render(library(), TOKEN))
        process = self.popen(shell.waiting(apart=True), apart=True)
        out, said = process.communicate(first, timeout=30)
        self.assert_nothing_unknown()
        return shell.Opening(TOKEN).passed(out), outcome(said, process.returncode)

    def run_text(self, text: str, payload: bytes = b"") -> Outcome:
        """Run a script's text."""
        process = self.popen(shell.waiting())
        out, _ = process.communicate(shell.framed(text) + payload, timeout=30)
        self.assert_nothing_unknown()
        return outcome(out, process.returncode)

    def popen(self, line: str, *, locale: str = "C", apart: bool = False) -> subprocess.Popen[bytes]:
        """Run a line as sshd would: a session of its own, the home as working directory, hardly an environment."""
        process = subprocess.Popen(
            [self._sh, "-c", line],
            cwd=self.home,
            env={"HOME": str(self.home), "PATH": self.path, "LANG": locale},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else None,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    @contextmanager
    def started(self, *commands: Command, run: str = "", holds: bool = False, led: bool = False) -> Iterator[Running]:
        """Run a script in the background, its standard input open; `led` by another process, as sudo does."""
        with self.started_script(self.script(*commands, run=run, holds=holds), led=led) as running:
            yield running

    @contextmanager
    def started_script(self, script: Script, *, led: bool = False) -> Iterator[Running]:
        line, first = shell.waiting(), shell.framed(self._text(script))
        if led:
            line = f"{line.removeprefix('exec ')}; exit"
        running = Running(self.popen(line))
        running.send(first)
        try:
            yield running
        finally:
            running.end()

    @property
    def _sh(self) -> str:
        return f"{tools_of(self.kind)}/sh"

    def close(self) -> None:
        self.let_go()
        for process in self._running:
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
            end(process)


class Running:
    """A script that is still at work."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin
        assert process.stdout
        self._in: IO[bytes] = process.stdin
        self._out: IO[bytes] = process.stdout
        self.heard: list[Signal] = []

    def send(self, content: bytes) -> None:
        self._in.write(content)
        self._in.flush()

    def until(self, wanted: Callable[[Signal], bool]) -> Signal:
        """Read on until a signal is the wanted one."""
        for line in self._out:
            self.heard += shell.parse(line.decode().rstrip("\n"), TOKEN)
            if found := next(filter(wanted, self.heard), None):
                return found
        raise AssertionError(f"it ended without that signal: {self.heard}")

    def rest(self) -> Outcome:
        """Close its standard input, and read what is left."""
        if not self._in.closed:
            self._in.close()
        return self.leave()

    def leave(self) -> Outcome:
        """Read what is left, its standard input as it is."""
        text = self._out.read()
        self.process.wait(timeout=30)
        rest = outcome(text, self.process.returncode)
        return Outcome((*self.heard, *rest.signals), rest.status)

    def end(self) -> None:
        end(self.process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a script that is still at work, with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def outcome(out: bytes, status: int) -> Outcome:
    lines = out.decode(errors="surrogateescape").split("\n")
    if not lines[-1]:
        lines.pop()
    return Outcome(tuple(signal for line in lines for signal in shell.parse(line, TOKEN)), status)


def eventually(what: Callable[[], object], within: float = 10) -> None:
    """Wait until something is true; fail when it does not come true."""
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Say whether there is such a process, and it is not dead and forgotten."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  # a process, not a path
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


_made: dict[str, Path] = {}
_rooms: list[tempfile.TemporaryDirectory[str]] = []


def lacks(kind: str) -> str:
    """Say why a kind of shell cannot be tested here; '' when it can."""
    return "" if shutil.which(kind) else f"{kind} is not installed"


def tools_of(kind: str) -> Path:
    """Return a folder with `sh` of a kind and the tools of a host, and nothing else. Busybox brings its own."""
    if kind not in _made:
        room = tempfile.TemporaryDirectory(prefix=f"greenroom-{kind}-")
        _rooms.append(room)
        _made[kind] = folder = Path(room.name)
        program = shutil.which(kind)
        assert program, lacks(kind)
        if kind == "busybox":
            own = set(subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split())
            for name in {*TOOLS, "sh"} & own:
                (folder / name).symlink_to(program)
        else:
            (folder / "sh").symlink_to(program)  # bash that is called sh is in its posix mode
        for name in TOOLS:
            if not (folder / name).exists():
                (folder / name).symlink_to(_real(name))
    return _made[kind]


def _real(name: str) -> str:
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    assert found, f"this machine has no {name}"
    return found


def functions() -> set[str]:
    """Return the words of the library."""
    return set(re.findall(r"^(\w+)\(\)", library(), re.MULTILINE))
