# Sourced behind packages.sh by scripts that measure: a directory, weir's binary, and an end that leaves nothing and says why it came.
# shellcheck shell=bash disable=SC2034 # weir is for who calls

# open_workplace NAME : sets $directory, and $prefix, which the names of this run's namespaces begin with. Both are there until this shell ends, and so
# is what it started in the background.
open_workplace() {
    directory=$(mktemp -d "/tmp/weir-$1-XXXXXX")
    prefix=weir-$1-$$
    trap close_workplace EXIT
    # `set -e` ends a script without a word, also where the command that failed said nothing; -E has the trap in functions, too.
    set -E
    trap 'echo "${0##*/}, line $LINENO: failed ($?): $BASH_COMMAND" >&2' ERR
    local signal
    # shellcheck disable=SC2064 # the signal's name is put in now
    for signal in INT TERM HUP PIPE; do trap "ended_by $signal" "$signal"; done
}

ended_by() {
    # Who is told this way may have closed what we print to.
    trap '' PIPE
    echo "${0##*/}: ended by SIG$1" >&2 || true
    exit $((128 + $(kill -l "$1")))
}

close_workplace() {
    trap '' INT TERM HUP PIPE
    trap - ERR
    local jobs namespace
    mapfile -t jobs < <(jobs -p)
    # Not by SIGTERM, which does not end what is stopped, nor an nginx that is just starting.
    if [ ${#jobs[@]} -gt 0 ]; then
        kill -KILL "${jobs[@]}" 2>/dev/null || true
        wait "${jobs[@]}" 2>/dev/null || true
    fi
    for namespace in /run/netns/"$prefix"-*; do
        [ ! -e "$namespace" ] || ip netns delete "${namespace##*/}" || true
    done
    rm -rf "$directory"
    give_back
}

# build_weir : sets $weir, the binary to measure: $WEIR_BINARY, or what cargo makes of this checkout.
build_weir() {
    weir=${WEIR_BINARY:-target/release/weir}
    [ -z "${WEIR_BINARY:-}" ] || return 0
    say "Building weir"
    find_rust
    cargo build --release --quiet --bin weir
}
