"""Reading what hosts answer. The golden files are whole answers of real hosts, as `observe` printed them there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deploy.recipe import facts, shell
from deploy.recipe.model import App, Colour, Container, Facts, Health, Host, Release, StoredRelease
from deploy.recipe.shell import Answer

GOLDEN = Path(__file__).parent / "golden"
TOKEN = "TOKEN"  # noqa: S105  # it marks lines, it opens nothing


def golden(name: str) -> Facts:
    lines = (GOLDEN / f"{name}.txt").read_text().rstrip("\n").split("\n")
    signals = [signal for line in lines for signal in shell.parse(line, TOKEN)]
    assert signals[-1] == shell.Finished()
    return facts.read(signal for signal in signals if isinstance(signal, Answer))


def read(*answers: tuple[str, ...]) -> Facts:
    return facts.read(Answer(key, values) for key, *rest in answers for values in (tuple(rest),))


def test_a_bare_host_is_read() -> None:
    assert golden("observe-bare-host") == Facts(
        docker="20.10.24+dfsg1", compose="docker-compose", disk_free=79556161536
    )


def test_a_host_with_engine_20_and_compose_1_is_read() -> None:
    seen = golden("observe-engine20-compose1")
    assert (seen.docker, seen.compose) == ("20.10.24+dfsg1", "docker-compose")
    assert (seen.switch, seen.proxy_runs) == (Colour.GREEN, True)
    assert seen.of("exp-blue", "web") == (
        Container(
            "02ec2c22d5ac", "exp-blue", "web", "exp:r1", "running", "healthy", 0, "2026-11-22T15:49:22.024527818Z"
        ),
    )
    assert sorted(c.service for c in seen.of("exp-setting-prod")) == ["celery", "nginx", "postgres", "redis"]
    assert seen.colour_health == ((Colour.BLUE, "sick"), (Colour.GREEN, "sick"))


def test_a_host_with_engine_26_and_compose_2_is_read_in_the_middle_of_a_rollback() -> None:
    seen = golden("observe-engine26-compose2")
    assert (seen.docker, seen.compose, seen.base) == ("26.1.5+dfsg1", "docker compose", "/home/deploy/greenroom/app")
    assert seen.switch is Colour.GREEN
    assert (seen.conf, seen.confs) == ("1d219c0d0d669fa4", ("1d219c0d0d669fa4",))
    assert [c.health for c in seen.of("app-blue")] == ["starting"]
    assert {c.service: c.definition for c in seen.of("app-setting-prod")}["redis"] == "364c4b5340840d6c"
    assert [r.id for r in seen.releases] == [
        "20261122-154730-d7d0089", "20261122-154820-85a8b6f", "20261122-154849-85a8b6f", "20261122-154906-2734e00",
        "20261122-154919-b12d60b",
    ]  # fmt: skip
    assert all(r.record and r.record.id == r.id and r.has_image and r.served > 1_795_000_000 for r in seen.releases)
    assert len(seen.source) == 22
    assert dict(seen.source)["manage.py"][:2] == "x "
    assert not seen.source_same


def test_no_answers_are_a_host_of_which_nothing_is_known() -> None:
    assert facts.read([]) == Facts()


def test_an_answer_that_nobody_asked_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="weather"):
        read(("weather", "fine"))


@pytest.mark.parametrize("said", ["none", "", "purple", "BLUE"])
def test_a_switch_that_names_no_colour_is_nobody(said: str) -> None:
    assert read(("switch", said)).switch is None


def test_what_a_host_lacks_is_a_list() -> None:
    assert read(("lacks", "flock"), ("lacks", "gzip")).lacks == ("flock", "gzip")


def test_a_docker_that_does_not_answer_is_trouble() -> None:
    assert read(("no_docker", "permission denied")).trouble == "permission denied"


def test_the_same_source_needs_no_list() -> None:
    assert read(("source_same",)).source_same
    assert not read(("file", "f 00  ./a")).source_same


# --- manifest lines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "path", "stamp"),
    [
        ("f 00ff  ./a.py", "a.py", "f 00ff"),
        ("x 00ff  ./bin/run me", "bin/run me", "x 00ff"),
        ("l 00ff  ./link", "link", "l 00ff"),
        ("f 00ff  ./two  ./blanks", "two  ./blanks", "f 00ff"),
        ("f \\00ff  ./new\\nline", "new\nline", "f 00ff"),
        ("f \\00ff  ./back\\\\nslash", "back\\nslash", "f 00ff"),
        ("f \\00ff  ./re\\rturn", "re\rturn", "f 00ff"),
        ("f 00ff  ./not\\nescaped", "not\\nescaped", "f 00ff"),
    ],
)
def test_a_manifest_line_is_a_path_and_a_stamp(line: str, path: str, stamp: str) -> None:
    assert read(("file", line)).source == ((path, stamp),)


def test_a_tab_in_a_name_is_part_of_it() -> None:
    """A tab also separates the parts of an answer."""
    (answer,) = shell.parse(f"\x1e{TOKEN} = file\tf 00ff  ./a\tb", TOKEN)
    assert isinstance(answer, Answer)
    assert facts.read([answer]).source == (("a\tb", "f 00ff"),)


def test_a_line_that_names_no_file_is_none() -> None:
    """Busybox does not escape a newline: the second half of such a name is a line of its own."""
    assert read(("file", "rest of a name")).source == ()


# --- containers and releases -----------------------------------------------------------------------------------


def container(oneoff: str) -> Facts:
    return read(
        ("container", "f" * 64, "app-blue", "web", "app:r1", "exited", "", "3", "2026-11-22T10:00:00Z", "d", oneoff)
    )


@pytest.mark.parametrize("oneoff", ["False", ""])
def test_a_container_has_a_short_id_and_a_number_of_restarts(oneoff: str) -> None:
    (seen,) = container(oneoff).containers
    assert seen == Container("f" * 12, "app-blue", "web", "app:r1", "exited", "", 3, "2026-11-22T10:00:00Z", "d")
    assert not seen.runs


def test_a_one_off_container_is_nobody_s_service() -> None:
    assert container("True").containers == ()


RELEASE = Release(
    "r1", "finger", "c1", "m", "1a2b3c4", 'main "x"\t\\ é\n', "ann", "r0", (("celery", "d1"), ("redis", "d2"))
)


def test_a_record_is_read_as_it_was_written_and_is_one_line() -> None:
    text = facts.record_text(RELEASE)
    assert "\n" not in text
    assert "\t" not in text
    assert facts.record_of(text) == RELEASE


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"x"', "{}", '{"id": "r1"}', facts.record_text(RELEASE)[:-5]])
def test_a_record_that_is_absent_or_broken_is_none(text: str) -> None:
    assert facts.record_of(text) is None


def test_a_record_whose_definitions_are_no_mapping_is_none() -> None:
    assert facts.record_of(facts.record_text(RELEASE).replace('{"celery": "d1", "redis": "d2"}', "[]")) is None


def test_releases_are_sorted_by_id_and_matched_with_images_by_their_tag() -> None:
    seen = read(("release", "r2", "20", ""), ("release", "r1", "x", ""), ("image", "app:r2"), ("image", "app:r11"))
    assert seen.releases == (
        StoredRelease("r1", 0, None, has_image=False),
        StoredRelease("r2", 20, None, has_image=True),
    )


def test_an_image_without_its_release_is_an_orphan_if_it_is_one_of_ours() -> None:
    ours = ("20261122-154730-d7d0089", "20261122-154820-85a8b6f-dirty", "20261122-154849")
    seen = read(
        *(("image", f"app:{tag}") for tag in (*ours, "latest", "2026", "<none>")), ("release", ours[0], "5", "{}")
    )
    assert seen.orphans == ours[1:]


def test_a_record_may_hold_tabs_though_they_separate_answers() -> None:
    text = facts.record_text(RELEASE).replace('"finger"', '"fin\tger"')
    assert read(("release", "r1", "5", *text.split("\t"))).releases[0].record is None  # JSON knows no bare tab
    assert read(("release", "r1", "5", *f"{facts.record_text(RELEASE)} \t ".split("\t"))).releases[0].record == RELEASE


# --- questions -------------------------------------------------------------------------------------------------

APP = App("app", "prod", (Host("web1"),), root="/srv", network="net", health=Health("/up", "app.example.com"))


def test_every_script_is_told_the_same_names_and_no_secret() -> None:
    assert dict(facts.variables(APP, release_id="r1", compose="docker compose")) == {
        "PROJECT": "app", "BASE": "/srv/app", "SETTINGS": "app-setting-prod", "SETTINGS_FILE": "setting_prod.yml",
        "PROXY": "nginx", "NETWORK": "net", "HEALTH_HOST": "app.example.com", "HEALTH_PATH": "/up", "RELEASE": "r1",
        "COMPOSE": "docker compose",
    }  # fmt: skip


def test_a_look_before_the_release_is_known_has_all_names_set() -> None:
    assert [value for name, value in facts.variables(APP) if name in {"RELEASE", "COMPOSE"}] == ["", ""]


def test_questions_are_words_of_the_library() -> None:
    assert [str(q) for q in (facts.observe(), facts.probe(), facts.examine("80", "8000"), facts.history(3))] == [
        "observe ''", "probe", "examine 80 8000", "history_lines 3",
    ]  # fmt: skip


def test_a_source_is_asked_for_by_its_digest_and_those_of_its_parts() -> None:
    """A part has the files whose digests begin with the same two digits."""
    source = {"b": "f aa01", "a": "x aa02", "link": "l 07ff"}
    assert facts.observe(source).words == (
        "observe",
        hashlib.sha256(b"f aa01  ./b\nl 07ff  ./link\nx aa02  ./a\n").hexdigest(),
        "07:" + hashlib.sha256(b"l 07ff  ./link\n").hexdigest()[:8],
        "aa:" + hashlib.sha256(b"f aa01  ./b\nx aa02  ./a\n").hexdigest()[:8],
    )


def test_what_a_host_does_not_tell_is_as_it_was_asked() -> None:
    source = {"a": "f aa01", "b": "f bb01"}
    told = [Answer("differs", ("bb",)), Answer("file", ("f bb02  ./b",)), Answer("file", ("f bb03  ./c",))]
    assert dict(facts.read(told, source).source) == {"a": "f aa01", "b": "f bb02", "c": "f bb03"}
    assert facts.read(told[1:2], source).source == (("b", "f bb02"),)
    assert facts.read([], source).source == ()


# --- history ---------------------------------------------------------------------------------------------------


def test_a_line_of_history_is_read_with_its_time_in_utc() -> None:
    line = '{"at": 1795362457, "who": "ann", "what": "deploy", "release": "r1", "from": "", "outcome": "done"}'
    assert facts.history_of(line) == {
        "at": "2026-11-22 15:47:37", "who": "ann", "what": "deploy", "release": "r1", "from": "", "outcome": "done",
    }  # fmt: skip


@pytest.mark.parametrize("line", ["", "half a li", '{"who": "ann"}', "[1]", '{"at": "soon"}', "null"])
def test_a_line_of_history_that_cannot_be_read_is_shown_as_it_is(line: str) -> None:
    assert facts.history_of(line) == {"outcome": line}
