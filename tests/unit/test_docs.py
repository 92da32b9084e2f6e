"""What is generated is up to date; what links to something links to what is there."""

from __future__ import annotations

import importlib.util
import json
import re
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from invoke.parser.context import to_flag
from jsonschema import Draft202012Validator, ValidationError

from deploy import config, release
from deploy.source import Templates
from deploy.tasks import ns

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted((*ROOT.glob("*.md"), *DOCS.rglob("*.md")))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads((DOCS / "invoke.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_generated_pages_say_what_the_code_does(generator: ModuleType) -> None:
    for path, text in generator.pages().items():
        assert path.read_text() == text, f"{path.name} is out of date: python docs/generate.py"


def test_the_reference_names_flags_as_they_are_typed() -> None:
    text = (DOCS / "reference.md").read_text()
    for name in ns.task_names:
        (part,) = re.findall(rf"^### {re.escape(name)}$(.*?)^##", text, re.DOTALL | re.MULTILINE)
        typed = {to_flag(each) for argument in ns[name].get_arguments() for each in argument.names}
        assert set(re.findall(r"^\| `(-[\w-]+)", part, re.MULTILINE)) <= typed


def test_a_key_without_words_is_no_key_of_the_schema(generator: ModuleType) -> None:
    with pytest.raises(LookupError, match=r"a comment must say what hosts means"):
        generator.schema({})


def test_the_schema_takes_the_sample(validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load((ROOT / "invoke.yaml").read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"deploy": {"project": "app", "helth": {}}},
        {"deploy": {"envs": {"prod": {"hosts": "web1"}}}},
        {"deploy": {"envs": {"prod": {"settel": 1}}}},
        {"deploy": {"ssh": {"host_keys": "none"}}},
    ],
)
def test_the_schema_refuses_what_the_configuration_refuses(validator: Draft202012Validator, wrong: object) -> None:
    with pytest.raises(ValidationError):
        validator.validate(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_no_page_is_an_orphan() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert {page for each in nav for page in each.values()} == {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")}


def configurations() -> dict[str, dict[str, object]]:
    """Return what pages say of invoke.yaml: blocks with a part `deploy:`, but for a job of that name."""
    blocks = {
        f"{page.name}:{text[: found.start()].count(chr(10)) + 1}": yaml.safe_load(textwrap.dedent(found[1]))
        for page in PAGES
        for text in [page.read_text()]
        for found in re.finditer(r"^ *```yaml\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
        if re.search(r"^ *deploy:", found[1], re.MULTILINE)
    }
    return {
        place: block["deploy"]
        for place, block in blocks.items()
        if "deploy" in block and "script" not in block["deploy"]
    }


@pytest.mark.parametrize("keys", configurations().values(), ids=configurations())
def test_what_a_page_says_of_invoke_yaml_makes_a_release(tmp_path: Path, keys: dict[str, object]) -> None:
    data = {"project": "shop", "envs": {"prod": {"hosts": ["web1"]}}, **keys}
    (tmp_path / "compose.yaml").write_text("services: {web: {build: ., ports: [8000]}}\n")
    envs = data["envs"]
    assert isinstance(envs, dict)
    for env in envs:
        (tmp_path / f".env.{env}").write_text("REGISTRY_PASSWORD=x\n")
        setup = config.load(data, tmp_path, env)
        templates = Templates(setup.templates)
        assert release.make(setup, release.read(setup, templates), templates).compose_files
