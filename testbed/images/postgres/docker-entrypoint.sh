#!/bin/bash
# The official image's contract: options as the first word mean postgres; as root, hand the data to the user postgres and
# go on as that user; in an empty PGDATA, make the cluster, the user, the database, and run /docker-entrypoint-initdb.d
# on a server that listens on its socket only. Each of the POSTGRES_ settings may come from a file: POSTGRES_..._FILE.
# shellcheck disable=SC1090 # what is sourced is known only when it runs, by contract
set -euo pipefail

# setting NAME [DEFAULT]: export NAME from itself, from the file that NAME_FILE names, or from DEFAULT.
setting() {
    local name=$1 file=${1}_FILE
    if [[ -n ${!name-} && -n ${!file-} ]]; then
        echo "error: both $name and $file are set, which exclude each other" >&2
        exit 1
    fi
    if [[ -n ${!file-} ]]; then
        export "$name=$(<"${!file}")"
    else
        export "$name=${!name:-${2-}}"
    fi
    unset "$file"
}

# sql [ARGUMENTS of psql]: run SQL on the temporary server, as the superuser that was asked for.
sql() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

make_cluster() {
    setting POSTGRES_PASSWORD
    setting POSTGRES_USER postgres
    setting POSTGRES_DB "$POSTGRES_USER"
    setting POSTGRES_INITDB_ARGS
    local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [[ -z $POSTGRES_PASSWORD && $method != trust ]]; then
        echo "error: set POSTGRES_PASSWORD (or POSTGRES_HOST_AUTH_METHOD=trust, which lets everybody in)" >&2
        exit 1
    fi
    # shellcheck disable=SC2086 # several arguments, by contract
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

fill_cluster() {
    local found file
    pg_ctl -w -D "$PGDATA" -o "-c listen_addresses=''" start
    found=$(sql -d postgres -At -v db="$POSTGRES_DB" <<<"SELECT 1 FROM pg_database WHERE datname = :'db';")
    [[ -n $found ]] || sql -d postgres -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) if [[ -x $file ]]; then "$file"; else . "$file"; fi ;;
            *.sql) sql -d "$POSTGRES_DB" -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | sql -d "$POSTGRES_DB" ;;
        esac
    done
    pg_ctl -w -D "$PGDATA" -m fast stop
}

if [[ ${1-} == -* ]]; then
    set -- postgres "$@"
fi
if [[ ${1-} == postgres ]]; then
    if [[ $(id -u) == 0 ]]; then
        mkdir -p "$PGDATA" /run/postgresql
        chmod 0700 "$PGDATA"
        find "$PGDATA" ! -user postgres -exec chown postgres {} +
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "${BASH_SOURCE[0]}" "$@"
    fi
    if [[ ! -s $PGDATA/PG_VERSION ]]; then
        make_cluster
        fill_cluster
        unset POSTGRES_PASSWORD
    fi
fi
exec "$@"
