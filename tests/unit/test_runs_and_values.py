"""What single hosts are for, and the values that are theirs alone: what is written, and what is refused by its key."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy import config, release
from deploy.console.redact import HIDDEN, redactor
from deploy.errors import ConfigError
from deploy.recipe.steps import Parcel
from deploy.source import Templates, Tree

if TYPE_CHECKING:
    from deploy.recipe.model import Host

HOSTS = ["deploy@web1", "web2:2222", "jobs1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.prod").write_text("A=1\nDB_PASSWORD=common-secret")
    return tmp_path


def load(folder: Path, **keys: Any) -> config.Setup:
    env = {"hosts": HOSTS, **keys}
    top = {key: env.pop(key) for key in ("singletons",) if key in env}
    return config.load({"project": "app", "workers": ["celery"], **top, "envs": {"prod": env}}, folder)


def make(setup: config.Setup) -> release.Made:
    return release.make(setup, Tree({}, "folder"), Templates(setup.templates))


def own_file(made: release.Made, host: Host, name: str) -> bytes:
    return next(file.content for file in made.of(host).own_files if file.name.endswith(f"/{name}"))


# --- values ----------------------------------------------------------------------------------------------------


def test_values_of_a_host_stand_at_the_end_of_its_env_file_and_of_no_other(folder: Path) -> None:
    setup = load(folder, values={"web2": {"A": 7, "NOTE": "two words # here"}})
    web1, web2, jobs1 = setup.hosts
    made = make(setup)
    assert own_file(made, web1, ".env") == own_file(made, jobs1, ".env") == b"A=1\nDB_PASSWORD=common-secret"
    assert own_file(made, web2, ".env") == (
        b"A=1\nDB_PASSWORD=common-secret\n# of this host alone\nA='7'\nNOTE='two words # here'\n"
    )
    assert setup.env_of(web2).values == {"A": "7", "DB_PASSWORD": "common-secret", "NOTE": "two words # here"}
    assert {file.mode for file in made.of(web2).own_files if file.name.endswith(".env")} == {0o600}


def test_definitions_of_a_host_follow_its_values(folder: Path) -> None:
    setup = load(folder, values={"web2": {"POSTGRES_PORT": 6000}})
    web1, web2, _ = setup.hosts
    made = make(setup)
    common, own = dict(made.of(web1).release.definitions), dict(made.of(web2).release.definitions)
    assert {name for name in common if common[name] != own[name]} == {"postgres", "celery", "celery-beat"}
    assert made.of(web1).release.fingerprint == made.of(web2).release.fingerprint
    again = make(load(folder, values={"web2": {"POSTGRES_PORT": 6001}}))
    assert again.release.fingerprint != made.release.fingerprint
    assert make(load(folder)).release.fingerprint == make(load(folder, values={"web2": {}})).release.fingerprint


def test_the_parcel_of_a_host_holds_its_own_files(folder: Path) -> None:
    setup = load(folder, values={"web2": {"A": 7}})
    made = release.replacing(make(setup), "r0")
    found = {}
    for host in setup.hosts[:2]:
        parcel = Parcel(made.release.id, host=host)
        with release.pack(Tree({}, "folder"), made, parcel) as bundle, tarfile.open(fileobj=bundle) as tar:
            member = tar.extractfile(f"releases/{made.release.id}.part/.env")
            assert member
            found[host] = member.read()
            assert f"releases/{made.release.id}.part/release.json" in tar.getnames()
    assert found == {host: setup.env_of(host).content for host in setup.hosts[:2]}
    assert made.of(setup.hosts[1]).release.replaces == "r0"


def test_hosts_without_values_of_their_own_share_a_tar(folder: Path) -> None:
    setup = load(folder, values={"web2": {"A": 7}})
    made = release.replacing(make(setup), "r0")
    parcels = release.Parcels(Tree({}, "folder"), made)
    web1, web2, jobs1 = (parcels.open(Parcel(made.release.id, host=host)).read() for host in setup.hosts)
    assert web1 == jobs1 != web2
    assert len(parcels._packed) == 2


def test_values_of_a_host_are_as_secret_as_those_of_all(folder: Path) -> None:
    setup = load(folder, values={"jobs1": {"API_TOKEN": "tellnobody"}})
    hide = redactor(setup.env, setup.readings)
    assert hide("tellnobody common-secret") == f"{HIDDEN} {HIDDEN}"
    assert "tellnobody" not in repr(setup)
    assert "tellnobody" not in repr(setup.env_of(setup.hosts[2]))


def test_hosts_that_are_entered_by_another_login_keep_their_values_and_what_they_run(folder: Path) -> None:
    setup = config.entered_by(load(folder, values={"web1": {"A": 7}}, runs={"jobs1": ["celery"]}), "root")
    assert setup.env_of(setup.hosts[0]).values["A"] == "7"
    assert [host.runs for host in setup.hosts] == [(), (), ("celery",)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"web9": {}}, r"deploy\.envs\.prod\.values: web9 is not in deploy\.envs\.prod\.hosts; did you mean web"),
        ({"web1": {"A": True}}, r"deploy\.envs\.prod\.values\.web1\.A: expected a text or a whole number"),
        ({"web1": {"A": 1.1}}, r"deploy\.envs\.prod\.values\.web1\.A: expected a text or a whole number"),
        ({"web1": {"A": ["zebra"]}}, r"deploy\.envs\.prod\.values\.web1\.A: expected a text"),
        ({"web1": {"A": "it's zebra"}}, r"deploy\.envs\.prod\.values\.web1\.A: .* not every compose"),
        ({"web1": {"A": "${zebra}"}}, r"deploy\.envs\.prod\.values\.web1\.A: .* not every compose"),
        ({"web1": {"A": "$$zebra"}}, r"deploy\.envs\.prod\.values\.web1\.A: .* not every compose"),
        ({"web1": {"A": "zebra\\"}}, r"deploy\.envs\.prod\.values\.web1\.A: .* not every compose"),
        ({"web1": {"A": "zebra'\nB='x"}}, r"deploy\.envs\.prod\.values\.web1\.A: .* not every compose"),
        ({"web1": {"A B": "zebra"}}, r"deploy\.envs\.prod\.values\.web1\.A B: .* not every compose"),
        ({"web1": {"DOCKER_HOST": "zebra"}}, r"deploy\.envs\.prod\.values\.web1\.DOCKER_HOST: "),
        ({"web1": "zebra"}, r"deploy\.envs\.prod\.values\.web1: expected keys below it; found something else"),
        ({"web1": ["zebra"]}, r"deploy\.envs\.prod\.values\.web1: expected keys below it; found a list"),
    ],
)
def test_what_no_host_has_or_not_every_compose_reads_is_refused_without_its_value(
    folder: Path, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(folder, values=values)
    assert "zebra" not in str(caught.value)


# --- runs ------------------------------------------------------------------------------------------------------


def test_a_plain_list_of_hosts_runs_all_on_each(folder: Path) -> None:
    hosts = load(folder).hosts
    assert [host.runs for host in hosts] == [(), (), ()]
    assert all(host.takes("web") and host.takes("whatever") for host in hosts)


def test_a_host_is_named_with_its_port_or_without(folder: Path) -> None:
    setup = load(folder, runs={"web2:2222": ["web"], "jobs1": ["celery", "redis"]})
    assert [host.runs for host in setup.hosts] == [(), ("web",), ("celery", "redis")]
    assert [host.runs for host in setup.app.hosts] == [(), ("web",), ("celery", "redis")]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"runs": {"job1": ["celery"]}}, r"prod\.runs: job1 is not in deploy\.envs\.prod\.hosts; did you mean jobs1\?"),
        ({"runs": {"jobs1": []}}, r"prod\.runs\.jobs1: expected at least one service"),
        ({"runs": {"jobs1": ["ce lery"]}}, r"prod\.runs\.jobs1\[0\]: expected the name of a service"),
        ({"runs": {"jobs1": "celery"}}, r"prod\.runs\.jobs1: expected a list; found .celery."),
        (
            {"runs": {"web1": ["celery", "wep"], "web2": ["celery"], "jobs1": ["celery"]}},
            r"prod\.runs\.web1\[1\]: wep; did you mean web\? As it is, no host runs web",
        ),
        (
            {"runs": {key: ["celery"] for key in ["web1", "web2", "jobs1"]}},
            r"prod\.runs: no host runs web: users would have nowhere to go",
        ),
        ({"runs": {"jobs1": ["nginx"]}}, r"prod\.runs\.jobs1: nginx runs where web does, and nowhere else"),
        (
            {"runs": {"jobs1": ["celery-beat"], "web1": ["web", "celery-beat"]}, "singletons": ["celery-beat"]},
            r"celery-beat is one of deploy\.singletons, and named for web1 and jobs1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(folder: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(folder, **keys)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (
            {"jobs1": ["redis", "celeri"]},
            r"prod\.runs\.jobs1\[1\]: there is no service celeri; did you mean celery\?; there are: web, ",
        ),
        (
            {"web1": ["web", "celery"], "web2": ["web"], "jobs1": ["celery", "redis", "postgres"]},
            r"prod\.runs: no host runs celery-beat of setting_prod\.yml",
        ),
    ],
)
def test_services_that_nobody_has_or_nobody_runs_are_refused(folder: Path, runs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(load(folder, runs=runs))
