# shellcheck shell=sh
# Files under the app's directory. The secrets among them arrive here as content, never as words.

# receive: unpack the parcel that follows the script on the standard input. Its names are relative to the app's directory.
# A release's own files and an nginx configuration come aside, and are there all at once or not at all.
receive() {
    umask 022
    rm -rf releases/*.part nginx/*.part
    tar -xzpf - || return
    mkdir -p source
    for part in nginx/*.part "releases/$RELEASE.part"; do
        [ -d "$part" ] || continue
        # It came once already, and the operator did not hear of it. (mv -T is not everywhere where `build: local` works.)
        rm -rf "${part%.part}" && mv "$part" "${part%.part}" || return
    done
}

# remove_stale PATH...: files that the source no longer has, and the directories that this leaves empty.
remove_stale() {
    for path; do rm -f -- "source/$path" || return; done
    find source -depth -type d ! -path source -exec rmdir {} + 2>/dev/null
    return 0
}

# mark_served / unmark_served: a release that has been live may be rolled back to.
mark_served() (
    umask 077
    now >"releases/$RELEASE/served"
)
unmark_served() { rm -f "releases/$RELEASE/served"; }

# record JSON: one line for people. Its time is this host's own, and it names its run. What it says already of the same run,
# it does not say again: the operator may not have heard.
record() {
    said="\"run\": \"$(latest_run)\", ${1#\{}"
    [ "$(tail -n 1 history.jsonl 2>/dev/null | cut -d, -f2-)" = " $said" ] ||
        printf '{"at": %s, %s\n' "$(now)" "$said" >>history.jsonl
}

# forget RELEASE...: releases, with their images, that nothing uses any more. Where docker keeps an image, because a
# container still has it or the engine is busy, its release stays: the next deploy finds it there, and tries again.
forget() {
    for id; do
        docker image rm "$PROJECT:$id" >/dev/null 2>&1 || has_no_image "$id" || continue
        rm -rf "releases/${id:?}"
    done
    return 0
}
has_no_image() { left=$(docker images -q "$PROJECT:$1" 2>/dev/null) && [ -z "$left" ]; }

# forget_others RELEASE...: images beside the app's. One that docker keeps is no reason to stop.
forget_others() {
    for id; do
        tags=$(docker images --format '{{.Tag}}' --filter "reference=$PROJECT:$id.*") || return
        for tag in $tags; do
            docker image rm "$PROJECT:$tag" >/dev/null 2>&1
        done
    done
    return 0
}

# forget_confs DIGEST...: nginx configurations that no kept release uses.
forget_confs() {
    for digest; do
        [ "$(readlink nginx/live)" = "$digest" ] || rm -rf "nginx/${digest:?}"
    done
}
