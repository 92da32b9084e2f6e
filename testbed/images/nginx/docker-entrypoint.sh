#!/bin/sh
# The official image's contract: before nginx starts, run what lies in /docker-entrypoint.d (*.envsh is sourced, *.sh is
# run, in order), and turn /etc/nginx/templates/**/X.template into /etc/nginx/conf.d/**/X, replacing only variables that
# are set, since $host and its like belong to nginx.
# shellcheck disable=SC1090 # what is sourced is known only when it runs, by contract
set -eu

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

render_templates() {
    variables=$(env | sed -n "/${NGINX_ENVSUBST_FILTER:-}/s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\${\1}/p" | tr '\n' ' ')
    find "$templates" -follow -type f -name "*$suffix" | while read -r template; do
        name=${template#"$templates"/}
        target=$output/${name%"$suffix"}
        mkdir -p "$(dirname "$target")"
        envsubst "$variables" <"$template" >"$target"
    done
}

case ${1-} in
    nginx | nginx-debug)
        for script in /docker-entrypoint.d/*; do
            case $script in
                *.envsh) [ ! -x "$script" ] || . "$script" ;;
                *.sh) [ ! -x "$script" ] || "$script" ;;
            esac
        done
        [ ! -d "$templates" ] || render_templates
        ;;
esac
exec "$@"
