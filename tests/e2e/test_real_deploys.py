"""The stories of a deploy on real hosts, in the order in which a user would live through them.

The tests of one stage build on each other's state as deploys do in life: each begins with whatever is live.
"""

from __future__ import annotations

import base64
import concurrent.futures
import io
import itertools
import re
import signal
import tarfile
import time
from typing import TYPE_CHECKING

import pytest
from stage import assert_nothing_lost

import testbed
from deploy.source import Templates
from testbed.faults.operator import Operator
from testbed.load import EVERYDAY, UPLOAD
from testbed.project import HOST_HEADER, ROOT, releases

if TYPE_CHECKING:
    from stage import Stage

    from testbed.load import Report
    from testbed.project import Said


def test_the_templates_are_valid_as_they_lie(one: Stage) -> None:
    with io.BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.add(ROOT / "templates", "templates")
        text = base64.b64encode(packed.getvalue()).decode()
    said = testbed.shell(one.targets[0], VALIDATE.replace("PACKED", text), timeout=120)
    assert said.split() == ["colour.yml", "setting_prod.yml", "setting_dev.yml", "nginx"], said


VALIDATE = """set -eu
cd "$(mktemp -d)"
echo PACKED | base64 -d | tar -xz
cd templates
mkdir source
compose=docker-compose
! docker compose version >/dev/null 2>&1 || compose="docker compose"
for file in colour.yml setting_prod.yml setting_dev.yml; do $compose -f $file config -q && echo $file; done
docker run --rm -v "$PWD/nginx:/etc/nginx/greenroom/x:ro" nginx:1.30 nginx -t -q -c /etc/nginx/greenroom/x/nginx.conf
echo nginx
"""


@pytest.mark.usefixtures("either")
def test_check_finds_nothing_that_would_stop_a_first_deploy(stage: Stage) -> None:
    said = stage.inv("check")
    assert said.code == 0, said.text
    assert "nothing would stop a deploy, and nothing would be lost by one" in said.out


@pytest.mark.usefixtures("either")
def test_plan_of_a_first_deploy_leaves_the_hosts_as_bare_as_they_were(stage: Stage) -> None:
    before = [
        testbed.shell(target, "find /home/deploy | sort; docker ps -aq; docker volume ls -q")
        for target in stage.targets
    ]
    said = stage.inv("plan")
    assert said.code == 0, said.text
    assert "switch nginx to blue" in said.out
    after = [
        testbed.shell(target, "find /home/deploy | sort; docker ps -aq; docker volume ls -q")
        for target in stage.targets
    ]
    assert before == after


def test_a_first_deploy_on_bare_hosts(stage: Stage) -> None:
    said = stage.inv("deploy")
    assert said.code == 0, said.text
    assert stage.live() == releases(said)[0]
    stage.assert_whole()


def test_static_files_are_served_by_nginx_with_their_hash(one: Stage) -> None:
    page = one.get("/")[2].decode()
    found = re.search(r"/static/[^\"]+\.[0-9a-f]{12}\.css", page)
    assert found, page
    status, headers, _ = one.get(found[0])
    assert status == 200
    assert "immutable" in headers["Cache-Control"]


def test_a_second_deploy_under_load_loses_nothing(stage: Stage) -> None:
    before = stage.live()
    with stage.users((*EVERYDAY, UPLOAD)) as load:
        after = stage.deploy()
    assert after != before
    report = load.report()
    assert_nothing_lost(report, stage.hosts)
    assert {seen.release for host in stage.hosts for seen in report.releases(host)} == {before, after}
    stage.assert_whole()


def test_a_deploy_takes_at_most_twelve_remote_commands_a_host(one: Stage) -> None:
    """Counted on the hosts: sshd starts the login shell once for each command."""
    for target in one.targets:
        testbed.shell(target, COUNTING_SHELL)
    one.deploy("--settle=0")
    for target in one.targets:
        count = testbed.shell(target, "usermod -s /bin/bash deploy; wc -l < /tmp/commands; rm /tmp/commands")
        assert 1 <= int(count) <= 12, target


COUNTING_SHELL = """
printf '#!/bin/sh\\necho >>/tmp/commands\\nexec /bin/bash "$@"\\n' >/usr/local/bin/counting-shell
chmod 755 /usr/local/bin/counting-shell
install -m 666 /dev/null /tmp/commands
usermod -s /usr/local/bin/counting-shell deploy
"""


@pytest.mark.usefixtures("either")
def test_an_unchanged_deploy_says_so_and_touches_nothing(stage: Stage) -> None:
    before = [stage.docker(target, "ps", "--no-trunc", "-q") for target in stage.targets]
    said = stage.inv("deploy")
    assert said.code == 0, said.text
    assert "nothing to do" in said.out
    assert [stage.docker(target, "ps", "--no-trunc", "-q") for target in stage.targets] == before


@pytest.mark.usefixtures("either")
def test_unchanged_sources_send_no_file(stage: Stage) -> None:
    said = stage.inv("deploy", "--force", "--settle=0")
    assert said.code == 0, said.text
    assert said.out.count("the sources are there; only the release's own files go") == len(stage.targets)


@pytest.mark.usefixtures("either")
def test_status_and_history_tell_what_is_live_and_how_it_came(stage: Stage) -> None:
    live = stage.live()
    status = stage.inv("status")
    assert status.out.count(live) == len(stage.targets)
    assert status.out.count("healthy") == len(stage.targets)
    history = stage.inv("history")
    assert re.search(rf"deploy\s+{live}\s+.*done", history.out)


@pytest.mark.usefixtures("either")
def test_rollback_goes_to_the_release_before_and_to_any_that_is_named(stage: Stage) -> None:
    first = stage.deploy("--settle=0")
    second = stage.deploy("--settle=0")
    with stage.users() as load:
        assert stage.inv("rollback", "--settle=1").code == 0
        assert stage.live() == first
        assert stage.inv("rollback", f"--to={second}", "--settle=1").code == 0
        assert stage.live() == second
    assert load.report().failed == 0, str(load.report())
    stage.assert_whole()


def test_an_upload_and_a_row_survive_three_flips(one: Stage) -> None:
    upload = one.json("/upload", body=b"precious" * 1000)
    row = one.json("/rows", body=b"text=precious")
    for _ in range(3):
        one.deploy("--settle=0")
    assert one.get(upload["url"])[2] == b"precious" * 1000
    assert one.json("/rows")["count"] >= row["count"]


RESTORED = 2
"""Tasks that a worker of two processes may give back to redis at a warm shutdown though they have begun, so that they
run twice: celery's own (its issue 5663), seen once in some thousand."""


@pytest.mark.usefixtures("either")
def test_no_task_enqueued_during_a_deploy_is_lost_and_beat_is_never_doubled(stage: Stage) -> None:
    before = stage.json("/tasks")
    target = stage.targets[0]
    (worker,) = stage.docker(target, "ps", "-q", "--filter", "label=com.docker.compose.service=celery")
    testbed.shell(target, f"nohup docker logs -f {worker} >/tmp/worker.log 2>&1 &")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        deploying = pool.submit(stage.deploy, "--settle=1")
        sent = 0
        while sent < 200 or not deploying.done():
            stage.json("/enqueue?n=5", body=b"")
            sent += 5
            time.sleep(0.5)
        deploying.result()
    deadline = time.monotonic() + 120
    while stage.json("/tasks")["distinct"] < before["distinct"] + sent and time.monotonic() < deadline:
        time.sleep(0.5)
    tasks = stage.json("/tasks")
    assert tasks["distinct"] == before["distinct"] + sent
    assert tasks["duplicates"] - before["duplicates"] <= RESTORED
    left = testbed.shell(target, "grep -oE 'Canceling queue|Warm shutdown' /tmp/worker.log").splitlines()
    assert left == ["Canceling queue", "Warm shutdown"], "the old worker still took tasks when it was to shut down"
    ticks = sorted(stage.json("/ticks?n=1000")["ticks"], key=lambda tick: tick["sent"])
    beats = [beat for beat, _ in itertools.groupby(tick["beat"] for tick in ticks)]
    assert len(beats) == len(set(beats)), "two beats were at work at the same time"


@pytest.mark.usefixtures("either")
def test_migrations_run_once_in_the_new_image_before_any_flip(stage: Stage) -> None:
    stage.project.edit("invoke.yaml", '"python manage.py migrate --noinput"', '"python manage.py once"')
    folder = stage.project.folder / "board" / "management" / "commands"
    folder.mkdir(parents=True)
    (folder / "once.py").write_text(
        "from django.core.management import BaseCommand, call_command\n"
        "from board.models import Row\n\n\n"
        "class Command(BaseCommand):\n"
        "    def handle(self, **_):\n"
        "        call_command('migrate', interactive=False)\n"
        "        Row.objects.create(text='migrated')\n"
    )
    before = stage.json("/rows")["count"]
    stage.commit()
    said = stage.inv("deploy", "--settle=0", "--json")
    assert said.code == 0, said.text
    assert stage.json("/rows")["count"] == before + 1
    kinds = [(e["kind"], e.get("title", "")) for e in said.events()]
    migrated = kinds.index(("done", "migrate the database"))
    assert migrated < min(i for i, (_, title) in enumerate(kinds) if title.startswith("switch nginx"))


@pytest.mark.usefixtures("either")
def test_the_settings_stack_is_started_when_absent_and_left_alone_when_present(stage: Stage) -> None:
    target = stage.targets[-1]
    ids = {
        s: stage.docker(target, "ps", "-q", "--filter", f"label=com.docker.compose.service={s}")
        for s in ("nginx", "redis")
    }
    stage.docker(target, "rm", "-f", *ids["redis"])
    stage.deploy("--settle=0")
    assert stage.docker(target, "ps", "-q", "--filter", "label=com.docker.compose.service=nginx") == ids["nginx"]
    redis = stage.docker(target, "ps", "-q", "--filter", "label=com.docker.compose.service=redis")
    assert redis
    assert redis != ids["redis"]
    stage.assert_whole()


def test_a_changed_settings_service_is_asked_about_before_anything_is_touched(one: Stage) -> None:
    templates = one.project.folder / "templates"
    templates.mkdir()
    content = (
        Templates(templates)
        .read("setting_prod.yml")
        .replace(b"appendonly yes", b"appendonly yes\n        maxmemory 100mb")
    )
    (templates / "setting_prod.yml").write_bytes(content)
    before = one.live()
    refused = one.inv("deploy", "--settle=0")
    assert refused.code == 2
    assert "redis of app-setting-prod will be recreated" in refused.err
    assert one.live() == before
    assert one.inv("deploy", "--settle=0", "--yes").code == 0
    one.assert_whole()


def test_an_nginx_that_does_not_come_up_changed_is_as_it_was_when_the_deploy_is_undone(one: Stage) -> None:
    """It is a gap for users, which they were asked about; "undone" means that it is over."""
    settings = one.project.folder / "templates" / "setting_prod.yml"
    good = settings.read_bytes()
    assert b"daemon off;" in good
    settings.write_bytes(good.replace(b"daemon off;", b"daemon of;"))
    before = one.live()
    one.commit()
    said = one.inv("deploy", "--settle=0", "--yes")
    assert said.code == 1, said.text
    assert "Undone on every host" in said.err
    assert "not well, and as it was before: nginx" in said.text
    assert one.live() == before
    one.assert_whole()
    settings.write_bytes(good)


SLOW = b"  redis:\n    <<: *service\n    stop_signal: SIGWINCH\n"
"""A redis that docker has to kill, ten seconds after it was told to stop."""


def while_redis_is_made_anew(stage: Stage, blow: signal.Signals) -> tuple[Operator, str]:
    """Deploy another redis, and strike its operator while docker stops the slow one; say how its end is seen."""
    target, settings = stage.targets[0], stage.project.folder / "templates" / "setting_prod.yml"
    settings.parent.mkdir(exist_ok=True)
    good = Templates(settings.parent).read(settings.name)
    settings.write_bytes(good.replace(b"  redis:\n    <<: *service\n", SLOW))
    stage.deploy("--settle=0", "--yes")
    settings.write_bytes(good)
    stage.commit()
    (redis,) = stage.docker(target, "ps", "-q", "--filter", "label=com.docker.compose.service=redis")
    since = testbed.shell(target, "date +%s")
    events = f"docker events --since {since} --until $(date +%s) --filter container={redis} --filter event="
    told, ended = (f"until {events}{what} | grep -q .; do sleep 0.1; done" for what in ("kill", "die"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ending = pool.submit(testbed.shell, target, told)
        operator = Operator(stage.project, "deploy", "--settle=0", "--yes")
        assert operator.watch_until(lambda _, event: event.get("title") == "start settings services")
        ending.result()
        operator.send(blow)
    return operator, ended


def test_what_docker_still_stops_when_a_deploy_is_broken_off_is_back_when_it_is_undone(one: Stage) -> None:
    """Until it has ended docker calls it "Up", and a moment later nobody would have a redis."""
    operator, ended = while_redis_is_made_anew(one, signal.SIGINT)
    assert operator.finish() == 1, operator.said
    assert "Undone on every host" in operator.said
    testbed.shell(one.targets[0], ended)
    one.assert_whole()
    one.deploy("--settle=0", "--yes")  # with the redis that others do not have to be asked about


def test_what_docker_still_stops_for_a_dead_operator_is_there_after_the_next_deploy(one: Stage) -> None:
    """One of another mind, who wants the redis that seems to run."""
    operator, ended = while_redis_is_made_anew(one, signal.SIGKILL)
    operator.finish()
    settings = one.project.folder / "templates" / "setting_prod.yml"
    good = settings.read_bytes()
    settings.write_bytes(good.replace(b"  redis:\n    <<: *service\n", SLOW))
    one.deploy("--settle=0", "--yes")
    testbed.shell(one.targets[0], ended)
    one.assert_whole()
    settings.write_bytes(good)
    one.deploy("--settle=0", "--yes")


def test_a_broken_nginx_conf_is_refused_before_any_flip(one: Stage) -> None:
    folder = one.project.folder / "templates" / "nginx"
    folder.mkdir(parents=True)
    for name, content in Templates(one.project.folder / "nowhere").directory("nginx").items():
        (folder / name).write_bytes(content)
    good = (folder / "mysite.conf").read_text()
    (folder / "mysite.conf").write_text(good + "\nthis is no nginx configuration;\n")
    before = one.live()
    with one.users() as load:
        said = one.inv("deploy", "--settle=0")
    assert said.code == 1
    assert "test the nginx configuration" in said.text
    assert "unknown directive" in said.text
    assert one.live() == before
    assert load.report().failed == 0, str(load.report())
    (folder / "mysite.conf").write_text(good)


def test_a_compose_file_that_compose_refuses_is_refused_before_any_flip(one: Stage) -> None:
    path = one.project.folder / "templates" / "colour.yml"
    content = Templates(one.project.folder / "nowhere").read("colour.yml")
    path.write_bytes(content.replace(b"    restart: always", b"    restarts: always", 1))
    before = one.live()
    with one.users() as load:
        said = one.inv("deploy", "--settle=0")
    path.unlink()
    assert said.code == 1
    assert "validate the compose files: failed" in said.text
    assert "restarts" in said.text
    assert one.live() == before
    assert load.report().failed == 0, str(load.report())


def test_a_changed_nginx_conf_is_taken_over_without_loss(one: Stage) -> None:
    path = one.project.folder / "templates" / "nginx" / "mysite.conf"
    path.write_text(path.read_text().replace("server {", "server {\n    add_header X-Conf two always;", 1))
    with one.users() as load:
        one.deploy("--settle=0")
    assert load.report().failed == 0, str(load.report())
    assert {one.get("/", host)[1].get("X-Conf") for host in one.hosts} == {"two"}
    path.write_text(path.read_text().replace("\n    add_header X-Conf two always;", ""))


def test_a_release_that_never_becomes_healthy_on_one_host_flips_nobody(three: Stage) -> None:
    sick = three.targets[1]
    before = three.live()
    three.project.edit("board/views.py", HEALTH, HEALTH_WITH_A_FILE)
    three.project.edit("invoke.yaml", '"timeout": 60', '"timeout": 15')
    testbed.shell(sick, "touch /var/lib/docker/volumes/app-media/_data/sick")
    with three.users() as load:
        three.commit()
        said = three.inv("deploy")
    assert said.code == 1, said.text
    assert f"{sick.address}: gate" in said.err
    assert "status 500" in said.out
    assert "it is sick here" in said.out, "the container's log is shown"
    assert three.live() == before
    assert load.report().failed == 0, str(load.report())
    three.assert_whole()
    testbed.shell(sick, "rm /var/lib/docker/volumes/app-media/_data/sick")
    three.project.edit("board/views.py", HEALTH_WITH_A_FILE, HEALTH)
    three.project.edit("invoke.yaml", '"timeout": 15', '"timeout": 60')


HEALTH = "    with connection.cursor() as cursor:"
HEALTH_WITH_A_FILE = f"""    if (settings.MEDIA_ROOT / "sick").exists():
        print("it is sick here", flush=True)
        return HttpResponse(status=500)
{HEALTH}"""


@pytest.mark.usefixtures("either")
def test_a_release_that_dies_during_settle_goes_back_everywhere(stage: Stage) -> None:
    before = stage.live()
    stage.project.edit("board/views.py", HOME, HOME_THAT_KILLS)
    with stage.users() as load:
        stage.commit()
        load.mark("deploy")
        said = stage.inv("deploy", "--settle=30")
        load.mark("undone")
    assert said.code == 1, said.text
    assert "watch" in said.err
    assert "Undone on every host" in said.err
    assert stage.live() == before
    stage.assert_whole()
    broken = load.report().failures
    assert broken, "the release was to die under its users"
    assert not load.report(since="undone").failures, str(load.report())
    assert max(r.ended for r in broken) - min(r.started for r in broken) < 15, str(load.report())
    stage.project.edit("board/views.py", HOME_THAT_KILLS, HOME)


HOME = "def home(request: HttpRequest) -> HttpResponse:\n"
HOME_THAT_KILLS = (
    HOME
    + """    # Five seconds after its first visitor, when every host has long flipped, gunicorn gets a SIGTERM.
    __import__("threading").Timer(5, __import__("os").kill, (1, 15)).start()
"""
)


OLD_COLOUR_AWAY = """#!/bin/sh
if [ -f ../switch/green ]; then was=blue; else was=green; fi
web=$(docker ps -q --filter label=com.docker.compose.project=app-$was --filter label=com.docker.compose.service=web)
docker stop "$web"
[ "$1" = for-good ] || { sleep 5; docker start "$web"; } >/dev/null 2>&1 &
exit 1
"""


def undo_without_the_colour_before(stage: Stage, *how: str) -> tuple[Said, Report]:
    """Deploy what is undone at the end of settle, when the colour that users had is away."""
    away = stage.project.folder / "away"
    away.write_text(OLD_COLOUR_AWAY)
    away.chmod(0o755)
    rule = {"path": "/healthz", "host": HOST_HEADER, "timeout": 15}
    stage.project.configure({"host_hooks": {"before-finish": [" ".join(("./away", *how))]}, "health": rule})
    with stage.users() as load:
        stage.commit()
        said = stage.inv("deploy")
    away.unlink()
    stage.project.configure({})
    return said, load.report()


def test_users_are_not_sent_back_to_a_colour_before_it_is_up(one: Stage) -> None:
    """As after a reboot in the middle of a deploy: each colour comes up in its own time."""
    before = one.live()
    said, report = undo_without_the_colour_before(one)
    assert said.code == 1, said.text
    assert "Undone on every host" in said.err
    assert one.live() == before
    assert report.failed == 0, str(report)
    one.assert_whole()


def test_users_stay_where_they_are_served_when_the_colour_before_does_not_come_back(one: Stage) -> None:
    before = one.live()
    said, report = undo_without_the_colour_before(one, "for-good")
    assert said.code == 3, said.text
    assert "is not back within 15 s" in said.text
    assert one.live() != before
    assert report.failed == 0, str(report)
    one.deploy()
    one.assert_whole()


def test_ten_deploys_in_a_row_lose_nothing_and_leave_only_what_keep_says(one: Stage) -> None:
    if one.targets[0].kind != "trixie":
        pytest.skip("minutes, and one engine tells what so many deploys leave behind")
    with one.users() as load:
        for _ in range(10):
            one.deploy("--settle=0")
    report = load.report()
    assert report.failed == 0, str(report)
    images = {
        x
        for x in one.docker(one.targets[0], "images", "--format", "'{{.Repository}}:{{.Tag}}'")
        if x.startswith("app:")
    }
    assert len(images) == 5
    one.assert_whole()


def test_a_second_operator_is_told_who_deploys(one: Stage) -> None:
    one.commit()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(one.inv, "deploy", "--settle=10")
        deadline = time.monotonic() + 60
        while "held" not in testbed.shell(
            one.targets[0], "test -s /home/deploy/greenroom/app/holder && echo held || true"
        ):
            assert time.monotonic() < deadline, "the first operator never took the lock"
            time.sleep(0.1)
        second = one.inv("deploy", "--force")
        assert first.result().code == 0
    assert second.code == 2
    assert "is at work here since" in second.err
