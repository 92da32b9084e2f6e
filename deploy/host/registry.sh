# shellcheck shell=sh
# An image's way through a registry: pushed once, by every other host pulled by its digest. On the standard input follow
# the script: the digest (an empty line to one that pushes), and the config.json by which docker logs in; where nothing
# comes, the login is the host's own. While docker needs it, it lies in `login`, which no other user may enter.

# push_image NAME TAG: this release's image, to NAME:TAG; answers its digest there.
push_image() (
    trap forget_login EXIT
    trap 'exit 143' HUP INT TERM
    log_in || exit
    printf '%s\n' "$1:$2" >login/name || exit
    docker tag "$PROJECT:$RELEASE" "$1:$2" || exit
    said=$(docker push "$1:$2" 2>&1) || {
        complain_of "$1" push "$said"
        exit 1
    }
    pushed=$(printf '%s\n' "$said" | sed -n 's/.*digest: \(sha256:[0-9a-f]*\).*/\1/p' | tail -n 1)
    [ -n "$pushed" ] || {
        complain "docker pushed $1:$2, and told no digest: $(one_line "$said")"
        exit 1
    }
    answer pushed "$pushed"
)

# pull_image NAME: the image of the digest, which docker verifies; it becomes this release's.
pull_image() (
    trap forget_login EXIT
    trap 'exit 143' HUP INT TERM
    log_in || exit
    printf '%s\n' "$1@$digest" >login/name || exit
    if ! image_is_here; then
        said=$(docker pull "$1@$digest" 2>&1) || {
            complain_of "$1" pull "$said"
            exit 1
        }
        docker tag "$1@$digest" "$PROJECT:$RELEASE" || exit
    fi
    tell_built
)

# log_in: read what follows the script. No program gets a word of it as an argument or in its environment.
log_in() {
    forget_login
    IFS= read -r digest
    (umask 077 && mkdir login && cat >login/config.json) || {
        complain "nothing can be written in $PWD: is the disk full?"
        return 1
    }
    [ -s login/config.json ] || return 0
    own=${DOCKER_CONFIG:-${HOME-}/.docker}
    if [ -d "$own/contexts" ]; then # which engine it is that docker talks to may stand there
        context=$(docker context inspect -f '{{.Name}}') && export DOCKER_CONTEXT="$context"
        ln -s "$own/contexts" login/contexts
    fi
    export DOCKER_CONFIG="$PWD/login"
}

# complain_of NAME WHAT TEXT: docker's own words say what is wrong, and seldom what mends it.
complain_of() {
    registry=${1%%/*}
    case $registry in *.* | *:* | localhost) ;; *) registry=docker.io ;; esac
    complain "$(printf '%s\n' "$3" | tail -n 3)"
    case $3 in
        *"no space left"*) complain "the disk is full, here or at $registry" ;;
        *"HTTP response to HTTPS"*)
            complain "$registry speaks no TLS: give it a certificate, or name it in insecure-registries of daemon.json here"
            ;;
        *x509:* | *"tls: "*)
            complain "this engine does not trust the certificate of $registry: put its authority's, as ca.crt," \
                "into /etc/docker/certs.d/$registry here"
            ;;
        *unauthorized* | *"no basic auth"* | *"incorrect username"*)
            if [ -s login/config.json ]; then
                complain "$registry refused the login: look at deploy.registry.username, and the password it names"
            else
                complain "$registry wants a login: docker login $registry here, or set deploy.registry.username"
            fi
            ;;
        *denied*) complain "$registry does not let this login $2 $1" ;;
        *"verification failed"*) complain "$registry has something else under this digest than what was pushed" ;;
        *"manifest unknown"* | *"not found"*) complain "$registry has not got what was pushed there" ;;
        *) complain "is $registry there, and can it be reached from here?" ;;
    esac
}
