# Sourced behind packages.sh and workplace.sh by scripts that measure between veth pairs: namespaces, cables, and what runs in them.
# shellcheck shell=bash disable=SC2034,SC2154 # any_core is for who calls, the others are of workplace.sh
#
#   client ── c0 ═ l0 ── forward ── l1 ═ s0 ── server
#
# Each system that is measured has these three namespaces to itself. It is called by its name; what it says is in $directory/NAME.log.

# Cores, for `background`: any of them.
any_core=0-$(($(nproc) - 1))

# open_laboratory NAME PACKAGE... : a workplace in which namespaces can be made; these packages are needed beside those that build weir.
open_laboratory() {
    need_root
    # shellcheck disable=SC2086 # one word a package
    install_missing $BUILD_PACKAGES iproute2 ethtool util-linux "${@:2}"
    [ "$(nproc)" -ge 2 ] || die "needs two cores: one for both ends, one for what is between them"
    open_workplace "$1"
}

# on SYSTEM SIDE COMMAND... : runs it in that namespace; not by `ip netns exec`, which would hide /sys/fs/bpf.
on() { nsenter --net="/run/netns/$prefix-$1-$2" "${@:3}"; }

# make_namespaces SYSTEM SIDE...
make_namespaces() {
    local side
    for side in "${@:2}"; do
        ip netns add "$prefix-$1-$side"
        ip -n "$prefix-$1-$side" link set lo up
    done
}

# address SYSTEM SIDE INTERFACE ADDRESS...
address() {
    local address
    for address in "${@:4}"; do ip -n "$prefix-$1-$2" address add "$address" dev "$3"; done
}

# cable SYSTEM SIDE INTERFACE MAC SIDE INTERFACE MAC : a veth pair between two namespaces.
cable() {
    ip -n "$prefix-$1-$2" link add "$3" address "$4" type veth peer name "$6" netns "$prefix-$1-$5" address "$7"
    ip -n "$prefix-$1-$2" link set "$3" up
    ip -n "$prefix-$1-$5" link set "$6" up
}

# lay_cables SYSTEM SERVER... : both cables of the picture, and the addresses at their ends; the server has these.
lay_cables() {
    cable "$1" client c0 02:00:00:00:00:11 forward l0 02:00:00:00:00:22
    cable "$1" server s0 02:00:00:00:00:44 forward l1 02:00:00:00:00:33
    address "$1" client c0 10.1.0.2/24
    address "$1" forward l0 10.1.0.1/24
    address "$1" forward l1 10.2.0.1/24
    address "$1" server s0 "${@:2}"
}

# whole_checksums SYSTEM SIDE/INTERFACE... : packets leave there with checksums written, which veth would leave to a card.
whole_checksums() {
    local end
    for end in "${@:2}"; do on "$1" "${end%/*}" ethtool -K "${end#*/}" tx off >/dev/null; done
}

# steer SYSTEM SIDE INTERFACE MASK : receive packet steering (RPS): what comes in there goes up on these cores.
steer() {
    # /sys shows the interfaces of the namespace that it was mounted in: `ip netns exec` mounts it anew.
    ip netns exec "$prefix-$1-$2" sh -c "echo $4 >/sys/class/net/$3/queues/rx-0/rps_cpus"
}

# receive_on SYSTEM SIDE INTERFACE CORE NANOS : what comes in there is received by a thread on that core (threaded NAPI), which pauses so long between two
# looks, as a NIC that interrupts that core would. Without it veth receives on the core of whoever sends.
receive_on() {
    local before thread
    # A veth has a NAPI only with XDP or this.
    on "$1" "$2" ethtool -K "$3" gro on >/dev/null
    before=$(napi_threads "$3")
    ip netns exec "$prefix-$1-$2" sh -c "cd /sys/class/net/$3; echo 2 >napi_defer_hard_irqs; echo $5 >gro_flush_timeout; echo 1 >threaded"
    for thread in $(comm -13 <(echo "$before") <(napi_threads "$3")); do taskset -cp "$4" "$thread" >/dev/null; done
}
# napi_threads INTERFACE : the pids of those that receive for an interface of this name, in any namespace.
napi_threads() { { grep -l "^napi/$1-" /proc/[0-9]*/comm 2>/dev/null || true; } | cut -d/ -f3 | sort; }

# background SYSTEM SIDE CORES LOG COMMAND... : starts it there, until it or this shell ends, also by SIGKILL.
background() {
    taskset -c "$3" setpriv --pdeathsig KILL nsenter --net="/run/netns/$prefix-$1-$2" "${@:5}" >"$directory/$4" 2>&1 </dev/null &
}

# await SYSTEM COMMAND... : until the command succeeds; the system, which was started last, must not end before.
await() {
    local tries
    for tries in $(seq 100); do
        ! "${@:2}" >/dev/null 2>&1 || return 0
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    die "$1 did not start ($tries looks): $(cat "$directory/$1.log")"
}

# run_weir CORES : as the system `weir`, between its two cables, with the rest of its config from stdin; sets $weir_pid.
run_weir() {
    {
        printf '[[interface]]\nname = "l0"\n[[interface]]\nname = "l1"\n[admin]\nsocket = "%s/admin.sock"\n' "$directory"
        cat
    } >"$directory/weir.toml"
    background weir forward "$1" weir.log "$weir" run --config "$directory/weir.toml"
    weir_pid=$!
    await weir on weir forward "$weir" status --socket "$directory/admin.sock"
}

stop_weir() {
    kill "$weir_pid"
    wait "$weir_pid" || die "weir ended badly: $(tail -3 "$directory/weir.log")"
}

# backends ADDRESS... : the lines of [[pool]] for these, each on port 80.
backends() {
    printf 'backends = ['
    printf '{ address = "%s:80" },' "$@"
    echo ']'
}

# start_nat SYSTEM PROTOCOL SERVER... : the kernel's own full-NAT from the VIP, 10.1.0.100:80, to these, by nftables.
start_nat() {
    local map number=0 server
    for server in "${@:3}"; do map="${map:+$map, }$((number++)) : $server"; done
    on "$1" forward sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    address "$1" forward l0 10.1.0.100/32
    address "$1" forward l1 10.2.0.200/32
    on "$1" forward nft -f - <<RULES
table ip bench {
    chain to_backend {
        type nat hook prerouting priority dstnat
        ip daddr 10.1.0.100 $2 dport 80 dnat to numgen inc mod $number map { $map }
    }
    chain from_us {
        type nat hook postrouting priority srcnat
        oifname l1 ip daddr 10.2.0.0/24 snat to 10.2.0.200
    }
}
RULES
}
