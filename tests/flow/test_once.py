"""One host builds; the others get the layers that they lack, all of them where an engine refuses a part."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from deploy import lock
from deploy.errors import Failed, NeedsHuman
from deploy.run import Batching


def built(operator: Any) -> list[str]:
    return [host for host, command in operator.world.log if command.words[0] == "build"]


def sent(operator: Any) -> list[list[tuple[int, ...]]]:
    return [box.sent for box in operator.world.boxes.values()]


def test_one_host_builds_and_one_read_serves_the_others(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    assert built(operator) == ["web1"]
    assert sent(operator) == [[()], [], []]
    operator.assert_whole()


def test_what_a_host_has_does_not_travel(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    operator.deploy()
    assert built(operator) == ["web1", "web1"]
    assert sent(operator) == [[(), (0, 1)], [], []]
    assert "web1 sent 0 kB: the image without 2 of its 3 layers" in operator.text
    operator.assert_whole()


def test_a_new_host_among_old_ones_gets_all_and_the_others_what_they_lack(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy(hosts="web1,web2")
    operator.write("2")
    operator.deploy()
    assert sorted(sent(operator)[0]) == [(), (), (0, 1)]
    operator.assert_whole()


def test_each_host_builds_its_own_where_that_is_wanted(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.data["build"] = "each"
    operator.deploy()
    assert sorted(built(operator)) == ["web1", "web2", "web3"]
    assert not {"take_image", "tell_layers", "tell_built"} & set(operator.world.words())
    operator.assert_whole()


def test_one_host_says_nothing_of_ships(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    assert not {"take_image", "tell_layers", "tell_built", "send_image"} & set(operator.world.words())


def test_one_host_of_each_architecture_builds(operator_of: Any) -> None:
    operator = operator_of(4)
    for box in list(operator.world.boxes.values())[1::2]:
        box.architecture = "arm64"
    operator.deploy()
    assert sorted(built(operator)) == ["web1", "web2"]
    assert sent(operator) == [[()], [()], [], []]
    operator.assert_whole()


def test_an_engine_that_refuses_a_part_is_sent_all(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    list(operator.world.boxes.values())[2].takes_parts = False
    operator.write("2")
    operator.deploy()
    assert sent(operator)[0] == [(), (0, 1), ()]
    assert "all of the image is sent: no such file or directory" in operator.text
    operator.assert_whole()


def test_a_store_that_tells_no_layers_is_sent_all(operator_of: Any) -> None:
    operator = operator_of(2)
    list(operator.world.boxes.values())[1].containerd = True
    operator.deploy()
    operator.write("2")
    operator.deploy()
    assert sent(operator)[0] == [(), ()]
    operator.assert_whole()


def test_a_host_that_does_not_take_the_image_at_all_undoes_the_deploy(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (before,) = set(operator.live())
    operator.world.boxes[operator.setup().hosts[1]].refuses_images = True
    operator.write("2")
    with pytest.raises(Failed, match="web2: take the image: no space left on device"):
        operator.deploy()
    assert set(operator.live()) == {before}
    assert [sorted(box.images) for box in operator.world.boxes.values()] == [[f"app:{before}"]] * 3


def test_a_host_that_has_another_image_undoes_the_deploy_and_is_not_sent_it_again(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (before,) = set(operator.live())
    operator.world.boxes[operator.setup().hosts[1]].gets_another = True
    operator.write("2")
    with pytest.raises(Failed, match="web2: take the image: what came is another image than the one on web1"):
        operator.deploy()
    assert set(operator.live()) == {before}
    assert sent(operator)[0] == [(), (0, 1)]


def test_later_batches_take_the_image_of_the_first(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy(batching=Batching(1))
    assert built(operator) == ["web1"]
    assert sent(operator) == [[()], [], []]
    operator.assert_whole()


@pytest.mark.long
@pytest.mark.parametrize("away", [0, 1, 2])
def test_a_link_that_is_lost_on_the_way_is_mended_and_the_image_arrives(operator_of: Any, away: int) -> None:
    """After any write of prepare and ship, on the host that sends and on those that take."""
    for cut in itertools.count(1):
        operator = operator_of(3)
        operator.world.cuts = {cut}
        boxes = list(operator.world.boxes.values())
        boxes[away].away = 1
        try:
            operator.deploy()
        except Failed:
            assert operator.world.writes()[cut - 1] == "migrate"
            break
        operator.assert_whole()
    assert cut > 20


@pytest.mark.parametrize("times", [1, 3])
def test_a_read_that_breaks_off_is_done_again_from_a_host_that_came_back(operator_of: Any, times: int) -> None:
    operator = operator_of(3)
    builder = next(iter(operator.world.boxes.values()))
    builder.breaks_reads = times
    operator.deploy()
    assert builder.breaks_reads == 0
    assert len(builder.sent) == 1
    operator.assert_whole()


def test_a_builder_that_does_not_come_back_undoes_the_deploy_on_the_others(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(3)
    operator.deploy()
    monkeypatch.setattr(lock, "ABSENCE", 0)
    builder = next(iter(operator.world.boxes.values()))
    builder.breaks_reads, builder.away = 1, 10_000
    operator.write("2")
    with pytest.raises(NeedsHuman):
        operator.deploy()
    builder.away = 0
    operator.world.revive()
    operator.deploy()
    operator.assert_whole()


def test_a_plan_tells_who_builds_and_who_takes(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.plan()
    assert "web1 builds the image; only what is missing here is sent" in operator.text
    assert "it goes to web2" in operator.text
    assert operator.world.writes() == []
