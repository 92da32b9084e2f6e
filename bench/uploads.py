"""What it takes to bring a source to a host: ours, rsync's, and that of `tar | ssh tar`.

All go over a connection that is open already, so that what is compared is the bringing. Ours is all of it: git is asked
for the commit, the host is looked at as for a deploy, what it lacks is packed and unpacked.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import testbed
from bench.ground import COUNTER, Ground, tools
from bench.results import Table, say
from deploy import config, fleet, release, source
from deploy.console import Console
from deploy.machine import Door
from deploy.recipe import facts as questions
from deploy.recipe import files
from deploy.recipe.steps import Phase, Plan
from deploy.run import engaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from deploy.run import Run

FILES = 5000
SIZE = 10_000
"""Bytes a file: 50 MB in all, of words, which pack as source does."""


def measure(folder: Path, hosts: list[testbed.Target], rounds: int) -> tuple[dict[str, Table], dict[str, Any]]:
    target = hosts[0]
    with tools([target]):
        ground = Ground.prepare(folder / "uploads", target, COUNTER)
        say(f"--- a source of {FILES} files")
        fill(ground.project.folder)
        ground.project.git("add", "--all")
        ground.project.git("commit", "--quiet", "--message=many")
        ground.run(["ssh", "-F", str(ground.ssh_config), "bench", "true"])
        try:
            return _rounds(ground, rounds), {}
        finally:
            ground.hang_up()


def _rounds(ground: Ground, rounds: int) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    with Ours(ground) as ours:
        for turn in range(rounds):
            for title, contestants in _works(ground, ours).items():
                say(f"--- upload, {title}, round {turn + 1} of {rounds}")
                if title == FIRST:
                    testbed.shell(
                        ground.target, f"cd ~deploy && rm -rf rsynced tarred greenroom/{ground.app.project}/source"
                    )
                if title == EDITED:
                    edit(ground.project.folder, turn)
                    ground.project.git("commit", "--quiet", "--all", f"--message={turn}")
                seconds, traffic = (tables.setdefault(f"{what}: {title}", Table()) for what in ("seconds", "bytes"))
                for name, work in contestants.items():
                    before = carried(ground.target)
                    if seconds.measure(name, work):  # what was not done took no bytes
                        traffic.add(name, carried(ground.target) - before)
    return tables


FIRST, SAME, EDITED = "all of it, to a bare host", "nothing changed", "one file changed"


def _works(ground: Ground, ours: Ours) -> dict[str, dict[str, Callable[[], object]]]:
    """Who does what. rsync compares sizes and times unless told to look into the files, as we do."""
    tree = ground.project.folder
    left_out = ["--exclude=/.git", "--exclude=/.env*", "--exclude=/invoke.yaml", "--exclude=/tasks.py"]
    rsync = ["rsync", "-az", "--delete", *left_out, "-e", ground.ssh, f"{tree}/", "bench:rsynced/"]
    there = "mkdir tarred && tar -C tarred -xf -"
    tar = f"tar -C {tree} --exclude=.git -cf - . | {ground.ssh} bench '{there}'"

    def synced(*more: str) -> Callable[[], object]:
        return lambda: ground.run([*rsync, *more])

    return {
        FIRST: {
            "greenroom": ours.upload,
            "rsync": synced(),
            "tar \\| ssh tar": lambda: ground.run(["sh", "-c", tar]),
        },
        SAME: {"greenroom": ours.upload, "rsync": synced(), "rsync --checksum": synced("--checksum")},
        EDITED: {"greenroom": ours.upload, "rsync": synced()},
    }


def carried(target: testbed.Target, columns: str = "$2 + $10") -> int:
    """Return the bytes that ever came to a host's network card and went from it, headers and all."""
    return int(testbed.shell(target, f"awk '$1 == \"eth0:\" {{ print {columns} }}' /proc/net/dev"))


class Ours:
    """The real parts of a deploy that bring a source, behind the real lock, on a connection that stays open."""

    def __init__(self, ground: Ground) -> None:
        raw = json.loads((ground.project.folder / "invoke.yaml").read_text())["deploy"]
        self._setup = config.load(raw, ground.project.folder, "", "", "", "")
        self._templates = source.Templates(self._setup.templates)

    def __enter__(self) -> Self:
        door = Door(self._setup.ssh, self._setup.hosts)
        self._fleet = fleet.connect(self._setup.hosts, door.connect)
        self._engaged = engaged(self._setup.app, self._fleet, Console(as_json=True, out=io.StringIO()), "bench")
        self._run: Run = self._engaged.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._engaged.__exit__(None, None, None)
        self._fleet.close()

    def upload(self) -> None:
        """Bring HEAD's files, and none of a release's own: those are no upload of a source."""
        tree = release.read(self._setup, self._templates)
        made = release.make(self._setup, tree, self._templates)
        seen = self._run.observe(tree.stamps)
        planned = {
            host: Plan(
                steps={
                    Phase.PREPARE: files.send(made.release, tree.stamps, host, facts) if not facts.source_same else ()
                },
                variables=questions.variables(self._setup.app, release_id=made.release.id),
            )
            for host, facts in seen.items()
        }
        self._run.phase(Phase.PREPARE, planned, lambda parcel: source.pack(tree, parcel.source, []))


def fill(folder: Path) -> None:
    """Lay files of words into a hundred folders, the same ones each time."""
    dice = random.Random(1)  # noqa: S311  # the same bytes each time, and no secret
    words = ["".join(dice.choices("etaoinshrdlu", k=dice.randint(2, 9))) for _ in range(3000)]
    shutil.rmtree(folder / "many", ignore_errors=True)
    for number in range(FILES):
        path = folder / "many" / str(number % 100) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(dice.choices(words, k=SIZE // 5))[:SIZE])


def edit(folder: Path, turn: int) -> None:
    path = folder / "many" / "7" / "107.txt"
    text = path.read_text()
    path.write_text(f"{turn} {time.time()}\n{text[30:]}")
