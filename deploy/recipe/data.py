"""What may not be lost, or begin anew, when an app moves in that ran under `docker compose up` before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.recipe.model import App, Facts


def refusals(facts: Facts) -> tuple[str, ...]:
    """Another compose project's containers on our volumes: two databases on one folder ruin it.

    Stopped ones count: a restart policy of `always` brings them back with the host.
    """
    users: dict[str, list[str]] = {}
    for volume, container, project in facts.volume_users:
        if project:
            users.setdefault(project, []).append(f"{container} has {volume}")
    return tuple(
        f"the compose project {project} still has its containers here ({', '.join(each)}), and two programs on one "
        "volume can ruin what it holds. When its users can do without it until the deploy is done: "
        f"docker rm -f $(docker ps -aq --filter label=com.docker.compose.project={project})  (its volumes stay)"
        for project, each in users.items()
    )


def asks(app: App, facts: Facts) -> tuple[str, ...]:
    """Volumes that would begin empty while another project has one by that key; somebody's own container on ours."""
    names = dict(app.kept)
    return (
        *(
            f"volume {names[key]} is not there and will begin empty, while {like} is there: if that holds the app's "
            f"data, say deploy.stack.name: {like.removesuffix(f'_{key}')}"
            for key, like in facts.volume_likes
            if key in names
        ),
        *(
            f"container {container} has the app's volume {volume}, and is no part of it"
            for volume, container, project in facts.volume_users
            if not project
        ),
    )


def goes_on(app: App, facts: Facts) -> tuple[str, ...]:
    """Say at a first deploy which volumes it finds, and which it makes."""
    if facts.switch is not None:
        return ()
    there = [name for _, name in app.kept if name in facts.volumes]
    new = [name for _, name in app.kept if name not in facts.volumes]
    return (
        *((f"goes on with the data in {', '.join(there)}",) if there else ()),
        *((f"begins with empty volumes: {', '.join(new)}",) if new else ()),
    )
