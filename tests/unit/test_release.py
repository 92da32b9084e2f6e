"""A release in the making: its id, what makes it another one, and the files that hosts get of it."""

from __future__ import annotations

import datetime
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy import clock, config, release
from deploy.errors import ConfigError, SourceError
from deploy.recipe import facts
from deploy.recipe.steps import Parcel
from deploy.source import Templates, Tree

COLOUR = "services:\n  web:\n    image: ${GREENROOM_IMAGE}\n"
SETTINGS = """services:
  nginx: {image: "nginx:1.30"}
  redis: {image: "redis:8", environment: {REDISCLI_AUTH: $REDIS_PASSWORD}}
  celery: {image: "${GREENROOM_IMAGE}", env_file: [.env]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which everything is its own, made at one moment."""
    moment = datetime.datetime(2026, 11, 22, 7, 19, 55, tzinfo=datetime.timezone.utc)
    monkeypatch.setattr(clock, "utc_now", lambda: moment)
    write(tmp_path, "templates/colour.yml", COLOUR)
    write(tmp_path, "templates/setting_prod.yml", SETTINGS)
    write(tmp_path, "templates/nginx/nginx.conf", "events {}\n")
    write(tmp_path, "templates/nginx/app.conf", "server {}\n")
    write(tmp_path, ".env.prod", "REDIS_PASSWORD=s3cret\nDEBUG=0\n")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


TREE = Tree({}, "main 1a2b3c4 words", "1a2b3c4", stamps={"app.py": "f 1"})


def make(folder: Path, tree: Tree = TREE, **changes: Any) -> release.Made:
    data = {"project": "app", "workers": ["celery"], "envs": {"prod": {"hosts": ["web1"]}}, **changes}
    setup = config.load(data, folder)
    return release.make(setup, tree, Templates(setup.templates))


def files(made: release.Made) -> dict[str, bytes]:
    return {file.name: file.content for file in made.own_files}


# --- the id ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "ident"),
    [
        (TREE, "20261122-071955-1a2b3c4"),
        (replace(TREE, dirty=True), "20261122-071955-1a2b3c4-dirty"),
        (Tree({}, "folder"), "20261122-071955"),
        (Tree({}, "folder", dirty=True), "20261122-071955-dirty"),
    ],
)
def test_an_id_sorts_by_time_and_carries_the_revision(folder: Path, tree: Tree, ident: str) -> None:
    assert make(folder, tree).release.id == ident


def test_a_release_knows_where_it_came_from_and_who_made_it(folder: Path) -> None:
    made = make(folder).release
    assert (made.revision, made.origin) == ("1a2b3c4", "main 1a2b3c4 words")
    assert "@" in made.who
    assert made.who == release.who()


# --- the fingerprint -------------------------------------------------------------------------------------------


def test_the_same_project_has_the_same_fingerprint_at_any_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make(folder).release
    later = datetime.datetime(2027, 1, 1, tzinfo=datetime.timezone.utc)
    monkeypatch.setattr(clock, "utc_now", lambda: later)
    other = replace(TREE, revision="0000000", origin="elsewhere", dirty=True)
    after = make(folder, other).release
    assert before.id != after.id
    assert before.fingerprint == after.fingerprint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env.prod", "REDIS_PASSWORD=s3cret\nDEBUG=1\n"),
        ("templates/colour.yml", COLOUR + "    init: true\n"),
        ("templates/setting_prod.yml", SETTINGS.replace("redis:8", "redis:8.2")),
        ("templates/nginx/app.conf", "server { listen 81; }\n"),
        ("templates/nginx/new.conf", ""),
    ],
)
def test_every_file_that_a_host_gets_counts(folder: Path, name: str, text: str) -> None:
    before = make(folder).release.fingerprint
    write(folder, name, text)
    assert make(folder).release.fingerprint != before


@pytest.mark.parametrize(
    "change",
    [
        {"migrate": "python manage.py migrate"},
        {"workers": []},
        {"singletons": ["redis"]},
        {"network": "other"},
        {"volumes": ["static"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_configuration_makes_of_them_counts(folder: Path, change: dict[str, Any]) -> None:
    assert make(folder, **change).release.fingerprint != make(folder).release.fingerprint


def test_the_source_counts(folder: Path) -> None:
    other = replace(TREE, stamps={"app.py": "x 1"})
    assert make(folder, other).release.fingerprint != make(folder).release.fingerprint


def test_what_only_this_side_needs_does_not_count(folder: Path) -> None:
    same = make(folder, settle=0, drain=5, keep=9, ssh={"connect_timeout": 3}, build_timeout=60)
    assert same.release.fingerprint == make(folder).release.fingerprint


def test_the_nginx_confs_have_a_digest_of_their_own(folder: Path) -> None:
    before = make(folder).release.conf
    assert len(before) == 16
    write(folder, ".env.prod", "OTHER=1\n")
    assert make(folder).release.conf == before
    (folder / "templates/nginx/app.conf").rename(folder / "templates/nginx/bpp.conf")
    assert make(folder).release.conf != before


# --- the files -------------------------------------------------------------------------------------------------


def test_a_host_gets_the_templates_as_they_are_the_env_file_and_the_labels(folder: Path) -> None:
    made = make(folder)
    at, conf = f"releases/{made.release.id}", f"nginx/{made.release.conf}"
    got = files(made)
    assert got.keys() == {
        f"{conf}/nginx.conf", f"{conf}/app.conf",
        f"{at}/colour.yml", f"{at}/setting_prod.yml", f"{at}/definitions.json", f"{at}/.env",
    }  # fmt: skip
    assert got[f"{at}/colour.yml"] == COLOUR.encode()
    assert got[f"{at}/.env"] == b"REDIS_PASSWORD=s3cret\nDEBUG=0\n"
    labels = json.loads(got[f"{at}/definitions.json"])["services"]
    assert {name: each["labels"]["greenroom.definition"] for name, each in labels.items()} == dict(
        made.release.definitions
    )


def test_everything_of_a_release_is_for_the_login_s_eyes_only(folder: Path) -> None:
    modes = {file.name: file.mode for file in release.replacing(make(folder), "").own_files}
    assert set(modes.values()) == {0o600}


def test_two_colour_files_both_go(folder: Path) -> None:
    write(folder, "templates/b.yml", COLOUR)
    write(folder, "templates/g.yml", COLOUR)
    made = make(folder, colours={"blue": "b.yml", "green": "g.yml"})
    assert {name.rpartition("/")[2] for name in files(made) if name.endswith(".yml")} == {
        "b.yml",
        "g.yml",
        "setting_prod.yml",
    }


def test_the_record_says_what_is_replaced_and_can_be_read_back(folder: Path) -> None:
    made = make(folder)
    again = release.replacing(made, "r0")
    assert again.release == replace(made.release, replaces="r0")
    record = files(again)[f"releases/{made.release.id}/release.json"].decode()
    assert record.count("\n") == 1
    assert facts.record_of(record) == again.release
    assert files(made).items() < files(again).items()


def test_no_value_of_the_env_file_is_in_the_record(folder: Path) -> None:
    record = files(release.replacing(make(folder), ""))
    assert not [name for name, text in record.items() if b"s3cret" in text and not name.endswith("/.env")]


@pytest.mark.parametrize("conf", [True, False])
def test_a_parcel_holds_the_conf_only_where_a_host_does_not_use_it_yet(folder: Path, conf: bool) -> None:
    made = release.replacing(make(folder), "")
    with release.pack(TREE, made, Parcel(made.release.id, conf=conf)) as bundle, tarfile.open(fileobj=bundle) as tar:
        names = tar.getnames()
    assert any(name.startswith(f"nginx/{made.release.conf}.part/") for name in names) is conf
    assert not [name for name in names if name.startswith(f"nginx/{made.release.conf}/")]
    assert f"releases/{made.release.id}.part/.env" in names


def test_hosts_that_lack_the_same_share_one_tar_and_read_it_each_from_its_beginning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = release.replacing(make(folder), ""), release.pack
    packed: list[Parcel] = []

    def pack(*words: Any) -> Any:
        packed.append(words[2])
        return real(*words)

    monkeypatch.setattr(release, "pack", pack)
    parcels = release.Parcels(TREE, made)
    same, other = Parcel(made.release.id), Parcel(made.release.id, conf=False)
    with parcels.open(same) as one, parcels.open(same) as two:
        begun = one.read(100)
        whole = two.read()
        assert begun + one.read() == whole
    with parcels.open(same) as later, parcels.open(other) as less:
        assert later.read() == whole
        assert less.read() != whole
    assert packed == [same, other]


def test_a_source_that_changed_is_told_to_every_host_that_asks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, tries = release.replacing(make(folder), ""), []

    def pack(*_: Any) -> Any:
        tries.append(1)
        raise SourceError("a.py has changed since the deploy began")

    monkeypatch.setattr(release, "pack", pack)
    parcels = release.Parcels(TREE, made)
    for _ in range(2):
        with pytest.raises(SourceError, match="has changed"):
            parcels.open(Parcel(made.release.id))
    assert len(tries) == 1


# --- from one compose file -------------------------------------------------------------------------------------

ONE = """services:
  web: {build: ., ports: ["8080:3000"]}
  jobs: {build: .}
  db: {image: "postgres:17", volumes: ["pgdata:/data"]}
"""


def one(folder: Path, **stack: Any) -> release.Made:
    if not (folder / "compose.yaml").exists():
        write(folder, "compose.yaml", ONE)
    keys = {"file": "compose.yaml", "coloured": ["web"], **stack}
    (folder / "none").mkdir(exist_ok=True)
    data = {"project": "shop", "templates": "none", "stack": keys, "envs": {"prod": {"hosts": ["web1"]}}}
    setup = config.load(data, folder)
    return release.make(setup, TREE, Templates(setup.templates))


def test_one_compose_file_makes_both_and_fits_nginx_to_it(folder: Path) -> None:
    made = one(folder)
    assert list(made.compose_files) == ["colour.yml", "setting_prod.yml"]
    assert "image: ${GREENROOM_IMAGE}" in made.compose_files["colour.yml"]
    assert dict(made.release.definitions).keys() == {"jobs", "db", "nginx"}
    (colours,) = [file.content for file in made.own_files if file.name.endswith("/colours.conf")]
    assert b"server web-blue:3000 resolve" in colours
    assert any("nginx publishes 8080" in note for note in made.notes)


def test_what_is_derived_is_part_of_the_fingerprint(folder: Path) -> None:
    before = one(folder).release.fingerprint
    assert one(folder).release.fingerprint == before
    assert one(folder, name="old").release.fingerprint != before


def test_a_project_s_own_confs_go_as_they_are_and_are_looked_at(folder: Path) -> None:
    write(folder, "none/nginx/nginx.conf", "server web-blue:8000;")
    made = one(folder)
    assert [f.content for f in made.own_files if f.name.startswith("nginx/")] == [b"server web-blue:8000;"]
    assert any("names web-blue:3000" in note for note in made.notes)
    write(folder, "none/nginx/nginx.conf", "server web-blue:3000;")
    assert not any("names web-blue:3000" in note for note in one(folder).notes)


def test_a_project_s_own_proxy_is_found_by_its_name_or_asked_for(folder: Path) -> None:
    write(folder, "none/setting_prod.yml", "services: {proxy: {image: nginx}}")
    with pytest.raises(ConfigError, match="proxy from its service nginx; it has: proxy\ncall it nginx there"):
        one(folder)
    write(folder, "none/setting_prod.yml", "services: {nginx: {image: ours}}")
    assert "image: ours" in one(folder).compose_files["setting_prod.yml"]


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("colour.yml", "services: [", r"templates/colour.yml is no YAML: while parsing"),
        ("colour.yml", "- web\n", r"templates/colour.yml: expected a compose file with `services:`"),
        ("colour.yml", "services:\n", r"expected a compose file"),
        ("colour.yml", "", r"expected a compose file"),
        ("colour.yml", "a: !!python/object/apply:os.getcwd []\n", r"is no YAML"),
        ("colour.yml", "services: {app: {}}\n", r"service: templates/colour.yml has no service web; it has: app"),
        ("setting_prod.yml", "services: {redis: {}, celery: {}}\n", r"proxy: .* no service nginx; it has: celery"),
        ("setting_prod.yml", "services: {nginx: {}}\n", r"deploy.workers: .* has no service celery"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_work_is_refused(folder: Path, name: str, text: str, said: str) -> None:
    write(folder, f"templates/{name}", text)
    with pytest.raises(ConfigError, match=said):
        make(folder)


def test_a_singleton_that_does_not_exist_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"deploy.singletons: templates/setting_prod.yml has no service beat"):
        make(folder, singletons=["beat"])


def test_an_error_in_a_template_shows_no_more_than_one_line(folder: Path) -> None:
    write(folder, "templates/colour.yml", "services: [\n\n  {")
    with pytest.raises(ConfigError) as caught:
        make(folder)
    assert "\n" not in caught.value.what


def test_the_templates_that_come_with_greenroom_make_a_release(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    made = make(folder, templates=str(tmp_path / "none"), workers=["celery", "celery-beat"], singletons=["postgres"])
    assert {name for name, _ in made.release.definitions} == {"nginx", "redis", "postgres", "celery", "celery-beat"}
