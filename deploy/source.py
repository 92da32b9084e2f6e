"""Local files: what git has committed, a folder as it is, and the templates. The only reader of the user's source."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from deploy.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGED = (Path(__file__).parent / "templates", Path(__file__).parent.parent / "templates")
"""Where the templates lie that come with Greenroom: in an installed wheel, and in a checkout."""

CONTEXT_DEFAULTS = ("Dockerfile", "docker-entrypoint.sh", ".dockerignore")
"""A source without these gets the templates': a project needs no Dockerfile of its own to begin."""


@dataclass(frozen=True)
class Leaf:
    """One file: its bits, its content or its link's target, and its stamp as host/facts.sh writes it."""

    executable: bool
    link: str | None
    content: bytes | Path

    def stamp(self) -> str:
        if self.link is not None:
            return f"l {hashlib.sha256(os.fsencode(self.link)).hexdigest()}"
        kind = "x" if self.executable else "f"
        if isinstance(self.content, bytes):
            return f"{kind} {hashlib.sha256(self.content).hexdigest()}"
        with self.content.open("rb") as file:
            total = hashlib.sha256()
            while block := file.read(1 << 20):
                total.update(block)
        return f"{kind} {total.hexdigest()}"


@dataclass(frozen=True)
class Tree:
    """A source, ready to travel. `revision` is git's commit (short), '' for a plain folder."""

    leaves: dict[str, Leaf]
    origin: str
    revision: str = ""
    dirty: bool = False
    left_out: str = ""
    stamps: dict[str, str] = field(default_factory=dict)


def read(folder: Path, *, ref: str = "", dirty: bool = False, templates: Templates, secret: frozenset[Path]) -> Tree:
    """Read the source: `ref` (HEAD when empty) of the git work tree at `folder`, or with `dirty` the files as they lie.

    A folder that is no git work tree is taken as it lies. Files in `secret` (env files) never travel with a source.

    Raises:
        SourceError: no such folder, ref or file; nothing committed; a special file in the tree.

    """
    if not folder.is_dir():
        raise SourceError(f"deploy.source: {folder} is no folder")
    in_git = _is_work_tree(folder)
    if ref and not in_git:
        raise SourceError(f"--ref={ref}: {folder} is no git work tree")
    if in_git and not dirty:
        tree = _committed(folder, ref or "HEAD")
    else:
        tree = _lying(folder, in_git=in_git)
    leaves = {path: leaf for path, leaf in tree.leaves.items() if (folder / path).resolve() not in secret}
    for name in CONTEXT_DEFAULTS:
        if name not in leaves:
            leaves[name] = Leaf(executable=name.endswith(".sh"), link=None, content=templates.read(name))
    stamps = {path: leaf.stamp() for path, leaf in leaves.items()}
    return Tree(leaves, tree.origin, tree.revision, tree.dirty, tree.left_out, stamps)


def _is_work_tree(folder: Path) -> bool:
    """Git may be missing, or refuse a repository of dubious ownership: no reason to send what it would leave out."""
    asked = _git(folder, "rev-parse", "--is-inside-work-tree")
    if asked.returncode and any((each / ".git").exists() for each in (folder, *folder.parents)):
        raise SourceError(f"git does not read {folder}: {asked.stderr.decode(errors='replace').strip()}")
    return asked.returncode == 0


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, b"", b"git is not installed")


def _text(folder: Path, *words: str) -> str:
    return _git(folder, *words).stdout.decode(errors="replace").strip()


def _committed(folder: Path, ref: str) -> Tree:
    """`git archive`, run inside a subfolder, gives that subfolder's tree with paths relative to it."""
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit.returncode:
        if ref == "HEAD":
            raise SourceError(
                f"{folder}: nothing is committed yet", mend="commit, or deploy the files as they lie: --dirty"
            )
        raise SourceError(f"--ref={ref}: git knows no such commit, branch or tag in {folder}")
    sha = commit.stdout.decode().strip()
    archive = _git(folder, "archive", "--format=tar", sha)
    if archive.returncode:
        raise SourceError(f"git archive of {ref} in {folder} failed: {archive.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        leaves = dict(_leaves_of(tar))
    branch = _text(folder, "rev-parse", "--abbrev-ref", ref)
    subject = _text(folder, "log", "-1", "--format=%s", sha)
    changes = len(_text(folder, "status", "--porcelain", ".").splitlines()) if ref == "HEAD" else 0
    return Tree(
        leaves,
        origin=f"{branch if branch != 'HEAD' else ref} {sha[:7]} {subject}".strip(),
        revision=sha[:7],
        left_out=f"{changes} uncommitted changes are left out (--dirty takes them)" if changes else "",
    )


def _leaves_of(tar: tarfile.TarFile) -> Iterator[tuple[str, Leaf]]:
    for member in tar:
        if member.issym():
            yield member.name, Leaf(executable=False, link=member.linkname, content=b"")
        elif member.isfile():
            file = tar.extractfile(member)
            yield member.name, Leaf(bool(member.mode & 0o100), None, file.read() if file else b"")


def _lying(folder: Path, *, in_git: bool) -> Tree:
    """Read a folder as it lies; in a git work tree, without what .gitignore names."""
    leaves = {}
    for path in sorted(_paths(folder, in_git=in_git)):
        full = folder / path
        try:
            mode = full.lstat().st_mode
        except FileNotFoundError:
            continue  # git still lists a file that was deleted in the work tree
        if stat.S_ISLNK(mode):
            leaves[path] = Leaf(executable=False, link=str(full.readlink()), content=b"")
        elif stat.S_ISREG(mode):
            leaves[path] = Leaf(bool(mode & 0o100), None, full)
        elif not stat.S_ISDIR(mode):
            raise SourceError(f"{full} is neither a file, a link nor a folder: it cannot be deployed")
    sha = _text(folder, "rev-parse", "--short=7", "HEAD") if in_git else ""
    return Tree(leaves, origin=f"{folder.name} as it lies" + (f", on {sha}" if sha else ""), revision=sha, dirty=in_git)


def _paths(folder: Path, *, in_git: bool) -> Iterable[str]:
    if in_git:
        listed = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        return [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return (
        str((Path(top) / name).relative_to(folder))
        for top, directories, names in os.walk(folder)
        for name in names + [d for d in directories if (Path(top) / d).is_symlink()]
        if ".git" not in Path(top).relative_to(folder).parts
    )


@dataclass(frozen=True)
class Templates:
    """The project's own templates first; what it lacks comes with Greenroom."""

    folder: Path

    def _homes(self) -> tuple[Path, ...]:
        return (self.folder, *PACKAGED)

    def read(self, name: str) -> bytes:
        """Return a template's content.

        Raises:
            SourceError: neither the project nor Greenroom has it.

        """
        for home in self._homes():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return (home / name).read_bytes()
        raise SourceError(f"there is no {name} in {self.folder}, and none comes with Greenroom")

    def directory(self, name: str) -> dict[str, bytes]:
        """Return the files of a directory of templates by name: all the project's, or all of Greenroom's."""
        for home in self._homes():
            if (home / name).is_dir():
                return {path.name: path.read_bytes() for path in sorted((home / name).iterdir()) if path.is_file()}
        raise SourceError(f"there is no folder {name} in {self.folder}, and none comes with Greenroom")


@dataclass(frozen=True)
class File:
    """A file that is not of the source: its name below the app's directory on the host, and its mode."""

    name: str
    content: bytes
    mode: int = 0o644


def pack(tree: Tree, wanted: Iterable[str], files: Iterable[File]) -> IO[bytes]:
    """Write the tar (gzipped) that a host receives: the wanted source files, and the release's own files.

    Directories stand in it with their mode before what lies in them, so that a secret is never world-readable, not
    even for a moment. Files beyond a few megabytes live on disk, in a file that has no name.
    """
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=32 << 20)  # noqa: SIM115  # the caller closes it
    with (
        gzip.GzipFile(fileobj=spool, mode="wb", compresslevel=3, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w") as tar,
    ):
        made: set[str] = set()
        for file in files:
            _add_parents(tar, file.name, made, 0o700 if file.name.startswith("releases/") else 0o755)
            _add(tar, file.name, Leaf(executable=False, link=None, content=file.content), file.mode)
        for path in sorted(wanted):
            leaf = tree.leaves[path]
            age = _age(tree.stamps.get(path) or leaf.stamp())
            _add(tar, f"source/{path}", leaf, 0o755 if leaf.executable else 0o644, age)
    spool.seek(0)
    return spool


def _add_parents(tar: tarfile.TarFile, name: str, made: set[str], mode: int) -> None:
    parent = str(Path(name).parent)
    if parent not in made and "/" in parent:
        made.add(parent)
        entry = tarfile.TarInfo(parent)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        tar.addfile(entry)


def _age(stamp: str) -> int:
    """Return an mtime (seconds since 1970, from 2001 to 2018) that is another one when the content is.

    BuildKit keeps a copy of each build context, and takes a file of the same size and mtime for the one that it has
    (moby/buildkit #4817): with one mtime for all, an edit that keeps a file's size would never reach the image. The
    time of sending would do, too, but not make the same parcel of the same files.
    """
    return 1_000_000_000 + int(stamp.rpartition(" ")[2][:8], 16) % (1 << 29)


def _add(tar: tarfile.TarFile, name: str, leaf: Leaf, mode: int, age: int = 0) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode, age
    if leaf.link is not None:
        entry.type, entry.linkname = tarfile.SYMTYPE, leaf.link
        tar.addfile(entry)
    elif isinstance(leaf.content, bytes):
        entry.size = len(leaf.content)
        tar.addfile(entry, io.BytesIO(leaf.content))
    else:
        with leaf.content.open("rb") as file:
            entry.size = os.fstat(file.fileno()).st_size
            tar.addfile(entry, file)
