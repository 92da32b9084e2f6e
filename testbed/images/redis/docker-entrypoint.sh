#!/bin/sh
# The official image's contract: options or a .conf file as the first word mean redis-server; as root, hand /data to the
# user redis and run as that user.
set -eu

case ${1-} in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1-}" = redis-server ]; then
    # The official binary is built with "protected-mode no", or it would refuse every client from another container.
    # Debian's is not, so it is said here, unless the user said something about it.
    conf=
    case ${2-} in
        '' | -*) ;;
        *) conf=$2 ;;
    esac
    case " $* " in
        *' --protected-mode '*) ;;
        *)
            if [ -z "$conf" ] || ! grep -qi '^[[:space:]]*protected-mode[[:space:]]' "$conf"; then
                set -- "$@" --protected-mode no
            fi
            ;;
    esac
    umask 0077
    if [ "$(id -u)" = 0 ]; then
        find . ! -user redis -exec chown redis:redis {} +
        exec setpriv --reuid=redis --regid=redis --init-groups -- "$@"
    fi
fi
exec "$@"
