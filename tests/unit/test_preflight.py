"""Each reason why a deploy would stop, or lose something: a file that has it, and what is said of it, with its mend."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import config, papers, release, source
from deploy.recipe import preflight
from deploy.recipe.model import App, Colour, Health, Host
from deploy.recipe.preflight import RULES, Finding, Papers, Weight
from deploy.source import Templates

ROOT = Path(__file__).parent.parent.parent
APP = App("app", "prod", (Host("web1"),), health=Health("/healthz", "app.example.com"))

COLOUR = """
services:
  web:
    image: ${GREENROOM_IMAGE}
    build: ./source
    command: [gunicorn, mysite.wsgi, --graceful-timeout=30]
    stop_grace_period: 40s
    healthcheck: {test: [CMD, "true"]}
    volumes: [media:/srv/media]
    networks: {settings: {aliases: ["web-${GREENROOM_COLOUR}"]}}
networks: {settings: {external: true, name: "${GREENROOM_NETWORK}"}}
volumes: {media: {external: true, name: "${GREENROOM_PROJECT}-media"}}
"""

SETTINGS = """
services:
  nginx: {image: "nginx:1.30", ports: ["80:80"], volumes: ["./nginx:/etc/nginx/greenroom:ro"], networks: [settings]}
  redis: {image: "redis:8", networks: [settings], healthcheck: {test: [CMD, redis-cli, ping]}}
  celery:
    image: ${GREENROOM_IMAGE}
    command: [celery, -A, mysite, worker]
    stop_grace_period: 120s
    networks: [settings]
networks: {settings: {external: true, name: "${GREENROOM_NETWORK}"}}
"""

CONF = """
upstream blue  { zone blue 64k;  server web-blue:8000 resolve; }
upstream green { zone green 64k; server web-green:8000 resolve; }
server { location / { proxy_pass http://$live; } }
"""

DOCKERFILE = """FROM python:3.13-slim
COPY . .
ENTRYPOINT ["/app/docker-entrypoint.sh"]
"""
SCRIPT = '#!/bin/sh\nset -eu\npython manage.py collectstatic\nexec "$@"\n'


def papers_of(
    colour: str = COLOUR,
    settings: str = SETTINGS,
    conf: str = CONF,
    *,
    app: App = APP,
    green: str = "",
    env: dict[str, str] | None = None,
    **sources: str,
) -> Papers:
    """Make papers; two colour files if `green` is given. Names of `sources` are what stands before the dot."""
    stacks = {"colour.yml": colour, "setting_prod.yml": settings}
    if green:
        app = dataclasses.replace(app, colour_files=((Colour.BLUE, "colour.yml"), (Colour.GREEN, "green.yml")))
        stacks["green.yml"] = green
    files = {"Dockerfile": DOCKERFILE, "docker-entrypoint.sh": SCRIPT}
    own = {name.replace("_py", ".py").replace("entrypoint", "docker-entrypoint.sh"): v for name, v in sources.items()}
    return Papers(
        app=app,
        stacks={name: read(text) for name, text in stacks.items()},
        confs={"app.conf": conf},
        env=env or {},
        sources={**files, **own},
    )


def read(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text)
    assert isinstance(found, dict)
    return found


def with_files(*names: str) -> Papers:
    return dataclasses.replace(papers_of(), names=frozenset(names))


def edited(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new)


def test_what_is_right_is_left_alone() -> None:
    assert preflight.findings(papers_of()) == []


ALIASES = '{settings: {aliases: ["web-${GREENROOM_COLOUR}"]}}'
MEDIA = '{external: true, name: "${GREENROOM_PROJECT}-media"}'
WEB = "    stop_grace_period: 40s\n"
COMMAND = "[gunicorn, mysite.wsgi, --graceful-timeout=30]"
NGINX_MOUNT = '"./nginx:/etc/nginx/greenroom:ro"'


def colour(old: str, new: str, **more: Any) -> Papers:
    return papers_of(edited(COLOUR, old, new), **more)


def on_the_edge(line: str) -> Papers:
    """Have the web service say something to a proxy that is on a network with it."""
    edge = edited(COLOUR, "networks: {settings: {ext", "networks: {edge: {external: true}, settings: {ext")
    return papers_of(edited(edge, "    networks: {settings:", f"    {line}\n    networks: {{edge: , settings:"))


def settings(old: str, new: str) -> Papers:
    return papers_of(settings=edited(SETTINGS, old, new))


def postgres(ports: str, **env: str) -> Papers:
    text = f'  postgres: {{image: "postgres:17", ports: [{ports}], healthcheck: {{test: [CMD, pg_isready]}}}}\n'
    return papers_of(settings=edited(SETTINGS, "  celery:\n", f"{text}  celery:\n"), env=env)


DOORS = '"${HTTP_PORT:-80}:80", "127.0.0.1:${BLUE_PORT:-8000}:8000", "127.0.0.1:${GREEN_PORT:-8001}:8001"'


def beside_doors(ports: str = "", *, app: App = APP, **env: str) -> Papers:
    """Make papers whose nginx has its doors, beside a service `edge` with these ports."""
    text = edited(SETTINGS, '"80:80"', DOORS)
    return papers_of(
        settings=edited(text, "  celery:", f"  edge: {{image: x, ports: [{ports}]}}\n  celery:"), app=app, env=env
    )


STOPS, LOSES, NOTE = Weight.STOPS, Weight.LOSES, Weight.NOTE

CASES = {
    "a container_name": (
        colour(WEB, f"{WEB}    container_name: web\n"),
        (STOPS, "container-name", "colour.yml: services.web.container_name", "blue and green cannot both", "remove"),
    ),
    "a port that both colours want": (
        colour(WEB, f'{WEB}    ports: ["127.0.0.1:8000:8000"]\n'),
        (STOPS, "fixed-port", "colour.yml: services.web.ports[0]", "both want port 8000", "remove it"),
    ),
    "a port of a variable that both colours want": (
        colour(WEB, f"{WEB}    ports: [{{target: 8000, published: '${{PORT:-8000}}', host_ip: 127.0.0.1}}]\n"),
        (STOPS, "fixed-port", "colour.yml: services.web.ports[0]", "both want port 8000", "remove it"),
    ),
    "a proxy that stands where nginx is to be": (
        beside_doors('"10.0.0.5:80:8000"'),
        (
            STOPS,
            "port-twice",
            "setting_prod.yml: services.edge.ports[0]",
            "edge and nginx both want port 80, and a host has one",
            "deploy.stack.front: edge; else give nginx another one in the env file: HTTP_PORT=PORT",
        ),
    ),
    "a service at a colour's door": (
        beside_doors("{target: 1, published: 8001, host_ip: 127.0.0.1}"),
        (
            STOPS,
            "port-twice",
            "setting_prod.yml: services.edge.ports[0]",
            "edge and nginx both want port 8001",
            "give nginx another one in the env file: GREEN_PORT=PORT",
        ),
    ),
    "an env file that puts users at a colour's door": (
        beside_doors(HTTP_PORT="8000"),
        (
            STOPS,
            "port-twice",
            "setting_prod.yml: services.nginx.ports[1]",
            "nginx wants port 8000 twice",
            "give nginx another one in the env file: BLUE_PORT=PORT",
        ),
    ),
    "two services at one port": (
        beside_doors('"127.0.0.1:9000:1", "10.0.0.5:9000:1", "127.0.0.1:9000:2"'),
        (STOPS, "port-twice", "setting_prod.yml: services.edge.ports[2]", "edge wants port 9000 twice", "another port"),
    ),
    "two colours open to the world": (
        papers_of(
            edited(COLOUR, WEB, f'{WEB}    ports: ["8000:8000"]\n'),
            green=edited(COLOUR, WEB, f'{WEB}    ports: ["127.0.0.1:8001:8000"]\n'),
        ),
        (LOSES, "open-port", "colour.yml: services.web.ports[0]", "published on 8000 for the whole world", "remove"),
    ),
    "a database open to the world": (
        postgres('"${POSTGRES_BIND:-0.0.0.0}:5432:5432"'),
        (LOSES, "open-port", "setting_prod.yml: services.postgres.ports[0]", "reaches its data", "127.0.0.1:5432:5432"),
    ),
    "a database on a public address": (
        postgres('"${POSTGRES_BIND}:5432:5432"', POSTGRES_BIND="8.8.8.8"),
        (LOSES, "open-port", "setting_prod.yml: services.postgres.ports[0]", "reaches its data", "127.0.0.1:5432:5432"),
    ),
    "a database on a port of docker's choice": (
        postgres("5432"),
        (LOSES, "open-port", "setting_prod.yml: services.postgres.ports[0]", "docker's choice", "127.0.0.1:5432:5432"),
    ),
    "no health rule": (
        papers_of(app=dataclasses.replace(APP, health=Health())),
        (LOSES, "no-health-rule", "invoke.yaml: deploy.health", "no health rule", "health: {path: /healthz"),
    ),
    "no healthcheck": (
        colour('    healthcheck: {test: [CMD, "true"]}\n', ""),
        (NOTE, "no-health-rule", "colour.yml: services.web", "web has no healthcheck", "add one"),
    ),
    "a healthcheck that is off": (
        colour('{test: [CMD, "true"]}', "{disable: true}", Dockerfile=f"{DOCKERFILE}HEALTHCHECK CMD true\n"),
        (NOTE, "no-health-rule", "colour.yml: services.web", "web has no healthcheck", "add one"),
    ),
    "a database without a healthcheck": (
        settings(", healthcheck: {test: [CMD, redis-cli, ping]}", ""),
        (NOTE, "no-health-rule", "setting_prod.yml: services.redis", "once its process runs", "[CMD, redis-cli, ping]"),
    ),
    "a command behind a shell": (
        colour(COMMAND, 'sh -c "python manage.py check && gunicorn mysite.wsgi"'),
        (LOSES, "shell-form", "colour.yml: services.web.command", "web runs behind a shell", "exec"),
    ),
    "a worker behind a shell, as a list": (
        settings("[celery, -A, mysite, worker]", '[/bin/bash, -euc, "celery -A mysite worker"]'),
        (LOSES, "shell-form", "setting_prod.yml: services.celery.command", "celery runs behind a shell", "exec"),
    ),
    "a Dockerfile's CMD in shell form": (
        colour(f"    command: {COMMAND}\n", "", Dockerfile=f"{DOCKERFILE}CMD gunicorn \\\n    mysite.wsgi\n"),
        (LOSES, "shell-form", "Dockerfile:4", "CMD runs behind a shell", "exec"),
    ),
    "a CMD of the stage that the last one is made from": (
        colour(
            f"    command: {COMMAND}\n", "", Dockerfile="FROM python AS base\nCMD gunicorn mysite.wsgi\nFROM base\n"
        ),
        (LOSES, "shell-form", "Dockerfile:2", "CMD runs behind a shell", "exec"),
    ),
    "a Dockerfile's ENTRYPOINT in shell form": (
        papers_of(Dockerfile="FROM python\nENTRYPOINT /app/run.sh\n"),
        (LOSES, "shell-form", "Dockerfile:2", "ENTRYPOINT runs behind a shell", "exec"),
    ),
    "an entrypoint that keeps its place": (
        papers_of(entrypoint='#!/bin/sh\n"$@"\n'),
        (LOSES, "shell-form", "docker-entrypoint.sh:2", "does not make way", 'exec "$@"'),
    ),
    "an entrypoint without #!": (
        papers_of(entrypoint='exec "$@"\n'),
        (STOPS, "shell-form", "docker-entrypoint.sh:1", "no #! line", "#!/bin/sh"),
    ),
    "a grace period shorter than gunicorn's": (
        colour("40s", "20s"),
        (LOSES, "grace-period", "colour.yml: services.web.stop_grace_period", "30 s, and is killed after 20 s", "40s"),
    ),
    "docker's grace period, and gunicorn's own default": (
        papers_of(edited(edited(COLOUR, WEB, ""), COMMAND, "gunicorn mysite.wsgi")),
        (LOSES, "grace-period", "colour.yml: services.web", "30 s, and is killed after docker's 10 s", "40s"),
    ),
    "a worker that nobody waits for": (
        settings("    stop_grace_period: 120s\n", ""),
        (LOSES, "grace-period", "setting_prod.yml: services.celery", "a task that takes longer is lost", "120s"),
    ),
    "a worker whose own limit is longer": (
        settings("mysite, worker]", "mysite, worker, --time-limit=300]"),
        (LOSES, "grace-period", "setting_prod.yml: services.celery.stop_grace_period", "300 s", "310s"),
    ),
    "one file mounted": (
        settings(NGINX_MOUNT, f'{NGINX_MOUNT}, "./nginx/live/app.conf:/etc/nginx/conf.d/default.conf:ro"'),
        (LOSES, "single-file", "setting_prod.yml: services.nginx.volumes[1]", "follows its inode", "directory"),
    ),
    "one file mounted that never gets there": (
        settings(NGINX_MOUNT, f"{NGINX_MOUNT}, {{type: bind, source: ./mysite.conf, target: /etc/nginx/mysite.conf}}"),
        (LOSES, "single-file", "setting_prod.yml: services.nginx.volumes[1]", "nothing brings that file", "directory"),
    ),
    "an nginx that is too old": (
        settings("nginx:1.30", "nginx:1.26-alpine"),
        (
            STOPS,
            "nginx-version",
            "setting_prod.yml: services.nginx.image",
            "`server ... resolve` (nginx/app.conf:2)",
            "nginx:1.30",
        ),
    ),
    "an nginx that is a little too old": (
        papers_of(settings=edited(SETTINGS, "nginx:1.30", "nginx:1.27.3"), conf=f"keepalive_min_timeout 75s;{CONF}"),
        (STOPS, "nginx-version", "setting_prod.yml: services.nginx.image", "came with 1.27.4", "nginx:1.30"),
    ),
    "a name that nginx resolves once": (
        papers_of(conf=CONF.replace("green:8000 resolve", "green:8000")),
        (LOSES, "nginx-resolve", "nginx/app.conf:3", "resolves web-green once", "web-green:PORT resolve"),
    ),
    "a volume of each colour's own": (
        colour(MEDIA, "{}"),
        (
            LOSES,
            "colour-volume",
            "colour.yml: services.web.volumes[0]",
            "app-green_media belongs to green",
            "deploy.volumes",
        ),
    ),
    "a volume without a name": (
        colour("media:/srv/media", "/srv/media"),
        (LOSES, "colour-volume", "colour.yml: services.web.volumes[0]", "/srv/media is gone", "deploy.volumes"),
    ),
    "labels of another proxy": (
        on_the_edge("labels: [traefik.enable=true]"),
        (LOSES, "other-proxy", "colour.yml: services.web.labels", "the idle colour, too", "Greenroom's nginx"),
    ),
    "a host name for another proxy": (
        on_the_edge("environment: {VIRTUAL_HOST: a}"),
        (
            LOSES,
            "other-proxy",
            "colour.yml: services.web.environment",
            "VIRTUAL_HOST has another proxy",
            "service nginx",
        ),
    ),
    "a VOLUME of the image": (
        papers_of(Dockerfile=f'{DOCKERFILE}VOLUME ["/srv/uploads"]\n'),
        (LOSES, "colour-volume", "Dockerfile:4", "/srv/uploads is gone", "deploy.volumes"),
    ),
    "a name that both colours have": (
        papers_of(conf=f"{CONF}upstream any {{ zone any 64k; server web:8000 resolve; }}\n"),
        (LOSES, "alias", "nginx/app.conf:5", "both colours answer to web", "web-${GREENROOM_COLOUR}"),
    ),
    "a colour without its name": (
        papers_of(edited(COLOUR, ALIASES, "[settings]"), green=COLOUR),
        (
            STOPS,
            "alias",
            "colour.yml: services.web.networks",
            "blue has no name web-blue on the network settings; nginx asks for it (nginx/app.conf:2)",
            "that alias",
        ),
    ),
    "a server that each colour has": (
        colour(
            "networks: {settings: {ext",
            '  cache: {image: "memcached:1", networks: [settings]}\nnetworks: {settings: {ext',
        ),
        (
            LOSES,
            "alias",
            "colour.yml: services.cache",
            "cache of blue and cache of green",
            "move it to setting_prod.yml",
        ),
    ),
    "a service in both stacks": (
        settings("  celery:\n", '  web: {image: "web:1", networks: [settings]}\n  celery:\n'),
        (LOSES, "alias", "colour.yml: services.web", "web is a name of web in setting_prod.yml, too", "another name"),
    ),
    "a host that the env file does not allow": (
        papers_of(env={"ALLOWED_HOSTS": "www.example.com, localhost"}),
        (STOPS, "allowed-hosts", "env file: ALLOWED_HOSTS", "does not have app.example.com", "add app.example.com"),
    ),
    "a host that settings do not allow": (
        papers_of(settings_py='DEBUG = False\nALLOWED_HOSTS = ["www.example.com"]\n'),
        (STOPS, "allowed-hosts", "settings.py:2", "does not have app.example.com", "add app.example.com"),
    ),
    "an env file in the source": (
        with_files("board/.env", "manage.py"),
        (NOTE, "env-in-source", "board/.env", "it travels with the source", "git rm --cached board/.env"),
    ),
}


@pytest.mark.parametrize(("read", "said"), CASES.values(), ids=CASES)
def test_each_reason_is_named_with_its_place_and_its_mend(
    read: Papers, said: tuple[Weight, str, str, str, str]
) -> None:
    weight, rule, where, what, mend = said
    (found,) = preflight.findings(read)
    assert (found.weight, found.rule, found.where) == (weight, rule, where)
    assert what in found.what, found.what
    assert mend in found.mend, found.mend


FINE = {
    "ports on the host's own address": colour(
        WEB,
        f'{WEB}    ports: ["127.0.0.1:8000:8000"]\n',
        green=edited(COLOUR, WEB, f"{WEB}    ports: ['[::1]:8000:8000']\n"),
    ),
    "a port that each colour chooses": colour(WEB, f'{WEB}    ports: ["127.0.0.1:8000-8009:8000"]\n'),
    "ports of two addresses, protocols and families": beside_doors(
        '"127.0.0.1:90:1", "10.0.0.5:90:1", "127.0.0.1:90:1/udp", "[::1]:90:1", "127.0.0.1::1"', BLUE_PORT="9000"
    ),
    "IPv4 and IPv6, each by its name": settings('"80:80"', '"0.0.0.0:80:80", "[::]:80:80"'),
    "one port on two hosts": beside_doors(
        '"127.0.0.1:80:1"',
        app=dataclasses.replace(APP, hosts=(Host("web1", runs=("web", "nginx")), Host("jobs1", runs=("edge",)))),
    ),
    "a container_name of each colour": colour(WEB, f'{WEB}    container_name: "web-${{GREENROOM_COLOUR}}"\n'),
    "a service that only a profile starts": colour(
        "networks: {settings: {ext", "  shell: {profiles: [x], container_name: y}\nnetworks: {settings: {ext"
    ),
    "a database on a private address": postgres('"${POSTGRES_BIND}:5432:5432"', POSTGRES_BIND="10.0.0.5"),
    "a shell that makes way": colour(COMMAND, 'sh -c "python manage.py check && exec gunicorn mysite.wsgi"'),
    "a text that needs no shell": colour(COMMAND, "gunicorn mysite.wsgi"),
    "labels that nobody reads": papers_of(
        edited(COLOUR, "    networks: {settings:", "    labels: [traefik.enable=true]\n    networks: {settings:")
    ),
    "a VOLUME that compose mounts at": colour(
        "media:/srv/media", "media:/srv/media", Dockerfile=f"{DOCKERFILE}VOLUME /srv/media\n"
    ),
    "a CMD that compose replaces": papers_of(Dockerfile=f"{DOCKERFILE}CMD gunicorn mysite.wsgi\n"),
    "a CMD of a stage that is left behind": colour(
        f"    command: {COMMAND}\n", "", Dockerfile=f"FROM node AS made\nCMD npm run build\n{DOCKERFILE}"
    ),
    "a healthcheck of the image": colour(
        '    healthcheck: {test: [CMD, "true"]}\n', "", Dockerfile=f"{DOCKERFILE}HEALTHCHECK CMD true\n"
    ),
    "a directory of confs": settings(NGINX_MOUNT, '"./nginx/conf.d:/etc/nginx/conf.d"'),
    "a socket": settings(NGINX_MOUNT, '"/run/app.sock:/run/app.sock"'),
    "an nginx of unknown age": settings("nginx:1.30", "nginx:mainline"),
    "a comment about names": papers_of(conf=f"# server web:8000;\n{CONF}"),
    "an upstream elsewhere": papers_of(conf=f"{CONF}upstream other {{ server 10.0.0.7:80; }}\n"),
    "a volume that both colours share by name": colour(MEDIA, "{name: app-media}"),
    "an env file that says what to put into one": with_files(".env.example", "web/.env.production", "app.env"),
    "every host allowed": papers_of(env={"ALLOWED_HOSTS": "*"}),
    "a domain allowed": papers_of(env={"DJANGO_ALLOWED_HOSTS": "'.example.com'"}),
    "hosts that are computed": papers_of(settings_py="ALLOWED_HOSTS = env.list('HOSTS')\n"),
    "settings that are no Python": papers_of(settings_py="ALLOWED_HOSTS = [\n"),
}


@pytest.mark.parametrize("read", FINE.values(), ids=FINE)
def test_what_only_looks_like_a_reason_is_none(read: Papers) -> None:
    assert preflight.findings(read) == []


def test_every_rule_about_files_has_a_case_and_a_name() -> None:
    told = {said[1] for _, said in CASES.values()}
    of_hosts = {"configuration", "this-machine", "host", "data", "disk", "clock", "mtu", "compose-version"}
    assert told | of_hosts == set(RULES)


def test_the_gravest_finding_comes_first() -> None:
    both = papers_of(edited(edited(COLOUR, WEB, f"{WEB}    container_name: x\n"), MEDIA, "{}"), SETTINGS)
    assert [each.weight for each in preflight.findings(both)] == [STOPS, LOSES]


def test_only_what_makes_both_colours_impossible_is_refused_by_a_deploy() -> None:
    refused = {name for name, (read, _) in CASES.items() if preflight.collisions(read)}
    assert refused == {
        "a container_name",
        "a port that both colours want",
        "a port of a variable that both colours want",
    }


# --- what comes with Greenroom ---------------------------------------------------------------------------------


def shipped(folder: Path, where: Path, dotenv: str) -> list[Finding]:
    (folder / ".env.prod").write_text(dotenv)
    data = {
        "project": "app",
        "source": str(where),
        "health": {"path": "/healthz", "host": "app.example.com"},
        "workers": ["celery", "celery-beat"],
        "envs": {"prod": {"hosts": ["web1"]}},
    }
    setup = config.load(data, folder)
    templates = Templates(setup.templates)
    tree = source.read(setup.source, dirty=True, templates=templates, secret=setup.dotenv_paths)
    return preflight.findings(papers.of(setup, tree, release.make(setup, tree, templates)))


@pytest.mark.parametrize("name", ["templates", "examples/django"])
def test_what_comes_with_greenroom_gives_no_reason(tmp_path: Path, name: str) -> None:
    dotenv = (ROOT / name / ".env.example").read_text()
    assert shipped(tmp_path, ROOT / name, dotenv) == []


def test_the_files_that_hosts_get_are_those_that_are_read(tmp_path: Path) -> None:
    """The same way with one thing wrong: else the test above might look at nothing."""
    (found,) = shipped(tmp_path, ROOT / "examples" / "django", "ALLOWED_HOSTS=elsewhere.example.com\n")
    assert (found.rule, found.where) == ("allowed-hosts", "env file: ALLOWED_HOSTS")
    (tmp_path / "templates" / "nginx").mkdir(parents=True)
    (tmp_path / "templates" / "nginx" / "nginx.conf").write_text(
        "http {\n server { location / { proxy_pass http://web:8000; } }\n}\n"
    )
    (tmp_path / "Dockerfile").write_text("FROM python\nENTRYPOINT gunicorn\n")
    rules = [(each.rule, each.where) for each in shipped(tmp_path, tmp_path, "")]
    assert ("shell-form", "Dockerfile:2") in rules
    assert ("nginx-resolve", "nginx/nginx.conf:2") in rules
    assert ("alias", "nginx/nginx.conf:2") in rules


def test_the_documentation_lists_every_rule_with_its_weights() -> None:
    text = (ROOT / "docs" / "check.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| ((?:stops|loses|note)[a-z, ]*) \|", text, re.MULTILINE))
    assert list(listed) == list(RULES)
    for _, (weight, rule, *_) in CASES.values():
        assert str(weight) in listed[rule].split(", "), rule
