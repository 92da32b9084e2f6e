"""Local files: what git has committed, a folder as it is, and the templates. The only reader of the user's source."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol

from deploy.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PACKAGED = (Path(__file__).parent / "templates", Path(__file__).parent.parent / "templates")
"""Where the templates lie that come with Greenroom: in an installed wheel, and in a checkout."""

CONTEXT_DEFAULTS = ("Dockerfile", "docker-entrypoint.sh", ".dockerignore")
"""A source without these gets the templates': a project needs no Dockerfile of its own to begin."""


BLOCK = 1 << 20
"""Bytes that are read at once: a file of any size costs no more memory than this."""

LEVEL = 2
"""How hard a parcel is pressed: of words, 3 takes half as long again for the last fortieth of the bytes."""

POINTER = b"version https://git-lfs.github.com/spec/v1\n"
"""How a file begins whose content git LFS keeps elsewhere (git-lfs, docs/spec.md)."""

OF_ANOTHER = frozenset({
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
})  # fmt: skip
"""What names another repository than the one that lies there, as in a hook of git's: the folder says what is deployed.

Those of `git rev-parse --local-env-vars` but for the configuration: safe.directory may have come with it.
"""


@dataclass(frozen=True)
class Slice:
    """`size` bytes from `offset` of an open file, which several threads may read at once."""

    file: IO[bytes]
    offset: int
    size: int


@dataclass(frozen=True)
class Leaf:
    """One file: its bits, its content or its link's target, and its stamp as host/facts.sh writes it."""

    executable: bool
    link: str | None
    content: bytes | Path | Slice

    def stamp(self) -> str:
        """Return the kind and the sha256.

        Raises:
            SourceError: the file cannot be read.

        """
        if self.link is not None:
            return f"l {hashlib.sha256(os.fsencode(self.link)).hexdigest()}"
        total = hashlib.sha256()
        with self.open() as (file, _):
            while block := file.read(BLOCK):
                total.update(block)
        return f"{'x' if self.executable else 'f'} {total.hexdigest()}"

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[Reader, int]]:
        """Give the content to read, and its size in bytes.

        Raises:
            SourceError: it cannot be read, or is no plain file any more.

        """
        if isinstance(self.content, bytes):
            yield io.BytesIO(self.content), len(self.content)
        elif isinstance(self.content, Slice):
            yield _Window(self.content), self.content.size
        else:
            with _plain_file(self.content) as file:
                yield file, os.fstat(file.fileno()).st_size


class Reader(Protocol):
    """What gives the content of a leaf."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""
        ...


class _Window:
    """Reads a slice. It moves no position that another thread might stand at."""

    def __init__(self, part: Slice) -> None:
        self._number = part.file.fileno()
        self._at = part.offset
        self._end = part.offset + part.size

    def read(self, size: int, /) -> bytes:
        block = os.pread(self._number, min(size, self._end - self._at), self._at)
        self._at += len(block)
        return block


@contextlib.contextmanager
def _plain_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that was a plain one when it was listed: to open a pipe would wait for ever, a link may lead away."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        mend = "" if isinstance(error, PermissionError) else CHANGING
        raise SourceError(f"{path} cannot be read: {error.strerror}", mend=mend) from None
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise SourceError(f"{path} is no plain file any more", mend=CHANGING)
        yield file


CHANGING = "if something changes the files while they are read: let it end, or deploy a commit"


@dataclass(frozen=True)
class Tree:
    """A source, ready to travel. `revision` is git's commit (short), '' for a plain folder."""

    leaves: dict[str, Leaf]
    origin: str
    revision: str = ""
    dirty: bool = False
    left_out: str = ""
    stamps: dict[str, str] = field(default_factory=dict)

    def kind(self, path: str) -> str:
        """Return `file`, `folder`, or '' for what the source does not have: folders that only hold dot files, too."""
        if path in self.leaves:
            return "file"
        below = "" if path == "." else f"{path}/"
        return "folder" if any(p.startswith(below) and not Path(p).name.startswith(".") for p in self.leaves) else ""


def read(
    folder: Path,
    *,
    ref: str = "",
    dirty: bool = False,
    templates: Templates,
    secret: frozenset[Path],
    defaults: Sequence[str] = CONTEXT_DEFAULTS,
) -> Tree:
    """Read the source: `ref` (HEAD when empty) of the git work tree at `folder`, or with `dirty` the files as they lie.

    A folder that is no git work tree is taken as it lies. Files in `secret` (env files) never travel with a source.
    What it lacks of `defaults` comes from the templates.

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
    hidden = {str(path) for path in secret}
    leaves = {path: tree.leaves[path] for path, place in _places(folder, tree.leaves) if place not in hidden}
    _refuse_odd_names(folder, leaves)
    for name in defaults:
        if name not in leaves:
            leaves[name] = Leaf(executable=name.endswith(".sh"), link=None, content=templates.read(name))
    stamps = {path: leaf.stamp() for path, leaf in leaves.items()}
    left_out = "; ".join(filter(None, (tree.left_out, *_notes(leaves))))
    return Tree(leaves, tree.origin, tree.revision, tree.dirty, left_out, stamps)


def _places(folder: Path, leaves: Mapping[str, Leaf]) -> Iterator[tuple[str, str]]:
    """Tell where each path leads, links on the way resolved. Of thousands of files, each folder is asked about once.

    A link to itself is an error to Path.resolve (before Python 3.13), and none to this.
    """
    resolved = functools.cache(os.path.realpath)
    for path, leaf in leaves.items():
        above, name = os.path.split(f"{folder}/{path}")
        yield path, os.path.realpath(f"{above}/{name}") if leaf.link is not None else f"{resolved(above)}/{name}"


def _refuse_odd_names(folder: Path, paths: Iterable[str]) -> None:
    """A name goes to the host and comes back in its answers: both are UTF-8."""
    odd = next((path for path in paths if path.encode(errors="ignore") != os.fsencode(path)), None)
    if odd is not None:
        raise SourceError(
            f"{folder}: the name {os.fsencode(odd)!r} is no UTF-8", mend="rename that file, or leave it out"
        )


def _notes(leaves: Mapping[str, Leaf]) -> Iterator[str]:
    """Say what travels, and will not be what it looks like."""
    away = [path for path, leaf in leaves.items() if leaf.link is not None and _leads_away(path, leaf.link)]
    if away:
        yield f"{_some(away)}: a link that leads out of the source travels as a link, without what it points to"
    if any(_begins(leaf, b"", b"filter=lfs") for path, leaf in leaves.items() if path.endswith(".gitattributes")):
        pointers = [path for path, leaf in leaves.items() if _begins(leaf, POINTER)]
        if pointers:
            yield f"{_some(pointers)}: only the pointer of git LFS is here (git lfs pull brings the content)"


def _leads_away(path: str, target: str) -> bool:
    return f"{os.path.normpath(PurePosixPath(path).parent / target)}/".startswith(("/", "../"))


def _begins(leaf: Leaf, words: bytes, holds: bytes = b"") -> bool:
    """Say whether a file begins with `words`, and has others in its first block."""
    if leaf.link is not None:
        return False
    with leaf.open() as (file, _):
        block = file.read(1 << 16)
    return block.startswith(words) and holds in block


def _some(names: Sequence[str]) -> str:
    first, rest = names[:3], names[3:]
    return ", ".join(first) + (f" and {len(rest)} more" if rest else "")


def _is_work_tree(folder: Path) -> bool:
    """Git may be missing, or refuse a repository of dubious ownership: no reason to send what it would leave out."""
    asked = _git(folder, "rev-parse", "--is-inside-work-tree")
    if asked.returncode and any((each / ".git").exists() for each in (folder, *folder.parents)):
        raise SourceError(f"git does not read {folder}: {_said(asked)}")
    return asked.returncode == 0


def _git(folder: Path, *words: str, into: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in OF_ANOTHER}
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(
            command, stdout=into or subprocess.PIPE, stderr=subprocess.PIPE, env=environment, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, b"", b"git is not installed")


def _text(folder: Path, *words: str) -> str:
    return _git(folder, *words).stdout.decode(errors="replace").strip()


def _committed(folder: Path, ref: str) -> Tree:
    """`git archive`, run inside a subfolder, gives that subfolder's tree with paths relative to it."""
    if ref.startswith("-"):
        raise SourceError(f"--ref={ref}: git knows no such commit, branch or tag that it would not take for an option")
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit.returncode:
        if ref == "HEAD":
            raise SourceError(
                f"{folder}: nothing is committed yet", mend="commit, or deploy the files as they lie: --dirty"
            )
        raise SourceError(f"--ref={ref}: git knows no such commit, branch or tag in {folder}")
    sha = commit.stdout.decode().strip()
    leaves, submodules = _archived(folder, sha)
    branch = _text(folder, "rev-parse", "--abbrev-ref", ref)
    subject = _text(folder, "log", "-1", "--format=%s", sha)
    changes = len(_text(folder, "status", "--porcelain", ".").splitlines()) if ref == "HEAD" else 0
    return Tree(
        leaves,
        origin=f"{branch if branch != 'HEAD' else ref} {sha[:7]} {subject}".strip(),
        revision=sha[:7],
        left_out="; ".join(
            ([f"{_uncommitted(changes)} left out (--dirty takes them)"] if changes else [])
            + _about_submodules(submodules)
        ),
    )


def _uncommitted(changes: int) -> str:
    return "1 uncommitted change is" if changes == 1 else f"{changes} uncommitted changes are"


def _archived(folder: Path, sha: str) -> tuple[dict[str, Leaf], list[str]]:
    """Return a commit's files, and the names of its submodules.

    The archive goes to a file without a name, and stays there: a commit may be larger than the memory.
    """
    archive = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the leaves that are read from it
    done = _git(folder, "archive", "--format=tar", sha, into=archive)
    if done.returncode:
        raise SourceError(f"git archive of {sha[:7]} in {folder} failed: {_said(done)}")
    archive.seek(0)
    leaves: dict[str, Leaf] = {}
    folders: list[str] = []
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        for member in tar:
            if member.issym():
                leaves[member.name] = Leaf(executable=False, link=member.linkname, content=b"")
            elif member.isfile():
                content = Slice(archive, member.offset_data, member.size)
                leaves[member.name] = Leaf(bool(member.mode & 0o100), None, content)
            elif member.isdir():
                folders.append(member.name)
    filled = {str(above) for path in (*leaves, *folders) for above in PurePosixPath(path).parents}
    return leaves, [name for name in folders if name not in filled]


def _about_submodules(names: Sequence[str]) -> list[str]:
    return [f"submodule {_some(names)}: left out, git keeps its files in another repository"] if names else []


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip()


def _lying(folder: Path, *, in_git: bool) -> Tree:
    """Read a folder as it lies; in a git work tree, without what .gitignore names."""
    leaves: dict[str, Leaf] = {}
    submodules = []
    for path in sorted(set(_paths(folder, in_git=in_git))):
        full = folder / path
        try:
            mode = full.lstat().st_mode
            link = str(full.readlink()) if stat.S_ISLNK(mode) else None
        except (FileNotFoundError, NotADirectoryError):
            continue  # git still lists what was deleted in the work tree, or lay in a folder that is a file now
        except OSError as error:
            raise SourceError(f"{full} cannot be read: {error.strerror}", mend=CHANGING) from None
        if link is not None:
            leaves[path] = Leaf(executable=False, link=link, content=b"")
        elif stat.S_ISREG(mode):
            leaves[path] = Leaf(bool(mode & 0o100), None, full)
        elif not stat.S_ISDIR(mode):
            raise SourceError(
                f"{full} is neither a file, a link nor a folder: it cannot be deployed",
                mend="remove it, or deploy from a git work tree: git leaves out what is none of these",
            )
        elif (full / ".git").exists():
            submodules.append(path)
    sha = _text(folder, "rev-parse", "--short=7", "HEAD") if in_git else ""
    return Tree(
        leaves,
        origin=f"{folder.name} as it lies" + (f", on {sha}" if sha else ""),
        revision=sha,
        dirty=in_git,
        left_out="; ".join(_about_submodules(submodules)),
    )


def _paths(folder: Path, *, in_git: bool) -> Iterable[str]:
    if in_git:
        listed = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if listed.returncode:
            raise SourceError(f"git does not list the files of {folder}: {_said(listed)}")
        return [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    return (
        str((Path(top) / name).relative_to(folder))
        for top, directories, names in os.walk(folder, onerror=_cannot_list)
        for name in names + [d for d in directories if (Path(top) / d).is_symlink()]
        if ".git" not in Path(top).relative_to(folder).parts
    )


def _cannot_list(error: OSError) -> None:
    """Without this, os.walk passes over a folder that it may not read, and nobody hears of it."""
    raise SourceError(f"{error.filename} cannot be listed: {error.strerror}")


@dataclass(frozen=True)
class Templates:
    """The project's own templates first; what it lacks comes with Greenroom."""

    folder: Path

    def has(self, name: str) -> bool:
        """Say whether the project itself has a template or a folder of them."""
        return (self.folder / name).exists()

    def _homes(self) -> tuple[Path, ...]:
        return (self.folder, *PACKAGED)

    def read(self, name: str) -> bytes:
        """Return a template's content.

        Raises:
            SourceError: neither the project nor Greenroom has it.

        """
        for home in self._homes():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return self._content(home / name)
        raise SourceError(f"there is no {name} in {self.folder}, and none comes with Greenroom")

    def directory(self, name: str) -> dict[str, bytes]:
        """Return the files of a directory of templates by name: all the project's, or all of Greenroom's.

        Raises:
            SourceError: there is none; or a name in it is no UTF-8, or a file cannot be read.

        """
        for home in self._homes():
            if (home / name).is_dir():
                paths = [path for path in sorted((home / name).iterdir()) if path.is_file()]
                _refuse_odd_names(home / name, [path.name for path in paths])
                return {path.name: self._content(path) for path in paths}
        raise SourceError(f"there is no folder {name} in {self.folder}, and none comes with Greenroom")

    @staticmethod
    def _content(path: Path) -> bytes:
        if path.exists() and not path.is_file():
            raise SourceError(f"{path} is no file", mend="a template of that name is expected there, or none")
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from None


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

    Raises:
        SourceError: a file is not what it was when it was stamped.

    """
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=32 << 20)  # noqa: SIM115  # the caller closes it
    with (
        gzip.GzipFile(fileobj=spool, mode="wb", compresslevel=LEVEL, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w") as tar,
    ):
        made: set[str] = set()
        for file in files:
            _add_parents(tar, file.name, made, 0o700 if file.name.startswith("releases/") else 0o755)
            _add(tar, file.name, Leaf(executable=False, link=None, content=file.content), file.mode)
        for path in sorted(wanted):
            leaf = tree.leaves[path]
            stamp = tree.stamps.get(path) or leaf.stamp()
            _add(tar, f"source/{path}", leaf, 0o755 if leaf.executable else 0o644, stamp)
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


def _add(tar: tarfile.TarFile, name: str, leaf: Leaf, mode: int, stamp: str = "") -> None:
    """Add one file. What goes is what was stamped, or nothing goes: plans are made from stamps."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode, _age(stamp) if stamp else 0
    if leaf.link is not None:
        entry.type, entry.linkname = tarfile.SYMTYPE, leaf.link
        tar.addfile(entry)
        return
    with leaf.open() as (file, entry.size):
        reader = _Hashing(file)
        try:
            tar.addfile(entry, reader)  # type: ignore[arg-type]  # all it does is read
        except OSError as error:  # it became shorter, or its disk fails, or the one that is written to is full
            raise SourceError(f"{name} cannot be packed: {error}", mend=CHANGING) from None
        if stamp and not stamp.endswith(f" {reader.total.hexdigest()}"):
            raise SourceError(f"{name} has changed since the deploy began", mend=CHANGING)


class _Hashing:
    """Reads a file, and knows the digest of what it has read."""

    def __init__(self, file: Reader) -> None:
        self._file = file
        self.total = hashlib.sha256()

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self.total.update(block)
        return block
