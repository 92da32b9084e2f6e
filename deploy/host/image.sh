# shellcheck shell=sh
# One host builds, and the others take from it the layers that they lack. Nothing of an image is put aside on the way:
# it streams out of the one engine and into the other.

image_is_here() { docker image inspect "$PROJECT:$RELEASE" >/dev/null 2>&1; }

# store_of_images: containerd's, or docker's own. containerd's takes an image whose layers are missing, says that all is
# well, and cannot start it.
store_of_images() {
    status_of_driver=$(docker info --format '{{.DriverStatus}}') || return
    case $status_of_driver in
        *io.containerd.snapshotter*) echo containerd ;;
        *) echo docker ;;
    esac
}

# tell_built: this release's image: its layers from the lowest up, and its id. (containerd's store gives ids of its own.)
tell_built() {
    found=$(docker image inspect -f '{{range .RootFS.Layers}}{{.}} {{end}}|{{.Id}}' "$PROJECT:$RELEASE") || return
    ident=${found#*|}
    store=$(store_of_images) || return
    [ "$store" != containerd ] || ident=
    answer built "${found%% |*}" "$ident"
}

# tell_layers: those of every image that is here, from the lowest up. What is not told will be sent.
tell_layers() {
    store=$(store_of_images) || return
    [ "$store" != containerd ] || return 0
    ids=$(docker images -aq --no-trunc) || return
    [ -n "$ids" ] || return 0
    # shellcheck disable=SC2086  # words without spaces; an image that goes meanwhile is left out, and that is all
    docker image inspect -f '{{range .RootFS.Layers}}{{.}} {{end}}' $ids 2>/dev/null | sort -u |
        while IFS= read -r line; do answer layers "${line% }"; done
}

# send_image NUMBER...: this release's image, packed, to where payloads go (descriptor 3), without its layers of these
# numbers. Which file of an engine's tar is which layer stands in manifest.json: the first look reads only that.
send_image() {
    names=
    if [ $# -gt 0 ] && cuts_streams; then
        manifest=$(docker save "$PROJECT:$RELEASE" | tar -xOf - manifest.json) || return
        # shellcheck disable=SC2046  # file names of an engine: no blanks
        names=$(numbered "$*" $(printf '%s' "$manifest" | sed 's/.*"Layers":\[\([^]]*\)\].*/\1/; s/[",]/ /g'))
    fi
    # Of a pipe sh tells how its last program ended; the others speak up themselves.
    failed=$(
        {
            { docker save "$PROJECT:$RELEASE" || echo save >&4; } |
                { without_files "$names" || echo tar >&4; } |
                { gzip -1 >&3 || echo gzip >&4; }
        } 4>&1
    )
    [ -z "$failed" ] || {
        complain "the image could not be read: $(one_line "$failed")"
        return 1
    }
}

# numbered "NUMBER..." WORD...: the words of these numbers, counted from 0.
numbered() {
    wanted=" $1 "
    shift
    count=0
    for word; do
        case $wanted in *" $count "*) printf '%s ' "$word" ;; esac
        count=$((count + 1))
    done
}

# Only GNU's tar can take files out of a stream. Where another is, everything is sent.
cuts_streams() {
    case $(tar --version 2>/dev/null) in
        *"GNU tar"*) return 0 ;;
        *) return 1 ;;
    esac
}

# without_files "NAME...": the tar on the standard input, without these files.
without_files() {
    if [ -z "$1" ]; then
        cat
    else
        # shellcheck disable=SC2086  # file names of an engine: no blanks
        tar --delete -f - $1
    fi
}

# take_image: load what follows the script on the standard input. A refusal is an answer: there is more that can be sent.
take_image() {
    image_is_here || said=$(docker load -q 2>&1) || {
        answer refused "$(one_line "$said")"
        return 0
    }
    case ${said-} in *"Error unpacking"*) docker image rm "$PROJECT:$RELEASE" >/dev/null ;; esac
    image_is_here || {
        answer refused "$(one_line "${said-}")"
        return 0
    }
    tell_built
}

# forget_login: what docker logged in with at a registry, and the name that an image had there. A run that died leaves
# both to the next script (lock.sh).
forget_login() {
    [ ! -s login/name ] || docker image rm "$(cat login/name)" >/dev/null 2>&1
    rm -rf login
}

one_line() { printf '%s\n' "$1" | awk '{ gsub(/\t/, " "); printf "%s%s", sep, $0; sep = "; " }'; }
