"""What a user installs: the wheel carries the host library and the templates, and a console script."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel in this environment (no isolation: no network) and return the names in it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_carries_every_template(wheel: set[str]) -> None:
    templates = {p for p in (ROOT / "templates").rglob("*") if p.is_file()}
    assert {f"deploy/templates/{p.relative_to(ROOT / 'templates')}" for p in templates} <= wheel


def test_the_wheel_carries_the_host_library(wheel: set[str]) -> None:
    assert {f"deploy/host/{p.name}" for p in (ROOT / "deploy" / "host").glob("*.sh")} <= wheel


def test_the_wheel_carries_no_test_and_no_test_bed(wheel: set[str]) -> None:
    assert not {name for name in wheel if name.startswith(("tests/", "testbed/", "bench/", "examples/"))}


def test_the_console_script_offers_the_same_tasks_as_inv() -> None:
    script = "from deploy.tasks import main; main()"
    said = subprocess.run(
        [sys.executable, "-c", script, "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for verb in ("check", "config", "deploy", "history", "init", "plan", "rollback", "setup", "status"):
        assert f"\n  {verb} " in said.stdout


def test_the_example_carries_the_templates_files_as_they_lie() -> None:
    for name in ("Dockerfile", "docker-entrypoint.sh", ".dockerignore"):
        assert (ROOT / "examples" / "django" / name).read_bytes() == (ROOT / "templates" / name).read_bytes()


@pytest.mark.parametrize("name", ["colour.yml", "setting_prod.yml"])
def test_a_host_whose_dockerd_was_killed_serves_again_by_itself(name: str) -> None:
    """A new dockerd stops what outlived the old one, and starts again what has this policy, and no other."""
    services = yaml.safe_load((ROOT / "templates" / name).read_text())["services"]
    assert {service["restart"] for service in services.values()} == {"always"}


def test_shellcheck_finds_nothing_in_the_templates_entrypoint() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    path = ROOT / "templates" / "docker-entrypoint.sh"
    said = subprocess.run([str(shellcheck), str(path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
