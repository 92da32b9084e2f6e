#!/bin/sh
# What a light host has for docker and compose. It knows what deploy/host/*.sh ask, keeps what they change in $HOME/engine,
# and takes its time asleep: a host that works hard would have a processor of its own. Another question is an error.
set -u
engine=$HOME/engine
app=$HOME/greenroom/app

# The seconds that calls take on a two-core host with engine 26 and compose v2.
LOOK=0.03 COMPOSE=0.3 UP=1 EXEC=0.05 STOP=0.5 BUILD=2 BOOT=0.5

took() { exec sleep "$1"; }
unknown() {
    echo "the stand-in for docker was asked what it does not know: $*" >&2
    exit 64
}

# each_container: the lines `id stack service image definition` of those that the filters in $* let through.
each_container() {
    stack='*' service='*'
    for word; do
        case $word in
            label=*.oneoff=True) return 0 ;;
            label=com.docker.compose.project=*) stack=${word##*=} ;;
            label=com.docker.compose.service=*) service=${word##*=} ;;
        esac
    done
    for file in "$engine"/containers/*; do
        [ -f "$file" ] || continue
        read -r line <"$file"
        case $line in *\ $stack\ $service\ *) printf '%s\n' "$line" ;; esac
    done
}

ps_() {
    case "$*" in
        *'{{.Status}}'*) each_container "$@" | while read -r _; do echo 'Up 5 minutes'; done ;;
        *'{{.ID}} {{.Label'*) each_container "$@" | while read -r id stack _; do echo "$id $stack"; done ;;
        *--format*) unknown ps "$@" ;;
        *) each_container "$@" | while read -r id _; do echo "$id"; done ;;
    esac
    took $LOOK
}

inspect() {
    format=$2
    shift 2
    tab='	'
    for id; do
        read -r _ stack service image definition <"$engine/containers/$id" || exit 1
        case $format in
            *RestartCount*'StartedAt'*) echo "$id$tab$stack$tab$service$tab$image${tab}running${tab}${tab}0${tab}2026-01-01T00:00:00Z$tab$definition${tab}False" ;;
            *'.State.Status'*) echo "running 0 0 /$stack-$service-1" ;;
            *IPAddress*) echo " 172.18.0.2 " ;;
            *) unknown inspect "$format" ;;
        esac
    done
    took $LOOK
}

image() {
    action=$1
    shift
    case $action in
        rm) rm -f "$engine/images/$1" ;;
        inspect)
            if [ "$1" = -f ]; then
                shift 2
                for name; do echo "sha256:base sha256:${name#*:} |sha256:image-$name"; done
            else
                [ -f "$engine/images/$1" ] || exit 1
            fi
            ;;
        *) unknown image "$action" "$@" ;;
    esac
    took $LOOK
}

images() {
    for file in "$engine"/images/*; do
        [ ! -f "$file" ] || echo "${file##*/}"
    done
    took $LOOK
}

# save IMAGE: a tar of the kind that engines write: one layer that every host has, one that none has.
save() {
    mkdir -p "$engine/save" && cd "$engine/save" || exit
    printf '[{"RepoTags":["%s"],"Layers":["base.tar","app.tar"]}]\n' "$1" >manifest.json
    ln -sf "$LIGHT_LAYERS"/*.tar .
    exec tar -chf - manifest.json base.tar app.tar
}

load() {
    found=$(tar -xzOf - manifest.json) || exit
    found=${found#*'["'}
    true >"$engine/images/${found%%'"'*}"
    took $LOOK
}

inside() {
    [ "$1" != -e ] || shift 2
    shift
    case "$*" in
        *"curl -sf -m 5 http://127.0.0.1:8002/")
            if [ -f "$app/switch/green" ]; then echo green; elif [ -f "$app/switch/blue" ]; then echo blue; else echo none; fi ;;
        *greenroom-upstream*) exec sleep $BOOT ;;
        "cat /proc/net/tcp"*) echo '  sl  local_address rem_address   st' ;;
        sh*8002* | curl* | nginx*) ;;
        *) unknown exec "$@" ;;
    esac
    took $EXEC
}

compose() {
    stack=${2-}
    while :; do
        case $1 in
            -*) shift 2 ;;
            *) break ;;
        esac
    done
    action=$1
    shift
    case $action in
        version | config) ;;
        build)
            true >"$engine/images/$GREENROOM_IMAGE"
            took $BUILD
            ;;
        run) took 1 ;;
        up)
            started=
            for word; do case $word in -*) ;; *) started="$started $word" ;; esac; done
            for service in ${started:-web}; do
                image=$service
                case $service in web | celery*) image=$GREENROOM_IMAGE ;; esac
                definition=$(sed -n "/\"$service\"/,/greenroom/s/.*greenroom.definition\": \"\([^\"]*\)\".*/\1/p" \
                    "releases/$GREENROOM_RELEASE/definitions.json")
                echo "$stack.$service $stack $service $image $definition" >"$engine/containers/$stack.$service"
            done
            took $UP
            ;;
        *) unknown compose "$action" "$@" ;;
    esac
    took $COMPOSE
}

verb=$1
shift
case $verb in
    version) echo '26.1.5 amd64' && took $LOOK ;;
    info) case $2 in *RootDir*) echo /nowhere ;; *) echo '[]' ;; esac && took $LOOK ;;
    network | volume) took $LOOK ;;
    ps) ps_ "$@" ;;
    inspect | image | images | save | load | compose) $verb "$@" ;;
    exec) inside "$@" ;;
    stop) took $STOP ;;
    rm)
        for id; do rm -f "$engine/containers/$id"; done
        took $LOOK
        ;;
    *) unknown "$verb" "$@" ;;
esac
