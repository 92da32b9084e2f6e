# shellcheck shell=sh
# What a host is asked. These words only look: not one of them writes.

# observe MANIFEST PART...: answer everything that a plan is made from. MANIFEST is the digest that the source should
# have: when it does, the list of its files stays at home; without one nobody wants to know. Each PART is the digest of a part
# of that list: those parts that are alike stay at home, too.
#
# The engine is asked all at once: each question takes docker longer to start than to answer.
observe() {
    for tool in docker flock tar gzip sha256sum awk timeout dd; do
        command -v "$tool" >/dev/null 2>&1 || answer lacks "$tool"
    done
    at_once find_compose containers images look_at_switch look_at_disk &
    looks=$!
    version=$(docker version --format '{{.Server.Version}} {{.Server.Arch}}' 2>&1) || {
        wait "$looks"
        answer no_docker "$(printf '%s' "$version" | tail -n 1)"
        return 0
    }
    answer docker "${version% *}"
    answer architecture "${version##* }"
    have=$([ -z "$1" ] || { cd "$BASE/source" 2>/dev/null && manifest; })
    wait "$looks" || return
    [ -d "$BASE" ] || return 0
    cd "$BASE" || return
    answer base "$(pwd -P)"
    [ ! -f locked ] || answer locked "$(cat locked)"
    [ ! -f switch/maintenance ] || answer maintenance "$(cat switch/maintenance)"
    # shellcheck disable=SC2094  # it is only read
    [ ! -f waiting ] || { read -r ids && read -r said && answer waiting "$ids" "$said"; } <waiting
    [ ! -L nginx/live ] || answer conf "$(readlink nginx/live)"
    for directory in nginx/*/; do
        [ ! -d "$directory" ] || [ -L "${directory%/}" ] || answer nginx_dir "$(basename "$directory")"
    done
    for directory in releases/*/; do
        [ -d "$directory" ] || continue
        answer release "$(basename "$directory")" \
            "$(cat "$directory/served" 2>/dev/null || echo 0)" \
            "$(cat "$directory/release.json" 2>/dev/null)"
    done
    if [ -d source ] && [ -n "$1" ]; then
        have=${have:+$have$newline}
        if [ "$(printf '%s' "$have" | sha256sum | cut -c1-64)" = "$1" ]; then
            answer source_same
        else
            shift
            tell_parts "$@" || printf '%s' "$have" | tell_source
        fi
    fi
}
newline='
'

# tell_source [FILE...]: what `answer` would say of each line, in as few writes as there are blocks: each write is a packet.
tell_source() { LC_ALL=C sed "s/^/$(printf '\036%s = file\t' "$TOKEN")/" "$@"; }

# tell_parts PART...: the lines of those parts that are not as PART... has them. A part is what begins with the same two digits
# of a file's digest; PART is those two, a colon, and eight digits of the digest of its lines (deploy/recipe/manifest.py).
# A host that has no room to sort them tells all.
tell_parts() {
    [ $# != 0 ] && [ -n "$have" ] || return
    into=$(mktemp -d 2>/dev/null) || return
    if ! sort_parts || ! here=$(cd "$into" && sha256sum -- *); then
        rm -rf "$into"
        return 1
    fi
    here=$(printf '%s\n' "$here" | awk '{ print $2 ":" substr($1, 1, 8) }')
    differ=$(printf '%s\n' "$here" "$@" | LC_ALL=C sort | uniq -u | cut -c1-2 | uniq)
    told=
    for part in $differ; do
        answer differs "$part"
        [ ! -f "$into/$part" ] || told="$told $into/$part"
    done
    # shellcheck disable=SC2086  # names of our own making
    [ -z "$told" ] || tell_source $told
    rm -rf "$into"
}

# at_once WORD...: words without arguments, side by side; false when one of them fails.
at_once() {
    jobs=
    for word; do
        "$word" &
        jobs="$jobs $!"
    done
    all=0
    for job in $jobs; do wait "$job" || all=$?; done
    return "$all"
}

sort_parts() {
    printf '%s' "$have" | LC_ALL=C awk -v into="$into" '{
        digest = $2
        sub(/^\\/, "", digest)
        print >(into "/" substr(digest, 1, 2))
    }'
}

find_compose() {
    if docker compose version >/dev/null 2>&1; then
        answer compose "docker compose"
    elif command -v docker-compose >/dev/null 2>&1; then
        answer compose docker-compose
    fi
}

images() {
    names=$(docker images --format '{{.Repository}}:{{.Tag}}') || return
    for image in $names; do
        case $image in "$PROJECT":*) answer image "$image" ;; esac
    done
}

# containers: all of the app's stacks, at one moment. One that goes between the two questions makes the second fail: then
# both are asked again. Where nothing has gone, it is docker that fails.
containers() {
    ids=$(own_ids) || return
    tab=$(printf '\t')
    format='{{.ID}}'
    for part in 'index .Config.Labels "com.docker.compose.project"' \
        'index .Config.Labels "com.docker.compose.service"' '.Config.Image' '.State.Status' \
        'if .State.Health}}{{.State.Health.Status}}{{end' '.RestartCount' '.State.StartedAt' \
        'index .Config.Labels "greenroom.definition"' 'index .Config.Labels "com.docker.compose.oneoff"'; do
        format="$format$tab{{$part}}"
    done
    found=
    while [ -n "$ids" ]; do
        # shellcheck disable=SC2086  # the ids are hexadecimal words
        found=$(docker inspect -f "$format" $ids) && break
        found=
        asked=$ids
        ids=$(own_ids) || return
        [ "$ids" != "$asked" ] || return 1
    done
    [ -n "$found" ] || return 0
    ! cut_off_lately || found=$(tell_ending) || return
    printf '%s\n' "$found" | while IFS= read -r line; do answer container "$line"; done
}

# tell_ending: what was found, with the state "ending" for what of the settings stack docker only calls running still.
tell_ending() {
    # shellcheck disable=SC2046  # the ids are hexadecimal words
    ends=$(being_ended $(printf '%s\n' "$found" | awk -F '\t' -v stack="$SETTINGS" '$2 == stack { print $1 }')) || return
    printf '%s\n' "$found" | awk -F '\t' -v OFS='\t' -v ends="$ends" \
        '$5 == "running" && index(ends, $1) { $5 = "ending" } { print }'
}

own_ids() {
    all_ids=$(docker ps -a --format '{{.ID}} {{.Label "com.docker.compose.project"}}') || return
    printf '%s\n' "$all_ids" | awk -v mine="$PROJECT-" 'index($2, mine) == 1 { print $1 }'
}

look_at_switch() {
    proxy=$(nginx_id) || return
    [ -z "$proxy" ] || answer proxy_runs
    answer switch "$({ cd "$BASE" 2>/dev/null || true; } && colour_of "$proxy")"
}

# Truth is what nginx serves. Only where nginx does not run, or has no door to ask, is the switch itself the best that
# is known. In the app's directory.
live_colour() { proxy=$(nginx_id) && colour_of "$proxy"; }
colour_of() {
    colour=
    [ -z "$1" ] || colour=$(docker exec -e 'no_proxy=*' "$1" curl -sf -m 5 http://127.0.0.1:8002/ 2>/dev/null)
    case $colour in
        blue | green | none) echo "$colour" ;;
        *) if [ -f switch/green ]; then echo green; elif [ -f switch/blue ]; then echo blue; else echo none; fi ;;
    esac
}

# Bytes free where docker keeps its images, or where this login lives, whichever has less.
look_at_disk() {
    place=$(docker info --format '{{.DockerRootDir}}') || return
    [ -d "$place" ] || place=.
    answer disk_free "$(df -Pk "$place" . | awk 'NR > 1 && (least == "" || $4 + 0 < least) { least = $4 + 0 }
        END { printf "%.0f\n", least * 1024 }')"
}

# manifest: one line a file below this directory: kind (f file, x executable, l link), sha256, two spaces, ./path.
# A link's digest is its target's name. A name with a newline, a return or a backslash is escaped, which a backslash before
# its digest says: by ourselves, since each sha256sum has its own idea of it.
manifest() (
    return=$(printf '\r')
    odd="*[\\\\
$return]*"
    {
        find . -type f ! -path "$odd" ! -perm -100 -exec sha256sum {} + | sed 's/^/f /'
        find . -type f ! -path "$odd" -perm -100 -exec sha256sum {} + | sed 's/^/x /'
        find . -type l ! -path "$odd" | while IFS= read -r link; do
            printf 'l %s  %s\n' "$(readlink -n "$link" | sha256sum | cut -c1-64)" "$link"
        done
        find . \( -type f -o -type l \) -path "$odd" -exec sh -c 'for path; do
            if [ -L "$path" ]; then
                kind=l
                digest=$(readlink -n "$path" | sha256sum)
            else
                kind=f
                [ -z "$(find "$path" -prune -perm -100)" ] || kind=x
                digest=$(sha256sum <"$path")
            fi
            printf "%s \\\\%s  " "$kind" "${digest%% *}"
            printf "%s\n" "$path" | sed "$0"
        done' "$ESCAPE
s/$return/\\\\r/g" {} +
    } | LC_ALL=C sort
)
ESCAPE=':lines
$!{
N
b lines
}
s/\\/\\\\/g
s/\n/\\n/g'

# look_at_volumes KEY NAME...: volumes that the app keeps. Of each that is there: who has it but the app's own stacks. Of each
# that is not: what compose made under the same key for a project that is not ours, which may be what it should have been.
look_at_volumes() {
    volumes=$(docker volume ls -q) || {
        docker version >/dev/null 2>&1 && return 1
        return 0 # of an engine that does not answer at all `observe` tells
    }
    while [ $# -gt 1 ]; do
        case $newline$volumes$newline in
            *"$newline$2$newline"*)
                users=$(docker ps -a --filter "volume=$2" --format '{{.Names}} {{.Label "com.docker.compose.project"}}') ||
                    return
                answer volume "$2"
                of_others "$users" volume_user "$2"
                ;;
            *)
                alike=$(docker volume ls --filter "label=com.docker.compose.volume=$1" \
                    --format '{{.Name}} {{.Label "com.docker.compose.project"}}') || return
                of_others "$alike" volume_like "$1"
                ;;
        esac
        shift 2
    done
}

# of_others LINES KEY OF: answer those of "NAME PROJECT" that are not of the app's own stacks.
of_others() {
    printf '%s\n' "$1" | while read -r name whose; do
        case $whose in
            "$PROJECT-blue" | "$PROJECT-green" | "$SETTINGS") ;;
            *) [ -z "$name" ] || answer "$2" "$3" "$name" "$whose" ;;
        esac
    done
}

# probe: is each colour healthy, seen from nginx?
probe() {
    proxy=$(nginx_id) || {
        docker version >/dev/null 2>&1 && return 1
        return 0 # of an engine that does not answer at all `observe` tells
    }
    [ -n "$proxy" ] || return 0
    for colour in blue green; do
        ids=$(docker ps -q --filter "label=com.docker.compose.project=$PROJECT-$colour") || return
        [ -n "$ids" ] || continue
        if answers "$colour"; then answer health "$colour" healthy; else answer health "$colour" sick; fi
    done
}

# history LINES: the newest lines of the host's own record.
history_lines() {
    [ -f "$BASE/history.jsonl" ] || return 0
    tail -n "$1" "$BASE/history.jsonl" | while IFS= read -r line; do answer history "$line"; done
}

# examine PORT...: what `check` wants to know beyond the facts.
examine() {
    answer clock "$(now)"
    answer compose_version "$($COMPOSE version --short 2>/dev/null)"
    look_at_inodes || return
    look_at_mtu
    proxy=$(nginx_id) || return
    if [ -n "$proxy" ]; then
        answer nginx_version "$(in_nginx nginx -v 2>&1 | sed 's|.*/||')"
        in_nginx sh -c 'command -v curl' >/dev/null || { answer nginx_lacks curl && return; }
        look_at_live "$(colour_of "$proxy")"
        return 0
    fi
    for port; do
        hex=$(printf '%04X' "$port")
        cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
            awk -v port=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' &&
            answer port_taken "$port"
    done
    return 0
}

# Files that may still be made where docker keeps its images, or where this login lives; a file system that makes as many as
# are wanted counts none.
look_at_inodes() {
    place=$(docker info --format '{{.DockerRootDir}}') || return
    [ -d "$place" ] || place=.
    free=$(df -Pi "$place" . 2>/dev/null | awk 'NR > 1 && $2 + 0 > 0 && (least == "" || $4 + 0 < least) { least = $4 + 0 }
        END { if (least != "") printf "%.0f\n", least }')
    [ -z "$free" ] || answer inodes_free "$free"
}

# How large a packet may be on the way out (of the links that have a default route, the smallest), and what containers on the
# app's network take for granted: docker gives each network 1500, whatever the link.
look_at_mtu() {
    link=$(cat /proc/net/route 2>/dev/null | awk '$2 == "00000000" && $8 == "00000000" { print $1 }' |
        while read -r nic; do cat "/sys/class/net/$nic/mtu"; done | sort -n | head -n 1)
    [ -n "$link" ] || return 0
    wanted=$(docker network inspect -f '{{index .Options "com.docker.network.driver.mtu"}}' "$NETWORK" 2>/dev/null)
    answer mtu "$link" "${wanted:-1500}"
}

# What the live colour says to the health rule: a release like it would hear the same.
look_at_live() {
    case $1 in blue | green) ;; *) return 0 ;; esac
    answer live_status "$(in_nginx curl -s -o /dev/null -m 5 -w '%{http_code}' -H "Host: $HEALTH_HOST" \
        "http://127.0.0.1:$(door "$1")$HEALTH_PATH")"
}
