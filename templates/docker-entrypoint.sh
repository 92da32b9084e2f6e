#!/bin/sh
# Runs before whatever the container was started for. Only the web server needs anything: a worker, a management
# command, a shell go straight through.
set -eu

# Bring the collected files to the volume from which nginx serves them. Those of other releases stay: the other colour's
# pages, and pages that users have open, refer to them. Each file is written aside and renamed, so that nobody ever
# reads half of one.
publish_static() {
    python - /app/static_root /srv/static <<'END'
import filecmp, os, shutil, sys, tempfile
from pathlib import Path

source, public = map(Path, sys.argv[1:])
for file in sorted(source.rglob("*")):
    target = public / file.relative_to(source)
    if file.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not (target.exists() and filecmp.cmp(file, target)):
        handle, aside = tempfile.mkstemp(prefix=".", dir=target.parent)
        os.close(handle)
        os.replace(shutil.copy2(file, aside), target)
END
}

case ${1-} in
    gunicorn | uvicorn | hypercorn | daphne | granian)
        # The deployer migrates, once for all hosts and before any container starts. For development only.
        if [ "${MIGRATE_ON_START:-no}" = yes ]; then
            python manage.py migrate --noinput
        fi
        publish_static
        ;;
esac

exec "$@"
