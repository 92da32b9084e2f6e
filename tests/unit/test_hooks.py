"""Hooks of this machine: what they are told, what they may say, and how long they may take."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from test_plan import APP, RUNS, STAMPS, WEB1, WEB2, release

from deploy import config, hooks
from deploy.console import Console
from deploy.errors import ConfigError, Failed
from deploy.recipe import plan
from deploy.recipe.model import Hook
from deploy.recipe.steps import Phase, Plan

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "hooks"


def program(folder: Path, text: str, name: str = "hook") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def occasion(*made: Hook, limit: int = 20) -> tuple[hooks.Occasion, io.StringIO]:
    out = io.StringIO()
    console = Console(out=out)
    console.hide(lambda text: text.replace("s3cret", "***"))
    app = replace(APP, hooks=made, hook_timeout=limit)
    return hooks.Occasion(app, console, "deploy", release("r2", replaces="r1"), ("web1", "web2")), out


def test_a_hook_is_told_what_happens_as_json_and_in_its_environment(tmp_path: Path) -> None:
    told = tmp_path / "told"
    words = (program(tmp_path, f'cat >{told}; echo "$GREENROOM_HOSTS $GREENROOM_RELEASE $1" >>{told}'), "in")
    happens, _ = occasion(Hook("after-flip", words))
    happens.after(Phase.FLIP)
    facts, environment = told.read_text().splitlines()
    assert json.loads(facts) == {
        "hook": "after-flip", "verb": "deploy", "project": "app", "env": "prod", "release": "r2", "replaces": "r1",
        "revision": "", "origin": "", "who": "", "hosts": ["web1", "web2"],
    }  # fmt: skip
    assert environment == "web1 web2 r2 in"


def test_a_hook_runs_at_its_own_moment_only(tmp_path: Path) -> None:
    ran = program(tmp_path, "echo ran")
    happens, out = occasion(Hook("after-flip", (ran,)), Hook("failure", ("true",), on_host=True))
    happens.before(Phase.FLIP)
    happens.after(Phase.START)
    happens.failure("x")
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("moment", "on_host", "stands"),
    [("after-prepare", False, True), ("before-start", False, True), ("before-start", True, False),
     ("before-prepare", False, False), ("after-start", False, False)],
)  # fmt: skip
def test_what_stands_between_two_phases_is_a_program_that_runs_here(moment: str, on_host: bool, stands: bool) -> None:
    happens, _ = occasion(Hook(moment, ("true",), on_host=on_host))
    assert happens.between(Phase.PREPARE, Phase.START) is stands


def test_one_before_a_phase_may_say_no(tmp_path: Path) -> None:
    happens, _ = occasion(Hook("before-flip", (program(tmp_path, "echo the balancer is away; exit 3"),)))
    with pytest.raises(Failed, match=r"hook before-flip: .*hook failed \(exit status 3\)\n    the balancer is away"):
        happens.before(Phase.FLIP)


@pytest.mark.parametrize("words", [("false",), ("/nowhere/hook",), ("/etc/hostname",)])
def test_one_after_a_phase_or_of_a_failure_is_only_told(words: tuple[str, ...]) -> None:
    happens, out = occasion(Hook("after-flip", words), Hook("failure", words))
    happens.after(Phase.FLIP)
    happens.failure("why")
    assert out.getvalue().count("a run does not hang on this") == 2


def test_a_failure_is_told_without_secrets(tmp_path: Path) -> None:
    told = tmp_path / "told"
    happens, _ = occasion(Hook("failure", (program(tmp_path, f"cat >{told}"),)))
    happens.failure("password s3cret is wrong")
    assert json.loads(told.read_text())["error"] == "password *** is wrong"


@pytest.mark.long
def test_one_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    happens, _ = occasion(Hook("before-flip", (program(tmp_path, f"(sleep 3; touch {alive}) & sleep 60"),)), limit=1)
    began = time.monotonic()
    with pytest.raises(Failed, match=r"was ended after 1 s \(deploy.hook_timeout\)"):
        happens.before(Phase.FLIP)
    assert time.monotonic() - began < 3
    time.sleep(3)
    assert not alive.exists()


def test_what_one_that_takes_too_long_has_said_is_told(tmp_path: Path) -> None:
    happens, _ = occasion(Hook("before-flip", (program(tmp_path, "echo asking the balancer; sleep 60"),)), limit=1)
    with pytest.raises(Failed, match=r"was ended after 1 s \(deploy.hook_timeout\)\n    asking the balancer"):
        happens.before(Phase.FLIP)


def test_one_that_reads_nothing_and_says_much_is_no_trouble(tmp_path: Path) -> None:
    words = (program(tmp_path, "exec 0<&-; awk 'BEGIN { for (i = 0; i < 100000; i++) print i }'"),)
    said, trouble = hooks.run(words, {"much": "x" * 200_000}, 30)
    assert (len(said), trouble) == (100_000, "")


# --- configuration ---------------------------------------------------------------------------------------------


def load(folder: Path, **keys: Any) -> tuple[Hook, ...]:
    (folder / ".env.prod").write_text("")
    data = {"project": "app", "envs": {"prod": {"hosts": ["web1"]}}, **keys}
    return config.load(data, folder).app.hooks


def test_hooks_are_command_lines_by_moment(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        hooks={"after-finish": ["hooks/notify 'all of us'", "inv purge"], "failure": ["/opt/x"]},
        host_hooks={"after-flip": ["bin/warm"]},
    )
    assert found == (
        Hook("after-finish", (str(tmp_path / "hooks/notify"), "all of us")),
        Hook("after-finish", ("inv", "purge")),
        Hook("failure", ("/opt/x",)),
        Hook("after-flip", ("bin/warm",), on_host=True),
    )


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hooks": {"after-lunch": ["x"]}}, "deploy.hooks"),
        (
            {"hooks": {"after-flip": "x"}},
            r"deploy.hooks.after-flip: expected a list; found .x.\n.*hooks: {after-finish: ",
        ),
        (
            {"hooks": {"after-flip": [], "before-flip": ["x"], "after-start": [1]}},
            r"deploy.hooks.after-start\[0\]: expected a text; found 1",
        ),
        ({"hooks": {"after-flip": [""]}}, r"deploy.hooks.after-flip\[0\]: expected a command line"),
        ({"hooks": {"after-flip": ["'x"]}}, r"deploy.hooks.after-flip\[0\]: .* is no command line"),
        ({"host_hooks": {"before-prepare": ["x"]}}, "deploy.host_hooks"),
        ({"hook_timeout": 0}, "deploy.hook_timeout: expected at least 1"),
    ],
)
def test_what_is_no_hook_is_refused(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, **keys)


# --- on hosts --------------------------------------------------------------------------------------------------


def hooked(*made: Hook, settle: int = 30) -> Plan:
    app = replace(APP, hooks=made, hook_timeout=7, settle=settle)
    return plan.plan_deploy(app, WEB2, RUNS, release("r2", replaces="r1"), STAMPS, WEB1)


def of(planned: Plan, phase: Phase) -> list[str]:
    return [step.title for step in planned.of(phase)]


def test_a_hosts_own_hooks_stand_around_the_steps_of_a_phase() -> None:
    planned = hooked(Hook("before-flip", ("a",), on_host=True), Hook("after-flip", ("b", "c d"), on_host=True))
    first, *_, last = planned.of(Phase.FLIP)
    assert (first.title, last.title, last.deadline) == ("hook before-flip", "hook after-flip", 37)
    assert first.command.words[:3] == ("hook", "7", "must")
    assert last.command.words[:3] == ("hook", "7", "may")
    assert last.command.words[4:] == ("b", "c d")
    told = json.loads(last.command.words[3])
    assert (told["host"], told["live"], told["release"], told["verb"]) == ("web2", "blue", "r2", "deploy")


def test_a_phase_that_a_host_has_not_has_no_hooks_there() -> None:
    assert hooked(Hook("before-migrate", ("a",), on_host=True)).of(Phase.MIGRATE) == ()


@pytest.mark.parametrize("settle", [0, 30])
def test_what_may_refuse_the_finish_is_asked_before_it_while_all_can_be_undone(settle: int) -> None:
    planned = hooked(Hook("before-finish", ("a",), on_host=True), settle=settle)
    assert of(planned, Phase.SETTLE)[-1] == "hook before-finish"
    assert "hook before-finish" not in of(planned, Phase.FINISH)


def test_a_hook_of_a_failure_ends_the_undo() -> None:
    planned = hooked(Hook("failure", ("a",), on_host=True))
    assert of(planned, Phase.UNDO)[-1] == "hook failure"
    assert [phase for phase in Phase if "hook failure" in of(planned, phase)] == [Phase.UNDO]


def test_hooks_of_this_machine_are_no_steps_of_a_host() -> None:
    assert hooked(Hook("before-flip", ("a",))).steps == hooked().steps


# --- the examples ----------------------------------------------------------------------------------------------


@pytest.fixture
def posted() -> Any:
    """An address of this machine that keeps what is posted to it."""
    kept: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            kept.append((self.path, self.headers.get("Authorization", ""), self.rfile.read(size).decode()))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kept
    server.shutdown()
    server.server_close()


def example(name: str, moment: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for key, value in {**environment, "no_proxy": "*"}.items():
        monkeypatch.setenv(key, value)
    happens, out = occasion(Hook(moment, (str(EXAMPLES / name),)))
    happens.failure("it broke\nand more") if moment == "failure" else happens.after(Phase(moment.split("-")[1]))
    return out.getvalue()


def test_the_chat_hears_of_success_and_failure(posted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, kept = posted
    for moment in ("after-finish", "failure"):
        said = example("notify", moment, monkeypatch, CHAT_WEBHOOK=address)
        assert "does not hang" not in said, said
    texts = [json.loads(body)["text"] for _, _, body in kept]
    assert texts == ["app prod: r2 is live on web1, web2 (, )", "app prod: deploy of r2 failed: it broke"]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_cdn_and_the_tracker_are_told_with_their_tokens(posted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, kept = posted
    said = example("purge-cdn", "after-finish", monkeypatch, CDN_PURGE_URL=f"{address}/purge", CDN_TOKEN="t1")  # noqa: S106  # opens nothing
    tracker = {"TRACKER_RELEASES_URL": f"{address}/releases", "TRACKER_TOKEN": "t2"}
    said += example("tell-error-tracker", "after-flip", monkeypatch, **tracker)
    assert "does not hang" not in said, said
    assert [each[:2] for each in kept] == [("/purge", "Bearer t1"), ("/releases", "Bearer t2")]
    assert json.loads(kept[1][2]) == {"version": "r2", "ref": "", "environment": "prod"}


def test_hosts_are_taken_out_of_a_balancer_and_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, f'echo "$*" >>{tmp_path}/log', "ssh")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("BALANCER", "deploy@lb1")
    happens, _ = occasion(
        Hook("before-flip", (str(EXAMPLES / "balance"), "out")), Hook("after-finish", (str(EXAMPLES / "balance"), "in"))
    )
    happens.before(Phase.FLIP)
    happens.after(Phase.FINISH)
    assert (tmp_path / "log").read_text().splitlines() == [
        "deploy@lb1 touch /etc/balancer/out/web1",
        "deploy@lb1 touch /etc/balancer/out/web2",
        "deploy@lb1 rm -f /etc/balancer/out/web1",
        "deploy@lb1 rm -f /etc/balancer/out/web2",
    ]


def test_no_example_hangs_on_a_phase_that_a_deploy_may_lack() -> None:
    """With --settle=0 nothing follows settle: hosts would stay out of their balancer."""
    always = {"before-flip", "after-flip", "after-finish", "failure"}
    texts = {path.name: path.read_text() for path in EXAMPLES.iterdir()}
    texts["hooks.md"] = re.search(
        r"\n  hooks:(.*?)\n  host_hooks:", (ROOT / "docs" / "hooks.md").read_text(), re.DOTALL
    )[1]  # type: ignore[index]
    for name, text in texts.items():
        moments = set(re.findall(r"\b((?:before-|after-)\w+|failure): \[", text))
        assert moments, name
        assert moments <= always, name


def test_shellcheck_finds_nothing_in_the_examples() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    said = subprocess.run([shellcheck, *EXAMPLES.iterdir()], capture_output=True, text=True, check=False)
    assert said.stdout == ""
