"""A host for users and a host for workers alone, with load, on an old engine with compose v1."""

from __future__ import annotations

import concurrent.futures
import itertools
import re
import time
from typing import TYPE_CHECKING

import pytest
from stage import Stage, assert_nothing_lost

import testbed
from testbed.project import ROOT, SECRET, Project

if TYPE_CHECKING:
    from testbed.model import Target

PUBLISHED = '  redis:\n    <<: *service\n    ports: ["${POSTGRES_BIND}:6379:6379"]\n'
SICK = 'import os\nimport sys\n\nif "worker" in sys.argv:\n    raise SystemExit("this worker does not work")\n'
VALUE = f"{SECRET}-of-jobs-alone"


@pytest.fixture(scope="module", params=["bookworm"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Two bare hosts: one has users and the data, the other the workers, which find redis over the hosts' network."""
    web, jobs = targets = testbed.up(2, request.param)
    testbed.reset(targets)
    project = Project.create(tmp_path_factory.mktemp("project"), targets)
    prod = {
        "hosts": [f"deploy@{target.address}" for target in targets],
        "runs": {web.address: ["web", "redis", "postgres"], jobs.address: ["celery", "celery-beat"]},
        "values": {jobs.address: {"CELERY_CONCURRENCY": 3, "JOBS_TOKEN": VALUE}},
    }
    project.configure({"envs": {"prod": prod}, "settle": 5})
    redis = f"REDIS_URL=redis://:{SECRET}-redis@{web.inner}:6379/0\n"
    (project.folder / ".env.prod").write_text(project.dotenv() + redis)
    template = (ROOT / "templates" / "setting_prod.yml").read_text()
    (project.folder / "templates").mkdir()
    (project.folder / "templates" / "setting_prod.yml").write_text(
        template.replace("  redis:\n    <<: *service\n", PUBLISHED)
    )
    return Stage([web], project)


@pytest.fixture
def jobs(stage: Stage) -> Target:
    return stage.project.targets[1]


def workers(stage: Stage, jobs: Target) -> dict[str, str]:
    """Return the image of each container on the host for workers, by service."""
    form = "'{{.Label \"com.docker.compose.service\"}}={{.Image}}'"
    lines = stage.docker(jobs, "ps", "--format", form)
    return dict(line.split("=") for line in lines)


def test_a_first_deploy_gives_each_host_what_it_is_for(stage: Stage, jobs: Target) -> None:
    stage.deploy()
    live = stage.live()
    assert {service for _, service in stage.containers(stage.targets[0])} == {"web", "nginx", "redis", "postgres"}
    assert workers(stage, jobs) == {"celery": f"app:{live}", "celery-beat": f"app:{live}"}
    _, web_row, jobs_row = [re.split(r"  +", line) for line in stage.inv("status").out.splitlines()]
    assert web_row[1:4] == ["web, redis, postgres", "blue", live]
    assert jobs_row[1:4] == ["celery, celery-beat", "-", live]


def test_values_of_a_host_are_in_its_env_file_and_its_containers_and_nowhere_else(stage: Stage, jobs: Target) -> None:
    find = f"grep -rl {VALUE} /home/deploy/greenroom/ || true"
    found = testbed.shell(jobs, find).split()
    assert found == [f"/home/deploy/greenroom/app/releases/{stage.live()}/.env"]
    assert testbed.shell(jobs, f"stat -c %a {found[0]}") == "600"
    assert testbed.shell(stage.targets[0], find) == ""
    celery = testbed.shell(
        jobs, "docker exec $(docker ps -qf label=com.docker.compose.service=celery) env"
    ).splitlines()
    assert f"JOBS_TOKEN={VALUE}" in celery
    assert "CELERY_CONCURRENCY=3" in celery
    assert VALUE not in "".join(said.text for said in stage.log)


def test_under_load_no_request_is_lost_no_task_runs_twice_and_beat_is_never_doubled(stage: Stage, jobs: Target) -> None:
    before = stage.json("/tasks")["count"]
    with stage.users() as load, concurrent.futures.ThreadPoolExecutor() as pool:
        deploying = pool.submit(stage.deploy)
        sent = 0
        while not deploying.done():
            stage.json("/enqueue?n=5", body=b"")
            sent += 5
            time.sleep(1)
        live = deploying.result()
    assert_nothing_lost(load.report(), stage.hosts)
    assert workers(stage, jobs) == {"celery": f"app:{live}", "celery-beat": f"app:{live}"}
    deadline = time.monotonic() + 120
    while stage.json("/tasks")["count"] < before + sent and time.monotonic() < deadline:
        time.sleep(0.5)
    tasks = stage.json("/tasks")
    assert (tasks["count"], tasks["duplicates"]) == (before + sent, 0)
    ticks = sorted(stage.json("/ticks?n=1000")["ticks"], key=lambda tick: tick["sent"])
    beats = [beat for beat, _ in itertools.groupby(tick["beat"] for tick in ticks)]
    assert len(beats) == len(set(beats)) == 2, "two beats were at work at the same time"


def test_what_is_staged_reaches_the_workers_with_the_promote_and_not_before(stage: Stage, jobs: Target) -> None:
    before, live = workers(stage, jobs), stage.live()
    stage.commit()
    said = stage.inv("stage")
    assert said.code == 0, said.text
    assert (workers(stage, jobs), stage.live()) == (before, live)
    said = stage.inv("preview", f"--hosts={jobs.address}")
    assert said.code == 2, said.text
    assert f"inv preview --env=prod --hosts={stage.hosts[0]}" in said.text
    said = stage.inv("promote")
    assert said.code == 0, said.text
    assert stage.live() != live
    assert workers(stage, jobs) == {"celery": f"app:{stage.live()}", "celery-beat": f"app:{stage.live()}"}


def test_a_worker_that_does_not_work_sends_everybody_back(stage: Stage, jobs: Target) -> None:
    before, live = workers(stage, jobs), stage.live()
    stage.project.edit("mysite/celery.py", "import os\n", SICK)
    stage.commit()
    with stage.users() as load:
        said = stage.inv("deploy", "--settle=30")  # it ends with the first worker that begins anew
    assert said.code == 1, said.text
    assert "this worker does not work" in said.text
    assert load.report().failed == 0, str(load.report())
    assert (workers(stage, jobs), stage.live()) == (before, live)
    assert stage.docker(jobs, "images", "-q", "app") == stage.docker(stage.targets[0], "images", "-q", "app")


def test_a_rollback_takes_the_workers_back_too(stage: Stage, jobs: Target) -> None:
    said = stage.inv("rollback", "--settle=0")
    assert said.code == 0, said.text
    assert set(workers(stage, jobs).values()) == {f"app:{stage.live()}"}
