"""Files on a host: the manifest, what arrives, what goes, what is written for people."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import EACH_SHELL, Rig, lacks
from test_sh_observe import has_docker

from deploy.recipe import facts, files, manifest, shell
from deploy.source import File, Leaf, Tree, pack


def plant(folder: Path, leaves: dict[str, Leaf]) -> None:
    """Write leaves below a folder, by other means than tar."""
    for path, leaf in leaves.items():
        full = folder / path
        full.parent.mkdir(parents=True, exist_ok=True)
        if leaf.link is not None:
            full.symlink_to(leaf.link)
        else:
            assert isinstance(leaf.content, bytes)
            full.write_bytes(leaf.content)
            full.chmod(0o755 if leaf.executable else 0o644)


def file(content: bytes = b"x", *, executable: bool = False) -> Leaf:
    return Leaf(executable, None, content)


def link(target: str) -> Leaf:
    return Leaf(executable=False, link=target, content=b"")


def stamps_of(leaves: dict[str, Leaf]) -> dict[str, str]:
    return {path: leaf.stamp() for path, leaf in leaves.items()}


NASTY = {
    "plain.py": file(b"print(1)\n"),
    "empty": file(b""),
    "bin/run me.sh": file(b"#!/bin/sh\n", executable=True),
    "-n": file(b"leading dash"),
    "-rf/--help": file(b"leading dashes"),
    "a 'quoted' \"name\"": file(),
    "$HOME/`id`;rm -rf *": file(),
    "täst/日本語 é.txt": file(),
    " leading and trailing ": file(),
    "two  ./blanks": file(),
    "tab\there": file(),
    "tab": file(),
    "star*?[a]": file(),
    "!bang#hash%percent": file(),
    ".hidden/.env.example": file(),
    "link": link("plain.py"),
    "link to nowhere": link("../../no where/$x"),
    "link-to-é": link("é"),
    "dir link": link("bin"),
    "-link": link("-n"),
    "back\\slash link": link("back\\slash"),
}
ESCAPED = {
    "new\nline": file(),
    "\nfirst": file(executable=True),
    "back\\slash": file(),
    "both\\n\nof them": file(),
    "return\rhere": file(),
    "ends\n": file(),
    "l\nn\\k\r": link("plain.py"),
}
"""Names that a line cannot hold as they are."""


def compare(rig: Rig, leaves: dict[str, Leaf]) -> None:
    """The host's digest is ours; its list reads as ours; and so does what it tells of it where it differs."""
    stamps = stamps_of(leaves)
    has_docker(rig)
    (rig.base / "source").mkdir(parents=True, exist_ok=True)
    plant(rig.base / "source", leaves)
    assert facts.read(rig.look(facts.observe(stamps)).answers).source_same
    kept = list(stamps)[1:]
    differing = {"else": file().stamp()}, {path: stamps[path] for path in kept}, {**stamps, "more": link("x").stamp()}
    for source in differing:
        seen = facts.read(rig.look(facts.observe(source)).answers, source)
        assert seen.source_same == (source == stamps)
        assert seen.source_same or dict(seen.source) == stamps


def test_the_manifest_of_nasty_names_is_ours_byte_for_byte(rig: Rig) -> None:
    compare(rig, {**NASTY, **ESCAPED})


def test_the_owner_s_bit_decides_whether_a_file_is_executable(rig: Rig) -> None:
    """It is the one that git and the other side look at."""
    plant(rig.base / "source", {"mine": file(), "theirs": file()})
    (rig.base / "source" / "mine").chmod(0o744)
    (rig.base / "source" / "theirs").chmod(0o655)
    has_docker(rig)
    seen = dict(facts.read(rig.look(facts.observe({})).answers).source)
    assert {path: stamp[0] for path, stamp in seen.items()} == {"mine": "x", "theirs": "f"}


def test_an_empty_source_has_our_digest(rig: Rig) -> None:
    compare(rig, {})


def test_of_a_source_only_the_parts_that_differ_are_told(rig: Rig) -> None:
    leaves = {f"many/{number}": file(f"{number}".encode()) for number in range(2000)}
    has_docker(rig)
    plant(rig.base / "source", leaves)
    stamps = stamps_of(leaves)
    source = {**stamps, "many/7": file(b"edited").stamp(), "new": file().stamp()}
    del source["many/8"]
    outcome = rig.look(facts.observe(source))
    assert len(outcome.values("file")) < 2000 / 256 * 4 * 2
    assert not list(Path(tempfile.gettempdir()).glob("tmp.*/00"))
    seen = facts.read(outcome.answers, source)
    assert dict(seen.source) == stamps
    assert len(seen.source) == len(stamps)
    assert files.lacking(source, seen) == {"many/7", "new"}
    assert files.stale(source, seen) == ("many/8",)


def test_a_host_without_room_to_sort_tells_all(rig: Rig) -> None:
    leaves = {f"{number}": file(f"{number}".encode()) for number in range(20)}
    has_docker(rig)
    plant(rig.base / "source", leaves)
    source = {**stamps_of(leaves), "7": file(b"edited").stamp()}
    for mktemp in ("exit 1", "echo /nowhere/at/all"):
        rig.program("mktemp", mktemp)
        outcome = rig.look(facts.observe(source))
        assert outcome.finished
        assert (len(outcome.values("file")), outcome.values("differs")) == (20, [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": file(b"1")}, {"a": file(b"2")}),
        ({"a": file(b"1")}, {"b": file(b"1")}),
        ({"a": file()}, {"a": file(executable=True)}),
        ({"a": file(b"b")}, {"a": link("b")}),
        ({"a": link("b")}, {"a": link("c")}),
        ({"a": file()}, {"a": file(), "b": file()}),
    ],
    ids=["content", "name", "executable", "link", "target", "more"],
)
def test_every_difference_shows_in_the_digest(before: dict[str, Leaf], after: dict[str, Leaf]) -> None:
    assert manifest.digest(stamps_of(before)) != manifest.digest(stamps_of(after))


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00/", exclude_categories=["Cs"])
    | st.sampled_from(" -$'\"\\\t\n\r~"),
    min_size=1,
    max_size=8,
).filter(lambda name: name not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
leaf = st.builds(file, st.binary(max_size=4), executable=st.booleans())
links = st.builds(link, names)


@pytest.mark.parametrize("kind", EACH_SHELL)
def test_the_manifest_of_any_tree_is_ours_byte_for_byte(kind: str, tmp_path: Path) -> None:
    if reason := lacks(kind):
        pytest.skip(reason)

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(paths, leaf, max_size=8), st.dictionaries(names, links, max_size=2))
    def check(plain: dict[str, Leaf], linked: dict[str, Leaf]) -> None:
        leaves: dict[str, Leaf] = {}
        for path, each in [*linked.items(), *plain.items()]:
            if not any(p == path or p.startswith(f"{path}/") or path.startswith(f"{p}/") for p in leaves):
                leaves[path] = each
        rig = Rig(Path(tempfile.mkdtemp(dir=tmp_path)), kind)
        compare(rig, leaves)
        rig.close()

    check()


# --- what arrives ----------------------------------------------------------------------------------------------


def parcel(leaves: dict[str, Leaf], *own: File) -> bytes:
    with pack(Tree(leaves, "test"), leaves, own) as packed:
        return packed.read()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def tree_of(folder: Path) -> dict[str, str]:
    """Return the stamps of what lies below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = link(str(path.readlink())).stamp()
        elif path.is_file():
            found[name] = file(path.read_bytes(), executable=bool(mode(path) & 0o100)).stamp()
    return found


def test_what_was_packed_is_what_is_unpacked(rig: Rig) -> None:
    leaves = {**NASTY, **ESCAPED, "deep/" * 30 + "a long name": file(), "é" * 120: file()}
    outcome = rig.run(shell.command("receive"), payload=parcel(leaves))
    assert outcome.finished, outcome.text
    assert tree_of(rig.base / "source") == stamps_of(leaves)


def test_received_files_have_their_modes_whatever_the_host_s_umask(rig: Rig) -> None:
    own = (
        File("releases/r1/.env", b"SECRET=1\n", 0o600),
        File("releases/r1/colour.yml", b"services: {}\n", 0o600),
        File("nginx/c1/nginx.conf", b"events {}\n"),
    )
    leaves = {"run": file(executable=True), "dir/read": file()}
    outcome = rig.run(shell.command("umask", "077"), shell.command("receive"), payload=parcel(leaves, *own))
    assert outcome.finished, outcome.text
    assert {name: oct(mode(rig.base / name)) for name in (
        "releases/r1", "releases/r1/.env", "releases/r1/colour.yml",
        "nginx/c1", "nginx/c1/nginx.conf", "source/run", "source/dir", "source/dir/read",
    )} == {
        "releases/r1": "0o700", "releases/r1/.env": "0o600", "releases/r1/colour.yml": "0o600",
        "nginx/c1": "0o755", "nginx/c1/nginx.conf": "0o644", "source/run": "0o755", "source/dir": "0o755",
        "source/dir/read": "0o644",
    }  # fmt: skip
    assert (rig.base / "releases/r1/.env").read_bytes() == b"SECRET=1\n"


def test_an_env_file_is_never_readable_by_others_not_even_on_its_way(rig: Rig) -> None:
    """The directory stands before its files in the parcel, and is closed to others before they come."""
    payload = parcel({}, File("releases/r1/.env", b"x" * 100_000, 0o600))
    with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
        modes = [(member.name, member.mode) for member in tar]
    assert modes == [("releases/r1", 0o700), ("releases/r1/.env", 0o600)]
    assert rig.run(shell.command("receive"), payload=payload).finished


def test_a_release_s_files_are_there_all_at_once_or_not_at_all(rig: Rig) -> None:
    own = (
        File("releases/r1.part/.env", b"S=1\n", 0o600),
        File("releases/r1.part/big", bytes(range(256)) * 4096, 0o600),
    )
    payload = parcel({}, *own)
    assert not rig.run(shell.command("receive"), payload=payload[: len(payload) // 2]).finished
    assert not (rig.base / "releases" / "r1").exists()
    assert rig.run(shell.command("receive"), payload=payload).finished
    assert [path.name for path in (rig.base / "releases").iterdir()] == ["r1"]
    assert oct(mode(rig.base / "releases" / "r1")) == "0o700"
    assert sorted(path.name for path in (rig.base / "releases" / "r1").iterdir()) == [".env", "big"]


def test_an_nginx_configuration_is_there_all_at_once_or_not_at_all(rig: Rig) -> None:
    """A reload that is said again sends nothing of one that is there."""
    (rig.base / "nginx" / "c2").mkdir(parents=True)
    (rig.base / "nginx" / "c2" / "before").touch()
    confs = (
        File("nginx/c1.part/nginx.conf", b"events {}\n"),
        File("nginx/c2.part/big", bytes(range(256)) * 4096),
    )
    payload = parcel({}, *confs)
    assert not rig.run(shell.command("receive"), payload=payload[: len(payload) // 2], RELEASE="").finished
    assert not (rig.base / "nginx" / "c1").exists()
    assert [path.name for path in (rig.base / "nginx" / "c2").iterdir()] == ["before"]
    assert rig.run(shell.command("receive"), payload=payload, RELEASE="").finished
    assert sorted(path.name for path in (rig.base / "nginx").iterdir()) == ["c1", "c2"]
    assert [path.name for path in (rig.base / "nginx" / "c2").iterdir()] == ["big"]
    assert oct(mode(rig.base / "nginx" / "c1")) == "0o755"


def test_what_was_half_received_of_an_nginx_configuration_goes(rig: Rig) -> None:
    (rig.base / "nginx" / "c1.part").mkdir(parents=True)
    assert rig.run(shell.command("receive"), payload=parcel({})).finished
    assert list((rig.base / "nginx").iterdir()) == []


def test_a_release_may_come_twice(rig: Rig) -> None:
    payload = parcel({}, File("releases/r1.part/.env", b"S=1\n", 0o600))
    for _ in range(2):
        assert rig.run(shell.command("receive"), payload=payload).finished
    assert [path.name for path in (rig.base / "releases").iterdir()] == ["r1"]
    assert [path.name for path in (rig.base / "releases" / "r1").iterdir()] == [".env"]


def test_what_a_dead_run_left_half_received_goes(rig: Rig) -> None:
    rig.release("r0.part")
    assert rig.run(shell.command("receive"), payload=parcel({})).finished
    assert list((rig.base / "releases").iterdir()) == []


def test_a_parcel_beyond_64_kib_arrives_whole(rig: Rig) -> None:
    leaves = {"big": file(bytes(range(256)) * 4096)}
    assert rig.run(shell.command("receive"), payload=parcel(leaves)).finished
    assert tree_of(rig.base / "source") == stamps_of(leaves)


def test_a_parcel_that_is_cut_off_fails_the_step(rig: Rig) -> None:
    payload = parcel({"big": file(bytes(range(256)) * 4096)})
    outcome = rig.run(shell.command("receive"), payload=payload[: len(payload) // 2])
    assert outcome.ends[0] != 0
    assert not outcome.finished


def test_files_become_links_and_links_become_files(rig: Rig) -> None:
    before = {"one": file(b"1"), "two": link("one"), "keep": file(b"k")}
    after = {"one": link("keep"), "two": file(b"2"), "keep": file(b"k")}
    assert rig.run(shell.command("receive"), payload=parcel(before)).finished
    assert rig.run(shell.command("receive"), payload=parcel(after)).finished
    assert tree_of(rig.base / "source") == stamps_of(after)


def test_an_executable_file_may_lose_its_bit(rig: Rig) -> None:
    assert rig.run(shell.command("receive"), payload=parcel({"a": file(executable=True)})).finished
    assert rig.run(shell.command("receive"), payload=parcel({"a": file()})).finished
    assert tree_of(rig.base / "source") == stamps_of({"a": file()})


# --- what goes -------------------------------------------------------------------------------------------------


def test_stale_files_go_and_so_do_the_directories_that_this_leaves_empty(rig: Rig) -> None:
    plant(rig.base / "source", {"a/b/c/old.py": file(), "a/b/old.py": file(), "keep/new.py": file(), "-n": file(),
                                "old link": link("keep"), "with 'quote'": file()})  # fmt: skip
    gone = ("a/b/c/old.py", "a/b/old.py", "-n", "old link", "with 'quote'")
    assert rig.run(shell.command("remove_stale", *gone)).finished
    assert sorted(p.name for p in (rig.base / "source").iterdir()) == ["keep"]
    assert (rig.base / "source" / "keep" / "new.py").exists()


def test_a_source_without_files_is_still_a_directory(rig: Rig) -> None:
    plant(rig.base / "source", {"old.py": file()})
    assert rig.run(shell.command("remove_stale", "old.py")).finished
    assert (rig.base / "source").is_dir()


def test_a_file_may_take_the_place_of_a_directory_and_the_reverse(rig: Rig) -> None:
    before = {"was-dir/deep/a": file(), "was-file": file()}
    after = {"was-dir": file(b"1"), "was-file/deep/a": file(b"2")}
    assert rig.run(shell.command("receive"), payload=parcel(before)).finished
    assert rig.run(shell.command("remove_stale", *before), shell.command("receive"), payload=parcel(after)).finished
    assert tree_of(rig.base / "source") == stamps_of(after)


def test_removing_what_is_gone_already_is_fine(rig: Rig) -> None:
    (rig.base / "source").mkdir()
    assert rig.run(shell.command("remove_stale", "never/was")).finished


def test_forget_removes_a_release_and_its_image(rig: Rig) -> None:
    for ident in ("r1", "r2", "r3"):
        rig.release(ident)
    rig.docker("image rm app:r1")
    rig.docker("image rm app:r2", status=1)  # it was gone already
    rig.docker("images -q app:r2")
    assert rig.run(shell.command("forget", "r1", "r2")).finished
    assert [path.name for path in (rig.base / "releases").iterdir()] == ["r3"]


@pytest.mark.parametrize("answer", [{"says": "5f2a"}, {"status": 1}], ids=["still-used", "engine-away"])
def test_a_release_whose_image_docker_keeps_is_kept_for_the_next_to_forget(rig: Rig, answer: dict[str, Any]) -> None:
    rig.release("r1")
    rig.docker("image rm app:r1", status=1)
    rig.docker("images -q app:r1", **answer)
    assert rig.run(shell.command("forget", "r1")).finished
    assert (rig.base / "releases" / "r1").is_dir()


@pytest.mark.parametrize("word", ["forget", "forget_confs"])
@pytest.mark.parametrize("live", [True, False], ids=["with-a-live-conf", "without"])
def test_an_empty_name_is_never_a_reason_to_delete_everything(rig: Rig, word: str, live: bool) -> None:
    rig.rooms()
    rig.release("r1")
    (rig.base / "nginx" / "c1").mkdir()
    if live:
        (rig.base / "nginx" / "live").symlink_to("c1")
    rig.docker("image rm app:", status=1)
    rig.docker("images -q app:")
    before = sorted(rig.base.rglob("*"))
    rig.run(shell.command(word, ""))
    assert sorted(rig.base.rglob("*")) == before


def test_forget_confs_leaves_the_one_in_use(rig: Rig) -> None:
    rig.rooms()
    for name in ("c1", "c2", "c3"):
        (rig.base / "nginx" / name).mkdir()
    (rig.base / "nginx" / "live").symlink_to("c2")
    assert rig.run(shell.command("forget_confs", "c1", "c2")).finished
    assert sorted(path.name for path in (rig.base / "nginx").iterdir()) == ["c2", "c3", "live"]


# --- what is written for people --------------------------------------------------------------------------------


def test_a_record_is_one_valid_json_line_with_the_host_s_own_time(rig: Rig) -> None:
    said = {"who": "ann@laptop", "outcome": 'undone: 100% "quoted" \\n $HOME `id` é \'', "from": ""}
    other = shell.command("record", json.dumps({**said, "from": "r0"}))
    command = shell.command("record", json.dumps(said))
    (rig.base / "run").write_text("one\n")
    assert rig.run(command, other, command).finished
    lines = (rig.base / "history.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].partition(",")[2] == lines[2].partition(",")[2]
    read = json.loads(lines[0])
    assert read.pop("at") > 1_700_000_000
    assert read == {"run": "one", **said}
    assert facts.history_of(lines[0])["who"] == "ann@laptop"


def test_a_record_whose_end_was_not_heard_is_not_written_twice(rig: Rig) -> None:
    command = shell.command("record", json.dumps({"who": "ann", "outcome": "done, 100% $x `id` \\ é"}))
    (rig.base / "run").write_text("one\n")
    (rig.base / "history.jsonl").write_text('{"at": 1795362457, "run": "zero", "who": "bob"}\n')
    for _ in range(2):
        assert rig.run(command).finished
    assert len((rig.base / "history.jsonl").read_text().splitlines()) == 2


def test_a_record_of_another_run_is_written_though_it_says_the_same(rig: Rig) -> None:
    """The same service is restarted again, a day later. The line before may be of before there were runs in it."""
    said = {"who": "ann", "what": "settings.restart", "outcome": "redis"}
    (rig.base / "history.jsonl").write_text(json.dumps({"at": 1795362457, **said}) + "\n")
    for run in ("one", "two"):
        (rig.base / "run").write_text(f"{run}\n")
        assert rig.run(shell.command("record", json.dumps(said))).finished
    lines = [json.loads(line) for line in (rig.base / "history.jsonl").read_text().splitlines()]
    assert [line.get("run") for line in lines] == [None, "one", "two"]
    assert [facts.history_of(json.dumps(line))["outcome"] for line in lines] == ["redis"] * 3


def test_a_release_is_marked_as_served_now_and_unmarked(rig: Rig) -> None:
    folder = rig.release("r1")
    assert rig.run(shell.command("mark_served")).finished
    assert int((folder / "served").read_text()) > 1_700_000_000
    assert oct(mode(folder / "served")) == "0o600"
    assert rig.run(shell.command("unmark_served"), shell.command("unmark_served")).finished
    assert not (folder / "served").exists()
