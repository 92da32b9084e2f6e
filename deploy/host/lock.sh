# shellcheck shell=sh
# Two flocks, both let go by the kernel when their holder dies, so that nobody ever has to break one.
#   lock   held by a connection of the operator for the whole run; a lease that the operator's heartbeat renews
#   fence  held by each script while it or anything it started lives: what a dead operator left running
#          can never overlap with a step of the next one

# hold RUN LEASE HOLDER: take the lock or say who has it; keep it while a dot arrives every LEASE seconds.
hold() {
    mkdir -p releases switch nginx
    true >>lock || return # a special builtin's failed redirection would end dash without a word
    exec 9>>lock
    if ! flock -n 9; then
        answer held_by "$(cat holder 2>/dev/null)"
        return 75
    fi
    printf '%s\n' "$1" >run.new && mv -f run.new run
    printf '%s\n' "$3" >holder.new && mv -f holder.new holder
    answer held
    # busybox leaves a watcher of `timeout` behind for up to a second: it must not keep the lock (9>&-).
    while [ "$(timeout "$2" dd bs=1 count=1 2>/dev/null 9>&-)" = . ]; do :; done
    rm -f holder run
}

# fence RUN: go on only if RUN still holds the lock, and nothing of an earlier run is still at work here.
fence() {
    true >>fence || return
    exec 8>>fence
    if ! flock -n 8; then
        complain "a command of an earlier run is still at work here: ending it"
        leader=$(cat leader 2>/dev/null)
        [ -z "$leader" ] || kill -TERM "-$leader" 2>/dev/null
        timeout 60 flock 8 || {
            complain "it did not end within 60 s (process group $leader)"
            return 75
        }
    fi
    # sshd gives every command a group of its own; behind sudo, it is sudo that leads it, or not: so the kernel is asked.
    cut -d ' ' -f 5 "/proc/$$/stat" >leader
    if [ "$(cat run 2>/dev/null)" != "$1" ]; then
        complain "this run has lost the lock of this host; now: $(cat holder 2>/dev/null || echo nobody)"
        return 75
    fi
}
