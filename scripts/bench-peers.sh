#!/usr/bin/env bash
# sudo scripts/bench-peers.sh [--quick] [--runs N] [--seconds S] [--connections N] [--pause MICROS] [--plot FILE.svg]
#
# weir beside the programs that one would take instead: HAProxy (mode tcp), nginx (stream), and nftables full-NAT in the kernel; and what client
# and servers do without anything between them. wrk asks three nginx backends for six bytes, keep-alive and with one request a connection.
# A run measures each for S seconds (2), one after the other; the next run in the opposite order. Figures are medians of N runs (5), and so are
# ratios: each is of two measurements of the same run. --plot draws requests a second and p99.
#
#   wrk ── c0 ═ l0 ── weir | haproxy | nginx | nftables ── l1 ═ s0 ── three backends (nginx)
#
# Core 0 has wrk, the backends and the TCP of both; core 1 has what balances, and receives for it: threads there look into l0 and l1, for every
# system alike, as the interrupts of a NIC would go there, with a pause of MICROS (100; 0: none) between two looks. So beside requests a second there is the
# CPU time of a request, on either core. Where client and servers have no more to give, core 1 is not full, and its time says what it could do: "a
# core" compares requests by that. "added" is what both cores took together, less what they took without a balancer. Both need a machine with nothing else to do.
#
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/options.sh
. scripts/workplace.sh
. scripts/figures.sh
. scripts/laboratory.sh

runs=5 seconds=2 connections=64 pause=100 plot=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 seconds=1 ;;
    --runs) runs=$(whole 1 1000 "$@"); shift ;;
    --seconds) seconds=$(whole 1 3600 "$@"); shift ;;
    --connections) connections=$(whole 1 8192 "$@"); shift ;;
    --pause) pause=$(whole 0 10000 "$@"); shift ;;
    --plot) plot=$(new_file "$@"); shift ;;
    -h | --help) help ;;
    *) usage "$1" ;;
    esac
    shift
done

open_laboratory peers haproxy nginx-light libnginx-mod-stream wrk curl nftables
build_weir
systems="none nftables weir haproxy nginx" servers="10.2.0.11 10.2.0.12 10.2.0.13"

# wires SYSTEM : namespaces and the cables between them, ports of closed connections used again after a second. Without a balancer the servers have
# the VIP themselves. What the kernel does at the ends it does on core 0.
wires() {
    local side
    make_namespaces "$1" client forward server
    for side in client forward server; do
        on "$1" "$side" sh -c 'cd /proc/sys/net
            echo 1024 65535 >ipv4/ip_local_port_range; echo 1 >ipv4/tcp_tw_reuse; echo 16384 >core/somaxconn; echo 16384 >ipv4/tcp_max_syn_backlog'
    done
    if [ "$1" = none ]; then
        cable none client c0 02:00:00:00:00:11 server s0 02:00:00:00:00:44
        address none client c0 10.1.0.2/24
        address none server s0 10.1.0.100/24
    else
        # shellcheck disable=SC2046,SC2086 # a word a server
        lay_cables "$1" $(printf '%s/24 ' $servers)
    fi
    whole_checksums "$1" client/c0 server/s0
    steer "$1" client c0 1
    steer "$1" server s0 1
}

# serve SYSTEM : three servers with one process each.
serve() {
    local server listen place
    for server in $servers; do
        listen=$server:80
        [ "$1" != none ] || listen=10.1.0.100:80
        place=$directory/$1-$server
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
        background "$1" server 0 "$1-$server.log" nginx -e stderr -p "$place" -c nginx.conf
    done
}

start_none() { :; }

start_nftables() {
    # shellcheck disable=SC2086 # a word a server
    start_nat nftables tcp $servers
}

# shellcheck disable=SC2086 # a word a server
start_weir() {
    run_weir 1 <<TOML
[worker]
cpus = [1]
[snat]
addresses = ["10.2.0.200"]
ports = "1024-65535"
[[service]]
name = "bench"
vip = "10.1.0.100:80"
protocol = "tcp"
scheduler = "round_robin"
pool = "bench"
[[pool]]
name = "bench"
$(backends $servers)
TOML
}

# One thread, for one core. No splicing: it saves copies of large bodies, and costs two pipes and more calls for six bytes.
start_haproxy() {
    address haproxy forward l0 10.1.0.100/32
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
    address nginx forward l0 10.1.0.100/32
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
    local header=() before after
    [ "$2" = keep-alive ] || header=(-H "Connection: close")
    before=$(busy)
    taskset -c 0 nsenter --net="/run/netns/$prefix-$1-client" \
        wrk -t1 -c"$connections" -d"${seconds}s" -s "$directory/done.lua" "${header[@]}" http://10.1.0.100/ >"$directory/wrk.txt" ||
        die "$1 could not be measured: $(tail -3 "$directory/wrk.txt")"
    after=$(busy)
    # shellcheck disable=SC2086 # a word a core
    grep '^FIGURES ' "$directory/wrk.txt" | awk -v before="$before" -v after="$after" -v hz="$(getconf CLK_TCK)" -v seconds="$seconds" '{
        split(before, b, " "); split(after, a, " "); requests = $2 * seconds
        print $2, $3, $4, $5, $6, (a[1] - b[1]) / hz / requests * 1e6, (a[2] - b[2]) / hz / requests * 1e6 }'
}

# added WAY SYSTEM : CPU time that a request takes more than without a balancer, on both cores together.
added() { paste -d' ' "$directory/$1-$2" "$directory/$1-none" | awk '{ print $6 + $7 - $13 - $14 }' | median; }

say "Making the namespaces, starting backends and balancers"
for system in $systems; do
    wires "$system"
    serve "$system"
    "start_$system"
done
for system in ${systems#none }; do
    for interface in l0 l1; do receive_on "$system" forward "$interface" 1 "${pause}000"; done
done
for system in $systems; do answers "$system"; done

say "Measuring: $connections connections of wrk, pauses of $pause µs, medians of $runs runs of $seconds s, weir $("$weir" --version | cut -d' ' -f2),\
 $(haproxy -v | head -1 | cut -d' ' -f1-3), $(nginx -v 2>&1 | cut -d' ' -f3)"
order=$systems
for ((run = 0; run < runs; run++)); do
    for way in keep-alive one; do
        for system in $order; do measure "$system" "$way" >>"$directory/$way-$system"; done
    done
    # shellcheck disable=SC2086 # a word a system
    order=$(reversed $order)
done

# of_row WAY SYSTEM : the medians of its requests and times, its errors in all runs, and medians of CPU times.
of_row() {
    local of=$directory/$1-$2 n
    for n in 1 2 3 4; do column "$n" "$of"; done
    awk '{ sum += $5 } END { print sum }' "$of"
    column 6 "$of"
    column 7 "$of"
    added "$1" "$2"
}
for way in keep-alive one; do
    # shellcheck disable=SC2046 # a word a number
    for system in $systems; do echo "$way" "$system" $(of_row "$way" "$system"); done
done >"$directory/table"

# beside WAY PEER : weir's figures over that one's.
beside() {
    local weir=$directory/$1-weir peer=$directory/$1-$2
    printf 'weir / %-9s a second %.2f, a core %.2f, p99 %.2f, CPU time added on both %.2f\n' "$2:" \
        "$(ratio 1 "$weir" "$peer")" "$(ratio 7 "$peer" "$weir")" "$(ratio 3 "$weir" "$peer")" \
        "$(awk "BEGIN { print $(added "$1" weir) / $(added "$1" "$2") }")"
}
for way in keep-alive one; do
    case $way in
    keep-alive) say "Keep-alive: requests a second; latency in µs; CPU time of a request in µs" ;;
    one) say "One request a connection: connections, and so requests, a second; latency in µs; CPU time of a connection in µs" ;;
    esac
    printf '%-9s %9s %8s %8s %8s %7s %8s %8s %8s\n' balancer a_second p50 p99 p99.9 errors core_0 core_1 added
    awk -v way=$way '$1 == way { printf "%-9s %9.0f %8.0f %8.0f %8.0f %7.0f %8.1f %8.1f %8.1f\n", $2, $3, $4, $5, $6, $7, $8, $9, $10 }' "$directory/table"
    for peer in nftables haproxy nginx; do beside $way $peer; done
done

[ -z "$plot" ] || awk -v names="$systems" "$(cat scripts/plot.awk)"'
    BEGIN { split("keep-alive,one request a connection", label, ","); series = split(names, name, " "); for (i in name) at[name[i]] = i }
    { way = $1 == "one" ? 2 : 1; requests[way, at[$2]] = $3 / 1000; p99[way, at[$2]] = $5 / 1000 }
    END {
        picture(720, 570)
        bars(24, "thousand requests a second", 2, label, series, requests)
        bars(294, "p99, ms", 2, label, series, p99)
        legend(554, names)
        finish()
    }' "$directory/table" >"$plot"
