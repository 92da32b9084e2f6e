"""What `inv check` says of a host, from its facts and its answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.recipe import hosts
from deploy.recipe.model import App, Colour, Facts, Health, Host
from deploy.recipe.preflight import RULES, Weight
from deploy.recipe.shell import Answer

APP = App("app", "prod", (Host("web1"),), health=Health("/healthz", "app.example.com"))
FACTS = Facts(docker="26.1.5", compose="docker compose", disk_free=50 << 30, switch=Colour.GREEN)
STOPS, LOSES, NOTE = Weight.STOPS, Weight.LOSES, Weight.NOTE

WELL = [
    Answer("clock", ("1795000000",)),
    Answer("compose_version", ("2.26.1",)),
    Answer("inodes_free", ("3000000",)),
    Answer("mtu", ("1500", "1500")),
    Answer("nginx_version", ("1.30.6",)),
    Answer("live_status", ("200",)),
]


def test_a_host_that_is_well_gives_no_reason() -> None:
    assert hosts.unfit(APP, FACTS, "") == []
    assert hosts.findings(APP, FACTS, WELL, 1.5) == []


@pytest.mark.parametrize(
    ("answer", "weight", "rule", "what", "mend"),
    [
        (("port_taken", "80"), STOPS, "host", "port 80 is taken by another program", "HTTP_PORT"),
        (("nginx_version", "1.27.2"), STOPS, "nginx-version", "nginx is 1.27.2; the switch needs 1.27.3", "nginx:1.30"),
        (("nginx_version", "1.26.3"), STOPS, "nginx-version", "nginx is 1.26.3; the switch needs 1.27.3", "nginx:1.30"),
        (("nginx_version", "1.9.15"), STOPS, "nginx-version", "nginx is 1.9.15", "image: nginx:1.30 in setting_prod"),
        (("nginx_version", ""), STOPS, "nginx-version", "nginx is ", "nginx:1.30"),
        (("nginx_lacks", "curl"), STOPS, "host", "nginx's image has no curl", "official"),
        (("inodes_free", "19999"), STOPS, "disk", "only 19999 inodes are free", "prune"),
        (("mtu", "1400", "1500"), LOSES, "mtu", "send packets of 1500 bytes, the link takes 1400", "driver.mtu=1400 s"),
        (("live_status", "400"), STOPS, "allowed-hosts", "green answers 400 to GET /healthz", "ALLOWED_HOSTS"),
        (("live_status", "503"), LOSES, "no-health-rule", "app.example.com with 503", "deploy.health"),
        (("live_status", "000"), LOSES, "no-health-rule", "app.example.com with nothing", "deploy.health"),
        (("compose_version", "1.26.2"), STOPS, "compose-version", "no compose file without `version:`", "inv setup"),
        (("compose_version", "1.27.4"), NOTE, "compose-version", "older than what is tested (1.29 and 2.26)", "newer"),
        (("compose_version", "v2.17.2"), NOTE, "compose-version", "compose is v2.17.2, older", "newer"),
    ],
)
def test_each_answer_that_is_a_reason_is_named_with_its_mend(
    answer: tuple[str, ...], weight: Weight, rule: str, what: str, mend: str
) -> None:
    (found,) = hosts.findings(APP, FACTS, [Answer(answer[0], answer[1:])], 0)
    assert (found.weight, found.rule) == (weight, rule)
    assert rule in RULES
    assert what in found.what
    assert mend in found.mend


@pytest.mark.parametrize(
    "answer",
    [
        ("nginx_version", "1.27.3"),
        ("nginx_version", "1.27.10"),
        ("nginx_version", "2.0"),
        ("compose_version", "1.29.2"),
        ("compose_version", "5.0.0"),
        ("compose_version", ""),
        ("inodes_free", "20000"),
        ("mtu", "9000", "1500"),
        ("live_status", "302"),
    ],
)
def test_what_is_good_enough_is_not_named(answer: tuple[str, ...]) -> None:
    assert hosts.findings(APP, FACTS, [Answer(answer[0], answer[1:])], 0) == []


@pytest.mark.parametrize(
    ("skew", "weight", "what"),
    [
        (6.0, NOTE, "its clock is 6 s ahead of this machine's"),
        (-59.0, NOTE, "its clock is 59 s behind this machine's"),
        (-61.0, LOSES, "61 s behind this machine's: tasks that expire"),
    ],
)
def test_a_clock_that_differs_is_named(skew: float, weight: Weight, what: str) -> None:
    (found,) = hosts.findings(APP, FACTS, [], skew)
    assert (found.weight, found.rule) == (weight, "clock")
    assert what in found.what
    assert "NTP" in found.mend


def test_an_old_engine_and_a_full_disk_are_worth_knowing() -> None:
    old, full = hosts.findings(APP, replace(FACTS, docker="19.03.8", disk_free=3 << 30), [], 0)
    assert (old.weight, old.rule, old.what) == (
        NOTE,
        "compose-version",
        "docker is 19.03.8, older than what is tested (20.10)",
    )
    assert (full.weight, full.rule) == (NOTE, "disk")
    assert full.what.startswith("3.0 GiB of disk are free")


def test_another_project_s_containers_on_our_volumes_stop_a_deploy() -> None:
    (found,) = hosts.findings(APP, replace(FACTS, volume_users=(("shop_pgdata", "old-db-1", "old"),)), WELL, 0)
    assert (found.weight, found.rule) == (STOPS, "data")
    assert found.rule in RULES
    assert "old-db-1 has shop_pgdata" in found.what


def test_what_stops_a_deploy_anyway_stops_it_here_too() -> None:
    bad = replace(FACTS, lacks=("flock",), disk_free=1 << 20)
    tool, disk, locked = hosts.unfit(APP, bad, "locked by ann: holidays")
    assert (tool.rule, tool.what) == ("host", "flock is not installed")
    assert (disk.rule, disk.weight) == ("disk", STOPS)
    assert locked.what == "locked by ann: holidays"
