"""What is deployed: what git has committed, a folder as it lies, and what the templates add."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from deploy import source
from deploy.errors import SourceError
from deploy.source import CONTEXT_DEFAULTS, PACKAGED, File, Leaf, Templates, Tree, pack


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plain folder with a small project; git, if it is asked, has no configuration but this."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    project = tmp_path / "project"
    write(project, "app.py", "1\n")
    write(project, "pkg/mod.py", "m\n")
    write(project, "run.sh", "#!/bin/sh\n").chmod(0o755)
    (project / "link").symlink_to("app.py")
    return project


@pytest.fixture
def repository(folder: Path) -> Path:
    """The same, committed on branch main."""
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "first words")
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false")
    found = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def commit(folder: Path, subject: str) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", subject)
    return git(folder, "rev-parse", "HEAD")[:7]


def read(folder: Path, *, ref: str = "", dirty: bool = False, secret: frozenset[Path] = frozenset()) -> Tree:
    return source.read(folder, ref=ref, dirty=dirty, templates=Templates(folder / "templates"), secret=secret)


def own(tree: Tree) -> set[str]:
    """The paths of a tree without what the templates gave."""
    return tree.leaves.keys() - set(CONTEXT_DEFAULTS)


def content(tree: Tree, path: str) -> bytes:
    with tree.leaves[path].open() as (file, size):
        found = file.read(size + 1)
    assert len(found) == size
    return found


ALL = {"app.py", "pkg/mod.py", "run.sh", "link"}


# --- what is committed -----------------------------------------------------------------------------------------


def test_what_is_committed_is_deployed_with_its_revision_and_where_it_came_from(repository: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD")[:7]
    tree = read(repository)
    assert own(tree) == ALL
    assert (tree.revision, tree.dirty, tree.left_out) == (sha, False, "")
    assert tree.origin == f"main {sha} first words"


def test_what_is_not_committed_is_left_out_and_counted(repository: Path) -> None:
    write(repository, "app.py", "2\n")
    assert read(repository).left_out == "1 uncommitted change is left out (--dirty takes them)"
    write(repository, "new.py", "n\n")
    tree = read(repository)
    assert content(tree, "app.py") == b"1\n"
    assert "new.py" not in tree.leaves
    assert tree.left_out == "2 uncommitted changes are left out (--dirty takes them)"


def test_dirty_takes_the_files_as_they_lie(repository: Path) -> None:
    write(repository, "app.py", "2\n")
    write(repository, "new.py", "n\n")
    tree = read(repository, dirty=True)
    assert own(tree) == ALL | {"new.py"}
    assert content(tree, "app.py") == b"2\n"
    assert (tree.revision, tree.dirty) == (git(repository, "rev-parse", "HEAD")[:7], True)
    assert tree.origin == f"project as it lies, on {tree.revision}"


def test_the_commit_and_the_clean_folder_have_the_same_stamps(repository: Path) -> None:
    assert read(repository).stamps == read(repository, dirty=True).stamps


@pytest.mark.parametrize(
    ("name", "value", "dirty"),
    [
        ("GIT_DIR", ".git", False),
        ("GIT_DIR", ".git", True),
        ("GIT_WORK_TREE", ".", False),
        ("GIT_INDEX_FILE", ".git/none", False),
        ("GIT_COMMON_DIR", ".git", False),
    ],
)
def test_no_other_repository_is_deployed_whatever_the_environment_names(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, dirty: bool
) -> None:
    other = tmp_path / "other"
    write(other, "foreign.py", "f\n")
    git(other, "init", "-q", "-b", "main")
    commit(other, "of somebody else")
    write(repository, ".gitignore", "*.log\n")
    commit(repository, "second")
    write(repository, "x.log", "x")
    expected = read(repository, dirty=dirty)
    monkeypatch.setenv(name, str(other / value))
    found = read(repository, dirty=dirty)
    assert (found.origin, found.left_out, found.stamps) == (expected.origin, expected.left_out, expected.stamps)


def test_all_is_known_that_git_takes_another_repository_from(repository: Path) -> None:
    local = {name for name in git(repository, "rev-parse", "--local-env-vars").split() if "_CONFIG" not in name}
    assert local <= source.OF_ANOTHER


def test_what_git_ignores_never_travels(repository: Path) -> None:
    write(repository, ".gitignore", "*.log\nsecret/\n")
    write(repository, "x.log", "x")
    write(repository, "secret/key", "x")
    assert own(read(repository, dirty=True)) == ALL | {".gitignore"}


def test_a_file_that_is_deleted_but_still_tracked_is_gone(repository: Path) -> None:
    (repository / "app.py").unlink()
    assert own(read(repository, dirty=True)) == ALL - {"app.py"}
    assert own(read(repository)) == ALL


def test_another_commit_branch_or_tag_may_be_deployed(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "v1")
    git(repository, "branch", "old")
    write(repository, "app.py", "2\n")
    commit(repository, "second")
    for ref in (first, first[:7], "v1", "old", "HEAD~1"):
        tree = read(repository, ref=ref)
        assert content(tree, "app.py") == b"1\n", ref
        assert tree.revision == first[:7], ref
    assert read(repository, ref="old").origin == f"old {first[:7]} first words"
    assert read(repository, ref="v1").origin == f"v1 {first[:7]} first words"


def test_uncommitted_changes_are_nobody_s_concern_when_another_ref_is_deployed(repository: Path) -> None:
    git(repository, "tag", "v1")
    write(repository, "app.py", "2\n")
    assert read(repository, ref="v1").left_out == ""


@pytest.mark.parametrize("ref", ["no-such", "--upload-pack=x", "-h", "HEAD:app.py", ""])
def test_an_unknown_ref_is_refused_by_name(repository: Path, ref: str) -> None:
    if not ref:
        assert read(repository, ref=ref).revision
        return
    with pytest.raises(SourceError, match="git knows no such commit") as caught:
        read(repository, ref=ref)
    assert f"--ref={ref}" in str(caught.value)


def test_where_nothing_is_committed_yet_the_way_out_is_named(folder: Path) -> None:
    git(folder, "init", "-q")
    with pytest.raises(SourceError, match="nothing is committed yet") as caught:
        read(folder)
    assert "--dirty" in caught.value.mend
    assert own(read(folder, dirty=True)) == ALL


def test_a_subfolder_of_a_repository_is_deployed_as_if_it_were_alone(repository: Path) -> None:
    write(repository, "other/big.py", "b\n")
    write(repository, "pkg/deep/a.py", "a\n")
    commit(repository, "more")
    write(repository, "other/big.py", "not ours\n")
    expected = {"mod.py", "deep/a.py"}
    tree = read(repository / "pkg")
    assert own(tree) == expected
    assert tree.left_out == ""
    assert own(read(repository / "pkg", dirty=True)) == expected


def test_a_subfolder_that_git_does_not_track_is_refused(repository: Path) -> None:
    write(repository, "new/a.py", "a\n")
    with pytest.raises(SourceError):
        read(repository / "new")


def test_names_that_git_would_quote_arrive_as_they_are(repository: Path) -> None:
    odd = {"é.py", 'a "b".py', "-n", "tab\there", "new\nline", "back\\slash"}
    for name in odd:
        write(repository, name, "x")
    assert own(read(repository, dirty=True)) == ALL | odd
    commit(repository, "odd")
    assert own(read(repository)) == ALL | odd


# --- a plain folder --------------------------------------------------------------------------------------------


def test_a_folder_without_git_is_deployed_as_it_lies(folder: Path) -> None:
    tree = read(folder)
    assert own(tree) == ALL
    assert (tree.revision, tree.dirty, tree.origin) == ("", False, "project as it lies")


def test_a_ref_of_a_folder_without_git_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"--ref=v1: .* is no git work tree"):
        read(folder, ref="v1")


def test_a_folder_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"deploy\.source"):
        read(folder / "none")
    with pytest.raises(SourceError, match="is no folder"):
        read(folder / "app.py")


def test_a_git_folder_inside_a_plain_one_stays_at_home(folder: Path) -> None:
    write(folder, "vendored/.git/config", "x")
    write(folder, "vendored/lib.py", "x")
    assert own(read(folder)) == ALL | {"vendored/lib.py"}


# --- bits, links, special files --------------------------------------------------------------------------------


@pytest.mark.parametrize("dirty", [False, True], ids=["committed", "as-it-lies"])
def test_executable_bits_and_links_are_kept(repository: Path, dirty: bool) -> None:
    (repository / "to-folder").symlink_to("pkg")
    (repository / "to-nowhere").symlink_to("../else where/é")
    commit(repository, "links")
    tree = read(repository, dirty=dirty)
    assert {path for path, leaf in tree.leaves.items() if leaf.executable} - set(CONTEXT_DEFAULTS) == {"run.sh"}
    assert {path: leaf.link for path, leaf in tree.leaves.items() if leaf.link} == {
        "link": "app.py",
        "to-folder": "pkg",
        "to-nowhere": "../else where/é",
    }
    assert {path: stamp[0] for path, stamp in tree.stamps.items() if path in ALL} == {
        "app.py": "f", "pkg/mod.py": "f", "run.sh": "x", "link": "l",
    }  # fmt: skip


def test_links_to_folders_are_links_in_a_plain_folder_too(folder: Path) -> None:
    (folder / "to-folder").symlink_to("pkg")
    tree = read(folder)
    assert tree.leaves["to-folder"].link == "pkg"
    assert "to-folder/mod.py" not in tree.leaves


def test_a_special_file_is_refused_by_name(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(SourceError, match="pipe is neither a file, a link nor a folder"):
        read(folder)


def test_a_stamp_is_the_same_for_content_in_memory_and_on_disk(tmp_path: Path) -> None:
    big = b"0123456789abcdef" * (1 << 17)
    path = tmp_path / "big"
    path.write_bytes(big)
    for executable in (False, True):
        assert Leaf(executable, None, big).stamp() == Leaf(executable, None, path).stamp()


# --- secrets and defaults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dirty", [False, True], ids=["committed", "as-it-lies"])
def test_env_files_never_travel_with_a_source_even_when_they_are_committed(repository: Path, dirty: bool) -> None:
    env = write(repository, "conf/.env.prod", "SECRET=1\n")
    write(repository, ".env.example", "SECRET=\n")
    (repository / "alias").symlink_to("conf/.env.prod")
    commit(repository, "oops")
    tree = read(repository, dirty=dirty, secret=frozenset({env.resolve()}))
    assert own(tree) == ALL | {".env.example"}


def test_an_env_file_in_a_plain_folder_stays_at_home(folder: Path) -> None:
    env = write(folder, ".env.prod", "SECRET=1\n")
    assert own(read(folder, secret=frozenset({env.resolve()}))) == ALL


def test_a_source_without_a_dockerfile_gets_that_of_the_templates(folder: Path) -> None:
    packaged = next(home for home in PACKAGED if home.is_dir())
    tree = read(folder)
    assert content(tree, "Dockerfile") == (packaged / "Dockerfile").read_bytes()
    assert tree.leaves["docker-entrypoint.sh"].executable
    assert not tree.leaves["Dockerfile"].executable
    assert tree.stamps.keys() == tree.leaves.keys()


def test_the_project_s_own_templates_come_first(folder: Path) -> None:
    write(folder, "templates/Dockerfile", "FROM mine\n")
    assert content(read(folder), "Dockerfile") == b"FROM mine\n"


def test_a_source_with_a_dockerfile_keeps_it(folder: Path) -> None:
    write(folder, "Dockerfile", "FROM ours\n")
    write(folder, "templates/Dockerfile", "FROM mine\n")
    assert content(read(folder), "Dockerfile") == b"FROM ours\n"


# --- templates -------------------------------------------------------------------------------------------------


def test_a_template_that_nobody_has_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no none.yml in .*, and none comes with Greenroom"):
        Templates(folder).read("none.yml")
    with pytest.raises(SourceError, match="there is no folder none"):
        Templates(folder).directory("none")


def test_a_folder_of_templates_is_all_the_project_s_or_all_of_greenroom_s(folder: Path) -> None:
    assert "nginx.conf" in Templates(folder / "none").directory("nginx")
    write(folder, "nginx/own.conf", "x")
    write(folder, "nginx/sub/ignored.conf", "x")
    assert Templates(folder).directory("nginx") == {"own.conf": b"x"}


# --- pack ------------------------------------------------------------------------------------------------------

LEAVES = {
    "b/run.sh": Leaf(executable=True, link=None, content=b"#!"),
    "a.py": Leaf(executable=False, link=None, content=b"a"),
    "link": Leaf(executable=False, link="a.py", content=b""),
    "unwanted": Leaf(executable=False, link=None, content=b"u"),
}


def packed(*wanted: str, files: tuple[File, ...] = ()) -> list[tarfile.TarInfo]:
    with pack(Tree(LEAVES, "test"), wanted, files) as bundle, tarfile.open(fileobj=bundle) as tar:
        return tar.getmembers()


def test_a_parcel_holds_what_is_wanted_below_source_with_plain_modes() -> None:
    assert [(m.name, oct(m.mode), m.linkname) for m in packed("link", "b/run.sh", "a.py")] == [
        ("source/a.py", "0o644", ""),
        ("source/b/run.sh", "0o755", ""),
        ("source/link", "0o644", "a.py"),
    ]


def test_a_release_s_files_stand_behind_a_folder_that_is_closed_to_others() -> None:
    files = (
        File("nginx/c1/a.conf", b"a"),
        File("nginx/c1/b.conf", b"b"),
        File("releases/r1/colour.yml", b"c", 0o600),
        File("releases/r1/.env", b"S=1", 0o600),
    )
    assert [(m.name, oct(m.mode)) for m in packed("a.py", files=files)] == [
        ("nginx/c1", "0o755"),
        ("nginx/c1/a.conf", "0o644"),
        ("nginx/c1/b.conf", "0o644"),
        ("releases/r1", "0o700"),
        ("releases/r1/colour.yml", "0o600"),
        ("releases/r1/.env", "0o600"),
        ("source/a.py", "0o644"),
    ]


def test_a_parcel_says_nothing_of_who_packed_it_or_when() -> None:
    assert {(m.uid, m.gid, m.uname, m.gname) for m in packed("a.py", "link")} == {(0, 0, "", "")}
    with pack(Tree(LEAVES, "test"), ["a.py"], ()) as one, pack(Tree(LEAVES, "test"), ["a.py"], ()) as other:
        assert one.read() == other.read()


def test_a_file_s_age_tells_its_content_since_builders_look_no_further_than_size_and_age() -> None:
    def age(content: bytes) -> int:
        tree = Tree({"a.py": Leaf(executable=False, link=None, content=content)}, "test")
        with pack(tree, ["a.py"], ()) as bundle, tarfile.open(fileobj=bundle) as tar:
            return int(tar.getmember("source/a.py").mtime)

    assert age(b"v1") == age(b"v1")
    assert age(b"v1") != age(b"v2")
    assert 0 < age(b"v1") < time.time(), "a time to come makes tar complain"


def test_an_empty_parcel_is_a_tar_all_the_same() -> None:
    assert packed() == []


def test_a_file_on_disk_is_packed_as_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(range(256)) * 4096)
    tree = Tree({"big": Leaf(executable=False, link=None, content=path)}, "test")
    with pack(tree, ["big"], ()) as bundle, tarfile.open(fileobj=bundle) as tar:
        file = tar.extractfile("source/big")
        assert file
        assert file.read() == path.read_bytes()


def test_a_parcel_is_gzipped() -> None:
    with pack(Tree(LEAVES, "test"), ["a.py"], ()) as bundle:
        assert gzip.decompress(bundle.read())[:11] == b"source/a.py"
