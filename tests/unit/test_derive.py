"""One compose file in, two out: who goes where, what changes on the way, what is kept, and what is refused."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy.errors import ConfigError
from deploy.recipe import compose, derive
from deploy.recipe.adopted import Adopted, once, outline
from deploy.source import Leaf, Tree

if TYPE_CHECKING:
    from deploy.recipe.derive import Derived

ROOT = Path(__file__).parent.parent.parent
FILES = ("Dockerfile", "conf/app.ini", "conf/nginx.conf", "init/a.sql", "media/.gitkeep", "app.env", "compose.yaml")
TREE = Tree(dict.fromkeys(FILES, Leaf(executable=False, link=None, content=b"")), "a folder")
PROXY = compose.read_raw((ROOT / "templates" / "setting_prod.yml").read_bytes(), "x")["services"]["nginx"]

SHOP = """
services:
  web:
    build: .
    ports: ["8080:8000"]
    depends_on: {db: {condition: service_healthy}, queue: {condition: service_started}}
  worker:
    build: .
    command: celery worker
    depends_on: [web, queue, db]
  db:
    image: postgres:17
    volumes: ["pgdata:/var/lib/postgresql/data"]
  queue:
    image: redis:8
volumes:
  pgdata:
"""


def adopted(text: str, **keys: Any) -> Adopted:
    document = compose.read_raw(textwrap.dedent(text).encode(), "compose.yaml")
    return Adopted("compose.yaml", document, **{"coloured": ("web",), "project": "shop", **keys})


def made(text: str, **keys: Any) -> Derived:
    one = adopted(text, **keys)
    return derive.derive(one, outline(one), PROXY, TREE.kind)


def web(lines: str, *, below: str = "", **keys: Any) -> Derived:
    """Derive from a file whose web service has these lines."""
    body = textwrap.indent(textwrap.dedent(lines), "    ")
    return made(f"services:\n  web:\n    build: .\n    expose: [8000]\n{body}\n{textwrap.dedent(below)}", **keys)


def refusal(text: str, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        made(text, **keys)
    return str(caught.value)


def services(document: dict[str, Any]) -> dict[str, Any]:
    return dict(yaml.safe_load(compose.write(document))["services"])


# --- who goes where --------------------------------------------------------------------------------------------


def test_the_coloured_service_goes_into_one_file_and_the_rest_with_nginx_into_the_other() -> None:
    both = made(SHOP)
    assert list(services(both.colour)) == ["web"]
    assert list(services(both.settings)) == ["worker", "db", "queue", "nginx"]


def test_two_colours_can_run_side_by_side() -> None:
    found = services(made(SHOP.replace("ports:", "container_name: shop-web\n    ports:")).colour)["web"]
    assert "ports" not in found
    assert "container_name" not in found
    assert found["image"] == "${GREENROOM_IMAGE}"
    assert found["build"] == {"context": "./source"}
    assert found["networks"] == {"greenroom": {"aliases": ["web-${GREENROOM_COLOUR}", "shop-web"]}}


def test_nginx_publishes_what_the_coloured_service_did() -> None:
    assert services(made(SHOP).settings)["nginx"]["ports"][0] == "${HTTP_PORT:-8080}:80"
    assert outline(adopted(SHOP)).port == 8000


def test_what_is_built_alike_is_a_worker_with_the_release_s_image() -> None:
    assert outline(adopted(SHOP)).workers == ("worker",)
    worker = services(made(SHOP).settings)["worker"]
    assert worker["image"] == "${GREENROOM_IMAGE}"
    assert "build" not in worker


def test_what_takes_the_image_by_its_name_is_a_worker_too() -> None:
    text = SHOP.replace("build: .\n    ports", "build: .\n    image: shop\n    ports")
    text = text.replace("build: .\n    command", "image: shop\n    command")
    assert outline(adopted(text)).workers == ("worker",)


def test_what_is_built_from_something_else_has_a_tag_of_its_own() -> None:
    text = SHOP.replace("build: .\n    command", "build: ./init\n    command")
    assert outline(adopted(text)).images == ((), ("worker",))
    worker = services(made(text).settings)["worker"]
    assert worker["image"] == "${GREENROOM_IMAGE}.worker"
    assert worker["build"] == {"context": "./source/init"}


def test_two_coloured_services_may_share_an_image_or_not() -> None:
    both = made(SHOP, coloured=("web", "worker"))
    assert {name: body["image"] for name, body in services(both.colour).items()} == {
        "web": "${GREENROOM_IMAGE}",
        "worker": "${GREENROOM_IMAGE}",
    }
    other = made(SHOP.replace("build: .\n    command", "build: init\n    command"), coloured=("web", "worker"))
    assert services(other.colour)["worker"]["image"] == "${GREENROOM_IMAGE}.worker"


def test_waiting_is_for_what_is_in_the_same_part() -> None:
    both = made(SHOP)
    assert "depends_on" not in services(both.colour)["web"]
    assert services(both.settings)["worker"]["depends_on"] == ["queue", "db"]
    assert any("web is replaced by each deploy" in note for note in both.notes)


def test_conditions_stay_as_they_are() -> None:
    text = SHOP.replace("depends_on: [web, queue, db]", "depends_on: {db: {condition: service_healthy}}")
    assert services(made(text).settings)["worker"]["depends_on"] == {"db": {"condition": "service_healthy"}}


def test_services_with_profiles_are_left_out() -> None:
    both = made(SHOP.replace("image: redis:8", "image: redis:8\n    profiles: [dev]"))
    assert "queue" not in services(both.settings)
    assert any(note.startswith("services.queue: left out") for note in both.notes)


# --- values stay as they were written --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scalar", ["yes", '"yes"', "1.10", "0755", "22:22", '"1e3"', "${A:-b c}", "'a: b'", "2020-01-01"]
)
def test_no_value_becomes_another(scalar: str) -> None:
    text = compose.write(web(f"environment:\n  A: {scalar}").colour).decode()
    assert f"A: {scalar.replace(chr(39), chr(34))}\n" in text


def test_anchors_are_resolved() -> None:
    found = made("x-a: &a {init: true}\nservices:\n  web: {<<: *a, build: ., expose: [8000]}\n")
    assert services(found.colour)["web"]["init"] is True


# --- ports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "port", "published"),
    [
        ('["80:8000"]', 8000, "80"),
        ("[8000:8000]", 8000, "8000"),
        ('["127.0.0.1:8080:5000"]', 5000, "127.0.0.1:8080"),
        ('["${WEB_PORT:-80}:3000"]', 3000, "${WEB_PORT:-80}"),
        ("[3000]", 3000, "80"),
        ('["53:53/udp", "81:8000/tcp"]', 8000, "81"),
        ("[{target: 8000, published: 88, host_ip: 10.0.0.1}]", 8000, "10.0.0.1:88"),
    ],
)
def test_ports_of_all_shapes_are_read(ports: str, port: int, published: str) -> None:
    shape = outline(adopted(f"services: {{web: {{build: ., ports: {ports}}}}}"))
    assert (shape.port, shape.published) == (port, published)


def test_a_port_that_is_said_wins_and_finds_its_published_one() -> None:
    shape = outline(adopted('services: {web: {build: ., ports: ["90:9000", "80:8000"]}}', port=8000))
    assert (shape.port, shape.published) == (8000, "80")


def test_the_colours_doors_keep_away_from_what_the_file_publishes() -> None:
    text = 'services:\n  web: {build: ., ports: ["8000:8000"]}\n  db: {image: x, ports: ["127.0.0.1:8001:1"]}\n'
    assert services(made(text).settings)["nginx"]["ports"] == [
        "${HTTP_PORT:-8000}:80",
        "127.0.0.1:${BLUE_PORT:-8002}:8000",
        "127.0.0.1:${GREEN_PORT:-8003}:8001",
    ]


# --- a proxy of its own ----------------------------------------------------------------------------------------

FRONT = """
services:
  web: {build: ., expose: [8000], volumes: ["static:/srv/static"]}
  proxy:
    image: nginx:alpine
    ports: ["80:80", "443:443"]
    volumes: ["static:/srv/static", "./conf/nginx.conf:/etc/nginx/nginx.conf", "/etc/letsencrypt:/etc/letsencrypt:ro"]
    depends_on: [web]
volumes: {static: }
"""


def test_a_proxy_in_front_has_to_be_named_or_left_out() -> None:
    said = refusal(FRONT)
    assert "services.proxy: it stands in front of web" in said
    assert "deploy.stack.front: proxy" in said
    assert "deploy.stack.without: [proxy]" in said


def test_greenroom_s_nginx_takes_its_ports_and_mounts_but_not_its_conf() -> None:
    both = made(FRONT, front="proxy")
    found = services(both.settings)
    assert list(found) == ["nginx"]
    assert found["nginx"]["ports"][:2] == ["${HTTP_PORT:-80}:80", "443:443"]
    assert found["nginx"]["volumes"] == [
        "./nginx:/etc/nginx/greenroom:ro",
        "./switch:/etc/nginx/switch:ro",
        "static:/srv/static",
        "/etc/letsencrypt:/etc/letsencrypt:ro",
    ]
    assert yaml.safe_load(compose.write(both.settings))["volumes"]["static"]["name"] == "shop_static"


def test_a_service_that_is_called_as_greenroom_s_nginx_is_refused() -> None:
    said = refusal("services: {web: {build: ., ports: [8000]}, nginx: {image: something}}")
    assert "services.nginx: Greenroom's own nginx is called so" in said


# --- nothing that holds data begins empty without a word -------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "below", "name"),
    [
        ({}, "", "shop_pgdata"),
        ({"name": "old"}, "", "old_pgdata"),
        ({}, "name: file", "file_pgdata"),
        ({"name": "old"}, "name: file", "old_pgdata"),
        ({}, "name: ${X}", "shop_pgdata"),
    ],
)
def test_volumes_keep_the_names_that_compose_gave_them(keys: dict[str, str], below: str, name: str) -> None:
    one = adopted(f"{SHOP}{below}\n", **keys)
    assert outline(one).volumes == (("pgdata", name),)
    document = made(f"{SHOP}{below}\n", **keys).settings
    assert yaml.safe_load(compose.write(document))["volumes"] == {"pgdata": {"external": True, "name": name}}


def test_a_volume_s_own_name_is_honoured() -> None:
    assert outline(adopted(SHOP.replace("pgdata:\n", "pgdata: {name: precious}\n", 1))).volumes == (
        ("pgdata", "precious"),
    )


@pytest.mark.parametrize("external", ["{external: true, name: precious}", "{external: {name: precious}}"])
def test_an_external_volume_is_nobody_s_to_make(external: str) -> None:
    text = SHOP.replace("  pgdata:\n", f"  pgdata: {external}\n")
    assert outline(adopted(text)).volumes == ()
    assert yaml.safe_load(compose.write(made(text).settings))["volumes"]["pgdata"] == yaml.safe_load(external)


@pytest.mark.parametrize("body", ["{driver: nfs}", "{driver_opts: {type: nfs}}"])
def test_a_volume_with_a_driver_is_refused_by_its_path(body: str) -> None:
    said = refusal(SHOP.replace("  pgdata:\n", f"  pgdata: {body}\n"))
    assert "compose.yaml: volumes.pgdata: a volume with a driver" in said
    assert "docker volume create shop_pgdata" in said


def test_a_volume_without_a_name_gets_one_for_both_colours() -> None:
    both = web("volumes: [/data]")
    assert services(both.colour)["web"]["volumes"] == ["web-data:/data"]
    assert yaml.safe_load(compose.write(both.colour))["volumes"]["web-data"]["name"] == "shop_web-data"


def test_a_folder_that_is_no_source_has_to_be_said() -> None:
    said = refusal('services: {web: {build: ., ports: [1]}, db: {image: x, volumes: ["./data:/data"]}}')
    assert "compose.yaml: services.db.volumes: ./data is not in the source" in said
    assert "deploy.stack.folder: /srv/app" in said


def test_a_folder_that_only_git_needs_holds_data() -> None:
    assert "./media is not in the source" in refusal(
        'services: {web: {build: ., ports: [1], volumes: ["./media:/srv/media"]}}'
    )


def test_a_relative_folder_goes_on_where_it_is_today() -> None:
    both = web('volumes: ["./data:/data", {type: bind, source: ../up, target: /up}]', folder="/srv/shop")
    assert services(both.colour)["web"]["volumes"] == [
        "/srv/shop/data:/data",
        {"type": "bind", "source": "/srv/up", "target": "/up"},
    ]


def test_files_of_the_source_are_mounted_from_it_read_only() -> None:
    text = 'services: {web: {build: ., ports: [1]}, db: {image: x, volumes: ["./init:/i", "./conf/app.ini:/a:z"]}}'
    found = services(made(text).settings)["db"]["volumes"]
    assert found == ["./source/init:/i:ro", "./source/conf/app.ini:/a:z,ro"]


def test_the_source_is_not_mounted_over_the_image_s_own_code() -> None:
    both = web("volumes: ['.:/app', /app/node_modules, 'cache:/app/cache']")
    assert services(both.colour)["web"]["volumes"] == ["cache:/app/cache"]
    assert yaml.safe_load(compose.write(both.colour))["volumes"].keys() == {"cache"}


WORKER = """
services:
  web: {build: ., image: shop, ports: [1]}
  worker: {WORKER}
volumes: {kept: }
"""


@pytest.mark.parametrize(
    ("worker", "left"),
    [
        ("build: ., volumes: ['.:/app', /app/node_modules, 'kept:/app/kept']", ["kept:/app/kept"]),
        ("build: ., volumes: ['./conf:/app/conf', './conf/app.ini:/a']", ["./source/conf/app.ini:/a:ro"]),
        ("image: shop, volumes: ['.:/app']", None),
        ("build: ./conf, volumes: ['./conf:/app', /app/node_modules]", None),
        ("build: {context: ., dockerfile: x}, volumes: [{type: bind, source: ., target: /app}]", None),
        ("build: ./init, volumes: ['./conf:/conf']", ["./source/conf:/conf:ro"]),
        ("build: {context: ., dockerfile: x}, volumes: ['./init:/i']", ["./source/init:/i:ro"]),
        ("image: other, volumes: ['.:/app']", ["./source:/app:ro"]),
    ],
)
def test_a_worker_runs_the_code_of_its_image_not_what_the_next_release_lays_there(
    worker: str, left: list[str] | None
) -> None:
    assert services(made(WORKER.replace("WORKER", worker)).settings)["worker"].get("volumes") == left


BUILT = """
services:
  web: {build: ., ports: [8000], volumes: ["media:/srv/media", "/srv/in:/in"]}
  db: {build: ./init, volumes: [MOUNT]}
volumes: {media: , pg: }
"""


@pytest.mark.parametrize(
    ("mount", "kept"),
    [
        ("pg:/var/lib/postgresql/data", True),
        ("{type: volume, source: pg, target: /data}", True),
        ("/srv/pg:/data", True),
        ("./data:/data", True),
        ("pg:/data:ro", False),
        ("media:/media", False),
        ("/srv/in:/in", False),
        ("./conf:/conf", False),
        ("/app/node_modules", False),
        ("/var/run/docker.sock:/var/run/docker.sock", False),
    ],
)
def test_what_is_built_apart_and_alone_keeps_something_is_no_worker_unless_somebody_says_so(
    mount: str, *, kept: bool
) -> None:
    text = BUILT.replace("MOUNT", mount if mount.startswith("{") else f'"{mount}"')
    if kept:
        said = refusal(text, folder="/srv/shop")
        assert "compose.yaml: services.db.build: it alone keeps what is in /" in said
        assert "write `image:` in place of build. If it may be away while users are there: deploy.workers: [db]" in said
    made(text, folder="/srv/shop", workers=("db",) if kept else ())


def test_a_worker_of_the_app_may_keep_what_it_likes() -> None:
    made(BUILT.replace("./init", ".").replace("MOUNT", "'pg:/data'"))


# --- the env file and other paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [".env", "[.env]", "[./.env.prod]", "{path: .env.prod}"])
def test_the_env_s_own_file_is_the_release_s(written: str) -> None:
    value = f"[{written}]" if written.startswith("{") else written
    found = services(web(f"env_file: {value}", env_files=(".env", ".env.prod")).colour)["web"]["env_file"]
    assert found in (["${GREENROOM_ENV_FILE}"], [{"path": "${GREENROOM_ENV_FILE}"}])


def test_an_env_file_of_the_source_is_taken_from_there() -> None:
    assert services(web("env_file: [app.env]").colour)["web"]["env_file"] == ["./source/app.env"]


def test_an_env_file_that_does_not_travel_is_refused() -> None:
    assert "services.web.env_file: secret.env is not in the source" in refusal(
        "services: {web: {build: ., ports: [1], env_file: secret.env}}"
    )


def test_paths_are_those_of_the_file_s_own_folder() -> None:
    both = made("services: {web: {build: .., ports: [1]}}", at="init")
    assert services(both.colour)["web"]["build"] == {"context": "./source"}
    assert "lies outside of the source" in refusal("services: {web: {build: .., ports: [1]}}")


def test_secrets_go_where_they_are_used() -> None:
    text = """
    services:
      web: {build: ., ports: [1], secrets: [key]}
      db: {image: x, secrets: [{source: other}]}
    secrets: {key: {file: ./app.env}, other: {environment: A}, unused: {file: ./nowhere}}
    """
    both = made(text)
    assert both.colour["secrets"] == {"key": {"file": "./source/app.env"}}
    assert both.settings["secrets"] == {"other": {"environment": "A"}}


@pytest.mark.parametrize("written", ["[key]", "[{source: key, target: token}]"])
def test_a_secret_that_only_a_build_uses_goes_with_the_build(written: str) -> None:
    text = f"""
    services:
      web: {{build: {{context: ., secrets: {written}}}, ports: [1]}}
      worker: {{build: {{context: ., secrets: {written}}}}}
      jobs: {{build: {{context: init, secrets: [other]}}}}
    secrets: {{key: {{file: ./app.env}}, other: {{environment: A}}, unused: {{file: ./nowhere}}}}
    """
    both = made(text)
    assert both.colour["secrets"] == {"key": {"file": "./source/app.env"}}
    assert both.settings["secrets"] == {"other": {"environment": "A"}}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("./conf", "./source/conf"),
        ("conf/../init", "./source/init"),
        (".", "./source"),
        ("/srv/conf", "/srv/conf"),
        ("${CONF}", "${CONF}"),
        ("https://example.com/a.git#main:b", "https://example.com/a.git#main:b"),
        ("docker-image://alpine:3.22", "docker-image://alpine:3.22"),
        ("service:base", "service:base"),
        ("github.com/one/two", "github.com/one/two"),
    ],
)
def test_each_context_of_a_build_is_found_where_the_source_lies(path: str, place: str) -> None:
    for shape in ("{shared: '%s'}", "['shared=%s']"):
        both = web(f"build: {{context: '.', additional_contexts: {shape % path}}}")
        assert services(both.colour)["web"]["build"] == {
            "context": "./source",
            "additional_contexts": {"shared": place},
        }
    assert services(web(f"build: '{path}'").colour)["web"]["build"] == {"context": place}


def test_a_further_context_outside_of_the_source_is_refused_by_its_path() -> None:
    assert "services.web.build.additional_contexts.x: ../x lies outside of the source" in refusal(
        "services: {web: {build: {additional_contexts: {x: ../x}}, ports: [1]}}"
    )


# --- names on the network --------------------------------------------------------------------------------------


def test_every_name_by_which_a_service_was_found_still_finds_it() -> None:
    text = """
    services:
      web: {build: ., ports: [1], links: ["db:database"]}
      db: {image: x, container_name: shop-db, networks: {back: {aliases: [sql]}}}
    networks: {back: }
    """
    found = services(made(text).settings)["db"]["networks"]["greenroom"]["aliases"]
    assert sorted(found) == ["database", "shop-db", "sql"]


def test_networks_of_others_stay() -> None:
    both = web("networks: [edge, back]", below="networks:\n  edge: {external: true}\n  back:\n")
    assert set(services(both.colour)["web"]["networks"]) == {"greenroom", "edge"}
    assert set(both.colour["networks"]) == {"greenroom", "edge"}


def test_who_names_no_network_stays_on_a_default_one_that_is_external() -> None:
    both = web("", below="networks:\n  default: {external: true, name: nginx-proxy}\n")
    assert services(both.colour)["web"]["networks"] == {
        "greenroom": {"aliases": ["web-${GREENROOM_COLOUR}"]},
        "default": None,
    }
    assert both.colour["networks"]["default"] == {"external": "true", "name": "nginx-proxy"}


def test_a_container_s_name_is_known_on_networks_of_others_but_for_that_of_two_colours() -> None:
    both = made("""
    services:
      web: {build: ., ports: [1], container_name: shop, networks: [edge]}
      db: {image: x, container_name: shop-db, networks: {edge: {aliases: [sql]}}}
    networks: {edge: {external: true}}
    """)
    assert services(both.settings)["db"]["networks"]["edge"] == {"aliases": ["sql", "shop-db"]}
    assert services(both.colour)["web"]["networks"]["edge"] is None
    said = " ".join(both.notes)
    assert "still find it by that name, others on edge do not" in said


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {web: {extends: {service: a}}}", "services.web.extends: is not followed"),
        ("include: [a.yaml]\nservices: {web: {build: .}}", "include: other files"),
        ("services: {web: {build: ., network_mode: host}}", "services.web.network_mode: blue and green"),
        ("services: {web: {build: ., volumes_from: [db]}}", "services.web.volumes_from"),
        ("services: {web: {image: nginx}}", "services.web: has no build"),
        ("services: {web: {build: .}}", "services.web: where does it listen"),
        ("services: {web: {build: ., ports: ['${P}:${P}']}}", "services.web: where does it listen"),
        ("services: {api: {build: .}}", "deploy.stack.coloured: compose.yaml has no service web; it has: api"),
        ("services: {web: {build: !reset .}}", "is no YAML"),
        ("services: {web: [a]}", "services.web: expected keys below it, got ['a']\nlike web: {…}"),
        ("services: {web: {build: .}}\nvolumes: {d: local}", "volumes.d: expected keys below it, got 'local'"),
        ("services: {web: {build: .}}\nnetworks: {x: bridge}", "networks.x: expected keys below it, got 'bridge'"),
        ("services: {web: {build: ., networks: {x: bridge}}}", "services.web.networks.x: expected keys below it"),
        ("services: {web: {build: ., ports: ['']}}", "services.web.ports[0]: found ''\ntake it out, or write it like"),
        ("services: {web: {build: ., ports: [80, ':/tcp']}}", "services.web.ports[1]: found ':/tcp'"),
        ("services: {web: {build: ., volumes: [':', /a]}}", "services.web.volumes[0]: found ':'"),
        ("services: {web: {build: ., volumes: ''}}", "services.web.volumes[0]: found ''"),
        ("services: {web: {build: ., links: [{a: b}]}}", "services.web.links[0]: found {'a': 'b'}"),
        ("services: {web: {environment: {NO: x}}}", "services.web.environment.NO: expected a name, got 'NO'\nput it"),
    ],
)
def test_what_cannot_be_derived_from_is_refused_by_its_path(text: str, said: str) -> None:
    assert said in refusal(text)


ONCE = """
services:
  web: {build: ., ports: [8000], depends_on: {migrate: {condition: service_completed_successfully}}}
  migrate: {build: ., command: [python, manage.py, migrate]}
"""


def test_what_runs_once_is_a_migration_or_nothing() -> None:
    assert "deploy.migrate: python manage.py migrate" in refusal(ONCE)
    assert list(services(made(ONCE, migrate=("python", "manage.py", "migrate")).settings)) == ["nginx"]
    assert list(services(made(ONCE, without=("migrate",)).settings)) == ["nginx"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ('[sh, -c, "a --b && c"]', "deploy.migrate: sh -c 'a --b && c'; or"),
        ('[sh, -c, "echo $$HOME"]', "deploy.migrate: sh -c 'echo $HOME'; or"),
        ("\"sh -c 'a: b'\"", "deploy.migrate: \"sh -c 'a: b'\"; or"),
        ("a && b", "deploy.migrate: a '&&' b; or"),  # compose starts no shell of its own either
        ("", "services.migrate: others wait for its end: it runs once, and is no part of a stack that stays\ndo what"),
    ],
)
def test_a_command_that_is_to_be_the_migration_is_said_with_the_words_that_it_has(command: str, said: str) -> None:
    text = f"services:\n  web: {{build: ., ports: [1], depends_on: {{migrate: {DONE}}}}}\n  migrate:\n    build: .\n"
    assert said in refusal(f"{text}    command: {command}\n")


DONE = "{condition: service_completed_successfully}"
TWICE = f"""
services:
  web: {{build: ., ports: [8000], depends_on: {{seed: {DONE}, static: {DONE}, migrate: {DONE}}}}}
  seed: {{build: ., command: ./seed all, depends_on: {{migrate: {DONE}}}}}
  migrate: {{build: ., command: [python, manage.py, migrate]}}
  static: {{build: ., command: ./static}}
"""


def test_all_that_runs_once_is_one_migration_in_the_order_in_which_one_waits_for_the_other() -> None:
    every = "python manage.py migrate && ./seed all && ./static"
    assert list(once(adopted(TWICE))) == ["migrate", "seed", "static"]
    assert f"deploy.migrate: sh -c '{every}'; or leave it out" in refusal(TWICE)
    assert list(services(made(TWICE, migrate=("sh", "-c", every)).settings)) == ["nginx"]


@pytest.mark.parametrize(
    ("name", "migrate"),
    [
        ("seed", ("python", "manage.py", "migrate")),
        ("static", ("sh", "-c", "python manage.py migrate && ./seed all")),
        ("seed", ("sh", "-c", "python manage.py migrate && ./seed allies && ./static")),
    ],
)
def test_what_runs_once_and_is_no_part_of_the_migration_is_never_left_out_as_if_it_were(
    name: str, migrate: tuple[str, ...]
) -> None:
    said = refusal(TWICE, migrate=migrate)
    assert f"compose.yaml: services.{name}: others wait for its end" in said
    assert f"deploy.stack.without: [{name}]" in said


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        ("{build: ., command: npm run seed}", True),
        ("{build: ., command: python manage.py migrate --noinput}", True),
        ("{build: ., command: [sh, -c, './wait db && alembic upgrade head']}", True),
        ("{image: minio/mc, restart: 'no'}", True),
        ("{image: minio/mc, restart: no}", True),
        ("{image: minio/mc, deploy: {restart_policy: {condition: none}}}", True),
        ("{build: ., command: celery -A shop worker}", False),
        ("{build: ., command: [sh, -c, 'python manage.py migrate && celery -A shop worker']}", False),
        ("{build: ., command: npm run seed, restart: always}", False),
        ("{build: ., command: npm run seed, deploy: {restart_policy: {delay: 5s}}}", False),
        ("{image: redis}", False),
    ],
)
def test_what_nobody_waits_for_and_nothing_restarts_is_no_worker_if_it_is_known_to_end(
    body: str, *, ends: bool
) -> None:
    text = f"services:\n  web: {{build: ., ports: [1]}}\n  it: {body}\n"
    if ends:
        said = refusal(text)
        assert "compose.yaml: services.it: nothing restarts it, so it runs once" in said
        assert "leave it out: deploy.stack.without: [it]" in said
    assert ("it" in services(made(text, without=("it",) if ends else ()).settings)) is not ends
    assert "it" in services(made(text, workers=("it",)).settings)


def test_of_what_may_end_by_itself_is_said_that_it_is_expected_to_stay() -> None:
    assert any("services.worker: no restart is said, and they are taken" in note for note in made(SHOP).notes)
    notes = made(SHOP.replace("image: redis:8", "image: redis:8\n    restart: on-failure:5")).notes
    assert any(note.startswith("services.queue.restart: each deploy expects it to run") for note in notes)


def test_of_what_stays_down_with_a_docker_that_was_killed_is_said_so() -> None:
    notes = made(SHOP.replace("image: redis:8", "image: redis:8\n    restart: unless-stopped")).notes
    assert any(note.startswith("services.queue: restart: unless-stopped: where docker is killed") for note in notes)
    assert not [note for note in made(SHOP).notes if "unless-stopped" in note]


@pytest.mark.parametrize("body", ["{image: tool, command: x}", "{build: ., entrypoint: [a], command: x}"])
def test_what_the_app_s_own_service_cannot_run_is_no_migration(body: str) -> None:
    text = ONCE.replace("{build: ., command: [python, manage.py, migrate]}", body)
    assert "do what it does yourself, and leave it out: deploy.stack.without: [migrate]" in refusal(
        text, migrate=("x",)
    )


# --- nginx -----------------------------------------------------------------------------------------------------


def test_greenroom_s_confs_are_fitted_to_the_app() -> None:
    templates = {p.name: p.read_bytes() for p in (ROOT / "templates" / "nginx").iterdir()}
    found = derive.confs(templates, "api", 3000)
    text = found["colours.conf"].decode()
    assert "server api-blue:3000 resolve" in text
    assert "server api-green:3000 resolve" in text
    assert "server web-" not in text
    assert text.count("keepalive_timeout 1s;") == 2
    assert b"/media/" not in found["files.conf"]
    assert {n: c for n, c in found.items() if n not in {"colours.conf", "files.conf"}}.items() <= templates.items()
