"""invoke.yaml: what is wrong is refused by the key's path, with what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deploy import config, keys
from deploy.errors import ConfigError
from deploy.recipe.model import Colour, Host

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.prod").write_text("A=1\n")
    return tmp_path


def data(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"project": "app", "envs": {"prod": {"hosts": ["web1", "web2"]}}}
    return {**base, **changes}


def test_a_project_and_one_env_with_hosts_are_enough(folder: Path) -> None:
    setup = config.load(data(), folder)
    assert setup.app.env == "prod"
    assert setup.hosts == (Host("web1"), Host("web2"))
    assert setup.app.settings_file == "setting_prod.yml"


def test_the_sample_holds_every_key_with_its_default(folder: Path) -> None:
    sample = yaml.safe_load((ROOT / "invoke.yaml").read_text())["deploy"]
    setup = config.load(sample, folder, "prod")
    assert setup.app.health.path == "/healthz"
    shown = set(sample) | {"settings", "hosts", "runs", "values", "dotenv", "stack", "registry"}
    assert shown == set(keys.TopKeys.__struct_fields__)
    assert sample["ssh"] == msgspec.to_builtins(keys.Ssh())
    assert set(sample["health"]) == set(keys.HealthKeys.__struct_fields__)
    text = (ROOT / "invoke.yaml").read_text()
    stack = text[text.index("# stack:") : text.index("# settings:")]
    assert set(re.findall(r"^    # (\w+):", stack, re.MULTILINE)) == set(keys.StackKeys.__struct_fields__)
    registry = text[text.index("# registry:") : text.index("build_timeout:")]
    assert set(re.findall(r"^    # (\w+):", registry, re.MULTILINE)) == set(keys.RegistryKeys.__struct_fields__)
    defaults = keys.EnvKeys()
    for key in (
        "root",
        "network",
        "volumes",
        "service",
        "proxy",
        "nginx",
        "settle",
        "drain",
        "keep",
        "build",
        "build_timeout",
    ):
        assert sample[key] == getattr(defaults, key), key


def test_an_env_wins_over_what_stands_above_it(folder: Path) -> None:
    setup = config.load(data(settle=30, envs={"prod": {"hosts": ["a"], "settle": 0}}), folder)
    assert setup.app.settle == 0


def test_an_env_file_that_is_named_above_all_envs_is_as_secret_as_one_of_an_env(folder: Path) -> None:
    (folder / "all.env").write_text("A=1\n")
    setup = config.load(data(dotenv="all.env"), folder)
    assert setup.env == {"A": "1"}
    assert setup.dotenv_paths == {folder / "all.env"}


def test_paths_of_ssh_start_where_invoke_yaml_lies_or_at_home(folder: Path) -> None:
    (folder / "ssh_config").write_text("")
    setup = config.load(data(ssh={"known_hosts": "~/known_hosts", "config": "ssh_config"}), folder)
    assert setup.ssh.known_hosts == str(Path.home() / "known_hosts")
    assert setup.ssh.config == str(folder / "ssh_config")
    assert not setup.ssh.identity


def test_a_home_that_nobody_has_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"deploy\.ssh\.identity: '~nobody-here/key': could not determine home"):
        config.load(data(ssh={"identity": "~nobody-here/key"}), folder)


def test_who_builds_is_one_host_or_each(folder: Path) -> None:
    assert config.load(data(), folder).app.build == "once"
    assert config.load(data(envs={"prod": {"hosts": ["a"], "build": "each"}}), folder).app.build == "each"
    with pytest.raises(ConfigError, match=r"deploy\.build: invalid enum value 'twice'"):
        config.load(data(build="twice"), folder)


def test_two_colour_files_may_differ(folder: Path) -> None:
    setup = config.load(data(colours={"blue": "b.yml", "green": "g.yml"}), folder)
    assert setup.app.colour_file(Colour.GREEN) == "g.yml"


def test_hosts_of_all_shapes_are_read(folder: Path) -> None:
    hosts = ["web1", "deploy@web2.example.com:2222", "root@[::1]:22", "10.0.0.1"]
    setup = config.load(data(envs={"prod": {"hosts": hosts}}), folder)
    assert setup.hosts[1] == Host("web2.example.com", "deploy", 2222)
    assert setup.hosts[2] == Host("::1", "root", 22)


def test_a_subset_keeps_the_order_of_the_configuration_and_the_env_keeps_all(folder: Path) -> None:
    setup = config.load(data(envs={"prod": {"hosts": ["a", "b", "c"]}}), folder, hosts="c, a")
    assert setup.hosts == (Host("a"), Host("c"))
    assert len(setup.app.hosts) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": "tmeplates"}, r"deploy\.templates: .*/tmeplates is no folder"),
        ({"ssh": {"config": "ssh_confg"}}, r"deploy\.ssh\.config: .*/ssh_confg is not there: the way to the hosts"),
        ({"helth": {}}, r"deploy\.helth: there is no such key; did you mean health\?"),
        ({"health": {"pth": "/"}}, r"deploy\.health\.pth: there is no such key; did you mean path\?"),
        (
            {"hooks": {"before-flop": ["x"]}},
            r"deploy\.hooks: .*'before-flop'; did you mean before-flip\?; there are: .*after-ship",
        ),
        ({"ssh": {"host_keys": "strikt"}}, r"deploy\.ssh\.host_keys: .*did you mean strict\?; there are: .*accept-new"),
        ({"health": {"timeout": "soon"}}, r'deploy\.health\.timeout: expected a whole number; found "soon"\n'),
        ({"envs": {"prod": {"hosts": ["a"], "settel": 1}}}, r"deploy\.envs\.prod\.settel: .* did you mean settle\?"),
        ({"envs": {"prod": {"hosts": "a"}}}, r'deploy\.envs\.prod\.hosts: expected a list; found "a"\n'),
        (
            {"envs": {"prod": {"hosts": ["a", 7]}}},
            r"deploy\.envs\.prod\.hosts\[1\]: expected a text; found 7; in quotes",
        ),
        ({"standby": "yes"}, r'deploy\.standby: expected true or false, without quotes; found "yes"\nin invoke\.yaml'),
        ({"network": True}, r"deploy\.network: expected a text; found true; in quotes .*\n.*network: shop"),
        ({"settle": None}, r"deploy\.settle: expected a whole number; found nothing\n.*settle: 30"),
        ({"stack": "compose.yaml"}, r"deploy\.stack: expected keys below it; found .*\n.*stack: \{file: compose.yaml"),
        ({"env": {"prod": {}}}, r"deploy\.env: expected a text; found keys below it\n"),
        (
            {"registry": {"image": "a/b", "password": 7351}},
            r"deploy\.registry\.password: .* found something else; in quotes",
        ),
        ({"envs": {"prod": {"hosts": []}}}, r"deploy\.envs\.prod\.hosts: expected at least one host"),
        ({"envs": {"prod": {}}}, r"deploy\.envs\.prod\.hosts: expected at least one host"),
        ({"envs": {"prod": {"hosts": ["a b"]}}}, r"deploy\.envs\.prod\.hosts\[0\]: 'a b' is no host"),
        ({"envs": {"prod": {"hosts": ["a:99999"]}}}, r"hosts\[0\]: 'a:99999' is no host"),
        ({"envs": {"prod": {"hosts": ["-oProxyCommand=x"]}}}, r"hosts\[0\]: '-oProxyCommand=x' is no host"),
        ({"envs": {"prod": {"hosts": ["a", "x@a"]}}}, r"hosts\[1\]: a stands there twice, first as hosts\[0\]: a"),
        ({"envs": {"prod": {"hosts": ["web1", "b", "u@WEB1.:22"]}}}, r"hosts\[2\]: WEB1.:22 stands there twice"),
        ({"envs": {"prod": {"hosts": ["[::1]", "[0:0::1]:22"]}}}, r"hosts\[1\]: .* stands there twice"),
        (
            {"env": "prod", "envs": {"prod": {"hosts": ["a"]}, "dev": {"hosts": ["b", "x@A:22"]}}},
            r"deploy\.envs\.dev\.hosts\[1\]: x@A:22 is a host of prod, too: a host serves one env of a project",
        ),
        ({"envs": {"prod": None}}, r"deploy\.envs\.prod\.hosts: expected at least one host"),
        ({"envs": {"prod": ["a"]}}, r"deploy\.envs\.prod: expected keys below it, like hosts; got \['a'\]"),
        ({"envs": {"Prod": {"hosts": ["a"]}}}, r"deploy\.envs\.Prod: expected an env's name"),
        ({"envs": {"../x": {"hosts": ["a"]}}}, r"deploy\.envs\.\.\./x: expected an env's name"),
        ({"envs": {1: {"hosts": ["a"], "settel": 1}}}, r"deploy\.envs\.1\.settel: there is no such key"),
        ({"envs": {}}, r"deploy\.envs: expected at least one env"),
        ({"project": ""}, r"deploy\.project: expected a compose project name"),
        ({"project": "My App"}, r"deploy\.project: .*; got 'My App'"),
        ({"project": "-rf"}, r"deploy\.project"),
        ({"network": "a b"}, r"deploy\.network"),
        ({"workers": ["celery", "$(id)"]}, r"deploy\.workers\[1\]"),
        ({"root": "a b"}, r"deploy\.root"),
        ({"root": "../.."}, r"deploy\.root"),
        ({"health": {"path": "healthz"}}, r"deploy\.health\.path: expected a path that begins with /"),
        ({"health": {"host": "a b"}}, r"deploy\.health\.host"),
        ({"settle": -1}, r"deploy\.settle: expected at least 0"),
        ({"keep": 1}, r"deploy\.keep: expected at least 2"),
        ({"migrate": "echo 'x"}, r"deploy\.migrate: .* is no command line"),
        ({"ssh": {"host_keys": "none"}}, r"deploy\.ssh\.host_keys: invalid enum value 'none'"),
        ({"colours": {"red": "x.yml"}}, r"deploy\.colours"),
        (
            {"envs": {"prod": {"hosts": ["a"], "dotenv": ".env.nope"}}},
            r"deploy\.envs\.prod\.dotenv: cannot read .*No such file",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(data(**changes), folder)
    assert caught.value.exit_code == 2


def test_every_key_has_an_example_that_is_right() -> None:
    kinds: list[type[Any]] = [keys.TopKeys, keys.StackKeys, keys.HealthKeys, keys.RegistryKeys, keys.Ssh]
    fields = [field for kind in kinds for field in msgspec.structs.fields(kind)]
    for field in fields:
        msgspec.convert(yaml.safe_load(keys.EXAMPLES[field.name]), field.type)
    assert {field.name for field in fields} == set(keys.EXAMPLES)


def test_envs_with_ports_of_their_own_on_one_machine_are_two_hosts(folder: Path) -> None:
    envs = {"prod": {"hosts": ["a:22", "a:2222"]}, "dev": {"hosts": ["a:2223"]}}
    assert len(config.load(data(envs=envs), folder, "prod").hosts) == 2


def test_an_unknown_env_names_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no 'prd'; did you mean prod\?"):
        config.load(data(), folder, "prd")


def test_an_unknown_host_of_a_subset_names_the_nearest(folder: Path) -> None:
    said = r"--hosts: web3 is not in deploy\.envs\.prod\.hosts; did you mean web\d\?; there are: \S*web1, "
    with pytest.raises(ConfigError, match=said):
        config.load(data(), folder, hosts="web3")


def test_which_env_is_asked_when_there_are_two_and_no_default(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"which env\? One of: prod, dev"):
        config.load(data(envs={"prod": {"hosts": ["a"]}, "dev": {"hosts": ["b"]}}), folder)


def test_a_settle_flag_wins_and_must_be_a_number(folder: Path) -> None:
    assert config.load(data(settle=9), folder, settle="3").app.settle == 3
    with pytest.raises(ConfigError, match="--settle: expected seconds"):
        config.load(data(), folder, settle="3s")


def test_a_limit_flag_wins_and_must_be_a_number_of_connections(folder: Path) -> None:
    assert config.load(data(), folder).ssh.limit == 8
    assert config.load(data(ssh={"limit": 4}), folder).ssh.limit == 4
    assert config.load(data(ssh={"limit": 4}), folder, limit="20").ssh.limit == 20
    with pytest.raises(ConfigError, match="--limit: expected how many connections"):
        config.load(data(), folder, limit="web1")
    for flags in ({"limit": "0"}, {}):
        with pytest.raises(ConfigError, match=r"deploy\.ssh\.limit: expected at least 1, got 0"):
            config.load(data(ssh={"limit": 0}), folder, **flags)


def test_a_setup_shows_no_value_of_the_env_file(folder: Path) -> None:
    (folder / ".env.prod").write_text("PASSWORD=marker\n")
    assert "marker" not in repr(config.load(data(), folder))


def test_an_env_file_that_is_no_utf8_is_refused_by_its_byte(folder: Path) -> None:
    (folder / ".env.prod").write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 2"):
        config.load(data(), folder)


def test_a_dollar_in_an_env_file_is_left_to_compose(folder: Path) -> None:
    (folder / ".env.prod").write_text("A=1\nB=x$A\n")
    assert config.load(data(), folder).env["B"] == "x$A"


def test_without_an_invoke_yaml_the_error_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no invoke.yaml in {tmp_path} or above"):
        config.find(tmp_path)


# --- a compose file that is deployed as it is ------------------------------------------------------------------


def stacked(project: Path, /, **stack: Any) -> config.Setup:
    (project / "compose.yaml").write_text(
        "services: {web: {build: ., ports: [80]}, jobs: {build: .}, db: {image: x, volumes: ['d:/d']}}"
    )
    keys = {"file": "compose.yaml", "coloured": ["web"], **stack}
    return config.load(data(stack=keys, workers=["other"]), project)


def test_a_compose_file_says_for_itself_what_plans_are_made_from(folder: Path) -> None:
    app = stacked(folder).app
    assert (app.service, app.volumes, app.kept) == ("web", (), (("d", "app_d"),))
    assert app.workers == ("other", "jobs")
    assert app.volume_names == ("app_d",)


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ({"file": "none.yaml"}, r"deploy\.stack\.file: cannot read .*none\.yaml"),
        ({"coloured": []}, r"deploy\.stack\.coloured: expected at least one service"),
        ({"colored": ["web"]}, r"deploy\.stack\.colored: there is no such key; did you mean coloured\?"),
        ({"coloured": ["we b"]}, r"deploy\.stack\.coloured\[0\]: expected the name of a service"),
        ({"name": "My Shop"}, r"deploy\.stack\.name: expected a compose project name"),
        ({"folder": "srv"}, r"deploy\.stack\.folder: expected an absolute path"),
        ({"port": 70000}, r"deploy\.stack\.port: expected a port"),
        (
            {"coloured": ["nobody"]},
            r"deploy\.stack\.coloured: compose\.yaml has no service nobody; it has: web, jobs, db",
        ),
        ({"without": ["web"]}, r"deploy\.stack\.without: web is coloured"),
    ],
)
def test_what_is_wrong_with_a_stack_is_refused_by_its_path(folder: Path, stack: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stacked(folder, **stack)


def test_a_stack_and_files_of_colours_exclude_each_other(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"deploy\.stack: it makes the files"):
        config.load(data(stack={"file": "a", "coloured": ["web"]}, colours={"blue": "b.yml"}), folder)
