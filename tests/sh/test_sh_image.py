"""An image on its way: what is told of it, what is cut out of it, and what an engine that refuses it answers."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from deploy.recipe import image, shell
from deploy.recipe.image import Image

if TYPE_CHECKING:
    from pathlib import Path

    from rig import Rig

INFO = "info --format {{.DriverStatus}}"
INSPECT = "image inspect -f {{range .RootFS.Layers}}{{.}} {{end}}|{{.Id}} app:r1"
HERE = "image inspect app:r1"
OLD = {"a" * 64: b"base" * 500, "b" * 64: b"pip" * 700, "c" * 64: b"app" * 900}
"""Layers by the folder that engine 20.10 gives each of them."""


def old_layout() -> bytes:
    """What engine 20.10 saves: a folder for each layer, in the order of their names, then what says which is which."""
    files = {
        f"{name}/{part}": data
        for name, content in OLD.items()
        for part, data in (("layer.tar", content), ("json", b"{}"))
    }
    names = [f"{name}/layer.tar" for name in reversed(OLD)]
    return packed({**files, "manifest.json": manifest(names)})


def new_layout() -> bytes:
    """What engines since 25 save."""
    files = {f"blobs/sha256/{name}": content for name, content in OLD.items()}
    return packed(
        {**files, "index.json": b"{}", "manifest.json": manifest([f"blobs/sha256/{name}" for name in reversed(OLD)])}
    )


def manifest(names: list[str]) -> bytes:
    sources = {f"sha256:{name}": {"mediaType": "x", "size": 1} for name in OLD}
    data = [{"Config": "config.json", "RepoTags": ["app:r1"], "Layers": names, "LayerSources": sources}]
    return json.dumps(data, separators=(",", ":")).encode()


def packed(files: dict[str, bytes]) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return file.getvalue()


def unpacked(payload: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(payload))) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]


def saves(rig: Rig, tmp_path: Path, content: bytes, status: int = 0) -> None:
    (tmp_path / "image.tar").write_bytes(content)
    rig.docker("save app:r1", does=f"cat {tmp_path}/image.tar", status=status)


@pytest.mark.parametrize("layout", [old_layout, new_layout])
def test_the_layers_of_these_numbers_stay_at_home(rig: Rig, tmp_path: Path, layout: object) -> None:
    whole = layout()  # type: ignore[operator]
    saves(rig, tmp_path, whole)
    payload, said = rig.fetch(image.send([0, 2]))
    assert said.finished, said.text
    names = [name for name in unpacked(payload) if name.startswith(("blobs", *OLD)) and not name.endswith("json")]
    if rig.kind == "busybox":  # its tar cannot cut a stream: all of it goes
        assert len(names) == 3
    else:
        assert [name for name in names if "b" * 64 in name] == names
        assert len(names) == 1
    assert unpacked(payload)["manifest.json"] == unpacked(gzip.compress(whole))["manifest.json"]


def test_all_of_it_is_what_the_engine_saved(rig: Rig, tmp_path: Path) -> None:
    saves(rig, tmp_path, old_layout())
    payload, said = rig.fetch(image.send([]))
    assert said.finished
    assert gzip.decompress(payload) == old_layout()
    assert rig.said == ["docker save app:r1"]


@pytest.mark.parametrize("without", [[], [0]])
def test_an_image_that_cannot_be_read_to_its_end_is_no_payload(rig: Rig, tmp_path: Path, without: list[int]) -> None:
    saves(rig, tmp_path, old_layout(), status=1)
    _, said = rig.fetch(image.send(without))
    assert not said.finished
    assert said.ends == {0: 1}
    assert "save" in said.text


def test_an_image_that_is_cut_short_is_no_payload(rig: Rig, tmp_path: Path) -> None:
    """The engine says that all is well, and the stream ends in the middle."""
    if rig.kind == "busybox":
        pytest.skip("it takes nothing out, so it reads nothing")
    saves(rig, tmp_path, new_layout()[:4000])
    _, said = rig.fetch(image.send([0]))
    assert not said.finished
    (tmp_path / "whole.tar").write_bytes(new_layout())
    rig.docker("save app:r1", does=f"cat {tmp_path}/whole.tar; mv {tmp_path}/image.tar {tmp_path}/whole.tar")
    _, said = rig.fetch(image.send([0]))
    assert not said.finished
    assert said.lines[-1].endswith("the image could not be read: tar")


def test_an_image_that_cannot_be_pressed_is_no_payload(rig: Rig, tmp_path: Path) -> None:
    saves(rig, tmp_path, old_layout())
    rig.program("gzip", "cat >/dev/null; exit 1")
    _, said = rig.fetch(image.send([]))
    assert (said.ends, said.lines) == ({0: 1}, ["the image could not be read: gzip"])


# --- what is told ----------------------------------------------------------------------------------------------


def test_what_was_built_is_told_by_its_layers_and_its_id(rig: Rig) -> None:
    rig.docker(INSPECT, "sha256:a sha256:b |sha256:i\n")
    rig.docker(INFO, "[[Backing Filesystem extfs]]\n")
    (answer,) = rig.run(shell.command("tell_built")).answers
    assert image.read_built(answer) == Image(("sha256:a", "sha256:b"), "sha256:i")


def test_ids_of_containerd_s_store_are_not_told(rig: Rig) -> None:
    rig.docker(INSPECT, "sha256:a sha256:b |sha256:i\n")
    rig.docker(INFO, "[[driver-type io.containerd.snapshotter.v1]]\n")
    (answer,) = rig.run(shell.command("tell_built")).answers
    assert image.read_built(answer) == Image(("sha256:a", "sha256:b"), "")


def test_an_image_that_is_not_there_is_not_told_of(rig: Rig) -> None:
    rig.docker(INSPECT, status=1)
    assert not rig.run(shell.command("tell_built")).finished


def test_the_layers_of_every_image_are_told_each_once(rig: Rig) -> None:
    rig.docker(INFO, "[[Backing Filesystem extfs]]\n")
    rig.docker("images -aq --no-trunc", "i1\ni2\ni3\n")
    layers = "image inspect -f {{range .RootFS.Layers}}{{.}} {{end}} i1 i2 i3"
    rig.docker(layers, "sha256:a sha256:b \nsha256:a \nsha256:a sha256:b \n", status=1)  # one went meanwhile
    answers = rig.run(shell.command("tell_layers")).answers
    assert [image.read_layers(answer) for answer in answers] == [("sha256:a",), ("sha256:a", "sha256:b")]


def test_a_host_without_images_tells_nothing(rig: Rig) -> None:
    rig.docker(INFO, "[]\n")
    rig.docker("images -aq --no-trunc")
    outcome = rig.run(shell.command("tell_layers"))
    assert outcome.finished
    assert not outcome.answers


def test_containerd_s_store_tells_no_layers(rig: Rig) -> None:
    """It would take an image without them, say that all is well, and be unable to start it."""
    rig.docker(INFO, "[[driver-type io.containerd.snapshotter.v1]]\n")
    outcome = rig.run(shell.command("tell_layers"))
    assert outcome.finished
    assert not outcome.answers


@pytest.mark.parametrize("word", ["tell_layers", "tell_built"])
def test_a_store_is_not_docker_s_own_where_docker_does_not_say(rig: Rig, word: str) -> None:
    rig.docker(INSPECT, "sha256:a |sha256:i\n")
    rig.docker("images -aq --no-trunc")
    rig.docker(INFO, does="echo 'no answer' >&2", status=1)
    outcome = rig.run(shell.command(word))
    assert (outcome.ends, outcome.lines, outcome.answers) == ({0: 1}, ["no answer"], [])


# --- what is taken ---------------------------------------------------------------------------------------------


def tells(rig: Rig) -> None:
    rig.docker(INSPECT, "sha256:a |sha256:i\n")
    rig.docker(INFO, "[]\n")


def test_an_image_is_loaded_from_what_follows_the_script(rig: Rig, tmp_path: Path) -> None:
    rig.docker(HERE, status=[1, 0])
    rig.docker("load -q", "Loaded image: app:r1\n", does=f"cat >{tmp_path}/loaded")
    tells(rig)
    payload = bytes(range(256)) * 100
    outcome = rig.run(shell.command("take_image"), payload=payload)
    assert outcome.finished
    assert outcome.values("built") == [("sha256:a", "sha256:i")]
    assert (tmp_path / "loaded").read_bytes() == payload


def test_an_image_that_is_there_is_not_loaded_again(rig: Rig) -> None:
    rig.docker(HERE)
    tells(rig)
    outcome = rig.run(shell.command("take_image"), payload=b"whatever")
    assert outcome.finished
    assert outcome.values("built")
    assert "docker load -q" not in rig.said


def test_an_engine_that_refuses_says_why_and_is_no_failure(rig: Rig) -> None:
    rig.docker(HERE, status=1)
    rig.docker("load -q", does="echo 'open blobs/x:' >&2; echo 'no\tsuch file' >&2", status=1)
    outcome = rig.run(shell.command("take_image"), payload=b"half an image")
    assert outcome.finished
    assert outcome.values("refused") == [("open blobs/x:; no such file",)]
    assert not outcome.values("built")


def test_an_engine_that_loads_another_image_has_refused_ours(rig: Rig) -> None:
    rig.docker(HERE, status=1)
    rig.docker("load -q", "Loaded image: other:1\n")
    outcome = rig.run(shell.command("take_image"), payload=b"x")
    assert outcome.values("refused") == [("Loaded image: other:1",)]


def test_an_image_that_could_not_be_unpacked_is_not_kept(rig: Rig) -> None:
    """The store of containerd says so in words, and ends with status 0."""
    rig.docker(HERE, status=[1, 1])
    rig.docker("load -q", "Loaded image: app:r1\nError unpacking image app:r1: content digest not found\n")
    rig.docker("image rm app:r1", "Untagged: app:r1\n")
    outcome = rig.run(shell.command("take_image"), payload=b"x")
    assert "docker image rm app:r1" in rig.said
    ((why,),) = outcome.values("refused")
    assert "content digest not found" in why
