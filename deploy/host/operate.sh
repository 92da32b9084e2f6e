# shellcheck shell=sh
# What operators ask for between deploys: logs, a command in the live release.
#
# A script that goes on for as long as somebody listens gets a dot on its standard input every few seconds. When none
# came for LEASE seconds, or the input ends, nobody listens any more, and the script takes what it started with it.

heard() { [ "$(timeout "$1" dd bs=1 count=1 2>/dev/null)" = . ]; }

# end_own_group: whatever this script started; itself it goes on.
end_own_group() {
    trap '' TERM
    kill -TERM "-$(own_group)"
}

# own_containers SERVICE...: each container of the app's stacks, or of these services, as id/started/stack/service.
own_containers() {
    ids=$(docker ps -aq --filter label=com.docker.compose.oneoff=False) || return
    [ -n "$ids" ] || return 0
    # shellcheck disable=SC2086  # the ids are hexadecimal words
    found=$(docker inspect -f '{{.Id}}/{{.State.StartedAt}}/{{index .Config.Labels "com.docker.compose.project"}}/{{index .Config.Labels "com.docker.compose.service"}}' $ids 2>/dev/null) ||
        [ -n "$found" ] || return # one that went meanwhile makes it fail, and is not among them
    for entry in $found; do
        stack=${entry%/*}
        case ${stack##*/} in "$PROJECT-blue" | "$PROJECT-green" | "$SETTINGS") ;; *) continue ;; esac
        case " $* " in "  " | *" ${entry##*/} "*) printf '%s\n' "$entry" ;; esac
    done
}

# stack_and_service ENTRY
stack_and_service() {
    rest=${1#*/}
    printf '%s' "${rest#*/}"
}

# tell_logs SINCE LINES SERVICE...: what containers have written, the last LINES of each, in the order of time.
tell_logs() {
    since=$1
    lines=$2
    shift 2
    entries=$(own_containers "$@") || return
    for entry in $entries; do answer log_of "$(stack_and_service "$entry")"; done
    # shellcheck disable=SC2086  # words without blanks
    [ -z "$entries" ] || by_time $entries
}

# by_time ENTRY...: the first one's lines, merged into those of the others as they come: nobody keeps them.
by_time() {
    tell_log "$1" | {
        shift
        if [ $# = 0 ]; then cat; else by_time "$@" | LC_ALL=C sort -m -s -t "$(printf '\t')" -k 3,3 /dev/fd/3 -; fi
    } 3<&0
}

# tell_log ENTRY: each line with its time. One in which docker itself speaks, or the rest of one that was cut, has the time of
# the one before.
tell_log() {
    name=$(stack_and_service "$1")
    { docker logs -t --tail "$lines" ${since:+--since "$since"} "${1%%/*}" 2>&1 </dev/null || complain "its log cannot be read"; } |
        LC_ALL=C awk -v mark="$(printf '\036%s = logged\t%s\t' "$TOKEN" "$name")" '
            match($0, /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9:.]+Z/) {
                at = substr($0, 1, RLENGTH)
                $0 = substr($0, RLENGTH + 1 + (substr($0, RLENGTH + 1, 1) == " "))
            }
            { print mark at "\t" $0 }'
}

# follow_logs LEASE SINCE LINES SERVICE...: the same, and whatever they write from then on, while somebody listens. Each
# dot is the time to look for containers that began since: those are told from their beginning.
follow_logs() {
    lease=$1
    since=$2
    lines=$3
    shift 3
    followed=" "
    while heard "$lease"; do
        for entry in $(own_containers "$@"); do
            case $followed in
                *" $entry "*) continue ;;
                *" ${entry%%/*}/"*) since=${entry#*/} since=${since%%/*} ;; # it began anew
            esac
            followed="$followed$entry "
            follow_one "$entry" "$since" "$lines" &
        done
        since=
        lines=all
    done
    end_own_group
}

follow_one() {
    name=$(stack_and_service "$1")
    answer log_of "$name"
    docker logs -t -f --tail "$3" ${2:+--since "$2"} "${1%%/*}" 2>&1 </dev/null |
        while IFS= read -r line || [ -n "$line" ]; do answer log "$name" "$line"; done
}

# tell_files NAME...: files of this release, line by line; all of them, but what each release has for itself, when none is named.
tell_files() {
    [ -d "$BASE/releases/$RELEASE" ] && cd "$BASE/releases/$RELEASE" || return
    [ $# != 0 ] || set -- .env *
    for name; do
        case $name in served | release.json | definitions.json | "*") continue ;; esac
        answer own_file "$name"
        # shellcheck disable=SC2094  # it is only read
        tell_lines "$name" <"$name" || return
    done
}
tell_lines() { while IFS= read -r line || [ -n "$line" ]; do answer own_line "$1" "$line"; done; }

# find_inside SERVICE: the container that a command is run in: of the live colour, or else of the settings stack.
find_inside() {
    stacks=$SETTINGS
    colour=$({ cd "$BASE" 2>/dev/null || true; } && live_colour) || return
    [ "$colour" = none ] || stacks="$PROJECT-$colour $SETTINGS"
    for stack in $stacks; do
        inside=$(docker ps -q --filter "label=com.docker.compose.project=$stack" \
            --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False) || return
        inside=$(printf '%s\n' "$inside" | head -n 1)
        [ -z "$inside" ] || return 0
    done
    complain "no container of $1 runs here; live is $colour"
    return 1
}

# inside SERVICE: say which one that is.
inside() { find_inside "$1" && answer inside "$inside"; }

# run_inside LEASE SERVICE WORD...: run a command there; how it ended is an answer, and no failure of ours.
run_inside() {
    lease=$1
    find_inside "$2" || return
    shift 2
    own="$$.$(now)"
    exec 3<&0
    hang_up "$inside" "$own" "$lease" <&3 3<&- &
    watcher=$!
    ended=0
    docker exec -e "GREENROOM_EXEC=$own" "$inside" "$@" 2>&1 </dev/null 3<&- || ended=$?
    kill "$watcher" 2>/dev/null
    answer exited "$ended"
}

# hang_up CONTAINER OWN LEASE: when nobody listens any more, end what was run there. Docker would let it go on: only its
# client is ours (moby #9098). What it was run with tells it, and its children, from all else in the container.
hang_up() {
    while heard "$3"; do :; done
    # shellcheck disable=SC2016  # expanded inside the container
    docker exec "$1" sh -c 'for each in /proc/[0-9]*; do
            if grep -qsF "GREENROOM_EXEC=$1" "$each/environ"; then kill -TERM "${each#/proc/}"; fi
        done' sh "$2" >/dev/null 2>&1
    end_own_group
}

# find_door COLOUR: where this host itself reaches the door of a colour: at nginx's own address, published or not.
find_door() {
    id=$(nginx_id) || return
    [ -n "$id" ] || { complain "$PROXY does not run here; start it: inv settings.up" && return 1; }
    found=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$id") || return
    # shellcheck disable=SC2086  # addresses, between blanks
    set -- "$1" $found
    answer door "$2" "$(door "$1")"
}
