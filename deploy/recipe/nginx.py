"""Steps of the switch, and what to ask nginx. Their lines stand in host/nginx.sh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.recipe import shell
from deploy.recipe.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.recipe.model import App, Colour

PORTS = {"HTTP_PORT": 80, "BLUE_PORT": 8000, "GREEN_PORT": 8001}
"""What the templates' nginx publishes on a host, by the variable of the env file that may say otherwise."""


def test_conf(digest: str) -> Step:
    return Step("test the nginx configuration", "nginx refuses it now, or never", shell.command("test_conf", digest))


def use_conf(digest: str, because: str) -> Step:
    return Step("hand nginx its configuration", because, shell.command("use_conf", digest))


def gate(app: App, colour: Colour, restarted: Mapping[str, int]) -> Step:
    """`restarted`: which of its containers had begun anew before, by id, and how often."""
    return Step(
        f"gate {colour}",
        f"GET {app.health.path} through nginx must answer, as users would ask",
        shell.command("gate", colour, app.health.timeout, *_known(restarted)),
        deadline=app.health.timeout + 30,
        patient=True,
    )


def _known(restarted: Mapping[str, int]) -> list[str]:
    return [f"{ident}:{count}" for ident, count in restarted.items()]


def switch(colour: Colour | None, because: str) -> Step:
    return Step(f"switch nginx to {colour or 'none'}", because, shell.command("switch", colour or "none"))


def await_return(app: App, colour: Colour, conf: str) -> Step:
    """`conf` is the configuration that nginx had, if it may have another one by then."""
    return Step(
        f"see that {colour} is up",
        "whoever is served is not sent to where nobody answers",
        shell.command("await_return", colour, app.health.timeout, *([conf] if conf else [])),
        deadline=app.health.timeout + 60,
    )


def await_serving(colour: Colour) -> Step:
    return Step(
        f"see nginx serve {colour}",
        "a flip that nobody saw is none",
        shell.command("await_serving", colour),
        deadline=30,
    )


def watch(app: App, colour: Colour, restarted: Mapping[str, int]) -> Step:
    """`restarted`: as for the gate."""
    return Step(
        f"watch {colour} for {app.settle} s",
        "the settle delay is spent looking",
        shell.command("watch_colour", colour, app.settle, *_known(restarted)),
        deadline=app.settle + 60,
        patient=True,
    )


def drain(app: App, colour: Colour) -> Step:
    return Step(
        f"drain {colour}",
        f"a colour is signalled when nginx holds no connection to it, or after {app.drain} s",
        shell.command("drain", colour, app.drain),
        deadline=app.drain + 30,
    )


def maintain(text: str) -> Step:
    """`text` says who wanted it and why."""
    return Step(
        "show users the maintenance page", "the doors of the deployer stay open", shell.command("maintain", text)
    )


def end_maintenance(because: str) -> Step:
    return Step("let users in", because, shell.command("end_maintenance"))


def await_maintenance(state: str) -> Step:
    return Step(
        f"see maintenance {state}",
        "a switch that nginx does not look at is none",
        shell.command("await_maintenance", state),
        deadline=30,
    )
