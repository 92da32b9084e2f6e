"""Which layers travel, who builds for whom, and one read that many share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import image as ways
from deploy.errors import Interrupted, LinkLost, StepFailed
from deploy.image import Stream
from deploy.recipe import image
from deploy.recipe.image import Image
from deploy.recipe.model import App, Facts, Host
from deploy.recipe.shell import Answer

APP = App(project="app", env="prod", hosts=(Host("web1"), Host("web2"), Host("web3")))


def of(*layers: str, ident: str = "i") -> Image:
    return Image(layers, ident)


# --- which layers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "without"),
    [
        ((), ()),
        ((("x", "b"),), ()),
        ((("a", "b", "old"), ("a",)), (0, 1)),
        ((("a", "b", "c", "more"),), (0, 1, 2)),
        ((("b", "c"),), ()),  # the same layers on another base are other layers to docker
    ],
)
def test_what_lies_below_the_first_difference_is_there(there: tuple[tuple[str, ...], ...], without: object) -> None:
    assert image.present(of("a", "b", "c"), there) == without


def test_a_layer_that_comes_again_among_those_that_are_sent_is_sent() -> None:
    """Engine 20.10 saves the second one as a link to the first one's file."""
    assert image.present(of("a", "empty", "b", "new", "empty"), [("a", "empty", "b")]) == (0, 2)


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.lists(st.sampled_from("abc"), max_size=6)))
def test_whatever_is_left_out_is_there_with_all_that_lies_below_it(layers: list[str], there: list[list[str]]) -> None:
    without = image.present(of(*layers), there)
    assert all(any(layers[: n + 1] == each[: n + 1] for each in there) for n in without)


def test_what_hosts_tell_is_read() -> None:
    assert image.read_built(Answer("built", ("sha256:a sha256:b", "sha256:i"))) == of(
        "sha256:a", "sha256:b", ident="sha256:i"
    )
    assert image.read_layers(Answer("layers", ("sha256:a sha256:b",))) == ("sha256:a", "sha256:b")


def test_ids_decide_where_both_engines_have_one() -> None:
    assert image.same(of("a"), of("a"))
    assert not image.same(of("a"), of("a", ident="j"))
    assert image.same(of("a"), of("a", ident=""))
    assert not image.same(of("a"), of("b", ident=""))


def test_the_first_host_of_each_architecture_builds() -> None:
    one, two, three = APP.hosts
    seen = {one: Facts(architecture="arm64"), two: Facts(architecture="amd64"), three: Facts(architecture="arm64")}
    assert image.builders(APP, seen) == {one: one, two: two, three: one}
    assert image.builders(replace(APP, build="each"), seen) == {one: one, two: two, three: three}


# --- one read for many -----------------------------------------------------------------------------------------


class Pieces:
    """A payload in pieces. An error among them is raised; something to call is called first."""

    def __init__(self, *pieces: bytes | Exception | Callable[[], object]) -> None:
        self._pieces = iter(pieces)
        self.closed = False

    def read(self, _size: int, /) -> bytes:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                return piece
            piece()
        return b""

    def close(self) -> None:
        self.closed = True


def never() -> bool:
    return False


def readers(stream: Stream, count: int) -> list[IO[bytes]]:
    return [stream.reader() for _ in range(count)]


def at_once(all_of_them: list[IO[bytes]]) -> Iterator[bytes]:
    def read(reader: IO[bytes]) -> bytes:
        with reader:
            return reader.read()

    with ThreadPoolExecutor(len(all_of_them)) as pool:
        yield from pool.map(read, all_of_them)


def test_every_reader_gets_all_of_one_read() -> None:
    pieces = [bytes([n % 256]) * 999 for n in range(3 * ways.AHEAD)]
    source = Pieces(*pieces)
    fetched: list[Pieces] = []

    def fetch() -> Pieces:
        fetched.append(source)
        return source

    stream = Stream(fetch, never)
    for whole in at_once(readers(stream, 5)):
        assert whole == b"".join(pieces)
    assert fetched == [source]
    assert source.closed
    assert stream.size == 999 * len(pieces)


def test_the_fastest_is_never_further_ahead_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "AHEAD", 2)
    read: list[int] = []
    pieces: list[Callable[[], object] | bytes] = []
    for n in range(6):
        pieces += [lambda n=n: read.append(n), b"x" * ways.BLOCK]  # type: ignore[misc]
    fast, slow = readers(Stream(lambda: Pieces(*pieces), never), 2)
    thread = threading.Thread(target=fast.read)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    assert read == [0, 1]
    slow.read(ways.BLOCK)
    thread.join(0.5)
    assert thread.is_alive()
    assert read == [0, 1, 2]
    slow.close()  # who has gone holds nobody up
    thread.join(10)
    assert read == list(range(6))


def test_who_comes_late_shares_the_read_while_its_beginning_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "AHEAD", 1)
    stream = Stream(lambda: Pieces(b"x" * ways.BLOCK, b"y" * ways.BLOCK), never)
    (first,) = readers(stream, 1)
    first.read(ways.BLOCK)
    assert stream.begins
    first.read(ways.BLOCK)
    assert not stream.begins


def test_a_read_that_came_to_its_end_serves_who_comes_then() -> None:
    stream = Stream(lambda: Pieces(b"x"), never)
    assert [*at_once(readers(stream, 1)), *at_once(readers(stream, 1))] == [b"x", b"x"]


def test_a_read_that_everybody_left_is_over() -> None:
    source = Pieces(b"x", b"y")
    stream = Stream(lambda: source, never)
    (reader,) = readers(stream, 1)
    reader.read(1)
    reader.close()
    assert source.closed
    assert not stream.begins


@pytest.mark.parametrize("error", [LinkLost("gone"), StepFailed("no")])
def test_an_error_of_the_one_who_sends_reaches_everybody(error: Exception) -> None:
    stream = Stream(lambda: Pieces(b"x", error), never)
    for reader in readers(stream, 3):
        with pytest.raises(type(error), match=str(error)):
            reader.read()
    assert not stream.begins


def test_whoever_waits_can_be_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "AHEAD", 1)
    stop = threading.Event()
    fast, _slow = readers(Stream(lambda: Pieces(b"x" * ways.BLOCK, b"y"), stop.is_set), 2)
    assert fast.read(10)
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Interrupted):
        fast.read()
