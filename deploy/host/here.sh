# shellcheck shell=sh
# Words for the operator's own machine, where it builds for the hosts. It need not be a Linux.

# here_look: the engine that docker talks to from here, and for which platforms it can build.
here_look() {
    command -v docker >/dev/null 2>&1 || {
        answer lacks docker
        return 0
    }
    version=$(docker version --format '{{.Server.Version}} {{.Server.Arch}}' 2>&1) || {
        answer no_docker "$(printf '%s' "$version" | tail -n 1)"
        return 0
    }
    answer docker "${version% *}"
    answer architecture "${version##* }"
    find_compose
    answer builds "$(docker buildx inspect 2>/dev/null | awk -F ': *' '$1 == "Platforms" { printf "%s, ", $2 }')"
}

# here_build ARCHITECTURE COLOUR FILE SERVICE: the image of this release, for hosts of this architecture.
here_build() {
    wanted=$1
    shift
    [ "$(docker version --format '{{.Server.Arch}}')" = "$wanted" ] || export DOCKER_DEFAULT_PLATFORM="linux/$wanted"
    build "$@" || return
    made=$(docker image inspect -f '{{.Architecture}}' "$PROJECT:$RELEASE") || return
    [ "$made" = "$wanted" ] || {
        complain "the build made an image for $made, and the hosts are $wanted: say build: once, or have the Dockerfile"
        complain "and compose file name no platform"
        return 1
    }
}

# here_forget: images that were built here for earlier releases. Where the app itself runs on this engine, it is a host's,
# and they are its ways back. The hosts are done by then: a docker that does not say what it has keeps it until the next time.
here_forget() {
    for stack in "$PROJECT-blue" "$PROJECT-green"; do
        ids=$(of_stack "$stack") || { found "docker does not say what runs here: nothing is forgotten" && return 0; }
        [ -z "$ids" ] || return 0
    done
    tags=$(docker images --format '{{.Tag}}' "$PROJECT") || {
        found "docker does not say which images are here: nothing is forgotten"
        return 0
    }
    for tag in $tags; do
        case $tag in
            "$RELEASE") ;;
            [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9]*)
                docker image rm "$PROJECT:$tag" >/dev/null 2>&1
                ;;
        esac
    done
    return 0
}
