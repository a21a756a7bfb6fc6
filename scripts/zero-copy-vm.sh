#!/usr/bin/env bash
# sudo scripts/zero-copy-vm.sh [--binary FILE] [--refresh] [--only WORD] [--write] [virtio|virtio-ends|igb|igb-others|igb-ends|channels|rss|comparison]...
#
# Zero-copy, shown on drivers that have it. Boots a Debian kernel in QEMU, in software (no KVM, no network of this machine), and runs
# weir in it with `mode = "zero-copy"` between real clients and servers, on emulated network cards:
#
#   virtio      virtio_net with one queue, two cards back to back on each side of weir; and cards without the flags that zero-copy needs
#   igb         Intel 82576 with 4 RSS queues; its flows, and two arms
#   igb-others  the same cards; what else virtio does, in a guest of its own so that both run at once
#   *-ends      the same cards; those scenarios in which weir or a link ends
#   channels    virtio_net with 8 queues, of which fewer are in use when weir comes
#   rss         virtio_net with 4 queues and an RSS key and table that its driver tells
#   comparison  what weir, IPVS and nftables full-NAT each answer in the same situations; with --write it is kept in docs/comparison.md
#
#   client ── client's card ═ weir's card `outside` ── weir ── weir's card `inside` ═ card `uplink` ── bridge ─┬─ b1 b2 b3
#
# Without a name: all of them. --binary runs this weir instead of the one that `cargo test` builds, whose debug assertions watch every
# frame. --only runs the scenarios whose names have a word of WORD in them. --refresh looks for newer packages. QEMU and the kernel are
# not installed, they lie in $XDG_CACHE_HOME/weir (~/.cache/weir); what builds weir, and the servers and clients that the guest takes from
# this machine, are installed if they are missing, as scripts/test.sh does. The serial log of a guest that failed stays in target/zero-copy-vm.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/options.sh
. scripts/zero-copy-vm/fetch.sh
. scripts/zero-copy-vm/image.sh
. scripts/zero-copy-vm/boot.sh

binary='' refresh='' only='' write='' guests=()
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$(program "$@"); shift ;;
    --refresh) refresh=yes ;;
    --write) write=yes ;;
    --only) only=$(words "words of the names of scenarios" "$@"); shift ;;
    virtio | virtio-ends | igb | igb-others | igb-ends | channels | rss | comparison) guests+=("$1") ;;
    -h | --help) help ;;
    *) usage "$1" ;;
    esac
    shift
done
[ ${#guests[@]} -gt 0 ] || guests=(igb-ends virtio igb-others igb comparison channels rss virtio-ends) # the longest first

# remove_leftovers : directories of runs that were killed; their names have the process in them.
remove_leftovers() {
    local left owner
    for left in target/tmp/weir-zero-copy-*; do
        owner=${left#target/tmp/weir-zero-copy-}
        [ ! -d "$left" ] || [ -d "/proc/${owner%%-*}" ] || rm -rf "$left"
    done
}

need_root
# shellcheck disable=SC2086 # one word a package
(install_missing $BUILD_PACKAGES nginx-light curl iperf3 iproute2 ethtool iputils-ping tcpdump nftables util-linux xz-utils) ||
    skip "packages that this machine lacks cannot be installed"
find_rust

mkdir -p target/tmp
remove_leftovers
directory=$(mktemp -d "$PWD/target/tmp/weir-zero-copy-$$-XXXXXX")
staging=''
# Guests by the process that runs them.
declare -A running=()

# choose_guests : leaves those in $guests that have a scenario for $only.
choose_guests() {
    local guest names chosen=()
    for guest in "${guests[@]}"; do
        names=$("$tests" --list "$guest")
        # shellcheck disable=SC2086 # a word a line
        if grep -qF "$(printf '%s\n' $only)" <<<"$names"; then
            chosen+=("$guest")
        else
            echo "guest $guest: no scenario has $only in its name"
        fi
    done
    guests=("${chosen[@]}")
    [ ${#guests[@]} -gt 0 ] || die "--only $only: no scenario of these guests"
}

clean_up() {
    trap '' INT TERM HUP
    # QEMU is in a PID namespace of its own, which ends with the process that made it; so does its network namespace.
    if [ ${#running[@]} -gt 0 ]; then
        kill -KILL "${!running[@]}" 2>/dev/null || true
        wait "${!running[@]}" 2>/dev/null || true
    fi
    [ -z "$staging" ] || rm -rf "$staging"
    rm -rf "$directory"
    give_back
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# compare_table : the table in docs/comparison.md is replaced with --write; otherwise a difference is told, and one of weir is a failure.
compare_table() {
    local document=docs/comparison.md
    sed -n '/^---- table$/,/^---- end of the table$/p' "$directory/comparison.log" | sed '1d;$d' >"$directory/table"
    { sed '/^| situation |/,$d' $document && cat "$directory/table"; } >"$directory/comparison.md"
    if cmp -s "$directory/comparison.md" $document; then return; fi
    if [ -n "$write" ]; then
        cp "$directory/comparison.md" $document
    else
        diff -u $document "$directory/comparison.md" || true
        echo "$document differs from what was seen; --write renews it"
        # What others answer may change with the kernel, which is always the newest.
        cmp -s <(cut -d'|' -f 1-3 $document) <(cut -d'|' -f 1-3 "$directory/comparison.md")
    fi
}

fetch
build_tests
[ -z "$only" ] || choose_guests
build_image "$directory/image"
tsc_khz=$("$tests" --tsc-khz)
say "Running the guests: ${guests[*]}"
begun=$SECONDS
run_guests "${guests[@]}"
say "The guests took $((SECONDS - begun)) s"
case " ${guests[*]} " in *" comparison "*) compare_table ;; esac
