#!/usr/bin/env bash
# sudo scripts/demo.sh [--keep]: shows weir at work on real traffic, without any network hardware.
#
#   client ──────── weir ──────── switch ─┬─ b1   nginx 10.2.0.11  fd00:2::11
#   10.1.0.2    VIP 10.1.0.100            ├─ b2   nginx 10.2.0.12  fd00:2::12
#   fd00:1::2       fd00:1::100           └─ b3   nginx 10.2.0.13  fd00:2::13
#
# Each of them is a network namespace, the lines are veth pairs. Everything is removed at the end, also after Ctrl-C.
# With --keep it stays until Enter is pressed, to try things from another terminal.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/options.sh

case "${1:-}" in
'' | --keep) keep=${1:-} ;;
-h | --help) help ;;
*) usage "$1" ;;
esac

need_root
# shellcheck disable=SC2086 # one word a package
install_missing $BUILD_PACKAGES nginx-light curl iproute2 ethtool util-linux
find_rust

directory=$(mktemp -d /tmp/weir-demo-XXXXXX)
# Namespaces of this run, so that two demos do not meet.
prefix=weir-demo-$$
pids=()

clean_up() {
    trap '' INT TERM HUP
    if [ ${#pids[@]} -gt 0 ]; then
        kill "${pids[@]}" 2>/dev/null || true
        wait "${pids[@]}" 2>/dev/null || true
    fi
    for name in client weir switch b1 b2 b3; do ip netns delete "$prefix-$name" 2>/dev/null || true; done
    rm -rf "$directory"
    give_back
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# on NAME COMMAND... : runs a command in one of the namespaces. Not by `ip netns exec`, which would hide /sys/fs/bpf.
on() { local name=$1; shift; nsenter --net="/run/netns/$prefix-$name" "$@"; }
# show NAME COMMAND... : the same, after saying so.
show() { printf '\n%s$ %s\n' "$1" "${*:2}"; on "$@"; }
# cable NAME INTERFACE PEER INTERFACE : a veth pair between two namespaces, both ends up.
cable() {
    ip -n "$prefix-$1" link add name "$2" type veth peer name "$4" netns "$prefix-$3"
    ip -n "$prefix-$1" link set "$2" up
    ip -n "$prefix-$3" link set "$4" up
}
# address NAME INTERFACE ADDRESS... : IPv4 and IPv6 addresses, usable at once.
address() {
    local name=$1 interface=$2 item
    shift 2
    for item in "$@"; do
        case $item in
        *:*) ip -n "$prefix-$name" address add "$item" dev "$interface" nodad ;;
        *) ip -n "$prefix-$name" address add "$item" dev "$interface" ;;
        esac
    done
}

say "Building weir (the first time takes a few minutes)"
cargo build --release --quiet
weir=target/release/weir

say "Making client, weir, switch and three backends out of network namespaces"
for name in client weir switch b1 b2 b3; do
    ip netns add "$prefix-$name"
    ip -n "$prefix-$name" link set lo up
done
ip -n "$prefix-switch" link add name bridge type bridge forward_delay 0 mcast_snooping 0
ip -n "$prefix-switch" link set bridge up
cable weir outside client eth0
cable weir inside switch uplink
ip -n "$prefix-switch" link set uplink master bridge
address client eth0 10.1.0.2/24 fd00:1::2/64
address weir outside 10.1.0.1/24 fd00:1::1/64
address weir inside 10.2.0.1/24 fd00:2::1/64
for number in 1 2 3; do
    cable "b$number" eth0 switch "b$number"
    ip -n "$prefix-switch" link set "b$number" master bridge
    address "b$number" eth0 "10.2.0.1$number/24" "fd00:2::1$number/64"
    mkdir "$directory/b$number"
    cat >"$directory/b$number/nginx.conf" <<NGINX
user root; daemon off; master_process off; pid nginx.pid; error_log stderr;
events { }
http {
    access_log off; keepalive_timeout 0;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {
        listen 80; listen [::]:80;
        location / { return 200 "backend b$number, asked by \$remote_addr\n"; }
    }
}
NGINX
    nsenter --net="/run/netns/$prefix-b$number" nginx -e stderr -p "$directory/b$number" -c nginx.conf 2>"$directory/b$number/log" &
    pids+=($!)
done
# veth leaves checksums to a network card that is not there; here the senders compute them.
for name in client b1 b2 b3; do on "$name" ethtool -K eth0 tx off >/dev/null; done

cat <<'TEXT'

    client ──────── weir ──────── switch ─┬─ b1  10.2.0.11  fd00:2::11
    10.1.0.2    VIP 10.1.0.100            ├─ b2  10.2.0.12  fd00:2::12
    fd00:1::2       fd00:1::100           └─ b3  10.2.0.13  fd00:2::13

The backends have no route to the client. weir speaks to them from its SNAT addresses.
TEXT

say "The whole configuration: b1 and b2, b1 with twice the weight"
cat >"$directory/weir.toml" <<TOML
admin = { socket = "$directory/weir.sock" }
interface = [{ name = "outside" }, { name = "inside" }]
snat = { addresses = ["10.2.0.200", "fd00:2::200"] }
service = [
  { name = "web4", vip = "10.1.0.100:80", protocol = "tcp", scheduler = "weighted_round_robin", pool = "web4" },
  { name = "web6", vip = "[fd00:1::100]:80", protocol = "tcp", scheduler = "weighted_round_robin", pool = "web6" },
]
[[pool]]
name = "web4"
backends = [{ address = "10.2.0.11:80", weight = 2 }, { address = "10.2.0.12:80" }]
[[pool]]
name = "web6"
backends = [{ address = "[fd00:2::11]:80", weight = 2 }, { address = "[fd00:2::12]:80" }]
TOML
cat "$directory/weir.toml"

nsenter --net="/run/netns/$prefix-weir" "$weir" run --config "$directory/weir.toml" >"$directory/weir.log" 2>&1 &
daemon=$!
pids+=("$daemon")
ask() { "$weir" "$@" --socket "$directory/weir.sock"; }
# until_it_works WHAT COMMAND... : waits for a condition, ten seconds at most.
until_it_works() {
    local what=$1 attempt
    shift
    for attempt in $(seq 100); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    cat "$directory/weir.log" >&2
    die "$what: not after $((attempt / 10)) s, see weir's log above"
}
request() { on client curl --silent --show-error --max-time 5 "$1"; }
# spread URL : 300 requests, each a new connection; who answered how often.
spread() {
    on client curl --no-progress-meter --globoff --parallel --parallel-max 20 --max-time 20 --config <(for _ in $(seq 300); do echo "url = \"$1\""; done) |
        cut -d, -f1 | sort | uniq -c
}
until_it_works "weir serves" request http://10.1.0.100/

say "One request by hand, over IPv4 and IPv6: the backend sees weir's SNAT address"
show client curl --silent http://10.1.0.100/
show client curl --silent 'http://[fd00:1::100]/'

say "300 new connections over IPv4: two of three go to b1"
spread http://10.1.0.100/
say "300 new connections over IPv6"
spread 'http://[fd00:1::100]/'

say "weir status"
ask status
say "weir conn list (the first ten lines)"
ask conn list | sed -n 1,10p
say "weir explain: what would happen to a packet of this client, and why"
ask explain 10.1.0.2:40000 10.1.0.100:80 tcp

say "b3 joins: it is added to the file, and weir gets SIGHUP; requests go on meanwhile"
( for _ in $(seq 150); do request http://10.1.0.100/ || echo FAILED; done ) >"$directory/meanwhile" &
pids+=($!)
sed -i 's|{ address = "10.2.0.12:80" }|&, { address = "10.2.0.13:80", weight = 3 }|' "$directory/weir.toml"
sed -i 's|{ address = "\[fd00:2::12\]:80" }|&, { address = "[fd00:2::13]:80", weight = 3 }|' "$directory/weir.toml"
grep backends "$directory/weir.toml"
kill -HUP "$daemon"
wait "${pids[-1]}"
unset 'pids[-1]'
echo "requests while it was reloaded:"
cut -d, -f1 "$directory/meanwhile" | sort | uniq -c

say "300 new connections over IPv4: half of them go to b3"
spread http://10.1.0.100/
say "300 new connections over IPv6"
spread 'http://[fd00:1::100]/'

if [ -n "$keep" ]; then
    say "Kept. From another terminal, as root:"
    cat <<TEXT
    nsenter --net=/run/netns/$prefix-client curl http://10.1.0.100/
    $PWD/$weir status --socket $directory/weir.sock
    edit $directory/weir.toml, then: kill -HUP $daemon
TEXT
    read -r -p "Enter ends it. " _ || true
fi

say "Stopping weir: SIGTERM takes its addresses and its XDP program off the interfaces"
kill "$daemon"
result=0
wait "$daemon" || result=$?
show weir ip -brief address
[ "$result" -eq 0 ] || { tail -20 "$directory/weir.log" >&2; die "weir ended with exit code $result"; }
say "Done. Read on in README.md; sudo scripts/test.sh runs all tests."
