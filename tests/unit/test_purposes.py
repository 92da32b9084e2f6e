"""The plans of hosts that do not run all: hosts for workers, and hosts for the settings services."""

from __future__ import annotations

from dataclasses import replace

from deploy.recipe import plan, services, standing
from deploy.recipe.model import App, Colour, Container, Facts, Health, Host, Release, StoredRelease
from deploy.recipe.steps import Phase, Plan

WEB, JOBS, DATA = Host("web1"), Host("jobs1", runs=("celery", "celery-beat")), Host("data1", runs=("postgres", "redis"))
APP = App(
    "app",
    "prod",
    (WEB, JOBS, DATA),
    health=Health("/healthz", "app.example.com", 60),
    migrate=("python", "manage.py", "migrate"),
    workers=("celery", "celery-beat"),
    singletons=("postgres", "celery-beat"),
    keep=3,
)
DEFINITIONS = tuple((name, f"d-{name}") for name in ("celery", "celery-beat", "nginx", "postgres", "redis"))


def release(ident: str) -> Release:
    return Release(ident, f"finger-{ident}", "c1", definitions=DEFINITIONS)


def runs(ident: str, *names: str) -> tuple[Container, ...]:
    stack = "app-setting-prod"
    images = {name: f"app:{ident}" if name in APP.workers else f"{name}:1" for name in names}
    return tuple(Container(f"i-{n}", stack, n, image, "running", definition=f"d-{n}") for n, image in images.items())


def seen(host: Host, ident: str, *names: str) -> Facts:
    """Return a host with a release that it served."""
    stored = StoredRelease(ident, 100, release(ident), has_image=True)
    engine = Facts(docker="26", compose="docker compose", disk_free=50 << 30, runs=host.runs, base="/home/deploy/app")
    return replace(engine, containers=runs(ident, *names), releases=(stored,))


def deploy(host: Host, facts: Facts) -> Plan:
    return plan.plan_deploy(APP, host, facts, release("r2"), {}, WEB)


def words(planned: Plan) -> dict[str, list[tuple[str, ...]]]:
    """Return the phases that have steps, and what they say to the host."""
    return {str(p): [step.command.words for step in planned.of(p)] for p in Phase if planned.of(p)}


def test_a_deploy_on_a_host_for_workers() -> None:
    told = words(deploy(JOBS, seen(JOBS, "r1", "celery", "celery-beat")))
    assert [word for word, *_ in told["prepare"]] == [
        "receive", "ensure_network", "ensure_volumes", "validate", "build",
    ]  # fmt: skip
    assert told.keys() == {"prepare", "flip", "settle", "finish", "undo"}
    assert told["flip"] == [
        ("settings_up", "celery", "celery-beat"),
        ("settings_ready", "60", "celery", "celery-beat"),
    ]
    assert told["settle"] == [("watch_services", "30", "celery", "celery-beat")]
    assert [word for word, *_ in told["finish"]] == ["mark_served", "record"]
    assert told["undo"] == [
        ("await_engine", "50"),
        ("settings_back", "r1", "celery", "celery-beat"),
        ("settings_ready", "60", "celery", "celery-beat"),
        ("forget", "r2"),
    ]


def test_undo_hands_each_worker_the_release_that_it_was_found_with() -> None:
    facts = seen(JOBS, "r1", "celery-beat")
    half = replace(facts, containers=(*facts.containers, *runs("r0", "celery")))
    assert words(deploy(JOBS, half))["undo"][1:-1] == [
        ("settings_back", "r0", "celery"),
        ("settings_back", "r1", "celery-beat"),
        ("settings_ready", "60", "celery", "celery-beat"),
    ]
    assert words(deploy(JOBS, facts))["undo"][1:-1] == [
        ("settings_back", "r1", "celery-beat"),
        ("settings_ready", "60", "celery-beat"),
        ("settings_down", "celery"),
    ]


def test_a_worker_that_was_sick_before_is_handed_back_and_not_waited_for() -> None:
    facts = seen(JOBS, "r1", "celery", "celery-beat")
    sick = (replace(c, health="unhealthy") if c.service == "celery" else c for c in facts.containers)
    assert words(deploy(JOBS, replace(facts, containers=tuple(sick))))["undo"][1:-1] == [
        ("settings_back", "r1", "celery", "celery-beat"),
        ("settings_ready", "60", "celery-beat"),
    ]


def test_a_deploy_on_a_host_for_settings_services_starts_what_is_missing_and_touches_nothing_else() -> None:
    told = words(deploy(DATA, seen(DATA, "r1", "redis")))
    assert told["prepare"][-2:] == [("settings_up", "postgres"), ("settings_ready", "60", "postgres")]
    assert told.keys() == {"prepare", "finish", "undo"}
    assert told["undo"] == [("forget", "r2")]


def test_the_host_that_runs_all_leaves_to_others_what_may_run_once_and_is_named_for_them() -> None:
    told = words(deploy(WEB, seen(WEB, "r1")))
    assert ("settings_up", "nginx", "redis") in told["prepare"]
    assert ("settings_up", "celery") in told["finish"]


def test_a_singleton_lives_where_it_is_named_or_on_the_first_host_that_runs_all() -> None:
    first = replace(APP, hosts=(DATA, JOBS, WEB), singletons=("redis", "celery"))
    assert [services.belongs(first, host, "redis") for host in first.hosts] == [True, False, False]
    assert [services.belongs(first, host, "celery") for host in first.hosts] == [False, True, False]
    plain = replace(APP, hosts=(DATA, WEB, Host("web2")), singletons=("celery",))
    assert [services.belongs(plain, host, "celery") for host in plain.hosts] == [False, True, False]
    assert [services.belongs(plain, host, "nginx") for host in plain.hosts] == [False, True, True]


def test_what_a_host_without_users_serves_is_what_its_workers_run_or_what_was_served_last() -> None:
    assert standing.live_release(APP, seen(JOBS, "r1", "celery")) == "r1"
    stopped = replace(seen(JOBS, "r1"), containers=())
    assert standing.live_release(APP, stopped) == "r1"
    assert standing.live_release(APP, replace(stopped, releases=())) == ""
    assert standing.live_release(APP, seen(DATA, "r1", "redis")) == "r1"
    assert standing.describe(APP, seen(JOBS, "r1", "celery")) == "celery, celery-beat of r1"


def test_a_switch_that_an_earlier_purpose_left_counts_for_nothing() -> None:
    facts = replace(seen(JOBS, "r1", "celery", "celery-beat"), switch=Colour.GREEN, conf="c0")
    assert standing.live_release(APP, facts) == "r1"
    assert standing.is_unchanged(APP, JOBS, facts, release("r1"))
    assert not standing.is_unchanged(APP, JOBS, facts, release("r2"))
    assert words(deploy(JOBS, facts)) == words(deploy(JOBS, replace(facts, switch=None, conf="")))


def test_a_worker_that_is_missing_or_old_is_something_to_do() -> None:
    assert not standing.is_unchanged(APP, JOBS, seen(JOBS, "r1", "celery"), release("r1"))
    facts = seen(JOBS, "r1", "celery-beat")
    half = replace(facts, containers=(*facts.containers, *runs("r0", "celery")))
    assert not standing.is_unchanged(APP, JOBS, half, release("r1"))


def test_users_that_may_still_come_stop_a_deploy_to_a_host_with_another_purpose() -> None:
    facts = seen(JOBS, "r1", "celery", "celery-beat", "nginx")
    web = Container("i-web", "app-blue", "web", "app:r1", "running")
    planned = deploy(JOBS, replace(facts, containers=(*facts.containers, web)))
    assert planned.refusals == (
        (
            "nginx, web still run here, and this host is for celery, celery-beat: "
            "have users sent elsewhere, then say on this host: docker rm -f i-nginx i-web"
        ),
    )


def test_data_that_runs_elsewhere_now_stops_a_deploy_and_a_worker_only_asks() -> None:
    planned = deploy(DATA, seen(DATA, "r1", "redis", "postgres", "celery", "celery-beat"))
    assert planned.refusals == (
        (
            "celery-beat runs here and belongs to jobs1 alone (deploy.singletons): "
            "move what it holds, then say on this host: docker rm -f i-celery-beat"
        ),
    )
    assert planned.asks == (
        "celery of app-setting-prod will be removed: deploy.envs.prod.runs does not name it for this host",
    )
    assert ("settings_down", "celery") in words(planned)["finish"]
