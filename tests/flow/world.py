"""An in-memory world of hosts for the real flow, fleet and apply.

It is strict: a word it does not know fails the test, a state that no real host could be in fails it, and so does every
moment in which users of a host that was served are not. It speaks the same protocol as a real host.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import socket
import stat
import tarfile
import threading
from dataclasses import dataclass, field
from itertools import count
from typing import IO, TYPE_CHECKING, Any

from deploy import clock
from deploy.errors import LinkLost, StepFailed, Unreachable
from deploy.recipe import manifest, shell
from deploy.recipe.image import HERE
from deploy.recipe.shell import Answer, Begin, End, Finished, Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.apply import Terminal
    from deploy.recipe.model import Host
    from deploy.recipe.shell import Command, Script, Signal

OTHER = {"blue": "green", "green": "blue"}


class Died(BaseException):
    """The operator is gone: nothing of theirs runs any more, no undo either."""


class Impossible(BaseException):
    """The plan did what must never be done. No `except Exception` may take it for a failure of a host."""


@dataclass
class Container:
    id: str
    stack: str
    service: str
    image: str
    definition: str
    healthy: bool = True


@dataclass
class Box:
    """One host.

    `sick` holds images that never become healthy here, `refuse` words that fail here and how often; for so many
    attempts to come back to it, it is `away`. On a `full` disk no new holder can be written down. Its engine may not
    take images from which layers were left out (`takes_parts`); `sent` is what was left out of those that it sent; so
    many of its first reads end with its link (`breaks_reads`). It `gets_another` image than was sent or pushed;
    `logins` are what it was given to log in there. A cut link is its reboot if it `reboots`; while its
    `engine_starts`, the fence cannot look at what docker runs. Its clock is `clock_ahead` seconds ahead. So many of the
    next starts of a settings service it `spoils`: that one is not well. What is `ending` ends right after a look.
    Somebody's own containers have the releases `in_use`.
    """

    name: str
    containers: list[Container] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    networks: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    switch: str = "none"
    conf: str = ""
    confs: set[str] = field(default_factory=set)
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    run: str = ""
    last: str = ""
    holder: str = ""
    turns: dict[str, int] = field(default_factory=dict)
    locked: str = ""
    maintenance: str = ""
    waiting: tuple[str, str] = ("", "")
    looks_at_maintenance: bool = True
    away: int = 0
    unreachable: bool = False
    full: bool = False
    reboots: bool = False
    engine_starts: bool = False
    connections: dict[str, int] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)
    in_use: set[str] = field(default_factory=set)
    sick: set[str] = field(default_factory=set)
    architecture: str = "amd64"
    containerd: bool = False
    takes_parts: bool = True
    refuses_images: bool = False
    breaks_reads: int = 0
    sent: list[tuple[int, ...]] = field(default_factory=list)
    gets_another: bool = False
    logins: list[bytes] = field(default_factory=list)
    dies_in_settle: set[str] = field(default_factory=set)
    refuse: dict[str, int] = field(default_factory=dict)
    spoils: dict[str, int] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    no_docker: str = ""
    logs: dict[str, list[str]] = field(default_factory=dict)
    commands: dict[tuple[str, ...], tuple[int, str]] = field(default_factory=dict)
    clock_ahead: int = 0
    hooks: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    was_served: bool = False
    runs: tuple[str, ...] = ()
    worked: set[str] = field(default_factory=set)
    received: list[str] = field(default_factory=list)

    def of(self, stack: str, service: str | None = None) -> list[Container]:
        return [c for c in self.containers if c.stack == stack and service in (None, c.service)]

    def lets_through(self, script: Script) -> bool:
        """Play the fence: the run must hold the lock, and none of its later scripts have been here."""
        if script.run != self.run or self.engine_starts or script.turn <= self.turns.get(script.run, 0):
            return False
        self.turns[script.run] = script.turn
        return True

    def let_go(self) -> None:
        """The connection that held the lock has ended."""
        if self.run:
            self.last = self.run
        self.run = self.holder = ""

    def live_image(self, project: str) -> str:
        return next((c.image for c in self.of(f"{project}-{self.switch}", "web")), "")


class World:
    """Hosts, and what may befall the operator. `log` holds (host, command) in order, for asserts about the story.

    `here` is the operator's own machine; `registry` has images by digest, and their `tags`.

    After each of the writes numbered in `cuts` the link goes away: its end is not heard, and the host lets the lock go.
    Services in `once` may run on one host at a time.
    """

    def __init__(self, hosts: tuple[Host, ...]) -> None:
        self.boxes = {host: Box(str(host), runs=host.runs) for host in hosts}
        self.log: list[tuple[str, Command]] = []
        self.scripts: dict[str, int] = {str(host): 0 for host in hosts}
        self.die_after: int | None = None
        self.host_goes_on = False
        self.cuts: set[int] = set()
        self.here = Box("this machine")
        self.registry: dict[str, str] = {}
        self.tags: list[str] = []
        self.once: set[str] = set()
        self.excused: set[str] = set()
        self._one_at_a_time = threading.RLock()
        self._time = count(1_000)
        self._ids = count(1)

    def twin(self) -> World:
        """Return another world that stands as this one does, and goes its own way from here."""
        other = World(tuple(self.boxes))
        for name, value in vars(self).items():
            if name != "_one_at_a_time":
                setattr(other, name, copy.deepcopy(value))
        return other

    def machine(self, host: Host) -> WorldMachine:
        return WorldMachine(self, host, self.boxes[host])

    def open(self, host: Host) -> WorldMachine:
        """Connect to a host, which may be unreachable."""
        if self.boxes[host].unreachable:
            raise Unreachable("it cannot be reached: no route to host")
        return self.machine(host)

    def words(self, host: str | None = None) -> list[str]:
        return [command.words[0] for name, command in self.log if host in (None, name)]

    def writes(self) -> list[str]:
        return [word for word in self.words() if word not in LOOKS]

    def revive(self) -> None:
        """Another operator comes: the dead one's connections have ended, and so have the locks they held."""
        self.die_after = None
        self.host_goes_on = False
        for box in self.boxes.values():
            box.let_go()

    def tick(self) -> int:
        return next(self._time)

    def ident(self) -> str:
        return f"{next(self._ids):012x}{0:052x}"

    @property
    def dead(self) -> bool:
        return self.die_after is not None and len(self.writes()) >= self.die_after

    def check(self) -> None:
        """What must be true after every command, on every host."""
        for service in self.once:
            there = [box.name for box in self.boxes.values() if any(c.service == service for c in box.containers)]
            if len(there) > 1:
                raise Impossible(f"{service} runs on {there}")
        for box in self.boxes.values():
            seen = [(c.stack, c.service) for c in box.containers]
            if len(seen) != len(set(seen)):
                raise Impossible(f"{box.name}: a service is doubled: {seen}")
            if box.name in self.excused:
                continue
            self._check_purpose(box)
            serving = box.of(f"app-{box.switch}", "web") and box.of("app-setting-prod", "nginx")
            healthy = all(c.healthy for c in box.of(f"app-{box.switch}"))
            if box.was_served and not (serving and healthy):
                raise Impossible(f"{box.name}: users are not served after {self.log[-1]}")
            box.was_served = box.was_served or bool(serving)

    def _check_purpose(self, box: Box) -> None:
        """A host that does not run all runs nothing else; its workers, once they ran, are never gone."""
        if box.runs and "web" not in box.runs and (box.switch != "none" or box.of("app-setting-prod", "nginx")):
            raise Impossible(f"{box.name}: it is for {box.runs}, and users are sent to it")
        works = {c.service for c in box.containers if c.service.startswith("celery")}
        if box.runs and not works <= set(box.runs):
            raise Impossible(f"{box.name}: it is for {box.runs}, and runs {works}")
        if box.runs and not box.worked <= works:
            raise Impossible(f"{box.name}: {box.worked - works} are gone after {self.log[-1]}")
        box.worked |= works


LOOKS = {
    "observe", "probe", "examine", "history_lines", "hold", "await_engine", "tell_layers", "tell_built", "send_image",
    "tell_logs", "follow_logs", "inside", "run_inside", "tell_files", "here_look", "find_door",
}  # fmt: skip


class WorldHold:
    def __init__(self, box: Box, answer: Answer) -> None:
        self._box = box
        self._run = box.run
        self.answer = answer

    def beat(self) -> bool:
        return self._box.run == self._run

    def let_go(self) -> None:
        if self.answer.key == "held":
            self._box.let_go()

    def gone(self, within: float) -> None:
        """It was let go at once."""


class _Half(io.BytesIO):
    """What came of an image until the link went away."""

    def __init__(self) -> None:
        super().__init__(b"{")

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if not block:
            raise LinkLost("the link went away while a host was read")
        return block


def _answer(far: socket.socket, box: Box, colour: str) -> None:
    """One request, one answer: the image that the colour runs, and as whom it was asked."""
    with far:
        head = far.recv(65536).decode()
        asked = next((line for line in head.splitlines() if line.lower().startswith("host:")), "")
        images = " ".join(c.image for c in box.of(f"app-{colour}", "web"))
        if head:
            far.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{images}, {asked}".encode())


class WorldMachine:
    """One host of the world, as `deploy.apply.Machine`."""

    def __init__(self, world: World, host: Host, box: Box) -> None:
        self.host = host
        self._world = world
        self._box = box
        self._cut = False

    def close(self) -> None:
        """Connections cost nothing here."""

    def reach(self, address: tuple[str, int]) -> socket.socket:
        """Have a connection answered by the door that is asked for, as nginx does: it says whose it is."""
        near, far = socket.socketpair()
        colour = {8000: "blue", 8001: "green"}[address[1]]
        threading.Thread(target=_answer, args=(far, self._box, colour), daemon=True).start()
        return near

    def interact(self, line: Command, kind: str, size: tuple[int, int]) -> Terminal:
        raise Impossible(f"nobody sits at a terminal here: {line}, {kind}, {size}")

    def reconnect(self) -> None:
        if self._box.away:
            self._box.away -= 1
            raise Unreachable("it cannot be reached: no route to host")
        self._cut = False

    def hold(self, script: Script) -> WorldHold:
        (command,) = script.commands
        word, run, _lease, holder, how = command.words
        assert word == "hold"
        box = self._box
        with self._world._one_at_a_time:
            self._world.scripts[box.name] += 1
            if box.run and not (how == "again" and box.run == run):
                return WorldHold(box, Answer("held_by", (box.holder, "3")))
            if how == "again" and run not in (box.run, box.last):
                return WorldHold(box, Answer("held_since", ()))
            if how == "first" and box.locked:
                return WorldHold(box, Answer("locked_by", (box.locked,)))
            if box.full and how != "again":
                raise StepFailed("nothing can be written here: is the disk full?")
            box.run, box.holder = run, holder
            return WorldHold(box, Answer("held", ()))

    def fetch(self, script: Script, *, stop: Callable[[], bool] = lambda: False) -> IO[bytes]:
        assert script.sends
        assert not stop()
        assert not script.run, "it only looks"
        (command,) = script.commands
        word, *without = command.words
        assert word == "send_image"
        with self._world._one_at_a_time:
            if self._world.dead:
                raise Died
            if self._cut:
                raise LinkLost("the link broke", sent=False)
            self._world.log.append((self._box.name, command))
            if self._box.breaks_reads:
                self._box.breaks_reads -= 1
                self._cut = True
                self._box.let_go()
                return _Half()
            return io.BytesIO(_Words(self._world, self._box, dict(script.variables), None).do_send_image(*without))

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Signal]:
        variables = dict(script.variables)
        with self._world._one_at_a_time:
            self._world.scripts[self._box.name] += 1
        if self._world.dead:
            raise Died
        if self._cut:
            raise LinkLost("the link broke", sent=False)
        if script.run and not self._box.lets_through(script):
            yield Line(f"this host is held by {self._box.holder or 'nobody'}, or docker does not answer")
            yield End(shell.FENCE, 75)
            return
        for number, command in enumerate(script.commands):
            if not script.run and command.words[0] not in LOOKS:
                raise Impossible(f"{command.words[0]} writes, and this script holds no lock")
            yield Begin(number)
            if stop():
                return
            status, signals = self._do(command, variables, parcel)
            if self._cut:
                return
            yield from signals
            yield End(number, status)
            if status:
                return
        if self._world.dead:
            raise Died
        yield Finished()

    def _do(self, command: Command, variables: dict[str, str], parcel: IO[bytes] | None) -> tuple[int, list[Signal]]:
        with self._world._one_at_a_time:
            if self._world.dead and not self._world.host_goes_on:
                raise Died
            outcome = _Words(self._world, self._box, variables, parcel).do(command)
            self._world.log.append((self._box.name, command))
            self._world.check()
            if command.words[0] not in LOOKS and len(self._world.writes()) in self._world.cuts:
                self._cut = True
                self._box.let_go()
                self._box.engine_starts = self._box.reboots
            return outcome


class WorldHere(WorldMachine):
    """The operator's own machine, where it builds. It has no fence."""

    def __init__(self, world: World) -> None:
        super().__init__(world, HERE, world.here)
        world.scripts.setdefault(str(HERE), 0)

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Signal]:
        self._box.run = script.run
        return super().run(script, parcel=parcel, stop=stop)


class _Words:
    """The library of deploy/host/, as it acts on a Box."""

    def __init__(self, world: World, box: Box, variables: dict[str, str], parcel: IO[bytes] | None) -> None:
        self.world = world
        self.box = box
        self.v = variables
        self.parcel = parcel
        self.said: list[Signal] = []

    def do(self, command: Command) -> tuple[int, list[Signal]]:
        word, *arguments = command.words
        act = getattr(self, f"do_{word}", None)
        if act is None:
            raise Impossible(f"no host knows the word {word}")
        if self.box.refuse.get(word, 0) > 0:
            self.box.refuse[word] -= 1
            return 1, [Line(f"{word} does not work here")]
        return act(*arguments) or 0, self.said

    def answer(self, key: str, *values: object) -> None:
        self.said.append(Answer(key, tuple(map(str, values))))

    @property
    def settings(self) -> str:
        return self.v["SETTINGS"]

    def stack(self, colour: str) -> str:
        return f"{self.v['PROJECT']}-{colour}"

    def image(self) -> str:
        return f"{self.v['PROJECT']}:{self.v['RELEASE']}"

    def nginx_runs(self) -> bool:
        return bool(self.box.of(self.settings, "nginx"))

    def need_files(self) -> None:
        if self.v["RELEASE"] not in self.box.releases:
            raise Impossible(
                f"{self.box.name}: compose was asked to read files of {self.v['RELEASE']} that are not there"
            )

    # --- looks -------------------------------------------------------------------------------------------------

    def do_observe(self, wanted: str, *_parts: str) -> None:
        box = self.box
        for tool in box.lacks:
            self.answer("lacks", tool)
        if box.no_docker:
            self.answer("no_docker", box.no_docker)
            return
        self.answer("docker", "26.1.5")
        self.answer("architecture", box.architecture)
        self.answer("compose", "docker compose")
        self._answer_containers()
        for image in sorted(box.images):
            self.answer("image", image)
        if self.nginx_runs():
            self.answer("proxy_runs")
        self.answer("switch", box.switch)
        self.answer("disk_free", 50 << 30)
        if box.releases or box.history or box.source:
            self._answer_base(wanted)

    def _answer_base(self, wanted: str) -> None:
        box = self.box
        self.answer("base", "/home/deploy/greenroom/app")
        signs = (
            ("locked", box.locked),
            ("maintenance", box.maintenance),
            ("waiting", *box.waiting),
            ("conf", box.conf),
        )
        for key, *values in signs:
            if values[0]:
                self.answer(key, *values)
        for conf in sorted(box.confs):
            self.answer("nginx_dir", conf)
        for ident, record in sorted(box.releases.items()):
            self.answer("release", ident, box.served.get(ident, 0), json.dumps(record))
        if wanted:
            self._answer_source(wanted)

    def _answer_source(self, wanted: str) -> None:
        if manifest.digest(self.box.source) == wanted:
            self.answer("source_same")
        else:
            for path, stamp in sorted(self.box.source.items()):
                self.answer("file", f"{stamp}  ./{path}")

    def _answer_containers(self) -> None:
        for c in self.box.containers:
            health = "healthy" if c.healthy else "unhealthy"
            since = "2026-11-22T10:00:00Z"
            state = "ending" if c.id in self.box.ending else "running"
            self.answer("container", c.id, c.stack, c.service, c.image, state, health, 0, since, c.definition, "False")
        self.box.containers = [c for c in self.box.containers if c.id not in self.box.ending]

    def do_await_engine(self, _seconds: str) -> None:
        self.box.engine_starts = False

    def do_probe(self) -> None:
        for colour in OTHER if not self.box.no_docker else ():
            for c in self.box.of(self.stack(colour), "web"):
                self.answer("health", colour, "healthy" if c.healthy else "sick")

    def do_examine(self, *_ports: str) -> None:
        self.answer("clock", int(clock.utc_now().timestamp()) + self.box.clock_ahead)
        self.answer("compose_version", "2.26.1")
        if self.nginx_runs():
            self.answer("nginx_version", "1.30.6")

    def do_history_lines(self, lines: str) -> None:
        for line in self.box.history[-int(lines) :]:
            self.answer("history", line)

    def do_tell_logs(self, _since: str, lines: str, *services: str) -> None:
        found: list[tuple[str, str, str]] = []
        for c in self._logging(*services):
            self.answer("log_of", f"{c.stack}/{c.service}")
            written, at = self.box.logs.get(c.service, []), ""
            for text in written if lines == "all" else written[-int(lines) :] * bool(int(lines)):
                stamp, _, rest = text.partition(" ")
                at, text = (stamp, rest) if stamp.endswith("Z") else (at, text)  # noqa: PLW2901  # its time is apart
                found.append((at, f"{c.stack}/{c.service}", text))
        for each in sorted(found, key=lambda each: each[0]):
            self.answer("logged", each[1], each[0], each[2])

    def do_follow_logs(self, _lease: str, _since: str, _lines: str, *services: str) -> int:
        """Follow until the link breaks: hosts whose services have written nothing lose it at once."""
        for c in self._logging(*services):
            for text in self.box.logs.get(c.service, []):
                self.answer("log", f"{c.stack}/{c.service}", text)
        return 0 if self.box.logs else 1

    def _logging(self, *services: str) -> list[Container]:
        return [c for c in self.box.containers if not services or c.service in services]

    def do_tell_files(self, *names: str) -> None:
        own = self.box.files[self.v["RELEASE"]]
        for name in names or sorted(own.keys() - {"release.json", "definitions.json"}):
            self.answer("own_file", name)
            for line in own[name].decode().splitlines():
                self.answer("own_line", name, line)

    def do_find_door(self, colour: str) -> int:
        if not self.nginx_runs():
            self.said.append(Line("nginx does not run here; start it: inv settings.up"))
            return 1
        self.answer("door", "172.18.0.2", {"blue": 8000, "green": 8001}[colour])
        return 0

    def do_inside(self, service: str) -> int:
        stacks = (self.stack(self.box.switch), self.settings)
        found = next((c for stack in stacks for c in self.box.of(stack, service)), None)
        if found is None:
            self.said.append(Line(f"no container of {service} runs here; live is {self.box.switch}"))
            return 1
        self.answer("inside", found.id)
        return 0

    def do_run_inside(self, _lease: str, service: str, *words: str) -> int:
        if self.do_inside(service):
            return 1
        code, text = self.box.commands.get(words, (127, f"{words[0]}: not found"))
        self.said = [Line(text), Answer("exited", (str(code),))]
        return 0

    # --- files -------------------------------------------------------------------------------------------------

    def do_receive(self) -> None:
        assert self.parcel is not None, "receive without a parcel"
        names: list[str] = []
        with tarfile.open(fileobj=io.BytesIO(self.parcel.read()), mode="r:gz") as tar:
            for member in tar:
                if not member.isdir():
                    names.append(member.name)
                    self._take(member, tar)
        self.box.received = names

    def _take(self, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        kind, _, path = member.name.partition("/")
        content = tar.extractfile(member) if member.isfile() else None
        data = content.read() if content else b""
        if kind == "source":
            mode = "x" if member.mode & stat.S_IXUSR else "f"
            leaf = f"l {hashlib.sha256(member.linkname.encode()).hexdigest()}" if member.issym() else ""
            self.box.source[path] = leaf or f"{mode} {hashlib.sha256(data).hexdigest()}"
        elif kind == "nginx":
            conf, part, _ = path.partition(".part/")
            if not part:
                raise Impossible(f"{member.name} would be half there for a moment")
            self.box.confs.add(conf)
        elif kind == "releases":
            if member.mode & 0o077:
                raise Impossible(f"{member.name} would be readable by others")
            ident, _, name = path.partition("/")
            if ident != f"{self.v['RELEASE']}.part":
                raise Impossible(f"{member.name} would be half there for a moment")
            ident = self.v["RELEASE"]
            self.box.releases.setdefault(ident, {})
            self.box.files.setdefault(ident, {})[name] = data
            if name == "release.json":
                self.box.releases[ident] = json.loads(data)
        else:
            raise Impossible(f"{member.name} belongs to no room of the app's directory")

    def do_remove_stale(self, *paths: str) -> None:
        for path in paths:
            del self.box.source[path]

    def do_hook(self, _seconds: str, weight: str, facts: str, *words: str) -> int:
        if not self.box.source:
            raise Impossible(f"{self.box.name}: a hook runs before the source has come")
        self.box.hooks.append((json.loads(facts)["hook"], words))
        if "no" not in words:
            return 0
        if weight == "may":
            self.answer("found", "it failed (exit status 1); the run does not hang on it")
        return 0 if weight == "may" else 1

    def do_mark_served(self) -> None:
        self.box.served[self.v["RELEASE"]] = self.world.tick()

    def do_unmark_served(self) -> None:
        self.box.served.pop(self.v["RELEASE"], None)

    def do_record(self, line: str) -> None:
        said = {"run": self.box.run, **json.loads(line)}
        last = json.loads(self.box.history[-1]) if self.box.history else {}
        if not said.items() <= last.items():
            self.box.history.append(json.dumps({"at": self.world.tick(), **said}))

    def do_lock_for(self, text: str) -> None:
        self.box.locked = text

    def do_unlock(self) -> None:
        self.box.locked = ""

    def do_forget(self, *releases: str) -> None:
        for ident in (each for each in releases if each not in self.box.in_use):
            if any(c.image.endswith(f":{ident}") for c in self.box.containers if not c.stack.startswith(self.settings)):
                raise Impossible(f"{self.box.name}: {ident} is forgotten and still runs")
            self.box.releases.pop(ident, None)
            self.box.served.pop(ident, None)
            self.box.files.pop(ident, None)
            self.box.images.discard(f"{self.v['PROJECT']}:{ident}")

    def do_forget_confs(self, *confs: str) -> None:
        if self.box.conf in confs:
            raise Impossible(f"{self.box.name}: the nginx conf in use is forgotten")
        self.box.confs -= set(confs)

    # --- docker ------------------------------------------------------------------------------------------------

    def do_ensure_network(self, name: str) -> None:
        self.box.networks.add(name)

    def do_ensure_volumes(self, *names: str) -> None:
        self.box.volumes.update(names)

    def do_validate(self, _colour: str, _file: str) -> None:
        self.need_files()

    def do_build(self, _colour: str, _file: str, _service: str) -> None:
        self.need_files()
        self.box.images.add(self.image())

    def _layers(self, image: str) -> list[str]:
        """Every image stands on one base, and has a layer of its own."""
        return [f"base-{self.box.architecture}", f"pip-{self.box.architecture}", image]

    def do_tell_built(self) -> None:
        if self.image() not in self.box.images:
            raise Impossible(f"{self.box.name}: {self.image()} is not here, and is to be told of")
        self.answer("built", " ".join(self._layers(self.image())), "" if self.box.containerd else f"id-{self.image()}")

    def do_tell_layers(self) -> None:
        for image in sorted(self.box.images) if not self.box.containerd else ():
            self.answer("layers", " ".join(self._layers(image)))

    def do_send_image(self, *without: str) -> bytes:
        if self.image() not in self.box.images:
            raise Impossible(f"{self.box.name}: {self.image()} is not here, and is to be sent")
        self.box.sent.append(tuple(map(int, without)))
        layers = [layer for n, layer in enumerate(self._layers(self.image())) if str(n) not in without]
        return json.dumps({"image": self.image(), "layers": layers}).encode()

    def do_take_image(self) -> None:
        assert self.parcel is not None, "an image without a parcel"
        sent = json.loads(self.parcel.read())
        if sent["image"] != self.image():
            raise Impossible(f"{self.box.name}: {sent['image']} came, and {self.image()} was wanted")
        if self.box.refuses_images:
            self.answer("refused", "no space left on device")
            return
        there = {layer for image in self.box.images for layer in self._layers(image)}
        needed = set(self._layers(self.image()))
        if (not self.box.takes_parts and set(sent["layers"]) != needed) or needed - there - set(sent["layers"]):
            self.answer("refused", "no such file or directory")
            return
        self._tell_what_came()

    def do_push_image(self, name: str, tag: str) -> None:
        digest, login = self._docket()
        if digest or self.image() not in self.box.images:
            raise Impossible(f"{self.box.name}: {self.image()} is pushed as {digest or 'what is not here'}")
        self.box.logins.append(login)
        self.world.registry[f"sha256:of-{self.image()}"] = self.image()
        self.world.tags.append(f"{name}:{tag}")
        self.answer("pushed", f"sha256:of-{self.image()}")

    def do_pull_image(self, _name: str) -> int:
        digest, login = self._docket()
        self.box.logins.append(login)
        if self.world.registry.get(digest) != self.image():
            self.said.append(Line("manifest unknown"))
            return 1
        self._tell_what_came()
        return 0

    def _tell_what_came(self) -> None:
        self.box.images.add(self.image())
        if self.box.gets_another:
            self.answer("built", "another", "another")
        else:
            self.do_tell_built()

    def _docket(self) -> tuple[str, bytes]:
        assert self.parcel is not None, "a registry without its papers"
        digest, _, login = self.parcel.read().partition(b"\n")
        return digest.decode(), login

    def do_here_look(self) -> None:
        for tool in self.box.lacks:
            self.answer("lacks", tool)
        self.answer("docker", "26.1.5")
        self.answer("architecture", self.box.architecture)
        self.answer("compose", "docker compose")
        self.answer("builds", "linux/amd64, linux/386, ")

    def do_here_build(self, architecture: str, colour: str, file: str, service: str) -> None:
        self.box.architecture = architecture
        self.do_build(colour, file, service)

    def do_here_forget(self) -> None:
        self.box.images = {self.image()}

    def do_tag(self, release: str, *_beside: str) -> None:
        self.need_files()
        if f"{self.v['PROJECT']}:{release}" not in self.box.images:
            raise Impossible(f"{self.box.name}: there is no image of {release}")
        self.box.images.add(self.image())

    def do_migrate(self, colour: str, _file: str, _service: str, *_words: str) -> None:
        self._need_image(colour)
        if not any(box.of(self.settings, "postgres") for box in self.world.boxes.values()):
            raise Impossible("a migration without a database")

    def do_start(self, colour: str, _file: str) -> None:
        self._need_image(colour)
        if self.box.switch == colour:
            raise Impossible(f"{self.box.name}: {colour} is live, and is started anew")
        if "app-static" not in self.box.volumes:
            raise Impossible("compose would find its external volume missing")
        self._remove(colour)
        sick = self.image() in self.box.sick
        self._add(self.stack(colour), "web", healthy=not sick)

    def do_stop(self, colour: str) -> None:
        if self.box.switch == colour:
            raise Impossible(f"{self.box.name}: {colour} is live, and is stopped")
        if self.box.connections.get(colour):
            raise Impossible(f"{self.box.name}: {colour} is stopped with connections open")
        self._remove(colour)

    def do_settings_up(self, *services: str) -> int:
        self.need_files()
        unknown = set(services) - self.box.releases[self.v["RELEASE"]]["definitions"].keys()
        if unknown:
            self.said.append(Line(f"no such service: {', '.join(sorted(unknown))}"))
            return 1
        for service in services:
            self._replace(service)
        return 0

    def do_hand_over(self, colour: str, _seconds: str, *services: str) -> int:
        if self.box.switch == colour:
            raise Impossible(f"{self.box.name}: the live colour {colour} is drained")
        return self.do_settings_up(*services)

    def do_settings_ready(self, _seconds: str, *services: str) -> int:
        for service in services:
            if not self.box.of(self.settings, service):
                raise Impossible(f"{service} was never started")
            if not all(c.healthy for c in self.box.of(self.settings, service)):
                self.said.append(Line(f"{service}: Traceback: the worker said this"))
                return 1
        return 0

    def do_settings_back(self, release: str, *services: str) -> int:
        self.v = {**self.v, "RELEASE": release}
        return self.do_settings_up(
            *(each for each in services if self.image() not in (c.image for c in self.box.of(self.settings, each)))
        )

    def do_settings_safe(self, release: str, seconds: str, *services: str) -> int:
        lame = [s for s in services if [c.healthy for c in self.box.of(self.settings, s)] != [True]]
        if not lame:
            return 0
        self.answer("found", f"not well, and as it was before: {' '.join(lame)}")
        self.v = {**self.v, "RELEASE": release}
        return self.do_settings_up(*lame) or self.do_settings_ready(seconds, *lame)

    def do_watch_services(self, _seconds: str, *services: str) -> int:
        self.do_settings_ready("0", *services)
        return int(any(c.image in self.box.dies_in_settle for s in services for c in self.box.of(self.settings, s)))

    def do_settings_down(self, *services: str) -> None:
        gone = {(self.settings, service) for service in services}
        self.box.containers = [c for c in self.box.containers if (c.stack, c.service) not in gone]
        self.box.worked -= set(services)
        if "nginx" in services:
            self.box.was_served = False

    def do_settings_restart(self, *services: str) -> None:
        for service in services:
            if not self.box.of(self.settings, service):
                raise Impossible(f"{self.box.name}: {service} is restarted, and does not run")

    def _need_image(self, colour: str) -> None:
        self.need_files()
        if self.image() not in self.box.images:
            raise Impossible(f"{self.box.name}: {colour} has no image {self.image()}")
        if self.v["NETWORK"] not in self.box.networks:
            raise Impossible("compose would find its external network missing")

    def _replace(self, service: str) -> None:
        if service == "nginx" and not self.box.conf:
            raise Impossible(f"{self.box.name}: nginx is started without a configuration")
        self.box.containers = [c for c in self.box.containers if (c.stack, c.service) != (self.settings, service)]
        spoilt = self.box.spoils.get(service, 0)
        self.box.spoils[service] = max(0, spoilt - 1)
        self._add(self.settings, service, healthy=self.image() not in self.box.sick and not spoilt)

    def _add(self, stack: str, service: str, *, healthy: bool = True) -> None:
        runs_app = not stack.startswith(self.settings) or service.startswith("celery")
        image = self.image() if runs_app else f"{service}:1"
        definition = self.box.releases[self.v["RELEASE"]]["definitions"].get(service, "")
        self.box.containers.append(Container(self.world.ident(), stack, service, image, definition, healthy=healthy))

    def _remove(self, colour: str) -> None:
        self.waits_no_more(colour)
        self.box.containers = [c for c in self.box.containers if c.stack != self.stack(colour)]

    # --- nginx -------------------------------------------------------------------------------------------------

    def do_test_conf(self, digest: str) -> None:
        if digest not in self.box.confs:
            raise Impossible(f"{self.box.name}: nginx conf {digest} is not there")

    def do_use_conf(self, digest: str) -> None:
        self.do_test_conf(digest)
        self.box.conf = digest

    def do_gate(self, colour: str, _seconds: str, *_restarted: str) -> int:
        containers = self.box.of(self.stack(colour), "web")
        if not containers:
            raise Impossible("a gate for nobody")
        if all(c.healthy for c in containers):
            return 0
        self.said.append(Line("Traceback: the app said this"))
        return 1

    def do_await_return(self, colour: str, _seconds: str, *conf: str) -> int:
        if self.box.switch != colour:
            for digest in conf:
                self.do_use_conf(digest)
        return 0 if self.box.switch == colour or self.box.of(self.stack(colour), "web") else 1

    def do_switch(self, colour: str) -> None:
        if colour != "none" and self.box.was_served and not self.box.of(self.stack(colour), "web"):
            raise Impossible(f"{self.box.name}: users are sent to {colour}, where nothing runs")
        self.box.switch = colour
        if colour == "none":
            self.box.was_served = False

    def do_await_serving(self, colour: str) -> int:
        return 0 if self.box.switch == colour and self.nginx_runs() else 1

    def do_watch_colour(self, colour: str, _seconds: str, *_restarted: str) -> int:
        if any(c.image in self.box.dies_in_settle for c in self.box.of(self.stack(colour))):
            self.said.append(Line("MemoryError"))
            return 1
        self.answer("found", "30 looks, 0 of them without an answer")
        return 0

    def do_drain(self, colour: str, _seconds: str) -> None:
        if self.box.switch == colour:
            raise Impossible(f"{self.box.name}: the live colour {colour} is drained")
        self.box.connections[colour] = 0

    def do_let_wait(self, colour: str, text: str) -> int:
        if self.box.switch == colour:
            raise Impossible(f"{self.box.name}: the live colour {colour} is to wait")
        if not self.box.of(self.stack(colour)):
            return 1
        said = json.dumps({"at": self.world.tick(), **json.loads(text)})
        self.box.waiting = (self.what_runs(colour), said)
        return 0

    def what_runs(self, colour: str) -> str:
        return " ".join([colour, *sorted(c.id[:12] for c in self.box.of(self.stack(colour)))])

    def waits(self, colour: str) -> bool:
        return self.box.waiting[0] == self.what_runs(colour)

    def waits_no_more(self, colour: str) -> None:
        if self.box.waiting[0].startswith(f"{colour} "):
            self.box.waiting = ("", "")

    def do_withdraw(self, colour: str, seconds: str) -> int:
        if self.waits(colour):
            return 0
        self.do_drain(colour, seconds)
        self.do_stop(colour)
        return 0

    def do_revive(self, colour: str, file: str, seconds: str) -> int:
        there = self.box.of(self.stack(colour), "web")
        if not there or not all(c.healthy for c in there):
            self.do_start(colour, file)
        return self.do_gate(colour, seconds)

    def do_maintain(self, text: str) -> None:
        self.box.maintenance = text

    def do_end_maintenance(self) -> None:
        self.box.maintenance = ""

    def do_await_maintenance(self, state: str) -> int:
        return 0 if state == ("on" if self.box.maintenance and self.box.looks_at_maintenance else "off") else 1
