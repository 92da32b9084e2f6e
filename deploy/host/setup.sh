# shellcheck shell=sh
# From a bare host to one that can be deployed to: as root. These words travel only with `inv setup`. Each may run twice.

# setup_survey USER BASE: what is there, and what is not. It only looks.
setup_survey() {
    answer uid "$(id -u)"
    [ ! -r "$OS_RELEASE" ] || (
        set +u
        # shellcheck disable=SC1090  # a file of assignments, by its definition (os-release(5))
        . "$OS_RELEASE"
        answer os "${ID:-}" "${ID_LIKE:-}" "${VERSION_CODENAME:-}" "${PRETTY_NAME:-}"
    )
    for tool in flock tar gzip sha256sum awk timeout dd find; do
        command -v "$tool" >/dev/null 2>&1 || answer lacks "$tool"
    done
    if command -v docker >/dev/null 2>&1; then
        ! docker --version 2>/dev/null | grep -qi podman || answer podman
        answer docker "$(docker version --format '{{.Server.Version}}' 2>/dev/null)"
        find_compose
    fi
    setup_look_at_user "$@"
    if command -v ufw >/dev/null 2>&1 && LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active'; then answer firewall ufw; fi
    ! systemctl is-active --quiet firewalld 2>/dev/null || answer firewall firewalld
}

setup_look_at_user() {
    id "$1" >/dev/null 2>&1 || return 0
    answer user "$1"
    case " $(id -Gn "$1") " in *" docker "*) answer member ;; esac
    home=$(setup_home "$1")
    # The login's own keys: who may set a host up may also deploy to it.
    if [ "$(setup_keys_of "$HOME" | setup_lines_beyond "$home/.ssh/authorized_keys" | wc -l)" -gt 0 ]; then answer keys_missing; fi
    [ ! -s "$home/.ssh/authorized_keys" ] || answer keys
    directory=$(setup_directory "$home" "$2")
    if [ -d "$directory" ] && [ -n "$(find "$directory" -prune -user "$1")" ]; then answer base; fi
}

setup_home() { getent passwd "$1" | cut -d: -f6; }
setup_directory() { case $2 in /*) echo "$2" ;; *) echo "$1/$2" ;; esac; }

# setup_keys_of HOME: the keys that open a login, but for those that may only run one command.
setup_keys_of() { [ ! -r "$1/.ssh/authorized_keys" ] || grep -Ev '^[[:space:]]*(#|$)|command=' "$1/.ssh/authorized_keys"; }
setup_lines_beyond() { if [ -s "$1" ]; then grep -vxFf "$1"; else cat; fi; }

# setup_apt PACKAGE...: of the distribution. Of names with a bar between them the first one that it has; where there is
# none, `?name` is done without. A host may speak another language.
setup_apt() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=120 -q update || return
    wanted=
    for names; do
        chosen=
        IFS='|'
        for name in ${names#\?}; do
            [ -n "$chosen" ] || ! LC_ALL=C apt-cache policy "$name" | grep -q 'Candidate: [^(]' || chosen=$name
        done
        unset IFS
        case $chosen$names in
            \?*) ;;
            "$names")
                complain "this distribution has no package $names"
                return 1
                ;;
            *) wanted="$wanted $chosen" ;;
        esac
    done
    # shellcheck disable=SC2086  # package names are words
    apt-get -o DPkg::Lock::Timeout=120 -q install -y --no-install-recommends $wanted
}

# setup_apt_source DISTRIBUTION CODENAME: docker's own repository, as docker documents it for apt.
setup_apt_source() {
    setup_apt ca-certificates curl || return
    install -d -m 0755 /etc/apt/keyrings
    curl -fsSL "https://download.docker.com/linux/$1/gpg" -o /etc/apt/keyrings/docker.asc || return
    chmod a+r /etc/apt/keyrings/docker.asc
    printf 'deb [arch=%s signed-by=/etc/apt/keyrings/docker.asc] https://download.docker.com/linux/%s %s stable\n' \
        "$(dpkg --print-architecture)" "$1" "$2" >/etc/apt/sources.list.d/docker.list
}

# setup_dnf DISTRIBUTION PACKAGE...: docker's own packages, from its repository. dnf is called yum on older ones.
setup_dnf() {
    tool=$(command -v dnf || command -v yum) || return
    curl -fsSL "https://download.docker.com/linux/$1/docker-ce.repo" -o /etc/yum.repos.d/docker-ce.repo || return
    shift
    "$tool" -y install "$@"
}

# setup_engine: docker runs, now and after the next boot.
setup_engine() {
    if [ -d /run/systemd/system ]; then
        systemctl enable --now docker || return
    elif ! setup_engine_answers; then
        service docker start || return
    fi
    until_deadline 60 setup_engine_answers || {
        complain "docker does not answer: $(docker version 2>&1 | tail -n 1)"
        return 1
    }
}
setup_engine_answers() { docker version >/dev/null 2>&1 || { sleep 1 && return 1; }; }

# setup_user USER: somebody who may use docker, which on this host is as much as root may.
setup_user() {
    id "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1" || return
    usermod -aG docker "$1"
}

# setup_keys USER: whoever may log in as we do may log in as USER.
setup_keys() {
    home=$(setup_home "$1")
    group=$(id -gn "$1")
    file=$home/.ssh/authorized_keys
    install -d -m 0700 -o "$1" -g "$group" "$home/.ssh" || return
    more=$(setup_keys_of "$HOME" | setup_lines_beyond "$file")
    [ -n "$more" ] || return 0
    # A last line without an end would swallow the first key.
    if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo >>"$file"; fi
    printf '%s\n' "$more" >>"$file" || return
    chown "$1:$group" "$file" && chmod 0600 "$file"
}

# setup_base USER BASE: the app's directory belongs to USER; below a home what leads there does, too.
setup_base() {
    directory=$(setup_directory "$(setup_home "$1")" "$2")
    case $2 in
        /*) install -d "${directory%/*}" && install -d -o "$1" -g "$(id -gn "$1")" "$directory" ;;
        *) su -s /bin/sh "$1" -c "mkdir -p \"\$0\"" "$directory" ;;
    esac
}
