# Sourced by init, seed and reset: what they need to run a docker engine inside a container.
# shellcheck shell=sh

# open_kernel_files: make writable what the outer engine mounts read-only in a container that is not --privileged, and
# the engine inside has to write: sysctls, and this container's own part of the control groups.
open_kernel_files() {
    while read -r _ point _ options _; do
        case "$point:$options" in
            /proc/sys:ro,* | /sys/fs/cgroup:ro,* | /sys/fs/cgroup/*:ro,*) mount -o remount,bind,rw "$point" ;;
        esac
    done </proc/self/mounts

    # Under cgroup v2 a group holds processes or hands controllers down, never both: move everybody into a leaf first.
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        mkdir -p /sys/fs/cgroup/init
        while read -r pid; do
            echo "$pid" >/sys/fs/cgroup/init/cgroup.procs || true # it may have ended meanwhile
        done </sys/fs/cgroup/cgroup.procs
        sed 's/[^ ]\{1,\}/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
    fi
}

# await_engine SECONDS: return once the engine answers; 1 if it does not do so in time.
await_engine() {
    deadline=$(($(date +%s) + $1))
    until docker version >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# stop_engine SECONDS: ask dockerd to stop, and return once it has; 1 if it still runs after that time.
stop_engine() {
    pid=$(cat /run/docker.pid 2>/dev/null) || return 0
    deadline=$(($(date +%s) + $1))
    kill -TERM "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do
        [ "$(date +%s)" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}
