"""One blue-green deploy as plain sh lines: what every contestant but Greenroom has done, each in its own way.

The lines do on a host what Greenroom's own words do there (deploy/host/*.sh): the same image build, the same gate
through nginx, the same switch, the same drain. What they leave out is all that Greenroom adds: lock, fence, look, plan,
undo, history. Each is a whole script; what one finds out it leaves for the next in the file `run`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One step: what it is called, and its sh text, to be run by the login on the host."""

    title: str
    text: str


@dataclass(frozen=True)
class App:
    """An example app, as the lines have to know it; `migrate` and `workers` are '' where it has none."""

    project: str
    network: str
    colour_file: str
    host: str
    migrate: str = ""
    workers: str = ""


def lines(app: App) -> list[Line]:
    """Return the steps of a deploy of what lies in source/ and release/, in order. There is no settle delay."""
    head = HEAD.format(project=app.project, network=app.network, file=app.colour_file, host=app.host)
    steps = [
        ("lay the release out", LAY_OUT),
        ("build", '$colour build -q web\necho "$release"'),
        *([("migrate", f"$colour run --rm --no-deps -T web {app.migrate} </dev/null")] if app.migrate else []),
        ("start", "$colour up -d --no-build --quiet-pull"),
        ("gate", GATE),
        ("switch", SWITCH),
        *([("hand over the workers", f"$settings up -d --no-deps --no-build {app.workers}")] if app.workers else []),
        ("drain", DRAIN),
        ("stop", STOP),
        ("forget", FORGET),
    ]
    return [Line(title, f"{head}{KNOW if text is not LAY_OUT else ''}{text.strip()}\n") for title, text in steps]


HEAD = """\
set -eu
cd ~/greenroom/{project}
project={project} network={network} file={file} host={host} health=/healthz
nginx() {{ docker exec "$project-setting-prod-nginx-1" "$@"; }}
hundredths() {{ read -r up _ </proc/uptime && echo "${{up%.*}}${{up#*.}}"; }}
"""

LAY_OUT = """
live=$(nginx curl -sf http://127.0.0.1:8002/)
if [ "$live" = blue ]; then idle=green door=8001; else idle=blue door=8000; fi
release=$(date -u +%Y%m%d-%H%M%S)
cp -r release "releases/$release"
printf 'live=%s idle=%s door=%s release=%s\\n' "$live" "$idle" "$door" "$release" >run
"""

KNOW = """\
. ./run
export GREENROOM_PROJECT=$project GREENROOM_RELEASE=$release GREENROOM_IMAGE=$project:$release
export GREENROOM_NETWORK=$network GREENROOM_ENV_FILE=releases/$release/.env GREENROOM_COLOUR=$idle
compose="docker compose --project-directory . --env-file releases/$release/.env"
colour="$compose -p $project-$idle -f releases/$release/$file"
settings="$compose -p $project-setting-prod -f releases/$release/setting_prod.yml -f releases/$release/definitions.json"
"""

GATE = """
nginx sh -c 'i=0
    until curl -sf -o /dev/null -m 5 -H "Host: $1" "$2"; do
        i=$((i + 1)); [ $i -lt 600 ]; sleep 0.1
    done' sh "$host" "http://127.0.0.1:$door$health"
"""

SWITCH = """
hundredths >switched
true >"switch/$idle"
rm -f "switch/$live"
nginx sh -c 'test "$(curl -sf http://127.0.0.1:8002/)" = "$3"
    curl -sf -o /dev/null -H "Host: $1" "http://127.0.0.1:80$2"' sh "$host" "$health" "$idle"
"""

DRAIN = """
left=$((100 + $(cat switched) - $(hundredths)))
rest=
[ "$left" -le 0 ] || { sleep "$(printf '%d.%02d' $((left / 100)) $((left % 100)))" & rest=$!; }
ips=$(docker ps -q --filter "label=com.docker.compose.project=$project-$live" |
    xargs docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}')
wanted=$(echo "$ips" | tr ' ' '\\n' | awk -F. 'NF == 4 { printf "%s%02X%02X%02X%02X", sep, $4, $3, $2, $1; sep = "|" }')
open() {
    nginx cat /proc/net/tcp /proc/net/tcp6 | awk -v to="($wanted):" '($4 == "01" || $4 == "02") && $3 ~ to' | grep -q .
}
[ -z "$rest" ] || wait "$rest"
for _ in $(seq 60); do
    open || { sleep 0.5; open || break; }
    sleep 0.5
done
"""

STOP = """
ids=$(docker ps -aq --filter "label=com.docker.compose.project=$project-$live")
docker stop $ids >/dev/null
docker rm $ids >/dev/null
"""

FORGET = """
ls releases | sort | head -n -5 | while read -r old; do
    docker image rm "$project:$old" >/dev/null 2>&1 || true
    rm -rf "releases/$old"
done
"""
