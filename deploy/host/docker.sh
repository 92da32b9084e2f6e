# shellcheck shell=sh
# Build and start through compose; look and tear down through docker, by compose's labels, which compose v1, v2 and
# v5 all set alike while their container names and their `ps --format` differ.

# of_stack STACK: its containers. What a person runs there (`docker compose run`) is no part of it: that is theirs to end. What
# we run has a label of ours.
of_stack() {
    found_in_stack=$(docker ps -a --filter "label=com.docker.compose.project=$1" \
        --format '{{.ID}} {{.Label "com.docker.compose.oneoff"}}{{.Label "greenroom.run"}}') || return
    printf '%s\n' "$found_in_stack" | awk '$2 != "True" { print $1 }'
}

# of_service SERVICE OPTION...: `docker ps` for the containers of a service of the settings stack, without what a person
# runs there.
of_service() {
    one_service=$1
    shift
    docker ps "$@" --filter "label=com.docker.compose.project=$SETTINGS" \
        --filter "label=com.docker.compose.service=$one_service" --filter label=com.docker.compose.oneoff=False
}

# addresses STACK: of its containers, each between blanks.
addresses() {
    ids=$(of_stack "$1") || return
    # shellcheck disable=SC2086  # the ids are hexadecimal words
    [ -z "$ids" ] || docker inspect -f '{{range .NetworkSettings.Networks}} {{.IPAddress}} {{end}}' $ids
}

# compose STACK FILE... -- WORD...: compose, on the files of this release, for one stack.
# COMPOSE_PROJECT_NAME would win over -p inside the file (docker/compose #11734), COMPOSE_FILE over -f.
compose() (
    stack=$1
    shift
    files=
    while [ "$1" != -- ]; do
        files="$files -f releases/$RELEASE/$1"
        shift
    done
    shift
    unset COMPOSE_PROJECT_NAME COMPOSE_FILE COMPOSE_PROFILES
    # For `run` compose v1 would start docker's own client, with the values of the env file in its environment, where ps
    # shows them.
    export COMPOSE_INTERACTIVE_NO_CLI=1
    export GREENROOM_PROJECT="$PROJECT" GREENROOM_RELEASE="$RELEASE" GREENROOM_IMAGE="$PROJECT:$RELEASE"
    export GREENROOM_NETWORK="$NETWORK" GREENROOM_ENV_FILE="releases/$RELEASE/.env"
    export GREENROOM_HEALTH_HOST="$HEALTH_HOST" GREENROOM_HEALTH_PATH="$HEALTH_PATH"
    # shellcheck disable=SC2086  # COMPOSE is one or two words; file names carry no space, the configuration sees to it
    $COMPOSE -p "$stack" --project-directory . --env-file "releases/$RELEASE/.env" $files "$@" </dev/null
)

colour_stack() (
    export GREENROOM_COLOUR="$1"
    colour=$1
    file=$2
    shift 2
    compose "$PROJECT-$colour" "$file" -- "$@"
)

settings() { compose "$SETTINGS" "$SETTINGS_FILE" definitions.json -- "$@"; }

ensure_network() {
    docker network inspect "$1" >/dev/null 2>&1 || docker network create "$1" >/dev/null
}

ensure_volumes() {
    made=
    for volume; do
        docker volume create "$volume" >/dev/null &
        made="$made $!"
    done
    all=0
    for each in $made; do wait "$each" || all=$?; done
    return "$all"
}

# validate COLOUR FILE: both compose files are well-formed, on this host's own compose, before anything is started. Each takes
# compose longer to start than to read.
validate() {
    colour_stack "$1" "$2" config -q &
    colours=$!
    well=0
    settings config -q || well=$?
    wait "$colours" || well=$?
    return "$well"
}

# build COLOUR FILE SERVICE: the image of this release, unless it is here.
build() {
    docker image inspect "$PROJECT:$RELEASE" >/dev/null 2>&1 && return
    colour_stack "$1" "$2" build "$3" || return
    docker image inspect "$PROJECT:$RELEASE" >/dev/null 2>&1 || {
        complain "the build went through, and made no image $PROJECT:$RELEASE:"
        complain "give the service $3 in $2 the line  image: \${GREENROOM_IMAGE}"
        return 1
    }
}

# tag RELEASE SERVICE...: the image of this release is that of another one, and so are those beside it. The app's is last:
# with it the release can be started.
tag() {
    other=$1
    shift
    for service; do docker tag "$PROJECT:$other.$service" "$PROJECT:$RELEASE.$service" || return; done
    docker tag "$PROJECT:$other" "$PROJECT:$RELEASE"
}

# build_others COLOUR FILE SERVICE...: images of this release beside the app's, unless all are here; build_settings
# SERVICE...: the same of the settings stack.
build_others() {
    colour=$1
    file=$2
    shift 2
    others_are_here "$@" || colour_stack "$colour" "$file" build "$@"
}
build_settings() { others_are_here "$@" || settings build "$@"; }
others_are_here() {
    for service; do docker image inspect "$PROJECT:$RELEASE.$service" >/dev/null 2>&1 || return; done
}

# migrate COLOUR FILE SERVICE WORD...: run a command once in the new image. By the label a later run
# knows the container for one of ours (host/lock.sh).
migrate() {
    colour=$1
    file=$2
    service=$3
    shift 3
    colour_stack "$colour" "$file" run --rm --no-deps -T --label "greenroom.run=$(latest_run)" "$service" "$@"
}

# start COLOUR FILE: the idle colour, from nothing: what an earlier run left of it must not be taken for it.
start() {
    clear_colour "$1" || return
    colour_stack "$1" "$2" up -d --no-build
}

# settings_up SERVICE...: start these services of the settings stack, and no other, as this release has them. Of one that
# changes compose stops the old container (SIGTERM, stop_grace_period: celery's warm shutdown) before it starts the new
# one: beat is never doubled.
settings_up() {
    ! cut_off_lately || end_stops "$@" || return
    settings up -d --no-deps --no-build "$@"
}

# cut_off_lately: a script was (host/lock.sh), and docker may still be at what that asked for.
cut_off_lately() { [ -n "$(find "$BASE/cut_off" -mmin -20 2>/dev/null)" ]; }

# end_stops SERVICE...: compose takes what docker is still about to end for running, so that is stopped to the end first.
end_stops() {
    running=
    for service; do
        ids=$(of_service "$service" -q --no-trunc) || return
        running="$running $ids"
    done
    # shellcheck disable=SC2086  # the ids are hexadecimal words
    ends=$(being_ended $running) || return
    # shellcheck disable=SC2086
    [ -z "$ends" ] || docker stop $ends >/dev/null
}

# being_ended ID...: those of these containers that docker was told to end since they were started. It goes on with that
# when whoever asked was ended, and calls them running until they are not; then no restart policy brings them back.
being_ended() {
    [ $# != 0 ] || return 0
    # It prints whole seconds that are over: this one is waited for. Signals 1, 10 and 12 end nobody: HUP, USR1, USR2.
    told=$(docker events --since 20m --until "$(($(now) + 1))" --filter type=container --filter event=kill \
        --filter event=start --format '{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.signal}}') || return
    printf '%s\n' "$told" | awk -v ids="$*" '$3 !~ /^(1|10|12)$/ { last[$2] = $1 }
        END {
            count = split(ids, id, " ")
            for (i = 1; i <= count; i++) for (each in last)
                if (last[each] == "kill" && index(each, id[i]) == 1) printf "%s ", id[i]
        }'
}

# hand_over COLOUR SECONDS SERVICE...: settings_up for the workers, while nginx lets go of the colour that users have left.
hand_over() {
    begin_drain "$1" "$2"
    shift 2
    settings_up "$@" && return
    handed=$?
    wait "$drainer"
    return "$handed"
}

# settings_back RELEASE SERVICE...: the same, as an earlier release has them, which lies here.
settings_back() (
    RELEASE=$1
    shift
    settings_up "$@"
)

# settings_safe RELEASE SECONDS SERVICE...: of services that a run has changed, and users had before, those that do not run well come
# back as an earlier release has them; those that do stay as they are, and one that is not there is not waited for. Compose
# may have gone, broken off or out of patience, while docker stops the old one: that runs, and will not.
settings_safe() {
    earlier=$1
    limit_of_return=$2
    shift 2
    end_stops "$@" || return
    lame=
    for service; do
        state=$(service_state "$service") || state=
        { [ -n "$state" ] && until_deadline "$limit_of_return" service_ready "$service" && began_once "$service"; } ||
            lame="$lame $service"
    done
    [ -n "$lame" ] || return 0
    found "not well, and as it was before:$lame"
    # shellcheck disable=SC2086  # names of services
    settings_back "$earlier" $lame && settings_ready "$limit_of_return" $lame
}
began_once() { starts_of "$1" | awk '$2 != 0 { again = 1 } END { exit again }'; }

# settings_restart SERVICE...: one after the other, each as gently as its file asks.
settings_restart() {
    for service; do
        ids=$(of_service "$service" -q) || return
        # shellcheck disable=SC2086  # the ids are hexadecimal words
        [ -z "$ids" ] || docker restart $ids >/dev/null || return
    done
}

# settings_down SERVICE...: services that the settings file no longer has, or not for this host.
settings_down() {
    for service; do
        ids=$(of_service "$service" -aq) || return
        # shellcheck disable=SC2086  # the ids are hexadecimal words
        [ -z "$ids" ] || { docker stop $ids && docker rm $ids; } >/dev/null || return
    done
}

# settings_ready SECONDS SERVICE...: wait until they run, and are healthy where they have a rule for that.
settings_ready() {
    limit_of_settings=$1
    shift
    for service; do
        until_deadline "$limit_of_settings" service_ready "$service" || {
            state=$(service_state "$service") || state="not to be seen: docker does not say"
            complain "$service of $SETTINGS is $state"
            service_log "$service"
            return 1
        }
    done
}

# service_state SERVICE: what docker calls the state of its newest container, or of a replica that is worse. It fails where
# docker does not say.
service_state() {
    states=$(of_service "$1" -a --format '{{.Status}}') || return
    printf '%s\n' "$states" | awk 'NR == 1 { newest = $0 } /^Restarting|\(unhealthy\)/ { sick = $0 }
        /\(health: starting\)/ { starts = $0 } END { print sick ? sick : starts ? starts : newest }'
}

# service_ready SERVICE: a look that docker does not let us take is waited for as what is not there yet.
service_ready() {
    state=$(service_state "$1") || state=
    case $state in
        *"(health: starting)"* | "") sleep 0.3 && return 1 ;;
        *"(unhealthy)"*) return 2 ;;
        Up*) return 0 ;;
        *) return 2 ;;
    esac
}

service_log() {
    for id in $(of_service "$1" -aq); do
        docker logs --tail 20 "$id" 2>&1
    done
}

# watch_services SECONDS SERVICE...: services that were just started, for the settle delay: each runs, is not unhealthy, and
# does not begin anew. It speaks each second, so that it ends when nobody listens.
watch_services() {
    limit_of_watch=$1
    shift
    began=$(since_boot)
    first=
    while [ $(($(since_boot) - began)) -lt "$limit_of_watch" ]; do
        for service; do
            state=$(service_state "$service") || return
            case $state in
                *"(unhealthy)"*) service_failed "$service" && return 1 ;;
                Up*) ;;
                *) service_failed "$service" && return 1 ;;
            esac
        done
        looks=$(starts_of "$@") || return
        [ "${first:=$looks}" = "$looks" ] || {
            for service; do service_failed "$service"; done
            return 1
        }
        mark alive "$(($(since_boot) - began))"
        sleep 1
    done
}
service_failed() {
    complain "$1 of $SETTINGS is $(service_state "$1"); its last lines:"
    service_log "$1"
}

# starts_of SERVICE...: each container with the number of times that docker started it anew.
starts_of() {
    for service; do
        ids=$(of_service "$service" -aq) || return
        for id in $ids; do
            docker inspect -f '{{.Id}} {{.RestartCount}}' "$id" || return
        done
    done
}

# stack_broken STACK: true, with the reason, when a container of it has ended or begun anew; 2 where docker does not say.
# One that goes between the two questions is no reason.
stack_broken() {
    ids=$(of_stack "$1") || return 2
    for id in $ids; do
        found=$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}} {{.Name}}' "$id") || {
            left=$(of_stack "$1") || return 2
            case $newline$left$newline in *"$newline$id$newline"*) return 2 ;; esac
            continue
        }
        # shellcheck disable=SC2086  # four words without spaces
        set -- "$1" $found
        [ "$2" = running ] && [ "$4" = 0 ] && continue
        case " ${restarted_before:-} running" in *" $id:$4 "*"$2") continue ;; esac
        case "$2 $3 $4" in created* | "exited 0 0") continue ;; esac
        complain "container ${5#/} is $2, exit status $3, restarted $4 times"
        return 0
    done
    return 1
}

stack_log() {
    for id in $(of_stack "$1"); do
        complain "--- last lines of $(docker inspect -f '{{.Name}}' "$id" | cut -c2-)"
        docker logs --tail 30 "$id" 2>&1
    done
    return 0
}

# must_be_idle COLOUR: no plan may touch the colour that users are sent to, whatever it was when the plan was made.
must_be_idle() {
    users=$(live_colour) || return
    users_are_elsewhere "$1"
}
users_are_elsewhere() {
    [ "$users" != "$1" ] && return
    complain "$1 is live here: it is neither stopped nor started anew"
    return 75
}

# stop COLOUR: as gently as its file asks (stop_signal, stop_grace_period), then away with its containers.
stop() {
    must_be_idle "$1" || return
    ids=$(of_stack "$PROJECT-$1") || return
    [ -n "$ids" ] || return 0
    waits_no_more "$1"
    # shellcheck disable=SC2086  # the ids are hexadecimal words
    docker stop $ids >/dev/null && docker rm $ids >/dev/null
}

# clear_colour COLOUR: what is left of a colour that no user can reach; nothing to be gentle with.
clear_colour() {
    ids=$(of_stack "$PROJECT-$1") || return
    # To ask nginx takes a tenth of a second. Where nothing is left to be removed, the files that it goes by will do.
    if [ -n "$ids" ]; then users=$(live_colour) || return; else users=$(colour_of ""); fi
    users_are_elsewhere "$1" || return
    waits_no_more "$1"
    # shellcheck disable=SC2086  # the ids are hexadecimal words
    [ -z "$ids" ] || docker rm -f $ids >/dev/null
}

# let_wait COLOUR JSON: what runs of an idle colour is there on purpose: these very containers, of which JSON tells. What
# is started there later is not them, and what is stopped there waits no more.
let_wait() {
    must_be_idle "$1" || return
    runs=$(what_runs "$1") || return
    [ "$runs" != "$1" ] || { complain "nothing of $1 is here that could wait"; return 1; }
    replace waiting "$runs
{\"at\": $(now), ${2#\{}"
}

# what_runs COLOUR: the colour and its containers, in one line.
what_runs() {
    ids=$(of_stack "$PROJECT-$1") || return
    # shellcheck disable=SC2046,SC2086  # the ids are hexadecimal words
    echo "$1" $(printf '%s\n' $ids | sort)
}

waits_no_more() {
    read -r said 2>/dev/null <waiting || return 0
    case $said in "$1 "*) rm -f waiting ;; esac
}

# withdraw COLOUR SECONDS: drain it and stop it. But where all that was left to wait is there, and nothing else, it waits on.
withdraw() {
    runs=$(what_runs "$1") || return
    read -r said 2>/dev/null <waiting || said=
    [ "$said" = "$runs" ] || { drain "$1" "$2" && stop "$1"; }
}

# revive COLOUR FILE SECONDS: what waits there is fit at the first look, or is started anew.
revive() {
    gate_look "$1" 1 && return
    start "$1" "$2" && gate "$1" "$3"
}
