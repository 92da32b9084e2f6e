"""`greenroom init`: what it sees in a folder, what it writes, and that it overwrites nothing."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import adopt, config
from deploy.adopt import Answers
from deploy.check import check
from deploy.console import Console
from deploy.errors import ConfigError, Refused, Unfit, Unsafe

ROOT = Path(__file__).parent.parent.parent

SHOP = """services:
  web: {build: ., ports: ["8080:8000"], environment: ["KEY=${SECRET_KEY}", "LEVEL=${LEVEL:-info}"]}
  db: {image: "postgres:17", volumes: ["pgdata:/var/lib/postgresql/data"]}
volumes: {pgdata: }
"""


class Person(Console):
    """Somebody at a terminal, who overwrites what is to be overwritten, and takes every default."""

    def confirm(self, question: str) -> bool:
        self.say(question)
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def lay(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def init(folder: Path, person: type[Console] = Console, **answers: Any) -> str:
    out = io.StringIO()
    adopt.init(folder, person(out=out), Answers(**{"yes": person is Console, **answers}))
    return out.getvalue()


def written(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "invoke.yaml").read_text())["deploy"])


def compose(folder: Path, text: str = SHOP) -> None:
    (folder / "compose.yaml").write_text(text)
    (folder / "Dockerfile").write_text("FROM python:3.13-slim\n")


# --- what it writes --------------------------------------------------------------------------------------------


def test_a_folder_with_a_compose_file_becomes_a_project_that_loads(folder: Path) -> None:
    compose(folder)
    said = init(folder, hosts="deploy@web1, root@web2:2222")
    assert len((folder / "tasks.py").read_text().splitlines()) == 3
    assert (folder / ".gitignore").read_text() == ".env\n.env.*\n!.env.example\n"
    assert written(folder)["stack"] == {"file": "compose.yaml", "coloured": ["web"]}
    (folder / ".env.prod").write_text("")
    setup = config.load(written(folder), folder)
    assert [str(host) for host in setup.hosts] == ["web1", "web2:2222"]
    assert (setup.app.project, setup.app.network) == ("shop", "shop")
    assert "to be mended" not in said
    assert said.rstrip().endswith("inv check; inv plan; inv deploy")


def test_the_nginx_that_is_written_listens_to_the_app(folder: Path) -> None:
    compose(folder, SHOP.replace("8080:8000", "80:3000"))
    init(folder)
    assert "server web-green:3000 resolve" in (folder / "templates" / "nginx" / "colours.conf").read_text()
    assert {p.name for p in (ROOT / "templates" / "nginx").iterdir()} == {
        p.name for p in (folder / "templates" / "nginx").iterdir()
    }


def test_the_variables_of_the_file_are_named_without_a_value(folder: Path) -> None:
    compose(folder)
    lay(folder, **{".env": "SECRET_KEY=s3cret"})
    said = init(folder)
    text = (folder / ".env.example").read_text()
    assert "\nSECRET_KEY=\n" in text
    assert "\n# LEVEL=info\n" in text
    assert "s3cret" not in text + said
    assert "cp .env .env.prod" in said


def test_what_is_to_be_typed_next_brings_no_secret_into_git_or_to_a_host(folder: Path) -> None:
    compose(folder)
    lay(folder, **{".env": "SECRET_KEY=s3cret"})
    subprocess.run(["git", "-C", str(folder), "init", "--quiet"], check=True)
    assert "git add --all && git commit" in init(folder)
    subprocess.run(["git", "-C", str(folder), "add", "--all"], check=True)
    listed = subprocess.run(["git", "-C", str(folder), "ls-files", ".env*"], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == [".env.example"]


def test_what_a_deploy_would_say_is_said_now(folder: Path) -> None:
    compose(folder, SHOP.replace("pgdata:/var", "./data:/var"))
    said = init(folder)
    assert "note: to be mended before a deploy: compose.yaml: services.db.volumes: ./data is not in the source" in said
    assert "nginx publishes 8080 in its place" in init_again(folder)


def init_again(folder: Path) -> str:
    (folder / "invoke.yaml").unlink()
    compose(folder)
    return init(folder)


def test_where_the_data_goes_on_is_said(folder: Path) -> None:
    compose(folder)
    assert "data goes on in shop_pgdata" in init(folder)


# --- nothing is overwritten ------------------------------------------------------------------------------------


def test_with_yes_everything_that_is_there_stays(folder: Path) -> None:
    compose(folder)
    mine = {"tasks.py": "mine = 1\n", ".env.example": "MINE=1\n", "templates/nginx/nginx.conf": "# mine\n"}
    lay(folder, **{name.replace("/", "__"): text for name, text in mine.items()})
    lay(folder, **{".gitignore": "build"})
    said = init(folder)
    assert {name: (folder / name).read_text() for name in mine} == mine
    assert (folder / ".gitignore").read_text() == "build\n.env\n.env.*\n!.env.example\n"
    assert said.count("kept ") == 3
    assert "add to it: from deploy.tasks import ns" in said
    assert said.rstrip().endswith("greenroom check; greenroom plan; greenroom deploy")


def test_of_a_gitignore_that_is_there_no_byte_changes(folder: Path) -> None:
    compose(folder)
    mine = b"# f\xfcr mich\r\nbuild\r\n"
    (folder / ".gitignore").write_bytes(mine)
    init(folder)
    assert (folder / ".gitignore").read_bytes() == mine + b".env\n.env.*\n!.env.example\n"


def test_what_cannot_be_written_is_a_refusal_and_no_fault_of_ours(folder: Path) -> None:
    compose(folder)
    (folder / "templates").write_text("a file of mine")
    with pytest.raises(Refused, match=r"templates.* cannot be written: Not a directory"):
        init(folder)
    (folder / "templates").unlink()
    init(folder)


class Leaves(Person):
    """Somebody who presses Ctrl-C at the first question about a file of nginx."""

    def confirm(self, question: str) -> bool:
        if "nginx" in question:
            raise KeyboardInterrupt
        return True


def test_what_was_broken_off_may_be_said_again_and_hides_secrets_from_git_already(folder: Path) -> None:
    compose(folder)
    lay(folder, **{"templates__nginx__nginx.conf": "# mine\n"})
    with pytest.raises(KeyboardInterrupt):
        init(folder, Leaves)
    assert ".env.*" in (folder / ".gitignore").read_text()
    init(folder)
    assert written(folder)["project"] == "shop"


def test_with_yes_a_person_is_not_even_asked(folder: Path) -> None:
    compose(folder)
    lay(folder, **{"tasks.py": "mine = 1\n"})
    said = init(folder, Person, yes=True)
    assert "overwrite" not in said
    assert (folder / "tasks.py").read_text() == "mine = 1\n"


def test_a_person_is_asked_for_each_file(folder: Path) -> None:
    compose(folder)
    lay(folder, **{"tasks.py": "mine = 1\n"})
    said = init(folder, Person)
    assert said.count("is there already: overwrite it?") == 1
    assert "deploy.tasks" in (folder / "tasks.py").read_text()


class Hasty(Person):
    """Somebody who has to be asked for the hosts again, and again."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._tries = iter(["deploy@", "deploy@web1, ,", "deploy@web1.example.com"])

    def ask(self, question: str, default: str) -> str:
        return next(self._tries) if question.startswith("which hosts") else default


def test_an_answer_that_cannot_be_is_told_at_once_and_asked_for_again(folder: Path) -> None:
    compose(folder)
    said = init(folder, Hasty)
    assert said.count("deploy.envs.prod.hosts[0]") == 1
    assert said.count("deploy.envs.prod.hosts[1]") == 1
    assert written(folder)["envs"]["prod"]["hosts"] == ["deploy@web1.example.com"]


def test_a_project_is_not_made_twice(folder: Path) -> None:
    compose(folder)
    init(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(Refused, match="is a project already"):
        init(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_flag_that_cannot_be_is_refused_before_anything_is_written(folder: Path) -> None:
    compose(folder)
    wrong: list[dict[str, Any]] = [
        {"project": "My Shop"},
        {"hosts": "a b"},
        {"domain": "x y"},
        {"health": "up"},
        {"service": "api"},
        {"port": "80a"},
        {"port": "70000"},
    ]
    for flags in wrong:
        with pytest.raises(ConfigError):
            init(folder, **flags)
    assert sorted(path.name for path in folder.iterdir()) == ["Dockerfile", "compose.yaml"]


# --- what it sees ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "kind", "port"),
    [
        ({"manage.py": "", "requirements.txt": "django"}, "Django", 8000),
        ({"requirements.txt": "FastAPI==1\n"}, "FastAPI", 8000),
        ({"pyproject.toml": 'dependencies = ["flask"]'}, "Flask", 5000),
        ({"package.json": "{}"}, "Node", 3000),
        ({"package.json": "{}", "Dockerfile": "FROM x\nEXPOSE 4000\n"}, "Node", 4000),
        ({}, "", 8000),
    ],
)
def test_a_kind_is_seen_by_what_is_there(folder: Path, files: dict[str, str], kind: str, port: int) -> None:
    lay(folder, **files)
    found = adopt.look(folder)
    assert (found.kind, found.port) == (kind, port)


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ('get("/healthz")', "/healthz"),
        ("path('health/', view)", "/health/"),
        ("healthy = True", "/"),
        ("", "/"),
        ('@app.get("/up")', "/up"),
        ("way = 'up'", "/"),
    ],
)
def test_a_path_for_the_health_is_looked_for_in_the_code(folder: Path, code: str, path: str) -> None:
    lay(folder, **{"app.py": code, "node_modules__x.js": '"/livez"'})
    assert adopt.look(folder).health == path


def test_the_service_that_users_reach_is_built_and_publishes(folder: Path) -> None:
    compose(folder, "services: {a: {image: x, ports: [1]}, b: {build: .}, c: {build: ., ports: [9000]}}")
    init(folder)
    assert written(folder)["stack"]["coloured"] == ["c"]


def test_an_app_without_a_compose_file_gets_one(folder: Path) -> None:
    lay(folder, **{"requirements.txt": "fastapi\nuvicorn\n", "api__main.py": "app = FastAPI()\n"})
    init(folder)
    assert '"api.main:app"' in (folder / "Dockerfile").read_text()
    assert yaml.safe_load((folder / "compose.yaml").read_text())["services"]["web"]["ports"] == ["80:8000"]
    assert written(folder)["stack"] == {"file": "compose.yaml", "coloured": ["web"]}


def test_the_port_that_is_said_is_that_of_all_that_is_written(folder: Path) -> None:
    lay(folder, **{"requirements.txt": "fastapi\nuvicorn\n", "api__main.py": "app = FastAPI()\n"})
    init(folder, port="9000")
    assert '"--port", "9000"' in (folder / "Dockerfile").read_text()
    assert yaml.safe_load((folder / "compose.yaml").read_text())["services"]["web"]["ports"] == ["80:9000"]
    assert "server web-blue:9000" in (folder / "templates" / "nginx" / "colours.conf").read_text()


@pytest.mark.parametrize("celery", [True, False])
def test_django_without_a_compose_file_gets_the_templates(folder: Path, celery: bool) -> None:
    lay(folder, **{"requirements.txt": "celery" if celery else "django"})
    lay(folder, **{"manage.py": 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "board.settings")'})
    said = init(folder)
    assert "to be mended" not in said
    keys = written(folder)
    assert keys.get("workers", []) == (["celery", "celery-beat"] if celery else [])
    assert keys["singletons"] == (["postgres", "celery-beat"] if celery else ["postgres"])
    assert keys["migrate"] == "python manage.py migrate --noinput"
    services = yaml.safe_load((folder / "templates" / "setting_prod.yml").read_text())["services"]
    assert set(services) == {"nginx", "redis", "postgres"} | ({"celery", "celery-beat"} if celery else set())
    assert "\nAPP_PACKAGE=board\n" in (folder / ".env.example").read_text()


def test_a_proxy_of_its_own_is_taken_over_with_what_it_serves(folder: Path) -> None:
    compose(
        folder,
        "services:\n  web: {build: ., expose: [8000], volumes: ['s:/srv/s']}\n"
        "  nginx: {build: ./nginx, ports: ['80:80'], volumes: ['s:/srv/s'], depends_on: [web]}\nvolumes: {s: }\n",
    )
    lay(folder, **{"nginx__site.conf": CONF})
    said = init(folder)
    assert written(folder)["stack"]["front"] == "nginx"
    served = (folder / "templates" / "nginx" / "files.conf").read_text()
    assert "location /static/ { alias /srv/s/; }" in served
    assert "proxy_pass" not in served
    assert "nginx stands in front of web" in said


FRONT = """services:
  web: {build: ., expose: [8000]}
  proxy: {image: nginx, ports: ['80:80'], depends_on: [web], volumes: %s}
"""


@pytest.mark.parametrize(
    "volumes",
    [
        "['./conf/prod.conf:/etc/nginx/conf.d/default.conf', './conf/more:/etc/nginx/more', '../up:/up', 'a:/b']",
        "[{type: bind, source: conf/prod.conf, target: /c.conf}, {type: bind, source: ./conf/more/, target: /d}]",
    ],
)
def test_of_a_front_s_locations_each_is_taken_once_and_only_from_what_it_gets(folder: Path, volumes: str) -> None:
    compose(folder, f"{FRONT % volumes}volumes: {{a: }}\n")
    again = "server { location  /static/ { alias /srv/s/; } location /static/ { alias /srv/other/; } }"
    spa = "server { location / { root /srv/page; } location /page/ { root /srv; } }"
    lay(folder, **{"conf__prod.conf": CONF, "conf__dev.conf": again.replace("/static/", "/dev/")})
    lay(folder, **{"conf__more__a.conf": again, "conf__more__b.conf": spa, "frontend__nginx.conf": spa})
    said = init(folder)
    served = (folder / "templates" / "nginx" / "files.conf").read_text()
    assert [line for line in served.splitlines() if line.startswith("location")] == [
        "location /static/ { alias /srv/s/; }",
        "location /page/ { root /srv; }",
    ]
    without = "note: templates/nginx/files.conf is without the "
    assert [line.removeprefix(without) for line in said.splitlines() if line.startswith(without)] == [
        "location /static/ of conf/more/a.conf: conf/prod.conf has one, too",
        "location / of conf/more/b.conf: all that has no other location goes to the app",
    ]


CONF = """server {
    location / { proxy_pass http://web:8000; }
    location /static/ { alias /srv/s/; }
}
"""


def test_what_runs_once_in_the_app_s_image_becomes_the_migration(folder: Path) -> None:
    compose(
        folder,
        "services:\n  web: {build: ., ports: [8000], depends_on: {up: {condition: service_completed_successfully}}}\n"
        "  up: {build: ., command: alembic upgrade head}\n",
    )
    init(folder)
    assert written(folder)["migrate"] == "alembic upgrade head"


@pytest.mark.parametrize(
    ("command", "started"),
    [
        ("alembic upgrade head", ["alembic", "upgrade", "head"]),
        ('["sh", "-c", "alembic upgrade head && ./seed a"]', ["sh", "-c", "alembic upgrade head && ./seed a"]),
        ("\"sh -c 'echo go: now # then'\"", ["sh", "-c", "echo go: now # then"]),
        ("\"sh -c 'echo go\n\n  ./migrate'\"", ["sh", "-c", "echo go\n./migrate"]),
        ('[echo, "a\\"b", "ü: \\\\"]', ["echo", 'a"b', "ü: \\"]),
    ],
)
def test_the_migration_starts_what_the_service_started(folder: Path, command: str, started: list[str]) -> None:
    compose(
        folder,
        "services:\n  web: {build: ., ports: [8000], depends_on: {up: {condition: service_completed_successfully}}}\n"
        f"  up: {{build: ., command: {command}}}\n",
    )
    assert "to be mended" not in init(folder)
    (folder / ".env.prod").write_text("")
    assert config.load(written(folder), folder).app.migrate == tuple(started)


def test_what_nobody_waits_for_and_ends_is_migrated_or_left_out(folder: Path) -> None:
    compose(
        folder,
        "services:\n  web: {build: ., ports: [8000]}\n  seed: {build: ., command: npm run seed}\n"
        "  buckets: {image: minio/mc, restart: 'no'}\n  odd: {build: ., command: ./run, restart: 'no'}\n",
    )
    said = init(folder)
    assert written(folder)["migrate"] == "npm run seed"
    assert written(folder)["stack"]["without"] == ["buckets", "odd"]
    assert "buckets runs once, and is left out" in said
    assert "to be mended" not in said


def test_a_django_app_migrates_though_its_file_only_says_what_else_runs_once(folder: Path) -> None:
    compose(
        folder,
        "services:\n  web: {build: ., ports: [8000], depends_on: {up: {condition: service_completed_successfully}}}\n"
        "  up: {build: ., command: python manage.py collectstatic}\n",
    )
    lay(folder, **{"manage.py": ""})
    init(folder)
    both = "python manage.py migrate --noinput && python manage.py collectstatic"
    assert written(folder)["migrate"] == f"sh -c '{both}'"


def test_a_folder_of_which_nothing_is_known_is_refused(folder: Path) -> None:
    with pytest.raises(Refused, match="neither a compose file nor a Dockerfile"):
        init(folder)
    assert list(folder.iterdir()) == []


def test_what_check_and_a_refusal_name_stands_in_the_file_that_a_person_wrote(folder: Path) -> None:
    compose(folder, SHOP.replace('"postgres:17"', '"postgres:17", ports: ["5432:5432"]'))
    init(folder)
    (folder / ".env.prod").write_text("SECRET_KEY=x\n")
    keys = {**written(folder), "migrate": "true"}
    out = io.StringIO()
    with pytest.raises(Unsafe):
        check(config.load(keys, folder), pytest.fail, Console(out=out), files_only=True)
    assert "compose.yaml: services.db.ports[0]: db is published" in out.getvalue()
    assert (
        "compose.yaml: services.db: db has no healthcheck: it counts as ready once its process runs, and"
        in out.getvalue()
    )
    assert "test: [CMD, pg_isready]" in out.getvalue()
    assert "1 host, source" in out.getvalue()
    with pytest.raises(Unfit):
        check(config.load({**keys, "workers": ["dbb"]}, folder), pytest.fail, Console(out=out), files_only=True)
    assert "deploy.workers: compose.yaml has no service dbb; did you mean db?; it has: db, nginx" in out.getvalue()
