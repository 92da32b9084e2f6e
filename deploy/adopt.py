"""`greenroom init`: a folder becomes a project. It looks a lot, asks little, and overwrites nothing unasked."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import yaml

from deploy import config, flags, release, source
from deploy.config import FILE
from deploy.errors import ConfigError, GreenroomError, Refused
from deploy.recipe import compose, derive
from deploy.recipe.adopted import Adopted, fronts, once, outline
from deploy.recipe.once import together
from deploy.recipe.shapes import mounts
from deploy.source import CONTEXT_DEFAULTS, PACKAGED, Templates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.console import Console

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""In the order in which compose itself looks for them."""

USUAL = ("web", "app", "api", "server", "backend", "django", "site")
"""What the service that users reach is called, mostly."""

SOMEWHERE = "web1.example.com"
HEALTH = {"healthz": "/?", "health": "/?", "livez": "/?", "up": "/", "ping": "/"}
"""What such a path is called, mostly, and what must stand before it: `up` alone is just a word."""
CODE = (".py", ".js", ".mjs", ".ts", ".yaml", ".yml")
LARGEST = 1 << 18
"""Bytes of a file that is still looked into for its health path."""

KINDS: dict[str, tuple[int, str]] = {
    "Django": (8000, ""),
    "FastAPI": (8000, 'CMD ["uvicorn", "{module}:app", "--host", "0.0.0.0", "--port", "{port}"]'),
    "Flask": (5000, 'CMD ["flask", "--app", "{module}", "run", "--host", "0.0.0.0", "--port", "{port}"]'),
    "Node": (3000, 'CMD ["npm", "start"]'),
}
"""What is known of each: the port, and how it is started where there is no Dockerfile."""

PYTHON_DOCKERFILE = """FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
EXPOSE {port}
"""
NODE_DOCKERFILE = """FROM node:22-slim
WORKDIR /app
COPY package*.json ./
RUN npm install --omit=dev
COPY . .
EXPOSE {port}
"""
COMPOSE = """services:
  web:
    build: .
    ports:
      - "80:{port}"
    env_file: .env
    restart: always
"""
DOCKERIGNORE = ".git\n.env*\n**/__pycache__\nnode_modules\n.venv\n"
TASKS = '''"""The deploy tasks; `inv --list` shows them."""

from deploy.tasks import ns  # noqa: F401
'''
IGNORED = (".env", ".env.*", "!.env.example")


@dataclass(frozen=True)
class Answers:
    """What was said on the command line; '' where it is to be found out, or asked. With `yes` nothing is asked."""

    project: str = ""
    hosts: str = ""
    domain: str = ""
    health: str = ""
    service: str = ""
    port: str = ""
    yes: bool = False


@dataclass(frozen=True)
class Found:
    """What a folder is: its kind, the port that its Dockerfile or kind says, its compose file, a path for its health.

    `reads` is all that it says of the packages that it needs.
    """

    kind: str
    port: int
    compose_file: str
    has_dockerfile: bool
    health: str
    reads: str


def init(folder: Path, console: Console, answers: Answers) -> None:
    """Write what a project needs, and say what to type next.

    Raises:
        Refused: it is a project already, nothing in the folder says how it runs, or nothing can be written there.
        ConfigError: the compose file cannot be deployed as it is; the message says what to change.

    """
    if "\ndeploy:" in f"\n{_text(folder / FILE)}":
        raise Refused(
            f"{folder / FILE} has a part `deploy:`, so this is a project already", mend="see what is missing: inv check"
        )
    found = look(folder)
    if answers.port:
        found = replace(found, port=flags.port(answers.port))
    console.say(f"found: {_describe(found)}")
    files = dict(_new_app(folder, found))
    if files:
        found = replace(found, compose_file=COMPOSE_FILES[0])
    keys, notes = _keys(folder, found, answers, console, files.get(COMPOSE_FILES[0], ""))
    config.refuse_odd(**{key: keys[key] for key in ("project", "hosts", "domain", "health")})
    files |= {"tasks.py": TASKS, ".env.example": _env_example(folder, found, files)}
    served, passed_over = _served_by_a_front(folder, keys["stack"])
    # Whoever breaks it off may say it again: what makes a project of the folder comes last.
    files |= {**dict(_templates(found, keys, served)), FILE: _configuration(keys)}
    try:
        _ignore(folder / ".gitignore", console)
        for name, text in files.items():
            _put(folder / name, name, text, console, answers)
    except OSError as error:
        raise Refused(
            f"{error.filename} cannot be written: {error.strerror}", mend="mend that, and say it again"
        ) from None
    for note in (*notes, *passed_over, *_rehearse(folder)):
        console.say(f"note: {note}")
    console.say("\n".join(["next:", *(f"  {line}" for line in _next(folder, keys))]))


# --- looking ---------------------------------------------------------------------------------------------------


def look(folder: Path) -> Found:
    """See what is there."""
    dockerfile = _text(folder / "Dockerfile")
    compose_file = next((name for name in COMPOSE_FILES if (folder / name).is_file()), "")
    wanted = "".join(
        _text(folder / name)
        for name in ("requirements.txt", "requirements.in", "pyproject.toml", "Pipfile", "requirements/base.txt")
    ).lower()
    tests = {
        "Django": (folder / "manage.py").is_file(),
        "FastAPI": "fastapi" in wanted,
        "Flask": "flask" in wanted,
        "Node": (folder / "package.json").is_file(),
    }
    kind = next((name for name, holds in tests.items() if holds), "")
    exposed = re.search(r"^EXPOSE\s+(\d+)", dockerfile, re.MULTILINE)
    port = int(exposed[1]) if exposed else KINDS.get(kind, (8000, ""))[0]
    return Found(kind, port, compose_file, bool(dockerfile), _health(folder), wanted)


def _health(folder: Path) -> str:
    """Find an address in the code that is called as those that say whether an app is fit; `/` where there is none."""
    texts = [_text(path) for path in sorted(folder.rglob("*")) if _is_code(folder, path)]
    for name, before in HEALTH.items():
        if any(re.search(rf"""["'/\^]{before}{name}/?["'$\s?]""", text) for text in texts):
            slash = any(re.search(rf"""["'/\^]{name}/["'$]""", text) for text in texts)
            return f"/{name}/" if slash else f"/{name}"
    return "/"


def _is_code(folder: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") or part in {"node_modules", "venv"} for part in path.relative_to(folder).parts)
    return not hidden and path.suffix in CODE and path.is_file() and path.stat().st_size < LARGEST


def _describe(found: Found) -> str:
    words = [found.kind, found.compose_file, "Dockerfile" if found.has_dockerfile else ""]
    return ", ".join(filter(None, words)) or "neither a compose file nor a Dockerfile, nor a framework that is known"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# --- what is not there yet ---------------------------------------------------------------------------------------


def _new_app(folder: Path, found: Found) -> Iterator[tuple[str, str]]:
    """Yield a compose file, and a Dockerfile, for an app that has none. Django without one gets the templates'."""
    if found.compose_file or (found.kind == "Django" and not found.has_dockerfile):
        return
    if not found.has_dockerfile:
        if found.kind not in KINDS:
            raise Refused(
                f"{folder}: neither a compose file nor a Dockerfile is here, and nothing says how the app is started",
                mend="write a Dockerfile, or go to the folder that has one, and say it again",
            )
        start = KINDS[found.kind][1].format(module=_module(folder), port=found.port)
        base = NODE_DOCKERFILE if found.kind == "Node" else PYTHON_DOCKERFILE
        yield "Dockerfile", base.format(port=found.port) + start + "\n"
        yield ".dockerignore", DOCKERIGNORE
    yield COMPOSE_FILES[0], COMPOSE.format(port=found.port)


def _module(folder: Path) -> str:
    """Return the module that makes the app: the first that says so, as `pkg.main`."""
    for path in sorted(folder.rglob("*.py"), key=lambda p: (len(p.parts), p.name)):
        if _is_code(folder, path) and re.search(r"^app\s*=\s*(FastAPI|Flask)\(", _text(path), re.MULTILINE):
            return ".".join(path.relative_to(folder).with_suffix("").parts)
    return "main"


# --- what invoke.yaml will say -----------------------------------------------------------------------------------


def _keys(
    folder: Path, found: Found, answers: Answers, console: Console, made: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the values for invoke.yaml, and what a person should know of how they were found."""

    def ask(key: str, question: str, default: str) -> str:
        return default if answers.yes else _asked(console, key, question, default)

    called = re.sub(r"[^a-z0-9_-]", "", folder.name.lower()).lstrip("_-") or "app"
    stack: dict[str, Any] = {}
    notes: list[str] = []
    document: dict[str, Any] = {}
    port = found.port
    migrate = "python manage.py migrate --noinput" if found.kind == "Django" else ""
    if found.compose_file:
        text = made or _text(folder / found.compose_file)
        document = compose.read_raw(text.encode(), found.compose_file)
        name = str(document.get("name") or "")
        called = answers.project or ("" if "$" in name else name) or called
        adopted = Adopted(found.compose_file, document, (_coloured(document, answers, found.compose_file),), called)
        adopted, migrate, notes = _suggested(adopted, found, answers, migrate)
        stack, port = _stack(adopted), outline(adopted).port
    keys = {
        "project": answers.project or called,
        "kind": found.kind,
        "stack": stack,
        "port": port,
        "hosts": answers.hosts
        or ask("hosts", "which hosts, as user@address, separated by commas?", f"deploy@{SOMEWHERE}"),
        "domain": answers.domain or ask("domain", "which host name do users type?", "localhost"),
        "health": answers.health or ask("health", "which path answers when the app is fit?", found.health),
        "migrate": migrate,
        "workers": [] if stack or "celery" not in found.reads else ["celery", "celery-beat"],
        "beats": _beats(document),
    }
    return keys, notes


def _asked(console: Console, key: str, question: str, default: str) -> str:
    """Ask until the answer is one that invoke.yaml can say."""
    while True:
        answer = console.ask(question, default)
        try:
            config.refuse_odd(**{key: answer})
        except ConfigError as error:
            if answer == default:
                raise
            console.say(str(error))
        else:
            return answer


def _coloured(document: dict[str, Any], answers: Answers, file: str) -> str:
    """Choose the service that users reach: what is built, is called as such, and publishes a port."""
    services = document["services"]
    if answers.service:
        if answers.service not in services:
            raise ConfigError(f"--service: {file} has no service {answers.service}; it has: {', '.join(services)}")
        return answers.service
    built: list[str] = [name for name, body in services.items() if isinstance(body, dict) and "build" in body]
    if not built:
        raise ConfigError(
            f"{file}: no service has a build, and each release needs an image of its own",
            mend="give the one that users reach `build: .` and a Dockerfile; FROM its present image is enough",
        )
    ranks = {name: (name not in USUAL, not services[name].get("ports"), built.index(name)) for name in built}
    return min(built, key=lambda name: ranks[name])


def _suggested(adopted: Adopted, found: Found, answers: Answers, migrate: str) -> tuple[Adopted, str, list[str]]:
    """Say for the file what it leaves open: a proxy of its own, a migration, a port."""
    notes = []
    proxies = fronts(adopted)
    if proxies:
        adopted = replace(adopted, front=proxies[0], without=tuple(proxies[1:]))
        notes.append(
            f"{proxies[0]} stands in front of {adopted.coloured[0]}: Greenroom's nginx takes its place, its ports and "
            "its volumes, but not its configuration: see templates/nginx/files.conf for what nginx serves by itself"
        )
    commands = once(adopted)
    for name in (name for name, command in commands.items() if not command):
        adopted = replace(adopted, without=(*adopted.without, name))
        notes.append(f"{name} runs once, and is left out: do what it does yourself, once")
    if not any("migrate" in command for command in commands.values()):
        commands = {"": migrate, **commands}  # the kind's own: what the file runs once does not say it
    migrate = together(commands.values())
    adopted = replace(adopted, migrate=tuple(shlex.split(migrate)), port=found.port if answers.port else 0)
    try:
        outline(adopted)
    except ConfigError as error:
        if "where does it listen?" not in str(error):
            raise
        adopted = replace(adopted, port=found.port)
        notes.append(f"{adopted.file} does not say where {adopted.coloured[0]} listens: {found.port} is taken for it")
    return adopted, migrate, [*notes, *_about_volumes(adopted)]


def _about_volumes(adopted: Adopted) -> Iterator[str]:
    volumes = outline(adopted).volumes
    if volumes:
        yield (
            f"data goes on in {', '.join(name for _, name in volumes)}, as `docker compose up` calls it in a folder "
            f"{adopted.project}; if the app's folder on the hosts has another name, say it: deploy.stack.name"
        )


def _stack(adopted: Adopted) -> dict[str, Any]:
    stated = {"port": adopted.port, "front": adopted.front, "without": list(adopted.without)}
    return {
        "file": adopted.file,
        "coloured": list(adopted.coloured),
        **{key: value for key, value in stated.items() if value},
    }


def _beats(document: dict[str, Any]) -> list[str]:
    """Return the services that may exist once only: celery's beat."""
    services = document.get("services", {})
    return [n for n, body in services.items() if re.search(r"\bbeat\b", str((body or {}).get("command", "")))]


# --- writing ---------------------------------------------------------------------------------------------------


def _configuration(keys: dict[str, Any]) -> str:
    """Write invoke.yaml, with what every key is for."""
    stack = keys["stack"]
    singletons = keys["beats"] or (["postgres", "celery-beat"] if not stack else [])
    if singletons and not stack and not keys["workers"]:
        singletons = ["postgres"]
    lines = [
        "# Greenroom deploys this app: inv check, inv plan, inv deploy. The sample invoke.yaml in its repository has",
        "# every key, with its meaning and default.",
        "deploy:",
        f"  project: {keys['project']}",
        "  # GET path, with this Host header, must answer 2xx or 3xx before anybody is sent to a new release.",
        f"  health: {{path: {keys['health']}, host: {keys['domain']}}}",
        f"  network: {keys['project']}  # where its services meet on a host; each app needs one of its own",
    ]
    if stack:
        lines += [
            "",
            f"  # {stack['file']} is deployed as it is; `inv config` prints what is made of it.",
            "  stack:",
            *(f"    {key}: {_yaml(value)}" for key, value in stack.items()),
            "    # name: old            # whose volumes go on: old_data; the project's when left out",
            "    # folder: /srv/app     # where the file lies on the hosts today: relative mounts go on there",
        ]
    lines += ["", "  # Once per deploy, on one host, in the new image, before any user reaches it."]
    lines += [f"  migrate: {compose.scalar(keys['migrate'])}" if keys["migrate"] else "  # migrate: COMMAND"]
    if keys["workers"]:
        lines += [f"  workers: {_yaml(keys['workers'])}  # get the new release after the flip, warmly shut down"]
    lines += ["  # Services that only the first host runs, as a database for all of them."]
    lines += [f"  singletons: {_yaml(singletons)}" if singletons else "  # singletons: [db]"]
    lines += [
        "  settle: 30  # seconds to watch the new colour before the old one goes",
        "",
        "  envs:",
        "    prod:  # reads .env.prod, which travels as a file and is never shown",
        "      hosts:",
        *(f"        - {_yaml(host.strip())}" for host in keys["hosts"].split(",") if host.strip()),
    ]
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    text = str(value)
    return text if re.fullmatch(r"[\w./@][\w./@-]*", text) else json.dumps(text, ensure_ascii=False)


def _env_example(folder: Path, found: Found, files: dict[str, str]) -> str:
    """Name the variables that the compose file reads; of the templates, theirs."""
    if not found.compose_file:
        text = Templates(folder / "templates").read(".env.example").decode()
        settings = re.search(r"""DJANGO_SETTINGS_MODULE["'],\s*["'](\w+)\.""", _text(folder / "manage.py"))
        return text.replace("APP_PACKAGE=mysite", f"APP_PACKAGE={settings[1]}") if settings else text
    text = files.get(found.compose_file) or _text(folder / found.compose_file)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE).replace("$$", "")
    lines: dict[str, str] = {}
    for name, _, default in re.findall(r"\$\{?([A-Za-z_]\w*)(:?-([^}]*))?", text):
        if not name.startswith("GREENROOM_"):
            lines.setdefault(name, f"# {name}={default}" if default else f"{name}=")
    return "\n".join(
        [
            f"# What {found.compose_file} and the app read. Copy to .env.prod (never into git), fill in.",
            *lines.values(),
            "# Where nginx listens on a host, if not where the compose file says; as 8080 or 10.0.0.5:80.",
            "# HTTP_PORT=",
            "",
        ]
    )


def _served_by_a_front(folder: Path, stack: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the locations of the project's own nginx that serve files, which go on in templates/nginx/files.conf, and
    notes of those that do not: nginx refuses a second one of a name, and `location /` is where the switch is.
    """
    if not stack.get("front"):
        return [], []
    document = compose.read_raw(_text(folder / stack["file"]).encode(), stack["file"])
    found: dict[str, tuple[str, Path]] = {}
    passed_over: dict[str, None] = {}
    for path in _confs_of(folder, document["services"][stack["front"]]):
        for block in re.findall(r"location\s[^{};]*\{[^{}]*\}", re.sub(r"(?m)#.*$", "", _text(path))):
            if "_pass" in block or not re.search(r"\b(alias|root)\s", block):
                continue
            name = " ".join(block.partition("{")[0].split())
            why = "all that has no other location goes to the app"
            if name != "location /":
                first, where = found.setdefault(name, (block, path))
                if first.split() == block.split():
                    continue
                why = f"{where.relative_to(folder)} has one, too"
            passed_over[f"templates/nginx/files.conf is without the {name} of {path.relative_to(folder)}: {why}"] = None
    return [block for block, _ in found.values()], [*passed_over]


def _confs_of(folder: Path, front: dict[str, Any]) -> list[Path]:
    """Return the confs that a front gets: below what it mounts of the folder, and below what it is built from.

    What else lies in a repository is of another server, or of another day.
    """
    build = front.get("build")
    context = str((build.get("context") if isinstance(build, dict) else build) or ".") if build else ""
    binds = [
        source
        for each, source, _, _ in mounts(front)
        if source.startswith(".") or (isinstance(each, dict) and each.get("type") == "bind")
    ]
    found: dict[Path, None] = {}
    for place in (*binds, *filter(None, [context])):
        inside = posixpath.normpath(place)
        if not inside.startswith(("..", "/", "~", "$")):
            top = folder / inside
            found |= dict.fromkeys([top] if top.is_file() else sorted(top.rglob("*.conf*")))
    return [
        path
        for path in found
        if path.is_file() and path.stat().st_size < LARGEST and "templates" not in path.relative_to(folder).parts
    ]


def _templates(found: Found, keys: dict[str, Any], served: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the files of templates/: nginx's, fitted to the app; without a compose file the stacks', too."""
    home = next(each for each in PACKAGED if each.is_dir())
    confs = {path.name: path.read_bytes() for path in sorted((home / "nginx").iterdir())}
    if keys["stack"]:
        confs = derive.confs(confs, keys["stack"]["coloured"][0], keys["port"])
        confs["files.conf"] += "".join(f"\n{each}\n" for each in served).encode()
    for name, content in confs.items():
        yield f"templates/nginx/{name}", content.decode()
    if not found.compose_file:
        yield "templates/colour.yml", (home / "colour.yml").read_text()
        text = (home / "setting_prod.yml").read_text()
        yield "templates/setting_prod.yml", text if keys["workers"] else _without_celery(text)


def _without_celery(text: str) -> str:
    """Take the services away that an app without celery would wait for in vain."""
    return re.sub(r"(?m)^(?:  #[^\n]*\n)?  celery(?:-beat)?:\n(?:(?:    [^\n]*)?\n)+", "", text)


def _put(path: Path, name: str, text: str, console: Console, answers: Answers) -> None:
    """Write a file. One that is there and says something else stays, unless a person agrees."""
    before = _text(path) if path.exists() else None
    if before == text:
        return
    if before is not None and (answers.yes or not console.confirm(f"{name} is there already: overwrite it?")):
        console.say(f"kept    {name}, which is there already{_missing(name, before)}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    console.say(f"wrote   {name}")


def _missing(name: str, before: str) -> str:
    if name == "tasks.py" and "deploy.tasks" not in before:
        return "; add to it: from deploy.tasks import ns (or say greenroom instead of inv)"
    if name == FILE:
        return "; move it away, say this again, and bring both together: it lacks the part `deploy:`"
    return ""


def _ignore(path: Path, console: Console) -> None:
    before = _text(path)
    new = [line for line in IGNORED if line not in before.splitlines()]
    if new:
        with path.open("a") as file:  # whatever else stands there stays as it is, byte for byte
            file.write(("\n" if before and not before.endswith("\n") else "") + "\n".join(new) + "\n")
        console.say(f"{'added to' if before else 'wrote  '} .gitignore: {' '.join(new)}")


# --- what comes next ---------------------------------------------------------------------------------------------


def _rehearse(folder: Path) -> Iterator[str]:
    """Make a release of what lies there: what a deploy would say, or refuse, is better known now."""
    keys = yaml.safe_load(_text(folder / FILE)) or {}
    data = dict(keys.get("deploy") or {})
    hosts = data.get("envs", {}).get("prod", {}).get("hosts", [])
    try:
        setup = config.load({**data, "envs": {"prod": {"hosts": hosts, "dotenv": ".env.example"}}}, folder, "prod")
        templates = Templates(setup.templates)
        defaults = () if setup.adopted else CONTEXT_DEFAULTS
        tree = source.read(
            setup.source, dirty=True, templates=templates, secret=frozenset({folder / ".env.prod"}), defaults=defaults
        )
        yield from (
            f"{setup.adopted.file}: {note}" for note in release.make(setup, tree, templates).notes if setup.adopted
        )
    except GreenroomError as error:
        yield f"to be mended before a deploy: {error}"


def _next(folder: Path, keys: dict[str, Any]) -> Iterator[str]:
    if not (folder / ".env.prod").exists():
        sample = ".env" if (folder / ".env").exists() else ".env.example"
        yield f"cp {sample} .env.prod    # the app's environment on the hosts: fill it in"
    if SOMEWHERE in keys["hosts"]:
        yield f"edit {FILE}               # the hosts"
    if (folder / ".git").exists():
        yield "git add --all && git commit    # what is committed is deployed"
    program = "inv" if "deploy.tasks" in _text(folder / "tasks.py") else "greenroom"
    yield f"{program} check; {program} plan; {program} deploy"
