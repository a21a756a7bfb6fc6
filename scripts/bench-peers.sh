#!/usr/bin/env bash
# sudo scripts/bench-peers.sh [--quick] [--runs N] [--seconds S] [--connections N]
#
# weir beside the programs that one would take instead: HAProxy (mode tcp), nginx (stream), and nftables full-NAT in the kernel; and what client
# and servers do without anything between them. wrk asks three nginx backends for six bytes, keep-alive and with one request a connection.
# A run measures each for S seconds (2), one after the other; the next run in the opposite order. Figures are medians of N runs (5), and so are
# ratios: each is of two measurements of the same run.
#
#   wrk ── c0 ═ l0 ── weir | haproxy | nginx | nftables ── l1 ═ s0 ── three backends (nginx)
#
# Core 0 has wrk, the backends and the TCP of both; core 1 has what balances and, by receive packet steering (RPS), the TCP or the NAT of
# its kernel. What comes to weir is taken by XDP on core 0, before RPS. So beside requests a second there is the CPU time of a request, on
# either core: where client and servers have no more to give, that says what balancing costs. "added" is what both cores took
# together, less what they took without a balancer; it needs a machine with nothing else to do.
#
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

runs=5 seconds=2 connections=64
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 seconds=1 ;;
    --runs) runs=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --connections) connections=$2; shift ;;
    -h | --help) help ;;
    *) usage ;;
    esac
    shift
done

need_root
# shellcheck disable=SC2086 # one word a package
install_missing $BUILD_PACKAGES haproxy nginx-light libnginx-mod-stream wrk curl iproute2 ethtool nftables util-linux
[ "$(nproc)" -ge 2 ] || die "needs two cores: one for client and servers, one for the balancer"

directory=$(mktemp -d /tmp/weir-peers-XXXXXX)
prefix=weir-peers-$$
systems="none nftables weir haproxy nginx"
pids=()
weir_pid=

clean_up() {
    trap '' INT TERM HUP
    if [ -n "$weir_pid" ]; then
        kill "$weir_pid" 2>/dev/null || true
        wait "$weir_pid" 2>/dev/null || true
    fi
    # Not by SIGTERM: an nginx that gets it while it starts goes on.
    if [ ${#pids[@]} -gt 0 ]; then
        kill -KILL "${pids[@]}" 2>/dev/null || true
        wait "${pids[@]}" 2>/dev/null || true
    fi
    local system side
    for system in $systems; do
        for side in client forward server; do ip netns delete "$prefix-$system-$side" 2>/dev/null || true; done
    done
    rm -rf "$directory"
    give_back
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

weir=${WEIR_BINARY:-target/release/weir}
if [ -z "${WEIR_BINARY:-}" ]; then
    say "Building weir"
    find_rust
    cargo build --release --quiet --bin weir
fi

# on SYSTEM SIDE COMMAND... : runs it in that namespace; not by `ip netns exec`, which would hide /sys/fs/bpf.
on() { local namespace=$prefix-$1-$2; shift 2; nsenter --net="/run/netns/$namespace" "$@"; }

# background SYSTEM SIDE CORE LOG COMMAND... : starts it there, to be ended at the end.
background() {
    local system=$1 side=$2 core=$3 log=$4
    shift 4
    taskset -c "$core" nsenter --net="/run/netns/$prefix-$system-$side" "$@" >"$directory/$log" 2>&1 &
    pids+=($!)
}

# cable SYSTEM SIDE INTERFACE SIDE INTERFACE : a veth pair between two namespaces.
cable() {
    ip -n "$prefix-$1-$2" link add "$3" type veth peer name "$5" netns "$prefix-$1-$4"
    ip -n "$prefix-$1-$2" link set "$3" up
    ip -n "$prefix-$1-$4" link set "$5" up
}

# steer SYSTEM SIDE INTERFACE MASK : the receive softirq of that interface goes to that core.
steer() {
    # /sys shows the interfaces of the namespace that it was mounted in: `ip netns exec` mounts it anew.
    ip netns exec "$prefix-$1-$2" sh -c "echo $4 >/sys/class/net/$3/queues/rx-0/rps_cpus"
}

# ends SYSTEM : what client and servers have in common. Ports of closed connections are used again after a second.
ends() {
    local side interface
    for side in "client c0" "server s0"; do
        interface=${side#* } side=${side% *}
        on "$1" "$side" ethtool -K "$interface" tx off >/dev/null
        steer "$1" "$side" "$interface" 1
    done
}

# wires SYSTEM : namespaces and the cables between them. Without a balancer the servers have the VIP themselves.
wires() {
    local system=$1 side backend
    for side in client forward server; do
        ip netns add "$prefix-$system-$side"
        ip -n "$prefix-$system-$side" link set lo up
        on "$system" "$side" sh -c 'cd /proc/sys/net
            echo 1024 65535 >ipv4/ip_local_port_range; echo 1 >ipv4/tcp_tw_reuse; echo 16384 >core/somaxconn; echo 16384 >ipv4/tcp_max_syn_backlog'
    done
    if [ "$system" = none ]; then
        cable none client c0 server s0
        ip -n "$prefix-none-server" address add 10.1.0.100/24 dev s0
    else
        cable "$system" client c0 forward l0
        cable "$system" server s0 forward l1
        ip -n "$prefix-$system-forward" address add 10.1.0.1/24 dev l0
        ip -n "$prefix-$system-forward" address add 10.2.0.1/24 dev l1
        for backend in 11 12 13; do ip -n "$prefix-$system-server" address add "10.2.0.$backend/24" dev s0; done
        steer "$system" forward l0 2
        steer "$system" forward l1 2
    fi
    ip -n "$prefix-$system-client" address add 10.1.0.2/24 dev c0
    ends "$system"
}

# backends SYSTEM : three servers with one process each.
backends() {
    local system=$1 backend listen place
    for backend in 11 12 13; do
        listen=10.2.0.$backend:80
        [ "$system" != none ] || listen=10.1.0.100:80
        place=$directory/$system-$backend
        mkdir "$place"
        cat >"$place/nginx.conf" <<NGINX
user root; daemon off; master_process off; pid nginx.pid; error_log stderr;
events { worker_connections 16384; }
http {
    access_log off; keepalive_requests 1000000000; server_tokens off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server { listen $listen reuseport backlog=16384; location / { return 200 "hello\n"; } }
}
NGINX
        background "$system" server 0 "$system-$backend.log" nginx -e stderr -p "$place" -c nginx.conf
    done
}

start_none() { :; }

start_nftables() {
    on nftables forward sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip -n "$prefix-nftables-forward" address add 10.1.0.100/32 dev l0
    ip -n "$prefix-nftables-forward" address add 10.2.0.200/32 dev l1
    on nftables forward nft -f - <<'RULES'
table ip bench {
    chain to_backend {
        type nat hook prerouting priority dstnat
        ip daddr 10.1.0.100 tcp dport 80 dnat to numgen inc mod 3 map { 0 : 10.2.0.11, 1 : 10.2.0.12, 2 : 10.2.0.13 }
    }
    chain from_us {
        type nat hook postrouting priority srcnat
        oifname l1 ip daddr 10.2.0.0/24 snat to 10.2.0.200
    }
}
RULES
}

start_weir() {
    cat >"$directory/weir.toml" <<TOML
interface = [{ name = "l0" }, { name = "l1" }]
worker = { cpus = [1] }
snat = { addresses = ["10.2.0.200"], ports = "1024-65535" }
service = [{ name = "bench", vip = "10.1.0.100:80", protocol = "tcp", scheduler = "round_robin", pool = "bench" }]
admin = { socket = "$directory/admin.sock" }
[[pool]]
name = "bench"
backends = [{ address = "10.2.0.11:80" }, { address = "10.2.0.12:80" }, { address = "10.2.0.13:80" }]
TOML
    taskset -c 1 nsenter --net="/run/netns/$prefix-weir-forward" "$weir" run --config "$directory/weir.toml" >"$directory/weir.log" 2>&1 &
    weir_pid=$!
}

# One thread, for one core. No splicing: it saves copies of large bodies, and costs two pipes and more calls for six bytes.
start_haproxy() {
    ip -n "$prefix-haproxy-forward" address add 10.1.0.100/32 dev l0
    cat >"$directory/haproxy.cfg" <<HAPROXY
global
    nbthread 1
    maxconn 8192
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option tcp-smart-accept
    option tcp-smart-connect
listen bench
    bind 10.1.0.100:80 backlog 16384
    balance roundrobin
    server b1 10.2.0.11:80
    server b2 10.2.0.12:80
    server b3 10.2.0.13:80
HAPROXY
    background haproxy forward 1 haproxy.log haproxy -db -f "$directory/haproxy.cfg"
}

start_nginx() {
    ip -n "$prefix-nginx-forward" address add 10.1.0.100/32 dev l0
    mkdir "$directory/nginx"
    cat >"$directory/nginx/nginx.conf" <<NGINX
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root; daemon off; master_process off; pid nginx.pid; error_log stderr;
events { worker_connections 16384; }
stream {
    access_log off;
    upstream bench { server 10.2.0.11:80; server 10.2.0.12:80; server 10.2.0.13:80; }
    server { listen 10.1.0.100:80 backlog=16384; proxy_pass bench; }
}
NGINX
    background nginx forward 1 nginx.log nginx -e stderr -p "$directory/nginx" -c nginx.conf
}

# answers SYSTEM : until a request comes back, ten seconds at most.
answers() {
    local attempt
    for attempt in $(seq 100); do
        ! on "$1" client curl --silent --max-time 1 http://10.1.0.100/ >/dev/null || return 0
        sleep 0.1
    done
    die "$1 does not answer ($attempt tries): $(cat "$directory/$1"*.log 2>/dev/null)"
}

cat >"$directory/done.lua" <<'LUA'
function done(summary, latency)
   local bad = summary.errors
   io.write(string.format("FIGURES %.1f %d %d %d %d\n", summary.requests / summary.duration * 1e6, latency:percentile(50),
      latency:percentile(99), latency:percentile(99.9), bad.connect + bad.read + bad.write + bad.status + bad.timeout))
end
LUA

# busy : ticks in which core 0 and core 1 did something.
busy() { awk '/^cpu[01] / { printf "%d ", $2 + $3 + $4 + $7 + $8 }' /proc/stat; }

# measure SYSTEM WAY : requests/s, p50, p99, p99.9 (µs), errors, CPU time a request on core 0, on core 1 (µs).
measure() {
    local system=$1 header=() before after
    [ "$2" = keep-alive ] || header=(-H "Connection: close")
    before=$(busy)
    taskset -c 0 nsenter --net="/run/netns/$prefix-$system-client" \
        wrk -t1 -c"$connections" -d"${seconds}s" -s "$directory/done.lua" "${header[@]}" http://10.1.0.100/ >"$directory/wrk.txt"
    after=$(busy)
    # shellcheck disable=SC2086 # a word a core
    grep '^FIGURES ' "$directory/wrk.txt" | awk -v before="$before" -v after="$after" -v hz="$(getconf CLK_TCK)" -v seconds="$seconds" '{
        split(before, b, " "); split(after, a, " "); requests = $2 * seconds
        print $2, $3, $4, $5, $6, (a[1] - b[1]) / hz / requests * 1e6, (a[2] - b[2]) / hz / requests * 1e6 }'
}

median() { sort -g | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'; }
# column N WAY SYSTEM : that figure's median.
column() { awk -v n="$1" '{ print $n }' "$directory/$2-$3" | median; }
# ratio N WAY OF BY : the median of that figure's ratios, run by run.
ratio() { paste -d' ' "$directory/$2-$3" "$directory/$2-$4" | awk -v n="$1" '{ print $n / $(n + 7) }' | median; }
# added WAY SYSTEM : CPU time that a request takes more than without a balancer, on both cores together.
added() { paste -d' ' "$directory/$1-$2" "$directory/$1-none" | awk '{ print $6 + $7 - $13 - $14 }' | median; }

say "Making the namespaces, starting backends and balancers"
for system in $systems; do
    wires "$system"
    backends "$system"
    "start_$system"
done
for system in $systems; do answers "$system"; done

say "Measuring: $connections connections of wrk, medians of $runs runs of $seconds s, weir $("$weir" --version | cut -d' ' -f2),\
 $(haproxy -v | head -1 | cut -d' ' -f1-3), $(nginx -v 2>&1 | cut -d' ' -f3)"
order=$systems
for run in $(seq "$runs"); do
    for way in keep-alive one; do
        for system in $order; do
            measure "$system" "$way" >>"$directory/$way-$system" || die "$system, run $run, failed: $(tail -3 "$directory/wrk.txt")"
        done
    done
    # shellcheck disable=SC2086 # a word a system
    order=$(printf '%s\n' $order | tac)
done

for way in keep-alive one; do
    case $way in
    keep-alive) say "Keep-alive: requests a second; latency in µs; CPU time of a request in µs" ;;
    one) say "One request a connection: connections, and so requests, a second; latency in µs; CPU time of a connection in µs" ;;
    esac
    printf '%-9s %9s %8s %8s %8s %7s %8s %8s %8s\n' balancer a_second p50 p99 p99.9 errors core_0 core_1 added
    for system in $systems; do
        # shellcheck disable=SC2046 # a word a number
        printf '%-9s %9.0f %8.0f %8.0f %8.0f %7.0f %8.1f %8.1f %8.1f\n' "$system" \
            $(for n in 1 2 3 4; do column "$n" "$way" "$system"; done) \
            "$(awk '{ sum += $5 } END { print sum }' "$directory/$way-$system")" \
            "$(column 6 "$way" "$system")" "$(column 7 "$way" "$system")" "$(added "$way" "$system")"
    done
    for peer in nftables haproxy nginx; do
        printf 'weir / %-9s a second %.2f, p99 %.2f, CPU time of core 1 %.2f, added on both %.2f\n' "$peer:" \
            "$(ratio 1 "$way" weir "$peer")" "$(ratio 3 "$way" weir "$peer")" "$(ratio 7 "$way" weir "$peer")" \
            "$(awk "BEGIN { print $(added "$way" weir) / $(added "$way" "$peer") }")"
    done
done
