# shellcheck shell=sh
# Two flocks, both let go by the kernel when their holder dies, so that nobody ever has to break one.
#   lock   held by a connection of the operator for the whole run; a lease that the operator's heartbeat renews
#   fence  held by each script while it or anything it started lives: what a dead operator left running
#          can never overlap with a step of the next one
# And one that stays until it is taken away: the file `locked`, put there by a person (inv lock).
#
# In the app's directory: `run` is the run that holds the lock, `last` the one that held it before, `holder` what people are
# told of it, `keeper` the process group that holds it, `heard` when its operator was last heard of. `leader` is the process group of the
# latest script, and `unfinished` is there until that script comes to its end, `hook` until its hook does: `timeout` gives that one a
# group of its own. `switched` is when nginx was switched last (nginx.sh).

# hold RUN LEASE HOLDER HOW: take the lock or say who has it; keep it while a dot arrives every LEASE seconds.
# HOW is `first`; or `again`, from a run whose connection was lost: it gets its lock back if nobody had it meanwhile; or
# `through`, from a person who comes to take `locked` away.
hold() {
    mkdir -p releases switch nginx || return
    true >>lock || return # a special builtin's failed redirection would end dash without a word
    exec 9>>lock
    # A fence may look at the lock for a moment; and who took it this moment is still writing down who that is.
    if ! flock -n 9 && ! { [ "$4" = again ] && take_over "$1"; } && ! timeout 1 flock 9; then
        answer held_by "$(cat holder 2>/dev/null)" "$(($(since_boot) - $(cat heard 2>/dev/null || since_boot)))"
        return 75
    fi
    if [ "$4" = again ] && [ "$(latest_run)" != "$1" ]; then
        answer held_since
        return 75
    fi
    if [ "$4" = first ] && [ -f locked ]; then
        answer locked_by "$(cat locked)"
        return 75
    fi
    jot keeper "$(own_group)"
    jot heard "$(since_boot)"
    jot holder "$3"
    if [ "$4" = again ]; then
        [ -f run ] || mv -f last run # a full disk has room for that
    else
        replace run "$1"
    fi || {
        complain "nothing can be written in $PWD: is the disk full?"
        rm -f keeper heard holder
        return 1
    }
    answer held
    # busybox leaves a watcher of `timeout` behind for up to a second: it must not keep the lock (9>&-).
    while [ "$(timeout "$2" dd bs=1 count=1 2>/dev/null 9>&-)" = . ]; do jot heard "$(since_boot)"; done
    mv -f run last
    rm -f holder keeper heard
}

# replace FILE TEXT: whoever reads it finds the old text or the new one.
replace() {
    printf '%s\n' "$2" >"$1.new" && mv -f "$1.new" "$1" && return
    rm -f "$1.new"
    return 1
}

# jot FILE TEXT: what helps, and must not stop anybody. On a full disk rather nothing than what another run wrote.
jot() { replace "$1" "$2" 2>/dev/null || rm -f "$1"; }

# sshd gives every command a process group of its own; behind sudo, it is sudo that leads it, or not: so the kernel is asked.
own_group() { cut -d ' ' -f 5 "/proc/$$/stat"; }

latest_run() { cat run 2>/dev/null || cat last 2>/dev/null; }

# take_over RUN: the lock is held by RUN's own lost connection, which this host has not given up yet: end that.
take_over() {
    [ "$(latest_run)" = "$1" ] || return
    keeper=$(cat keeper 2>/dev/null)
    [ -z "$keeper" ] || kill -TERM "-$keeper" 2>/dev/null
    timeout 10 flock 9
}

# fence RUN TURN: go on only if RUN still holds the lock, no later script of it has been here, and nothing that came
# before is still at work. A run numbers its scripts: one that was broken off may arrive after the one that undoes it.
fence() {
    true >>fence || return
    exec 8>>fence
    if ! flock -n 8; then
        leader=$(cat leader 2>/dev/null)
        is_due "$1" "$2" || return 75 # read in this order: a later script writes down its turn before its leader
        complain "a command of an earlier run is still at work here: ending it"
        [ -z "$leader" ] || kill -TERM "-$leader" 2>/dev/null
        [ ! -s hook ] || end_what_has TERM "GREENROOM_HOOK=$(cat hook)"
        timeout 60 flock 8 || {
            complain "it did not end within 60 s (process group $leader)"
            return 75
        }
    fi
    is_due "$1" "$2" || return 75
    printf '%s %010d\n' "$1" "$2" 1<>turn # in its place: a full disk has room for that
    jot leader "$(own_group)"
    [ ! -s hook ] || end_what_has KILL "GREENROOM_HOOK=$(cat hook)"
    rm -f hook
    [ ! -d login ] || forget_login
    if [ -f unfinished ]; then
        end_one_offs || return 75
        mv -f unfinished cut_off
        true >cut_off # its time is now; neither of the two needs room
    fi
    true >unfinished
}

# is_due RUN TURN: whether a script may go on, as far as it is for its run to say.
is_due() {
    # The lock itself is asked, too: its keeper may have been killed, and have left the file behind.
    if (flock -s -n 7) 7>>lock || [ "$(cat run 2>/dev/null)" != "$1" ]; then
        complain "this run has lost the lock of this host; now: $(cat holder 2>/dev/null || echo nobody)"
        return 1
    fi
    read -r whose latest 2>/dev/null <turn || whose=
    [ "$whose" != "$1" ] || [ "$2" -gt "$latest" ] || {
        complain "this script came too late: a later one of its run has been here"
        return 1
    }
}

# unfence: the script has come to its end.
unfence() { rm -f unfinished; }

# A container of `compose run` (a migration) is docker's child, not ours: it outlives a script that was ended. Docker may
# be what the script was cut off by: an engine that starts again is waited for. What a person runs in a stack has no label
# of ours, and goes on.
end_one_offs() {
    for stack in "$PROJECT-blue" "$PROJECT-green" "$SETTINGS"; do
        ids=$(one_offs "$stack" || { until_deadline 30 engine_answers && one_offs "$stack"; }) || engine_is_silent || return
        [ -n "$ids" ] || continue
        complain "an earlier run left a one-off container of $stack: ending it"
        # shellcheck disable=SC2086  # the ids are hexadecimal words
        docker stop $ids >/dev/null 2>&1 # one that removes itself is not there any more for the next line
        # shellcheck disable=SC2086
        docker rm -f $ids >/dev/null 2>&1
        ids=$(one_offs "$stack") || engine_is_silent || return
        [ -z "$ids" ] || {
            complain "it stays, so nothing is begun; users are served as before. Remove it, then say it again:"
            # shellcheck disable=SC2086
            complain "docker rm -f" $ids
            return 1
        }
    done
}

engine_is_silent() {
    complain "docker does not answer, and a script of an earlier run was cut off here: a migration may be at work. So"
    complain "nothing is begun, and users have what still runs. Start docker (systemctl start docker), then say it again"
    return 1
}

one_offs() {
    docker ps -aq --filter "label=com.docker.compose.project=$1" --filter label=com.docker.compose.oneoff=True \
        --filter label=greenroom.run
}

# lock_for TEXT / unlock: until a person says otherwise, no run takes the lock of this host.
lock_for() { replace locked "$1"; }
unlock() { rm -f locked; }

# await_engine SECONDS: docker answers; after a reboot sshd is there first.
await_engine() {
    until_deadline "$1" engine_answers && return
    complain "docker does not answer: $(docker version --format '{{.Server.Version}}' 2>&1 | tail -n 1)"
    return 1
}
engine_answers() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1 && return
    sleep 1
    return 1
}
