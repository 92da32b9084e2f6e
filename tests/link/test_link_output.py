"""What comes back: every byte of it, as text, as fast as it comes, and never more in memory than it takes."""

from __future__ import annotations

import io
import resource
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sshd import Place, printed, says

from deploy.errors import Interrupted, LinkLost, StepFailed
from deploy.machine import link
from deploy.recipe import shell
from deploy.recipe.shell import Script


class Pieces:
    """A channel that gives its bytes in pieces of given sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = data
        self._sizes = sizes

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def recv(self, most: int) -> bytes:
        size = min(self._sizes.pop(0) if self._sizes else most, most)
        piece, self._data = self._data[:size], self._data[size:]
        return piece


def lines(data: bytes, sizes: list[int]) -> list[str]:
    return list(link._lines(Pieces(data, sizes), 60, link.never))  # type: ignore[arg-type]


@given(st.text(), st.lists(st.integers(1, 7)))
@settings(deadline=None)
def test_text_is_whole_wherever_it_was_cut(text: str, sizes: list[int]) -> None:
    assert "\n".join(lines(text.encode(), sizes)) == text.removesuffix("\n")


@given(st.binary(), st.lists(st.integers(1, 7)))
@settings(deadline=None)
def test_what_is_no_text_is_read_the_same_wherever_it_was_cut(data: bytes, sizes: list[int]) -> None:
    assert "\n".join(lines(data, sizes)) == data.decode(errors="replace").removesuffix("\n")


def test_a_line_without_an_end_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LONGEST", 10)
    assert lines("ä".encode() * 30, [11] * 10) == ["ä" * 11, "ä" * 11, "ä" * 8]


@pytest.mark.parametrize("size", range(1, 40))
def test_a_mark_behind_a_line_without_an_end_is_never_cut(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(link, "LONGEST", 40)
    data = f"{'x' * 145}{shell.MARK}ours end 0 0\nmore\n".encode()
    signals = [signal for line in lines(data, [size] * 200) for signal in shell.parse(line, "ours")]
    assert "".join(s.text for s in signals if isinstance(s, shell.Line)) == "x" * 145 + "more"
    assert shell.End(0, 0) in signals


# --- 100 MB from a real host -----------------------------------------------------------------------------------


def taken(place: Place, line: str) -> tuple[int, float, int]:
    """Return how many characters came, in how many seconds, and by how many KiB this process grew."""
    machine = place.connect(place.sshd().host)
    says(machine, "echo warm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    characters = 0
    script = Script((shell.command("sh", "-c", line),), (), deadline=100)
    finished = False
    for signal in machine.run(script):
        characters += len(signal.text) if isinstance(signal, shell.Line) else 0
        finished = finished or signal == shell.Finished()
    assert finished
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return characters, time.monotonic() - began, grown


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("line", "characters"),
    [
        ("yes 'a line of a build that has eighty characters, as most of them have, more or less.' | head -c 100000000",
         98_850_575),
        ("head -c 100000000 /dev/zero | tr '\\0' x", 100_000_000),
    ],
    ids=["lines", "one line"],
)  # fmt: skip
def test_100_mb_come_without_growing(place: Place, line: str, characters: int) -> None:
    came, seconds, grown = taken(place, line)
    print(f"{100 / seconds:.0f} MB/s, {grown >> 10} MiB")
    assert abs(came - characters) < 100_000
    assert grown < 64 << 10


# --- payloads --------------------------------------------------------------------------------------------------


def fetched(place: Place, line: str, more: str = "") -> bytes:
    machine = place.connect(place.sshd(more=more).host)
    script = Script((shell.command("sh", "-c", line),), (), deadline=20, sends=True)
    payload = machine.fetch(script)
    return b"".join(iter(lambda: payload.read(1 << 16), b""))


def test_a_payload_comes_as_it_was_sent_and_apart_from_what_is_said(place: Place) -> None:
    sent = fetched(place, "echo one; head -c 5000000 /dev/zero >&3; echo two >&2; printf '\\036\\n\\377' >&3")
    assert sent == bytes(5_000_000) + b"\x1e\n\xff"


def test_what_a_login_shell_says_first_is_no_part_of_a_payload(place: Place) -> None:
    """An `echo` in .bashrc, which bash reads for sshd: it comes before anything of ours."""
    talks = 'ForceCommand head -c 100000 /dev/zero; echo Welcome; eval "$SSH_ORIGINAL_COMMAND"'
    assert fetched(place, "printf '\\n\\377' >&3", talks) == b"\n\xff"


def test_a_payload_of_a_script_that_failed_is_not_taken_for_all_of_it(place: Place) -> None:
    with pytest.raises(StepFailed, match="the disk is broken"):
        fetched(place, "echo half >&3; echo the disk is broken >&2; exit 3")


def test_a_payload_of_which_no_end_was_heard_is_not_taken_for_all_of_it(place: Place) -> None:
    with pytest.raises(LinkLost):
        fetched(place, "echo half >&3; kill -KILL $PPID; sleep 1")


def test_a_payload_that_does_not_come_is_broken_off(place: Place) -> None:
    machine = place.connect(place.sshd().host)
    stop = threading.Event()
    payload = machine.fetch(Script((shell.command("sleep", "20"),), (), deadline=60, sends=True), stop=stop.is_set)
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Interrupted):
        payload.read(1)
    payload.close()


class Broken(io.RawIOBase):
    """Something on its way from another host, whose link has gone."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: object) -> int:
        raise LinkLost("the other host is gone")


def test_a_parcel_that_cannot_be_read_is_told_as_it_is_and_the_link_stays(place: Place) -> None:
    machine = place.connect(place.sshd().host)
    with pytest.raises(LinkLost, match="the other host is gone"):
        list(machine.run(Script((shell.command("hold"),), ()), parcel=io.BufferedReader(Broken())))
    assert printed(machine, "echo still here") == ["still here"]
