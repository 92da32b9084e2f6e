"""What would stop a deploy on a host, or lose something there: rules over its facts and its answers to `examine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.recipe import data, standing
from deploy.recipe.confs import version_of
from deploy.recipe.preflight import Finding, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deploy.recipe.model import App, Facts
    from deploy.recipe.shell import Answer

OLDEST_NGINX = (1, 27, 3)
"""The first with `server ... resolve` in the open source edition: without it nginx never finds a new container."""

OLDEST_COMPOSE = (1, 27)
"""The first that reads a compose file without `version:` (compose's changelog)."""

TESTED_COMPOSE = {1: (1, 29), 2: (2, 26)}
"""The oldest of each line that runs in the end-to-end tests."""

OLDEST_DOCKER = (20, 10)
"""The oldest engine that runs in the end-to-end tests."""

SPARE_DISK = 5 << 30
"""Bytes below which a deploy goes through, and the next ones may not."""

LEAST_INODES = 20_000
"""Files that must be free: the layers of one Python image are about as many."""

SLOW_CLOCK, WRONG_CLOCK = 5, 60
"""Seconds of difference that are worth knowing, and from which on an app loses by them."""


def unfit(app: App, facts: Facts, locked: str) -> list[Finding]:
    """Return what stops a deploy before a host can be asked anything more. `locked` is the text of a person's lock."""
    return [
        Finding(Weight.STOPS, "disk" if "disk" in reason else "host", "", reason)
        for reason in (*standing.fitness(app, facts), *([locked] if locked else []))
    ]


def findings(app: App, facts: Facts, answers: Iterable[Answer], skew: float) -> list[Finding]:
    """Return what is to be said of a host that could take a deploy. `skew`: seconds that its clock is ahead of ours."""
    found = [*_docker(facts), *_disk(facts), *_clock(skew)]
    found += [Finding(Weight.STOPS, "data", "", reason) for reason in data.refusals(facts)]
    for answer in answers:
        found += _answer(app, facts, answer)
    return sorted(found, key=lambda each: list(Weight).index(each.weight))


def _answer(app: App, facts: Facts, answer: Answer) -> Iterator[Finding]:
    match answer.key, answer.values:
        case "port_taken", (port,):
            what = f"port {port} is taken by another program; nginx of the settings stack needs it"
            mend = "stop that program, or let nginx have another port: HTTP_PORT, BLUE_PORT, GREEN_PORT in the env file"
            yield Finding(Weight.STOPS, "host", "", what, mend)
        case "nginx_version", (version,) if version_of(version) < OLDEST_NGINX:
            what = f"nginx is {version}; the switch needs {'.'.join(map(str, OLDEST_NGINX))} or newer"
            yield Finding(Weight.STOPS, "nginx-version", "", what, f"image: nginx:1.30 in {app.settings_file}")
        case "nginx_lacks", (tool,):
            what = f"nginx's image has no {tool}: the gate looks through nginx's eyes with it"
            yield Finding(Weight.STOPS, "host", "", what, "an image that has it: the official nginx:1.30 has")
        case "inodes_free", (number,) if int(number) < LEAST_INODES:
            what = f"only {number} inodes are free, {LEAST_INODES} are needed: a file each, however small"
            yield Finding(Weight.STOPS, "disk", "", what, "docker image prune; docker builder prune")
        case "compose_version", (version,) if version:
            yield from _compose(version)
        case "mtu", (link, network) if int(network) > int(link):
            what = (
                f"containers on {app.network} send packets of {network} bytes, the link takes {link}: large ones hang"
            )
            mend = (
                "before the first deploy: docker network create "
                f"--opt com.docker.network.driver.mtu={link} {app.network}; later: take both stacks down, and "
                f"docker network rm {app.network}, first"
            )
            yield Finding(Weight.LOSES, "mtu", "", what, mend)
        case "live_status", (status,) if not status.startswith(("2", "3")):
            yield _sick(app, facts, status)


def _sick(app: App, facts: Facts, status: str) -> Finding:
    asked = f"GET {app.health.path} with Host: {app.health.host}"
    if status == "400":
        what = f"{facts.switch} answers 400 to {asked}: so does Django where ALLOWED_HOSTS lacks the host"
        mend = f"add {app.health.host} to ALLOWED_HOSTS, or say one of its names as deploy.health.host"
        return Finding(Weight.STOPS, "allowed-hosts", "", what, mend)
    what = f"{facts.switch} is live and answers {asked} with {status if status != '000' else 'nothing'}"
    mend = "a release like the live one would not pass the gate: mend deploy.health, or the app"
    return Finding(Weight.LOSES, "no-health-rule", "", what, mend)


def _compose(version: str) -> Iterator[Finding]:
    numbers = version_of(version)
    if numbers < OLDEST_COMPOSE:
        what = f"compose is {version}: it reads no compose file without `version:`"
        yield Finding(Weight.STOPS, "compose-version", "", what, "install compose 1.29, or better v2: inv setup")
    elif numbers[:2] < TESTED_COMPOSE.get(numbers[0], ()):
        tested = " and ".join(".".join(map(str, each)) for each in TESTED_COMPOSE.values())
        what = f"compose is {version}, older than what is tested ({tested})"
        yield Finding(Weight.NOTE, "compose-version", "", what, "install a newer one when it suits you")


def _docker(facts: Facts) -> Iterator[Finding]:
    if version_of(facts.docker)[:2] < OLDEST_DOCKER:
        oldest = ".".join(map(str, OLDEST_DOCKER))
        what = f"docker is {facts.docker}, older than what is tested ({oldest})"
        yield Finding(Weight.NOTE, "compose-version", "", what, "install a newer one when it suits you")


def _disk(facts: Facts) -> Iterator[Finding]:
    if facts.disk_free < SPARE_DISK:
        what = f"{facts.disk_free / (1 << 30):.1f} GiB of disk are free: enough for now, a few releases may fill them"
        yield Finding(Weight.NOTE, "disk", "", what, "docker builder prune; or a smaller deploy.keep")


def _clock(skew: float) -> Iterator[Finding]:
    if abs(skew) < SLOW_CLOCK:
        return
    loses = abs(skew) >= WRONG_CLOCK
    what = f"its clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    harm = ": tasks that expire, sessions and signed links are judged by it" if loses else ""
    mend = "let it be set by NTP: timedatectl set-ntp true (or this machine's is the wrong one)"
    yield Finding(Weight.LOSES if loses else Weight.NOTE, "clock", "", what + harm, mend)
