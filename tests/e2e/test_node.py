"""An app of another language: a folder with a package.json and a Dockerfile becomes a project, and is deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from test_adopt import HOST, adopt, commit, get

import testbed
from testbed import images
from testbed.load import GET, GET_FRESH, Load

if TYPE_CHECKING:
    from pathlib import Path


def test_a_node_app_is_adopted_deployed_and_changed_under_load(tmp_path: Path) -> None:
    kind, _, number = HOST.partition("-")
    target = testbed.up(int(number), kind)[-1]
    testbed.reset([target])
    images.Shelf().bring("node:22-slim", target)
    project = adopt("node", tmp_path, target)
    assert "80:3000" in (project.folder / "compose.yaml").read_text()
    said = project.inv("deploy")
    assert said.code == 0, said.text
    assert get(target)[0] == "Hello from Node"
    project.edit("server.js", 'GREETING = "Hello"', 'GREETING = "Welcome"')
    commit(project)
    with Load([target.address], host_header="localhost", rate=20, kinds=(GET, GET_FRESH)) as load:
        said = project.inv("deploy")
    assert said.code == 0, said.text
    assert load.report().failed == 0, str(load.report())
    assert get(target)[0] == "Welcome from Node"
