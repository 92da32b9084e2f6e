"""Quoting, scripts and the protocol they speak."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy import host
from deploy.recipe import shell
from deploy.recipe.shell import MARK, Alive, Answer, Begin, Command, End, Finished, Line, Script, Signal

TOKEN = "0123456789abcdef"  # noqa: S105  # it marks lines, it opens nothing

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20) | st.sampled_from(
    ["", " ", "-n", "--", "$HOME", "`id`", "$(id)", "'", '"', "\\", "a\nb", "*", "~", "!", "#", ";", "&&", "\x1e", "é"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, max_size=40))
def test_any_words_survive_a_real_sh(arguments: list[str]) -> None:
    text = f'show() {{ printf \'%s\\0\' "$#" "$@"; }}\n{shell.command("show", *arguments)}\n'
    found = subprocess.run(["sh"], input=text.encode(), capture_output=True, check=True)
    assert found.stdout.decode().split("\0")[:-1] == [str(len(arguments)), *arguments]


def test_a_command_shows_as_one_may_type_it() -> None:
    assert str(shell.command("forget", "a b", 3, "")) == "forget 'a b' 3 ''"


def test_commands_are_compared_by_their_words() -> None:
    assert shell.command("gate", "blue", 60) == Command(("gate", "blue", "60"))


# --- scripts ---------------------------------------------------------------------------------------------------


INTO_THE_APP = 'umask 022; mkdir -p "$BASE" && cd "$BASE" && BASE=$PWD || exit'


def render(*commands: Command, run: str = "", turn: int = 0, holds: bool = False) -> list[str]:
    return (
        Script(commands, (("NAME", "it's"),), run=run, turn=turn, holds=holds).render("library\n", TOKEN).splitlines()
    )


def test_a_script_that_looks_enters_no_directory_and_passes_no_fence() -> None:
    assert render(shell.command("observe", "")) == [
        "library", "", "{", "set -u", f"TOKEN={TOKEN}", "NAME='it'\"'\"'s'",
        "step 0 observe '' </dev/null", "mark finished", "}",
    ]  # fmt: skip


def test_a_script_of_a_run_works_in_the_app_s_directory_behind_the_fence() -> None:
    lines = render(shell.command("stop", "blue"), shell.command("start", "blue"), run="run id", turn=3)
    assert lines[6:] == [
        INTO_THE_APP,
        "step -1 fence 'run id' 3",
        "step 0 stop blue </dev/null",
        "step 1 start blue </dev/null",
        "unfence",
        "mark finished",
        "}",
    ]


def test_a_script_that_holds_has_no_fence_to_pass() -> None:
    lines = render(shell.command("hold", "r", 30, "who"), holds=True)
    assert lines[6:] == [INTO_THE_APP, "step 0 hold r 30 who", "mark finished", "}"]


def test_only_words_that_read_the_input_get_it() -> None:
    assert render(shell.command("receive"))[6] == "step 0 receive"


def test_root_runs_a_script_in_the_login_s_own_home() -> None:
    assert shell.waiting(sudo=True).startswith('exec sudo -n env HOME="$HOME" sh -c ')
    assert "sudo" not in shell.waiting()


def test_a_script_s_length_counts_bytes_and_not_characters() -> None:
    assert shell.framed("echo é\n") == b"8\necho \xc3\xa9\n"


# --- parse -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "signals"),
    [
        (f"{MARK}{TOKEN} begin 3", [Begin(3)]),
        (f"{MARK}{TOKEN} begin -1", [Begin(-1)]),
        (f"{MARK}{TOKEN} end 3 0", [End(3, 0)]),
        (f"{MARK}{TOKEN} end -1 75", [End(-1, 75)]),
        (f"{MARK}{TOKEN} = held", [Answer("held", ())]),
        (f"{MARK}{TOKEN} = key\tone\t\ttwo words", [Answer("key", ("one", "", "two words"))]),
        (f"{MARK}{TOKEN} = key\t", [Answer("key", ("",))]),
        (f"{MARK}{TOKEN} alive 12", [Alive()]),
        (f"{MARK}{TOKEN} finished", [Finished()]),
        ("plain", [Line("plain")]),
        ("", [Line("")]),
        (f"half a line{MARK}{TOKEN} end 0 0", [Line("half a line"), End(0, 0)]),
        (f"{MARK}another finished", [Line(f"{MARK}another finished")]),
        (f"{TOKEN} finished", [Line(f"{TOKEN} finished")]),
        (f"{MARK}{TOKEN} of another house", []),
        (f"{MARK}{TOKEN} begin", []),
        (f"{MARK}{TOKEN} end", []),
        (f"{MARK}{TOKEN} end 3", []),
        (f"half a line{MARK}{TOKEN} end -", [Line("half a line")]),
    ],
)
def test_a_line_is_read_as(line: str, signals: list[Signal]) -> None:
    assert shell.parse(line, TOKEN) == signals


@given(st.text())
def test_no_output_without_the_token_is_ever_taken_for_a_signal(text: str) -> None:
    assert shell.parse(text, TOKEN) == [Line(text)]


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(1, 9))
def test_a_payload_begins_behind_its_mark_wherever_it_was_cut(before: bytes, payload: bytes, size: int) -> None:
    opening = shell.Opening("ours")
    sent = before + f"{shell.MARK}ours payload\n".encode() + payload
    assert b"".join(opening.passed(sent[n : n + size]) for n in range(0, len(sent), size)) == payload


def test_no_word_of_the_library_is_said_twice() -> None:
    """All parts travel together: of two words of one name the later would be both."""
    parts = [path.read_text() for path in Path(host.__file__).parent.glob("*.sh")]
    found = [word for part in parts for word in re.findall(r"^(\w+)\(\)", part, re.MULTILINE)]
    assert len(found) > 100
    assert sorted(found) == sorted(set(found))
