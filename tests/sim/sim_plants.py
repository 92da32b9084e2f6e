"""Bugs, planted: changes to the product, or to a host's words where the product is sh, that somebody might make."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import sim_host
from sim_baton import running
from sim_history import HOSTS, History
from sim_host import Proc, SimWords

from deploy import apply, lock, run, staging
from deploy.errors import Failed, HostFailures, Refused
from deploy.fleet import Fleet
from deploy.recipe import docker, facts, files, nginx, plan, stage, standing, waiting
from deploy.recipe.model import STAGED, Colour
from deploy.recipe.steps import BEFORE_FINISH, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import pytest

    from deploy.recipe.hooks import Steps
    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.recipe.steps import Plan, Step

    Plant = Callable[[pytest.MonkeyPatch], None]

PLANTS: dict[str, Plant] = {}

FAULTS = {
    "undo leaves the switch where it is": ("dies",),
    "undo forgets the settings services": ("lies",),
    "the lock is let go before the undo": ("sick", "dies"),
    "workers of a host of their own are not handed back": ("dies",),
    "workers of a host of their own pass no gate": ("sick",),
    "a release goes while docker keeps its image": ("lies",),
    "a release that came twice is in its own way": ("cut",),
    "a host that is left out leads": ("closed",),
    "a left out first host is nobody s loss": ("closed",),
    "ctrl c at the very end is taken for a failure": ("ctrl-c",),
    "what docker is still about to stop is taken for running": ("lies",),
    "a look takes what docker still stops for a service that runs": ("slow", "kill"),
}
"""What brings a bug to light that would wait for thousands of other histories."""


def plant(make: Plant) -> Plant:
    PLANTS[make.__name__.replace("_", " ")] = make
    return make


def _replan(patch: pytest.MonkeyPatch, change: Callable[[Plan], dict[Phase, tuple[Step, ...]]]) -> None:
    for verb in ("plan_deploy", "plan_rollback"):
        real = getattr(plan, verb)

        def changed(*args: Any, real: Any = real) -> Plan:
            made: Plan = real(*args)
            return replace(made, steps={**made.steps, **change(made)})

        patch.setattr(plan, verb, changed)


def _without(word: str, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.command.words[0] != word)


@plant
def undo_stops_before_it_switches_back(patch: pytest.MonkeyPatch) -> None:
    _replan(patch, lambda made: {Phase.UNDO: tuple(reversed(made.of(Phase.UNDO)))})
    patch.setattr(SimWords, "_is_live", lambda *_: False)


@plant
def undo_forgets_the_settings_services(patch: pytest.MonkeyPatch) -> None:
    """As it was."""
    _replan(patch, lambda made: {Phase.UNDO: _without("settings_safe", made.of(Phase.UNDO))})


@plant
def undo_leaves_the_switch_where_it_is(patch: pytest.MonkeyPatch) -> None:
    _replan(patch, lambda made: {Phase.UNDO: _without("switch", made.of(Phase.UNDO))})


@plant
def a_host_flips_when_it_is_ready_itself(patch: pytest.MonkeyPatch) -> None:
    _replan(
        patch,
        lambda made: {Phase.START: (*made.of(Phase.START), *made.of(Phase.FLIP)), Phase.FLIP: ()},
    )


@plant
def nobody_waits_at_the_gate(patch: pytest.MonkeyPatch) -> None:
    def gate(words: SimWords, _colour: str, _seconds: str) -> Generator[float, None, int]:
        yield 0.1
        words.sim.gated(words.proc)
        return 0

    patch.setattr(SimWords, "sim_gate", gate)


@plant
def the_live_colour_is_taken_for_the_idle_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "idle_colour", lambda facts: facts.switch or Colour.BLUE)
    patch.setattr(SimWords, "_is_live", lambda *_: False)


@plant
def blue_always_comes_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "idle_colour", lambda _: Colour.BLUE)


@plant
def nobody_is_drained(patch: pytest.MonkeyPatch) -> None:
    _replan(patch, lambda made: {phase: _without("drain", made.of(phase)) for phase in Phase})


@plant
def a_colour_is_taken_for_drained_when_the_workers_are_handed_over(patch: pytest.MonkeyPatch) -> None:
    real = SimWords.sim_drain

    def drain(words: SimWords, colour: str, seconds: str) -> Generator[float, None, int]:
        if colour not in words.drains:
            return (yield from real(words, colour, seconds))
        return 0

    patch.setattr(SimWords, "sim_drain", drain)


@plant
def the_fence_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    def fence(_proc: Proc) -> Generator[float, None, int]:
        yield 0.02
        return 0

    patch.setattr(Proc, "_fence", fence)


@plant
def the_fence_only_asks_who_holds_the_lock(patch: pytest.MonkeyPatch) -> None:
    """It does not wait for the end of what an earlier run left at work."""

    def fence(proc: Proc) -> Generator[float, None, int]:
        yield 0.02
        return 0 if proc.host.run == proc.script.run else 75

    patch.setattr(Proc, "_fence", fence)


@plant
def the_fence_only_waits_and_never_asks_who_holds_the_lock(patch: pytest.MonkeyPatch) -> None:
    real = Proc._fence

    def fence(proc: Proc) -> Generator[float, None, int]:
        status = yield from real(proc)
        if status:
            proc.world.passes(proc)
        return 0

    patch.setattr(Proc, "_fence", fence)


@plant
def the_lock_is_for_whoever_asks(patch: pytest.MonkeyPatch) -> None:
    real = SimWords.sim_hold

    def hold(words: SimWords, run: str, lease: str, holder: str, how: str) -> Generator[float, None, int]:
        words.host.locked_by = None
        return (yield from real(words, run, lease, holder, how))

    patch.setattr(SimWords, "sim_hold", hold)


@plant
def the_lock_is_let_go_before_the_undo(patch: pytest.MonkeyPatch) -> None:
    real = run.Run._undo

    def undo(self: Any, *args: Any) -> None:
        for channel in [c for m in self.fleet.machines for c in m.link.channels if c.proc and c.proc.script.holds]:
            channel.hang_up()
        running().sleep(1)
        real(self, *args)

    patch.setattr(run.Run, "_undo", undo)


@plant
def the_heart_stops(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lock.Lock, "beat", lambda _: None)


@plant
def the_lease_is_shorter_than_a_beat(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lock, "LEASE", 4)


@plant
def a_release_is_marked_as_served_before_the_switch(patch: pytest.MonkeyPatch) -> None:
    _replan(
        patch,
        lambda made: {
            Phase.START: (*made.of(Phase.START), files.mark_served()),
            Phase.FLIP: _without("mark_served", made.of(Phase.FLIP)),
        },
    )


@plant
def a_host_that_failed_is_finished_all_the_same(patch: pytest.MonkeyPatch) -> None:
    def carry_out(self: Any, _verb: str, planned: Any, _to: Any, parcels: Any, _batching: Any) -> None:
        for phase in (*BEFORE_FINISH, Phase.FINISH):
            with contextlib.suppress(HostFailures):
                self.phase(phase, planned, parcels)

    patch.setattr(run.Run, "carry_out", carry_out)


@plant
def a_failure_is_not_undone(patch: pytest.MonkeyPatch) -> None:
    def undo(_run: Any, _verb: str, _planned: Any, _to: Any, cause: BaseException) -> None:
        raise Failed(f"{cause}\nUndone on every host.")

    patch.setattr(run.Run, "_undo", undo)


@plant
def only_the_first_failure_counts(patch: pytest.MonkeyPatch) -> None:
    """Work that failed on a host that is not the first is taken for done."""
    real = Fleet.each

    def each(fleet: Fleet, work: Any) -> Any:
        try:
            return real(fleet, work)
        except HostFailures as failures:
            if str(fleet.leader) in failures.failures or work.__qualname__.startswith(("observe", "held")):
                raise
            return {}

    patch.setattr(Fleet, "each", each)


@plant
def an_idle_colour_that_a_dead_run_left_is_not_cleared(patch: pytest.MonkeyPatch) -> None:
    """And `start` takes what it finds for its own."""
    patch.setattr(plan, "_clear", lambda *_: ())

    def start(words: SimWords, colour: str, _file: str) -> Generator[float, None, int]:
        yield words.proc.took(0.1)
        if not words._ids(colour):
            return (yield from words.docker(1, lambda: words._appear(words.stack(colour), "web")))
        return 0

    patch.setattr(SimWords, "sim_start", start)


@plant
def workers_keep_the_old_release(patch: pytest.MonkeyPatch) -> None:
    _replan(patch, lambda made: {Phase.FINISH: _without("hand_over", made.of(Phase.FINISH))})


@plant
def workers_of_a_host_of_their_own_are_not_handed_back(patch: pytest.MonkeyPatch) -> None:
    _replan(patch, lambda made: {Phase.UNDO: _without("settings_back", made.of(Phase.UNDO))})


@plant
def workers_of_a_host_of_their_own_pass_no_gate(patch: pytest.MonkeyPatch) -> None:
    """Neither when the others flip nor while the others are watched."""
    _replan(
        patch,
        lambda made: {
            Phase.FLIP: _without("settings_ready", made.of(Phase.FLIP)),
            Phase.SETTLE: _without("watch_services", made.of(Phase.SETTLE)),
        },
    )


@plant
def old_releases_stay_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "prunable", lambda *_: ((), ()))


@plant
def a_release_goes_while_docker_keeps_its_image(patch: pytest.MonkeyPatch) -> None:
    """As it was, until a simulated history found it: and nobody looked for images without a release."""
    patch.setattr(facts, "_RELEASE", re.compile("(?!)"))
    real = SimWords.do_forget

    def forget(words: SimWords, *releases: str) -> None:
        real(words, *releases)
        for ident in releases:
            words.host.releases.pop(ident, None)

    patch.setattr(SimWords, "do_forget", forget)


@plant
def the_live_release_is_forgotten_too(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "prunable", lambda _app, facts, _release: (tuple(r.id for r in facts.releases), ()))


@plant
def the_old_colour_is_stopped_while_the_new_one_settles(patch: pytest.MonkeyPatch) -> None:
    _replan(
        patch,
        lambda made: {
            Phase.FLIP: (
                *made.of(Phase.FLIP),
                *(s for s in made.of(Phase.FINISH) if s.command.words[0] in {"drain", "stop"}),
            )
        },
    )


@plant
def stop_trusts_the_plan(patch: pytest.MonkeyPatch) -> None:
    """A run that was cut off in finish stops what it planned to stop, and so does every undo: nobody asks nginx."""
    patch.setattr(SimWords, "_is_live", lambda *_: False)
    _replan(
        patch,
        lambda made: {Phase.UNDO: (*_without("switch", made.of(Phase.UNDO)), *_switches(made))},
    )


def _switches(made: Plan) -> tuple[Step, ...]:
    return tuple(step for step in made.of(Phase.UNDO) if step.command.words[0] == "switch")


# --- links that come back, and the lock --------------------------------------------------------------------------


@plant
def a_lock_is_taken_back_although_somebody_had_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimWords, "_latest_run", lambda words: words.proc.run)


@plant
def the_first_host_s_lock_is_not_taken(patch: pytest.MonkeyPatch) -> None:
    """A run takes the locks of its own hosts, as it was."""
    patch.setattr(Fleet, "first", lambda fleet: fleet.machines[0])


@plant
def a_host_that_is_left_out_leads(patch: pytest.MonkeyPatch) -> None:
    """The first of the hosts that somebody asked for migrates, and may be the one that cannot be reached."""
    patch.setattr(Fleet, "leader", property(lambda _: HOSTS[History.now.operator.act.hosts[0]]))


@plant
def a_left_out_first_host_is_nobody_s_loss(patch: pytest.MonkeyPatch) -> None:
    """No other lock comes first in its stead: a run may begin before it has them all."""
    real = lock.Lock.take_first

    def take_first(self: Any, machine: Any, *, beside: bool) -> None:
        if machine.host in HOSTS[:1]:
            real(self, machine, beside=beside)

    patch.setattr(lock.Lock, "take_first", take_first)


@plant
def a_migration_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(apply, "Phase", SimpleNamespace(MIGRATE=None))


@plant
def the_step_under_way_is_skipped_when_the_link_is_back(patch: pytest.MonkeyPatch) -> None:
    real = apply._Performance.perform

    def perform(self: Any, machine: Any, plan: Any) -> Any:
        lost = real(self, machine, plan)
        if lost and self._ended < len(self._steps):
            self._ended += 1
        return lost

    patch.setattr(apply._Performance, "perform", perform)


@plant
def the_fence_does_not_end_a_script_of_its_own_run(patch: pytest.MonkeyPatch) -> None:
    """What runs on behind a lost connection is taken for this one's own work."""
    real = Proc._fence

    def fence(proc: Proc) -> Generator[float, None, int]:
        if proc.host.leader and proc.host.leader.run == proc.run:
            proc.host.fenced.clear()
        return (yield from real(proc))

    patch.setattr(Proc, "_fence", fence)


@plant
def the_fence_leaves_migrations_at_work(patch: pytest.MonkeyPatch) -> None:
    def nothing(_proc: Proc) -> Generator[float, None, int]:
        yield 0.1
        return 0

    patch.setattr(Proc, "_end_one_offs", nothing)


@plant
def the_fence_does_not_wait_for_docker(patch: pytest.MonkeyPatch) -> None:
    """As it was: whoever undid a run that had failed of docker was kept out, and a human was called."""

    def impatient(proc: Proc) -> Generator[float, None, int]:
        yield 0.1
        return 1 if proc.clock.now < proc.host.engine_at else 0

    patch.setattr(Proc, "_end_one_offs", impatient)


@plant
def the_old_connection_keeps_the_lock(patch: pytest.MonkeyPatch) -> None:
    """Nobody ends the keeper of a connection that the host takes for alive."""

    def take_over(_words: SimWords, _run: str) -> Generator[float, None, bool]:
        yield 0.1
        return False

    patch.setattr(SimWords, "_take_over", take_over)


@plant
def a_lost_link_is_not_mended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(apply, "LOSSES", 0)


@plant
def a_person_s_lock_keeps_nobody_off(patch: pytest.MonkeyPatch) -> None:
    real = lock.Lock.take

    def take(self: Any, *args: Any) -> None:
        self._claim = replace(self._claim, through=True)
        real(self, *args)

    patch.setattr(lock.Lock, "take", take)


@plant
def a_release_that_came_twice_is_in_its_own_way(patch: pytest.MonkeyPatch) -> None:
    """As it was, until the simulator's writer tried it."""
    real = SimWords.sim_receive

    def receive(words: SimWords) -> Generator[float, None, int]:
        if words.v["RELEASE"] in words.host.releases:
            yield 0.1
            return 1
        return (yield from real(words))

    patch.setattr(SimWords, "sim_receive", receive)


@plant
def ctrl_c_at_the_very_end_is_taken_for_a_failure(patch: pytest.MonkeyPatch) -> None:
    """As it was."""
    patch.setattr(lock, "contextlib", SimpleNamespace(suppress=lambda *_: contextlib.nullcontext()))


@plant
def one_batch_more_after_one_that_failed(patch: pytest.MonkeyPatch) -> None:
    real = run.Run.carry_out_batch

    def carry_out(self: Any, *args: Any) -> None:
        with contextlib.suppress(Failed):
            real(self, *args)

    patch.setattr(run.Run, "carry_out_batch", carry_out)


# --- a deploy in two halves ------------------------------------------------------------------------------------


def _replan_halves(patch: pytest.MonkeyPatch, verb: str, change: Callable[[Plan, Facts], Steps]) -> None:
    real = getattr(stage, verb)

    def changed(app: App, host: Host, facts: Facts, *args: Any) -> Plan:
        made: Plan = real(app, host, facts, *args)
        return replace(made, steps={**made.steps, **change(made, facts)})

    patch.setattr(stage, verb, changed)


@plant
def a_stage_stops_the_live_colour(patch: pytest.MonkeyPatch) -> None:
    def stops(made: Plan, facts: Facts) -> Steps:
        return {Phase.START: (*made.of(Phase.START), docker.stop(facts.switch or Colour.BLUE, "it is in the way"))}

    _replan_halves(patch, "plan_stage", stops)
    patch.setattr(SimWords, "_is_live", lambda *_: False)


@plant
def a_stage_flips_when_it_is_ready(patch: pytest.MonkeyPatch) -> None:
    def flips(_made: Plan, facts: Facts) -> Steps:
        return {Phase.FLIP: (nginx.switch(standing.idle_colour(facts), "it is fit"),)}

    _replan_halves(patch, "plan_stage", flips)


@plant
def a_stage_says_too_early_that_it_waits(patch: pytest.MonkeyPatch) -> None:
    """What it started is not among the containers that were said to wait."""

    def early(made: Plan, _facts: Facts) -> Steps:
        start, gate, keep, told = made.of(Phase.START)
        return {Phase.START: (start, keep, start, gate, told)}

    _replan_halves(patch, "plan_stage", early)


@plant
def a_promote_does_not_ask_whether_every_host_has_it(patch: pytest.MonkeyPatch) -> None:
    def some(app: App, seen: dict[Host, Facts]) -> dict[Host, Release]:
        there = {host: waiting.waits_there(app, facts, STAGED) for host, facts in seen.items()}
        if not any(there.values()):
            raise Refused("nothing is staged")
        newest = max(there.values())
        return {host: seen[host].stored(newest).record for host, each in there.items() if each == newest}  # type: ignore[union-attr,misc]  # it is there

    patch.setattr(staging, "_staged", some)


@plant
def a_promote_takes_what_each_host_has(patch: pytest.MonkeyPatch) -> None:
    def own(app: App, seen: dict[Host, Facts]) -> dict[Host, Release]:
        there = {host: waiting.waits_there(app, facts, STAGED) for host, facts in seen.items()}
        if not all(there.values()):
            raise Refused("nothing is staged")
        return {host: seen[host].stored(each).record for host, each in there.items()}  # type: ignore[union-attr,misc]  # it is there

    patch.setattr(staging, "_staged", own)


@plant
def a_promote_believes_the_gate_of_the_stage(patch: pytest.MonkeyPatch) -> None:
    _replan_halves(patch, "plan_promote", lambda *_: {Phase.START: ()})


@plant
def a_promote_that_is_undone_takes_away_what_was_staged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(waiting, "withdraw", lambda _app, colour: docker.stop(colour, "it is not wanted any more"))


@plant
def a_standby_goes_on_stage_unseen(patch: pytest.MonkeyPatch) -> None:
    def revive(words: SimWords, *_: str) -> Generator[float, None, int]:
        yield 0.1
        return 0 if words else 1

    patch.setattr(SimWords, "sim_revive", revive)


@plant
def what_docker_is_still_about_to_stop_is_taken_for_running(patch: pytest.MonkeyPatch) -> None:
    """A word of the library, whose like here is this number: nobody asks docker when a script was cut off before."""
    patch.setattr(sim_host, "CUT_OFF", -1)


@plant
def a_look_takes_what_docker_still_stops_for_a_service_that_runs(patch: pytest.MonkeyPatch) -> None:
    """As it was: a word of the library, too."""
    real = SimWords._answer_containers

    def answer(words: SimWords) -> None:
        words.host.ending.clear()
        real(words)

    patch.setattr(SimWords, "_answer_containers", answer)


@plant
def an_undo_takes_what_docker_still_stops_for_a_service_that_runs(patch: pytest.MonkeyPatch) -> None:
    """As it was: a word of the library, too."""
    patch.setattr(SimWords, "end_stops", lambda _: None)
