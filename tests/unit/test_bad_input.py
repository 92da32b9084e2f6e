"""Bad input: names, files, env files, hosts and clocks as they should not be.

Each gets an error that names the place and the mend, or is handled right; never a traceback, and nothing half done.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy import config, keys, release, source
from deploy.errors import ConfigError, SourceError
from deploy.recipe import facts
from deploy.source import Leaf, Reader, Templates, Tree, pack

# --- the source ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plain folder with one file; git, if it is asked, has no configuration but this."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text("1\n")
    return project


@pytest.fixture
def repository(folder: Path) -> Path:
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=ann", "-c", "user.email=ann@example.com", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "words")


def read(folder: Path, *, ref: str = "", dirty: bool = False, secret: frozenset[Path] = frozenset()) -> Tree:
    return source.read(folder, ref=ref, dirty=dirty, templates=Templates(folder / "templates"), secret=secret)


def sent(tree: Tree, *wanted: str) -> dict[str, bytes]:
    """Return what a host would get of these files."""
    with pack(tree, wanted, ()) as bundle, tarfile.open(fileobj=bundle) as tar:
        return {member.name: file.read() for member in tar if (file := tar.extractfile(member))}


def test_a_pipe_is_refused_by_name_and_never_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(SourceError, match="pipe is neither a file, a link nor a folder") as caught:
        read(folder)
    assert "git leaves out" in caught.value.mend


def test_a_socket_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # the name of a socket may be 107 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("listens")
        with pytest.raises(SourceError, match="listens is neither a file"):
            read(folder)


def test_a_file_that_has_become_a_pipe_is_not_waited_for(folder: Path) -> None:
    tree = read(folder)
    (folder / "app.py").unlink()
    os.mkfifo(folder / "app.py")
    with pytest.raises(SourceError, match=r"app.py is no plain file any more"):
        sent(tree, "app.py")


def test_a_file_that_has_become_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("1\n")
    tree = read(folder)
    (folder / "app.py").unlink()
    (folder / "app.py").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"app.py cannot be read"):
        sent(tree, "app.py")


@pytest.mark.parametrize("content", ["2\n", "", "1\n2\n", "1"], ids=["other", "empty", "longer", "shorter"])
def test_a_file_that_changes_after_it_was_stamped_is_not_sent(folder: Path, content: str) -> None:
    tree = read(folder)
    (folder / "app.py").write_text(content)
    with pytest.raises(SourceError, match=r"app.py has changed since") as caught:
        sent(tree, "app.py")
    assert "deploy a commit" in caught.value.mend


class Shrinking(Leaf):
    """Its file is cut between the look at its size and the reading of it."""

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[Reader, int]]:
        with super().open() as (file, size):
            assert isinstance(self.content, Path)
            self.content.write_bytes(b"")
            yield file, size


def test_a_file_that_becomes_shorter_while_it_is_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_bytes(b"x" * 100_000)
    tree = Tree(
        {"app.py": Shrinking(executable=False, link=None, content=tmp_path / "app.py")},
        "test",
        stamps={"app.py": "f 00"},
    )
    with pytest.raises(SourceError, match=r"app.py cannot be packed: unexpected end of data"):
        sent(tree, "app.py")


def test_a_file_that_vanishes_after_it_was_stamped_is_named(folder: Path) -> None:
    tree = read(folder)
    (folder / "app.py").unlink()
    with pytest.raises(SourceError, match=r"app.py cannot be read: No such file"):
        sent(tree, "app.py")


def test_a_commit_is_sent_as_it_was_whatever_becomes_of_the_files(repository: Path) -> None:
    tree = read(repository)
    (repository / "app.py").write_text("2\n")
    assert sent(tree, "app.py") == {"source/app.py": b"1\n"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder: Path) -> None:
    (folder / "app.py").chmod(0)
    with pytest.raises(SourceError, match=r"app.py cannot be read: Permission denied"):
        read(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed_is_named_and_not_passed_over(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0)
    with pytest.raises(SourceError, match=r"closed cannot be listed: Permission denied"):
        read(folder)


def test_a_folder_that_vanishes_while_it_is_listed_is_named(folder: Path) -> None:
    with pytest.raises(SourceError, match="cannot be listed"):
        list(source._paths(folder / "gone", in_git=False))


def test_a_tracked_folder_that_is_a_file_now_is_deployed_as_it_lies(repository: Path) -> None:
    (repository / "pkg").mkdir()
    (repository / "pkg" / "mod.py").write_text("m\n")
    commit(repository)
    (repository / "pkg" / "mod.py").unlink()
    (repository / "pkg").rmdir()
    (repository / "pkg").write_text("a file\n")
    tree = read(repository, dirty=True)
    assert "pkg/mod.py" not in tree.leaves
    assert sent(tree, "pkg") == {"source/pkg": b"a file\n"}


def test_a_tracked_file_that_is_a_folder_now_is_deployed_as_it_lies(repository: Path) -> None:
    (repository / "app.py").unlink()
    (repository / "app.py").mkdir()
    (repository / "app.py" / "mod.py").write_text("m\n")
    tree = read(repository, dirty=True)
    assert "app.py" not in tree.leaves
    assert "app.py/mod.py" in tree.leaves


@pytest.mark.parametrize("dirty", [False, True], ids=["committed", "as-it-lies"])
def test_a_link_out_of_the_source_travels_as_a_link_and_is_said(repository: Path, dirty: bool) -> None:
    (repository / "deep").mkdir()
    away = {"absolute": "/etc/passwd", "above": "..", "deep/up": "../../x", "up": "../other"}
    for name, target in {**away, "inside": "..app.py", "deep/inside": "../app.py", "self": "self"}.items():
        (repository / name).symlink_to(target)
    commit(repository)
    tree = read(repository, dirty=dirty)
    assert tree.leaves["absolute"].link == "/etc/passwd"
    assert tree.left_out.startswith(
        "above, absolute, deep/up and 1 more: a link that leads out of the source travels as a link"
    )


@pytest.mark.parametrize("dirty", [False, True], ids=["committed", "as-it-lies"])
def test_a_submodule_is_left_out_and_said(repository: Path, tmp_path: Path, dirty: bool) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "lib.py").write_text("l\n")
    git(other, "init", "-q")
    commit(other)
    git(repository, "submodule", "--quiet", "add", str(other), "vendored/lib")
    commit(repository)
    tree = read(repository, dirty=dirty)
    assert tree.left_out == "submodule vendored/lib: left out, git keeps its files in another repository"


def test_a_pointer_of_git_lfs_is_said(folder: Path) -> None:
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "big.bin").write_bytes(source.POINTER + b"oid sha256:00\nsize 12345\n")
    assert read(folder).left_out == "big.bin: only the pointer of git LFS is here (git lfs pull brings the content)"


def test_names_that_are_no_utf8_are_refused(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    with pytest.raises(SourceError, match=r"the name b'caf\\xe9.txt' is no UTF-8") as caught:
        read(folder)
    assert "rename" in caught.value.mend


def test_names_that_differ_by_case_only_are_two_files(repository: Path) -> None:
    (repository / "App.py").write_text("2\n")
    commit(repository)
    assert sent(read(repository), "app.py", "App.py") == {"source/app.py": b"1\n", "source/App.py": b"2\n"}


@pytest.mark.parametrize("ref", ["-x", "--output=x", "-", "--"])
def test_a_ref_never_reaches_git_as_an_option(repository: Path, ref: str) -> None:
    git(repository, "update-ref", "refs/heads/-x", "HEAD")
    with pytest.raises(SourceError, match=f"--ref={ref}: git knows no such commit"):
        read(repository, ref=ref)


def test_a_linked_work_tree_is_read_as_any_other(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    tree = read(tmp_path / "linked")
    assert sent(tree, "app.py") == {"source/app.py": b"1\n"}
    assert ".git" not in read(tmp_path / "linked", dirty=True).leaves


@pytest.mark.parametrize("content", [b"", b"not an index"], ids=["empty", "broken"])
def test_a_repository_that_git_cannot_read_is_refused(repository: Path, content: bytes) -> None:
    (repository / ".git" / "index").write_bytes(content or b"DIRC")
    with pytest.raises(SourceError, match="git does not list the files of"):
        read(repository, dirty=True)


@pytest.mark.parametrize("dirty", [False, True], ids=["committed", "as-it-lies"])
def test_an_empty_file_arrives_empty(repository: Path, dirty: bool) -> None:
    (repository / "empty").write_bytes(b"")
    commit(repository)
    tree = read(repository, dirty=dirty)
    assert sent(tree, "empty") == {"source/empty": b""}


@pytest.mark.long
@pytest.mark.parametrize("dirty", [False, True], ids=["committed", "as-it-lies"])
def test_a_large_file_is_never_in_memory_as_a_whole(repository: Path, dirty: bool) -> None:
    size = 96 << 20
    with (repository / "big").open("wb") as file:
        file.truncate(size)
    commit(repository)
    tracemalloc.start()
    try:
        tree = read(repository, dirty=dirty)
        with pack(tree, ["big"], ()) as bundle, tarfile.open(fileobj=bundle) as tar:
            assert next(iter(tar)).size == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 48 << 20, f"{peak >> 20} MiB at the worst"


# --- templates -------------------------------------------------------------------------------------------------


def test_a_template_that_is_a_folder_is_refused(folder: Path) -> None:
    (folder / "templates" / "colour.yml").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"colour.yml is no file"):
        Templates(folder / "templates").read("colour.yml")


def test_a_conf_whose_name_is_no_utf8_is_refused(folder: Path) -> None:
    (folder / "nginx").mkdir()
    (folder / "nginx" / os.fsdecode(b"caf\xe9.conf")).write_text("x")
    with pytest.raises(SourceError, match=r"the name b'caf\\xe9.conf' is no UTF-8"):
        Templates(folder).directory("nginx")


def test_a_template_that_is_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "colour.yml")
    with pytest.raises(SourceError, match=r"colour.yml is no file"):
        Templates(folder).read("colour.yml")


def test_a_folder_of_templates_that_is_a_file_is_refused(folder: Path) -> None:
    (folder / "own-nginx").write_text("x")
    with pytest.raises(SourceError, match="there is no folder own-nginx"):
        Templates(folder).directory("own-nginx")


# --- the configuration -----------------------------------------------------------------------------------------

NASTY = [
    "", " ", "a b", "'", '"', "$HOME", "${X}", "$(id)", "`id`", "a\nb", "a\tb", "\0", "\x1b[2J", "-rf", "--help", "..",
    "../..", "/", "//", "~", "~root", "*", "?", "[a]", "a;b", "a&b", "a|b", "a>b", "#", "!", "%", "\\", "\r", "é",
    "日本", "\u202e", "\ud800", "a" * 300, "a/b", ".", "@", ":", "a@", "@a", "a:b", "a:0", "[::1", "null", "-",
]  # fmt: skip
"""Text that some program on the way would read as something else than a name."""

nasty = st.sampled_from(NASTY) | st.text(max_size=12)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | nasty,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nasty | st.integers(), inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted({*keys.TopKeys.__struct_fields__} - {"envs", "project"})
NAMES = ("network", "service", "proxy", "nginx", "root", "settings", "project")
PATHS = ("dotenv", "source", "templates", "migrate", "env")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project two folders down: what is above it is not all that other tests have left."""
    folder = tmp_path / "of" / "mine"
    folder.mkdir(parents=True)
    (folder / ".env.prod").write_text("A=1\n")
    return folder


def load(project: Path, changes: Mapping[str, Any]) -> config.Setup | None:
    """Load a configuration; None when it is refused as it should be: exit code 2, with the key's path."""
    try:
        return config.load({"project": "app", "envs": {"prod": {"hosts": ["web1"]}}, **changes}, project, "prod")
    except ConfigError as error:
        said = error.what
    assert said.startswith("deploy")
    return None


unhurried = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@unhurried
@given(st.sampled_from(KEYS), anything)
def test_any_value_of_any_key_is_taken_or_refused_by_its_path(project: Path, key: str, value: Any) -> None:
    load(project, {key: value})


@unhurried
@given(st.dictionaries(st.sampled_from(KEYS) | nasty, anything, max_size=3))
def test_any_value_of_any_key_of_an_env_is_taken_or_refused_by_its_path(project: Path, own: dict[str, Any]) -> None:
    load(project, {"envs": {"prod": {"hosts": ["web1"], **own}}})


@unhurried
@given(anything)
def test_any_envs_are_taken_or_refused(project: Path, envs: Any) -> None:
    load(project, {"envs": envs})


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize("text", NASTY, ids=repr)
def test_any_text_for_a_path_is_taken_or_refused(project: Path, key: str, text: str) -> None:
    setup = load(project, {"envs": {"prod": {"hosts": ["web1"], key: text}}} if key == "dotenv" else {key: text})
    if setup is not None and key in {"source", "templates"}:
        with contextlib.suppress(SourceError):
            source.read(setup.source, templates=Templates(setup.templates), secret=frozenset())
        with contextlib.suppress(SourceError):
            Templates(setup.templates).read("colour.yml")


@pytest.mark.parametrize("key", NAMES)
@pytest.mark.parametrize("text", NASTY, ids=repr)
def test_text_that_is_taken_is_one_word_to_every_shell(project: Path, key: str, text: str) -> None:
    setup = load(project, {key: text})
    if setup is None:
        return
    words = [value for name, value in facts.variables(setup.app) if name not in {"RELEASE", "COMPOSE"}]
    assert all(re.fullmatch(r"[\w./:\[\]-]+", word) for word in words), words
    assert not any(word.startswith("-") for word in words)


@unhurried
@given(nasty | st.text(st.sampled_from("aA1.-_:@[]%/ "), max_size=12))
def test_any_host_is_a_place_or_refused_by_its_path(project: Path, text: str) -> None:
    setup = load(project, {"envs": {"prod": {"hosts": [text]}}})
    if setup is not None:
        (host,) = setup.hosts
        assert re.fullmatch(r"[\w.:-]+", host.address)
        assert not host.address.startswith("-")
        assert host.port is None or 0 < host.port < 65536


@unhurried
@given(nasty)
def test_any_flag_is_taken_or_refused(project: Path, text: str) -> None:
    data = {"project": "app", "envs": {"prod": {"hosts": ["web1"]}}}
    for flags in ({"env": text}, {"hosts": text}, {"settle": text}):
        with contextlib.suppress(ConfigError):
            config.load(data, project, **flags)


# --- the compose files -----------------------------------------------------------------------------------------


def made(project: Path, **files: str) -> release.Made:
    (project / "templates").mkdir(exist_ok=True)
    texts = {"colour": "services: {web: {}}", "setting_prod": "services: {nginx: {}}", **files}
    for name, text in texts.items():
        (project / "templates" / f"{name}.yml").write_text(text)
    setup = config.load({"project": "app", "envs": {"prod": {"hosts": ["web1"]}}}, project)
    return release.make(setup, Tree({}, "test"), Templates(setup.templates))


@pytest.mark.parametrize(
    "text",
    [
        "services:\n  nginx:\n    ports: !reset []\n",
        "services:\n  nginx:\n    ports: !override\n      - 80:80\n",
        "services:\n  nginx: !reset null\n",
        "services:\n  nginx:\n    image: !reset ~\n    environment: !override {A: '1'}\n",
    ],
)
def test_the_tags_of_compose_are_yaml(project: Path, text: str) -> None:
    assert made(project, setting_prod=text).release.definitions


def test_a_tag_counts_in_a_definition(project: Path) -> None:
    texts = ("services: {nginx: {ports: [a]}}", "services: {nginx: {ports: !override [a]}}")
    one, other = (made(project, setting_prod=text).release.definitions for text in texts)
    assert one != other


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services:\n\t- a\n", "setting_prod.yml is no YAML: .*line 2"),
        ("services: {nginx: &a {x: *b}}\n", "setting_prod.yml is no YAML: .*undefined alias"),
        ("services: [nginx]\n", "setting_prod.yml: expected a compose file with `services:`"),
        ("services: {nginx: 3}\n", r"setting_prod.yml: services\.nginx: expected keys below it"),
        ("services: {1: {}, nginx: {}}\n", r"setting_prod.yml: services\.1: expected a name"),
        ("services: {nginx: [a]}\n", r"setting_prod.yml: services\.nginx: expected keys below it, got \['a'\]"),
        ("services: {nginx: {environment: {NO: '1', A: x}}}\n", r"services\.nginx\.environment\.False: .* in quotes"),
        ("services: {nginx: {environment: [{2: a}]}}\n", r"services\.nginx\.environment\[0\]\.2: expected a name"),
        ("services: {nginx: }\nvolumes: {d: local}\n", r"setting_prod.yml: volumes\.d: expected keys below it"),
        ("services: {nginx: }\nnetworks: [a]\n", r"setting_prod.yml: networks: expected names below it"),
        ("a: 1\n---\nb: 2\n", "setting_prod.yml is no YAML: expected a single document"),
        ("\0", "setting_prod.yml"),
        ("services: {nginx: {x: !!timestamp nope}}\n", "setting_prod.yml is no YAML"),
        ("a: &a [*a]\nservices: {nginx: {x: *a}}\n", "setting_prod.yml is no YAML: Circular reference"),
    ],
    ids=repr,
)
def test_a_compose_file_with_an_error_is_refused_by_its_name(project: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        made(project, setting_prod=text)


@pytest.mark.long
@unhurried
@given(st.text(st.sampled_from("services: nginx{}[]&*!-|>#'\"\n\t%@`") | st.characters(), max_size=40))
def test_any_compose_file_is_taken_or_refused(project: Path, text: str) -> None:
    for content in (text, f"services:\n  nginx:\n    x: {text}\n"):
        with contextlib.suppress(ConfigError):
            made(project, setting_prod=content.encode(errors="replace").decode())


# --- around it all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deploy:\n  envs: {prod: {hosts: [a]}\n", "line 2"),
        ("deploy: {envs: {no: {hosts: [a]}}}\n", "no, on and off need quotes"),
        ("deploy: \xff\n", "invoke.yaml cannot be read"),
        ("[1, 2]\n", ""),
        ("deploy: 3\n", "expected a part `deploy:`"),
    ],
)
def test_an_invoke_yaml_with_an_error_ends_in_a_message(project: Path, text: str, said: str) -> None:
    (project / "invoke.yaml").write_text(text, encoding="latin-1")
    done = inv(project, "plan")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("words", [("history", "--lines=abc"), ("history", "--lines=-1"), ("deploy", "--settle=soon")])
def test_a_number_that_is_none_is_refused(project: Path, words: tuple[str, ...]) -> None:
    (project / "invoke.yaml").write_text("deploy: {project: app, envs: {prod: {hosts: [web1.invalid]}}}\n")
    done = inv(project, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"--(lines|settle): expected .* number; got '", done.stderr)


def inv(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (project / "tasks.py").write_text("from deploy.tasks import ns\n")
    return subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
