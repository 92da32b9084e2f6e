# shellcheck shell=sh
# The proxy and its switch. nginx is asked from inside its own container: what counts is what it can see.
# Doors of templates/nginx: 8000 is blue, 8001 is green, 8002 says which one is live.

# nginx_id: of its container, or nothing where it does not run. It fails where docker does not say.
nginx_id() {
    proxies=$(of_service "$PROXY" -q) || return
    printf '%s\n' "$proxies" | head -n 1
}

# in_nginx WORD...: docker gives its containers the proxy of a company (~/.docker/config.json), and no door is asked through that.
# Where its container is `at_hand`, docker is not asked for that.
in_nginx() { running=${at_hand:-$(nginx_id)} && docker exec -e 'no_proxy=*' "$running" "$@"; }

door() { if [ "$1" = blue ]; then echo 8000; else echo 8001; fi; }

# answers COLOUR: one look through the colour's door, with the Host header that users send.
answers() {
    in_nginx curl -sf -o /dev/null -m 5 -H "Host: $HEALTH_HOST" "http://127.0.0.1:$(door "$1")$HEALTH_PATH"
}

# test_conf DIGEST: would nginx take this configuration? Asked before any flip; the running one stays as it is.
test_conf() {
    conf="/etc/nginx/greenroom/$1/nginx.conf"
    running=$(nginx_id) || return
    if [ -n "$running" ]; then
        docker exec "$running" nginx -t -q -c "$conf"
    else
        settings run --rm --no-deps -T --label "greenroom.run=$(latest_run)" "$PROXY" nginx -t -q -c "$conf"
    fi
}

# use_conf DIGEST: the configuration that nginx reads; a rename, so that there always is one. It reloads even if the link
# is there already: who moved it may have died before the reload.
use_conf() {
    running=$(nginx_id) || return
    ln -sfn "$1" nginx/live.new && mv -Tf nginx/live.new nginx/live || return
    [ -z "$running" ] || docker exec "$running" nginx -s reload -c /etc/nginx/greenroom/live/nginx.conf
}

# gate COLOUR SECONDS [ID:COUNT]...: wait until the colour answers through nginx; a container that ends or begins anew is the end of
# it. One that waited may have begun anew before, so many times.
gate() {
    restarted_before=$*
    gated=0
    until_deadline "$2" gate_look "$1" || gated=$?
    [ "$gated" != 0 ] || return 0
    [ "$gated" = 2 ] || complain "$1 did not answer GET $HEALTH_PATH (Host: $HEALTH_HOST) with 2xx or 3xx within $2 s; it said:"
    if [ "$gated" != 2 ]; then
        told=$(in_nginx curl -s -m 5 -o /dev/null -w 'status %{http_code} from %header{greenroom-upstream}\n' -H "Host: $HEALTH_HOST" "http://127.0.0.1:$(door "$1")$HEALTH_PATH")
        complain "$told"
        case $told in "status 400 "*) complain "Django says 400 to a host that ALLOWED_HOSTS lacks: is $HEALTH_HOST (health.host) there?" ;; esac
    fi
    stack_log "$PROJECT-$1"
    return 1
}

# gate_look COLOUR [LOOKS]: one docker exec a second, ten looks in it: starting an exec costs as much as ten looks. An answer counts if the door
# says that it came from one of the colour's own containers, or does not say (templates/nginx/doors.conf).
gate_look() {
    own=$(addresses "$PROJECT-$1") || { sleep 0.5; return 1; }
    # shellcheck disable=SC2016  # expanded inside the container
    in_nginx sh -c 'i=0
        while [ $i -lt "$4" ]; do
            if from=$(curl -sf -o /dev/null -m 5 -w "%header{greenroom-upstream}" -H "Host: $1" "$2"); then
                from=${from##* }
                [ -n "$from" ] || exit 0
                case " $3 " in *" ${from%:*} "*) exit 0 ;; esac
            fi
            sleep 0.1
            i=$((i + 1))
        done
        exit 1' sh "$HEALTH_HOST" "http://127.0.0.1:$(door "$1")$HEALTH_PATH" "$own" "${2:-10}" && return 0
    [ -n "$(nginx_id)" ] || sleep 0.5
    stack_broken "$PROJECT-$1" && return 2
    return 1
}

# switch COLOUR|none: nginx looks at these files for each request, and green wins. Every moment in between is one
# of the two ends, and the effective change is one system call. When it was is written down before it.
switch() {
    jot switched "$(hundredths)"
    case $1 in
        blue) true >switch/blue && rm -f switch/green ;;
        green) true >switch/green && rm -f switch/blue ;;
        none) rm -f switch/blue switch/green ;;
    esac
}

# await_return COLOUR SECONDS [CONF]: users are about to go back to this colour. Whoever has the other one keeps it until this one
# answers, with whatever status: after a reboot both come up, each in its own time. Where the other one does not answer either,
# or docker does not say so, there is nothing to wait for. What was fit under a configuration before is looked at under that.
await_return() {
    if [ "$1" = blue ]; then other=green; else other=blue; fi
    [ -f "switch/$other" ] || return 0
    [ -z "${3:-}" ] || conf_before "$3"
    until_deadline "$2" return_look "$1" "$other" && return
    complain "$1 is not back within $2 s, and $other answers: users stay with $other"
    stack_log "$PROJECT-$1"
    return 1
}
# A docker that hangs, here and below, holds up nobody for long.
conf_before() (
    docker() { timeout 15 docker "$@"; }
    use_conf "$1" || true
)
# 502 and 504 are nginx's own words for a colour that it cannot reach.
return_look() (
    docker() { timeout 15 docker "$@"; }
    looked=0
    # shellcheck disable=SC2016  # expanded inside the container
    in_nginx sh -c 'case $(curl -s -o /dev/null -m 5 -w "%{http_code}" -H "Host: $1" "$2") in
            000 | 502 | 504) ! curl -sf -o /dev/null -m 5 -H "Host: $1" "$3" || exit 9 ;;
        esac' sh "$HEALTH_HOST" "http://127.0.0.1:$(door "$1")$HEALTH_PATH" "http://127.0.0.1:$(door "$2")$HEALTH_PATH" || looked=$?
    [ "$looked" = 9 ] || return 0
    sleep 0.5
    return 1
)

# await_serving COLOUR: nginx itself says that this colour is live, and the public door answers. During maintenance that door
# is open for the health check's path alone, which may have another name since.
await_serving() {
    [ ! -f switch/maintenance ] || open_for_health || return
    until_deadline 15 serving_look "$1" && return
    live=$(in_nginx curl -s -m 5 http://127.0.0.1:8002/)
    told=$(in_nginx curl -s -m 5 -o /dev/null -w 'status %{http_code}' -H "Host: $HEALTH_HOST" "http://127.0.0.1:80$HEALTH_PATH")
    complain "nginx does not serve $1 through its public door: live there is ${live:-nobody}, and GET $HEALTH_PATH" \
        "(Host: $HEALTH_HOST) gets ${told:-no answer}"
    [ ! -f switch/maintenance ] || complain "maintenance is on here: does nginx let $HEALTH_PATH through, as maintenance.conf does?"
    return 1
}
serving_look() {
    # shellcheck disable=SC2016  # expanded inside the container
    in_nginx sh -c 'test "$(curl -sf -m 5 http://127.0.0.1:8002/)" = "$3" &&
        curl -sf -o /dev/null -m 5 -H "Host: $1" "http://127.0.0.1:80$2" || { sleep 0.2; exit 1; }' \
        sh "$HEALTH_HOST" "$HEALTH_PATH" "$1"
}

# watch_colour COLOUR SECONDS [ID:COUNT]...: the settle delay, spent looking. It speaks each second, so that it ends when nobody
# listens.
watch_colour() {
    restarted_before=$*
    began=$(since_boot)
    looks=0
    missed=0
    unanswered=0
    while [ $(($(since_boot) - began)) -lt "$2" ]; do
        broken=0
        stack_broken "$PROJECT-$1" || broken=$?
        if [ "$broken" = 0 ]; then
            stack_log "$PROJECT-$1"
            return 1
        fi
        looks=$((looks + 1))
        if [ "$broken" = 1 ] && answers "$1"; then missed=0; else missed=$((missed + 1)) unanswered=$((unanswered + 1)); fi
        if [ "$missed" = 3 ]; then
            if [ "$broken" = 2 ]; then
                complain "docker does not say how $1 is (three looks in a row)"
            else
                complain "$1 has stopped answering GET $HEALTH_PATH (three looks in a row)"
            fi
            stack_log "$PROJECT-$1"
            return 1
        fi
        mark alive "$(($(since_boot) - began))"
        sleep 1
    done
    found "$looks looks, $unanswered of them without an answer"
}

# connections COLOUR: how many connections nginx holds to a colour or is opening, from its own socket tables (states 01
# and 02: established, SYN sent). Where the colour's addresses are `known`, they are not asked for.
# Not to be able to look is not to see nothing: then it answers 1, and says no number.
connections() {
    ips=${known:-}
    [ -n "$ips" ] || ips=$(addresses "$PROJECT-$1") || return 1
    patterns=
    for ip in $ips; do
        patterns="$patterns $(echo "$ip" | awk -F. '{ printf "%02X%02X%02X%02X", $4, $3, $2, $1 }')"
    done
    tables=$(in_nginx cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    [ -n "$tables" ] || return 1
    printf '%s\n' "$tables" | awk -v patterns="$patterns" '
        BEGIN { count = split(patterns, wanted, " ") }
        $4 == "01" || $4 == "02" { split($3, remote, ":"); for (i = 1; i <= count; i++)
            if (substr(remote[1], length(remote[1]) - 7) == wanted[i]) found++ }
        END { print found + 0 }'
}

# drain COLOUR SECONDS: wait until nginx holds no connection to the colour. What is cut at the limit is said. Where docker does
# not say who is there, it is waited for like a connection.
drain() {
    [ "${drains:-}" = "$1" ] || begin_drain "$1" "$2"
    drains=
    wait "$drainer" && return 0
    if open=$(connections "$1"); then
        found "$open connections to $1 were still open after $2 s, and are cut"
    else
        found "nginx's connections to $1 could not be counted within $2 s; any that are open are cut"
    fi
}

# begin_drain COLOUR SECONDS: look from now on, beside what else the script does, until its `drain` asks.
begin_drain() {
    drains=$1
    await_drained "$1" "$2" &
    drainer=$!
}

# await_drained COLOUR SECONDS: two looks must agree, and not in the second after the switch: a request may sit between reading it
# and connecting.
await_drained() {
    if ids=$(of_stack "$PROJECT-$1") && [ -z "$ids" ]; then return 0; fi
    if at_hand=$(nginx_id) && [ -z "$at_hand" ]; then return 0; fi
    sleep "$(rest_of_second)" &
    rest=$!
    known=$(addresses "$PROJECT-$1") || known=
    wait "$rest"
    until_deadline "$2" drained "$1"
}
drained() {
    nothing_open "$1" || { sleep 0.5; return 1; }
    sleep 0.5
    nothing_open "$1"
}
nothing_open() {
    open=$(connections "$1") || { at_hand= && return 1; }
    [ "$open" = 0 ]
}

# rest_of_second: what is left of the second after the switch, for `sleep`; all of it where nobody knows when that was.
rest_of_second() {
    at=
    read -r at 2>/dev/null <switched
    clock=$(hundredths)
    left=$((100 + ${at:-$clock} - clock))
    [ "$left" -gt 0 ] || left=0
    if [ "$left" -lt 100 ]; then printf '0.%02d\n' "$left"; else echo 1; fi
}
hundredths() { read -r uptime _ </proc/uptime && echo "${uptime%.*}${uptime#*.}"; }

# maintain TEXT: users get the maintenance page; TEXT says who wanted it. The health check's path is opened first.
maintain() { open_for_health && replace switch/maintenance "$1"; }
open_for_health() {
    open="switch/open${HEALTH_PATH%%\?*}"
    mkdir -p "$open" && true >"$open/.open"
}
end_maintenance() { rm -f switch/maintenance && rm -rf switch/open; }

# await_maintenance on|off: nginx itself says so, through its public door, and that the health check is open all the same. What
# the app says there is no matter: a sick one is what users are spared.
await_maintenance() {
    until_deadline 10 maintenance_look "$1" && return
    complain "nginx does not turn maintenance $1: does its configuration include maintenance.conf, as mysite.conf does?"
    complain "if it does so here, and not yet on the host: inv settings.reload"
    return 1
}
maintenance_look() {
    # shellcheck disable=SC2016  # expanded inside the container
    in_nginx sh -c 'page() { curl -s -o /dev/null -m 5 -H "Host: $1" -w "%header{greenroom-maintenance}" "http://127.0.0.1:80$2"; }
        closed=$(page "$1" /.greenroom/look)
        test "${closed:-off}" = "$3" && test -z "$(page "$1" "$2")" || { sleep 0.2; exit 1; }' \
        sh "$HEALTH_HOST" "$HEALTH_PATH" "$1"
}
