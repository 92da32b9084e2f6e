"""The files of a release as rules read them: documents and texts, wherever they came from."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from deploy.recipe import compose
from deploy.recipe.preflight import Papers

if TYPE_CHECKING:
    from deploy.config import Setup
    from deploy.release import Made
    from deploy.source import Leaf, Tree

LARGEST = 1 << 18
"""Bytes of a source file that is looked into: what people write by hand is smaller."""

_TOLD = re.compile(r"(?:.*/)?(?:[^/]*Dockerfile[^/]*|[^/]*\.sh|settings\.py|settings/[^/]+\.py)")
"""The files of a source that rules look into."""


def of(setup: Setup, tree: Tree, made: Made) -> Papers:
    """Return what hosts would get of a release."""
    app = setup.app
    own = {posixpath.split(file.name): file.content for file in made.own_files}
    stacks = {*dict(app.colour_files).values(), app.settings_file}
    return Papers(
        app=app,
        stacks={
            name: compose.read(content, f"templates/{name}") for (_, name), content in own.items() if name in stacks
        },
        confs={name: content.decode(errors="replace") for (folder, name), content in own.items() if "nginx/" in folder},
        env=setup.env,
        sources={path: _text(leaf) for path, leaf in tree.leaves.items() if _TOLD.fullmatch(path) and not leaf.link},
        names=frozenset(tree.leaves),
    )


def _text(leaf: Leaf) -> str:
    with leaf.open() as (file, size):
        return file.read(size).decode(errors="replace") if size <= LARGEST else ""
