# shellcheck shell=sh
# The frame of every script: words report to the operator by marked lines, everything else they print is log.
# A marked line is: record separator, the run's token, a space, the message. The token is random, so that no
# build output can pass for one.

mark() { printf '\036%s %s\n' "$TOKEN" "$*"; }

# answer KEY VALUE...: a fact for the operator, its parts separated by tabs. It is written at once: short answers may
# come from words that run side by side.
answer() {
    answered="$TOKEN = $1"
    shift
    for part; do answered="$answered	$part"; done
    printf '\036%s\n' "$answered"
}

# found TEXT: what a step that ends well has to tell of it: the operator sees it behind the step's name.
found() { answer found "$*"; }

complain() { printf '%s\n' "$*"; }

# step NUMBER WORD...: one step of a plan. The first that fails ends the script, with its exit status.
step() {
    number=$1
    shift
    mark begin "$number"
    status=0
    "$@" || status=$?
    mark end "$number" "$status"
    [ "$status" = 0 ] || exit "$status"
}

# now: for people, and for the order of what this host itself did.
now() { date +%s; }

# since_boot: for waits and ages, in seconds. Somebody may set the clock while they last.
since_boot() { read -r uptime _ </proc/uptime && echo "${uptime%%.*}"; }

# hook SECONDS must|may JSON WORD...: a program of the project's, in its source. One that must say yes may say no. It has
# five seconds to end when its time is over; or none, where `timeout` is an older busybox's, which knows no -k. `timeout` holds
# the fence for it (lock.sh), and it does not itself: what it leaves behind that ends in time goes on, and holds up nobody.
hook() {
    limit=$1
    weight=$2
    facts=$3
    shift 3
    refused=0
    own="$$.$(now)"
    sure="-k 5"
    timeout -k 5 1 sleep 0 2>/dev/null || sure="-s KILL"
    began=$(since_boot)
    jot hook "$own"
    # shellcheck disable=SC2016,SC2086  # expanded by that sh; two words
    (cd source && export GREENROOM_PROJECT="$PROJECT" GREENROOM_RELEASE="$RELEASE" GREENROOM_HOOK="$own" &&
        printf '%s\n' "$facts" | timeout $sure "$limit" sh -c 'exec "$@" 8>&-' sh "$@") || refused=$?
    [ $(($(since_boot) - began)) -lt "$limit" ] || end_what_has KILL "GREENROOM_HOOK=$own"
    rm -f hook
    [ "$refused" != 0 ] || return 0
    [ "$weight" = may ] || return "$refused"
    answer found "it failed (exit status $refused); the run does not hang on it"
}

# end_what_has SIGNAL SETTING: whatever was started with this in its environment. `timeout` ends one process, or a group that a
# child may have left.
end_what_has() {
    for each in /proc/[0-9]*; do
        { settings_of_it=$(cat "$each/environ"); } 2>/dev/null # bash warns of the zeros that it leaves out
        case $settings_of_it in *"$2"*) kill "-$1" "${each#/proc/}" 2>/dev/null ;; esac
    done
    return 0
}

# until_deadline SECONDS WORD...: repeat the word until it says 0 (done) or 2 (hopeless), or the time is over.
# The word paces itself: it is a look that takes a moment, or it sleeps.
until_deadline() {
    limit=$1
    began=$(since_boot)
    shift
    while :; do
        verdict=0
        "$@" || verdict=$?
        [ "$verdict" = 1 ] || return "$verdict"
        [ $(($(since_boot) - began)) -lt "$limit" ] || return 1
    done
}
