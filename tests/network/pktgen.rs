//! Aim: what `weir pktgen` says it sent was sent, what it says arrived arrived, over a bare link and through weir; and it leaves nothing.

use crate::support::{Background, Family, Finished, Lab, Layout, Namespace, run, run_within, wait_until};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 7;
/// Packets of a run: as many as a ring of veth holds, so that none is lost however long its other end has no CPU.
const BATCH: u64 = 250;
/// The link addresses of weir's outside interface, and of the sink where nothing is between.
const WEIR: &str = "02:00:00:00:01:01";
const BACKEND: &str = "02:00:00:00:02:11";

/// A command line of `weir pktgen` that sends out of eth0 in `source` to an interface in `sink`.
fn pktgen(source: &Namespace, (sink, interface): (&Namespace, &str), arguments: &str) -> std::process::Command {
    let mut command = source.command(env!("CARGO_BIN_EXE_weir"));
    command.args(["pktgen", "--interface", "eth0", "--sink", interface, "--sink-namespace", &sink.path()]);
    command.args(arguments.split_whitespace());
    command
}

fn generate(source: &Namespace, sink: (&Namespace, &str), arguments: &str) -> Value {
    let finished = run_within(pktgen(source, sink, &format!("{arguments} --json")), Duration::from_secs(60));
    assert!(finished.success(), "pktgen {arguments}: {finished}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

/// Two namespaces, a veth pair, nothing between.
fn with_link(name: &str, test: impl FnOnce(&Namespace, &Namespace)) {
    if !is_root() {
        println!("SKIP {name}: needs root, to make network namespaces");
        return;
    }
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    lay_link(&a, &b);
    test(&a, &b);
    for namespace in [&a, &b] {
        assert!(!namespace.run("ip -d link show eth0").contains("prog/xdp"), "a program is left behind");
    }
}

fn lay_link(a: &Namespace, b: &Namespace) {
    a.ip(&format!("link add name eth0 type veth peer name eth0 address {BACKEND} netns {}\nlink set eth0 up", b.path()));
    b.ip("link set eth0 up\naddress add 10.9.0.2/24 dev eth0\naddress add fd09::2/64 dev eth0 nodad");
    a.ip("address add 10.9.0.1/24 dev eth0\naddress add fd09::1/64 dev eth0 nodad");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// All that were sent came, each once, with its time; and came back where they should. `wanted` were to be sent; a machine that was busy all
/// the time may have sent less, never more.
fn assert_all_came(answer: &Value, wanted: u64, echo: bool) -> u64 {
    let figures = &answer["figures"];
    let sent = figures["sent"].as_u64().expect("a number");
    assert!((1..=wanted).contains(&sent), "{answer:#}");
    assert_eq!(figures["lost"], 0, "{answer:#}");
    for (side, expected) in [("received", sent), ("came_back", if echo { sent } else { 0 })] {
        assert_eq!(figures[side]["frames"], expected, "{side}: {answer:#}");
        assert_eq!(figures[side]["latency_ns"]["count"], expected, "a time for each: {answer:#}");
        assert_eq!(figures[side]["duplicates"], 0, "{side}: {answer:#}");
    }
    let (times, quantiles) = (&figures["received"], &figures["received"]["latency_ns"]);
    let ordered = [&times["min_ns"], &quantiles["p50"], &quantiles["p99"], &quantiles["p99_9"], &times["max_ns"]]
        .map(|time| time.as_u64().expect("a number"));
    assert!(0 < ordered[0] && ordered.is_sorted(), "{answer:#}");
    assert_eq!(quantiles["max"], times["max_ns"], "one maximum: {answer:#}");
    assert_is_no_faster_than_asked(&answer["asked_pps"], figures);
    sent
}

/// A sender may be late. It has kept up when it was not.
fn assert_is_no_faster_than_asked(asked: &Value, figures: &Value) {
    let Some(asked) = asked.as_f64() else { return };
    let offered = figures["offered_pps"].as_f64().expect("a number");
    assert!(offered <= asked, "{offered} of {asked}: {figures:#}");
    assert_eq!(figures["kept_up"], offered >= asked * 0.98, "{offered} of {asked}: {figures:#}");
}

#[test]
fn every_frame_that_was_sent_is_counted_and_timed() {
    with_link("pktgen_counts", |a, b| {
        for sender in ["live-frames", "af-xdp"] {
            for vip in ["10.9.0.2:7", "[fd09::2]:7"] {
                for kind in ["", "--protocol tcp --echo", "--size imix --echo"] {
                    let line = format!("--sender {sender} --vip {vip} --flows 50 --rate 1k --duration 0.25 {kind}");
                    let answer = generate(a, (b, "eth0"), &line);
                    assert_all_came(&answer, BATCH, kind.contains("echo"));
                    assert_eq!(answer["flows_open"], 50, "{line}: {answer:#}");
                }
            }
        }
    });
}

#[test]
fn a_ramp_is_told_in_parts_and_a_flood_comes_from_everywhere() {
    with_link("pktgen_ramp", |a, b| {
        let answer = generate(a, (b, "eth0"), "--vip 10.9.0.2:7 --ramp 200:800:0.5");
        let sent = assert_all_came(&answer, BATCH, false);
        let parts: Vec<u64> = answer["parts"].as_array().unwrap().iter().map(|part| part["received"].as_u64().unwrap()).collect();
        // Who looks may be held up over a border: then two parts are one.
        assert!((2..=10).contains(&parts.len()), "{answer:#}");
        assert_eq!(parts.iter().sum::<u64>(), sent, "{answer:#}");
        let answer = generate(a, (b, "eth0"), "--vip 10.9.0.2:7 --syn-flood --rate 1k --duration 0.25");
        assert_all_came(&answer, BATCH, false);
        assert_eq!(answer["flows_open"], Value::Null);
    });
}

#[test]
fn no_part_of_a_ramp_is_faster_than_the_ramp_there() {
    with_link("pktgen_parts", |a, b| {
        for sender in ["live-frames", "af-xdp"] {
            let answer = generate(a, (b, "eth0"), &format!("--vip 10.9.0.2:7 --flows 1 --ramp 1k:200k:0.5 --sender {sender}"));
            for part in answer["parts"].as_array().unwrap() {
                let [begin, nanos, sent] = ["begin_ns", "nanos", "sent"].map(|name| part[name].as_f64().expect("a number"));
                let highest = 1e3 + 199e3 * ((begin + nanos) / 500e6).min(1.0);
                // A sender that was held up makes up for 64 frames.
                assert!(sent <= highest * nanos / 1e9 + 64.0 + 10.0, "{sender}: {part}\n{answer:#}");
            }
        }
    });
}

#[test]
fn a_search_ends_at_the_highest_rate_where_nothing_is_lost() {
    with_link("pktgen_search", |a, b| {
        for rate in [1000, 50] {
            let answer = generate(a, (b, "eth0"), &format!("--vip 10.9.0.2:7 --search --rate {rate} --duration 0.25"));
            let found = answer["search"]["throughput_pps"].as_u64().unwrap();
            assert!((1..=rate).contains(&found), "{answer:#}");
            assert_eq!(answer["search"]["trials"].as_array().unwrap().len(), 1, "the first trial passed: {answer:#}");
        }
    });
}

#[test]
fn one_packet_has_the_rate_that_it_was_due_at() {
    with_link("pktgen_one", |a, b| {
        let answer = generate(a, (b, "eth0"), "--vip 10.9.0.2:7 --flows 1 --rate 1 --duration 0.1");
        assert_eq!(assert_all_came(&answer, 1, false), 1);
        assert_eq!(answer["figures"]["offered_pps"], 1.0, "{answer:#}");
    });
}

/// Runs it and makes it fail: what it printed.
fn fails(source: &Namespace, sink: (&Namespace, &str), arguments: &str) -> Finished {
    let finished = run_within(pktgen(source, sink, arguments), Duration::from_secs(60));
    assert_eq!(finished.code(), Some(1), "{arguments}: {finished}");
    finished
}

#[test]
fn what_shows_nothing_is_a_failure() {
    with_link("pktgen_nothing", |a, b| {
        // Too large for native XDP: so it is generic, and a veth drops live frames.
        for namespace in [a, b] {
            namespace.ip("link set eth0 mtu 9000");
        }
        let finished = fails(a, (b, "eth0"), "--vip 10.9.0.2:7 --rate 1k --duration 0.1");
        assert!(finished.stderr.contains("nothing arrived at eth0"), "{finished}");
        assert!(finished.stdout.contains("0 of 1024 flows open") && !finished.stdout.contains("0.0 "), "{finished}");
        let finished = fails(a, (b, "eth0"), "--vip 10.9.0.2:7 --rate 1k --duration 0.1 --json");
        let answer: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        let received = &answer["figures"]["received"];
        for none in [&received["max_ns"], &received["min_ns"], &received["latency_ns"]["p50"], &received["latency_ns"]["max"]] {
            assert_eq!(*none, Value::Null, "{answer:#}");
        }
        let finished = fails(a, (b, "eth0"), "--vip 10.9.0.2:7 --search --rate 1k --resolution 500 --duration 0.1");
        assert!(finished.stderr.contains("no rate that was tried passed"), "{finished}");

        for namespace in [a, b] {
            namespace.ip("link set eth0 mtu 1500");
        }
        let mut without_sink = a.command(env!("CARGO_BIN_EXE_weir"));
        let line = "pktgen --interface eth0 --vip 10.9.0.2:7 --rate 1k --duration 0.1 --sender af-xdp";
        without_sink.args(line.split_whitespace());
        let finished = run_within(without_sink, Duration::from_secs(60));
        assert!(finished.success() && finished.stdout.contains("nothing came back to eth0: without --sink"), "{finished}");
    });
}

/// Packets that left by eth0, as the kernel counts them.
fn left(namespace: &Namespace) -> u64 {
    let text = namespace.run("cat /proc/net/dev");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("eth0");
    line.split_whitespace().nth(9).expect("packets sent").parse().expect("a number")
}

/// Starts it, and has sent a hundred packets.
fn start_sending(source: &Namespace, sink: (&Namespace, &str), arguments: &str, log: &std::path::Path) -> Background {
    let before = left(source);
    let mut running = Background::start(pktgen(source, sink, arguments), log);
    wait_until("packets", Duration::from_secs(20), || {
        assert_eq!(running.ended(), None, "{}", running.output());
        (left(source) >= before + 100).then_some(())
    });
    running
}

#[test]
fn who_is_interrupted_before_a_trial_invents_no_figures() {
    with_link("pktgen_unopened", |a, b| {
        for protocol in ["udp", "tcp"] {
            let directory = tempfile::tempdir().unwrap();
            let line = format!("--vip 10.9.0.2:7 --protocol {protocol} --flows 1000000 --rate 1M");
            let mut running = start_sending(a, (b, "eth0"), &line, &directory.path().join("log"));
            running.signal("INT");
            let status = running.wait(Duration::from_secs(10)).expect("its end");
            let output = running.output();
            assert_eq!(status.code(), Some(1), "{output}");
            assert!(
                output.contains("interrupted") && !output.contains("packets/s") && !output.contains("flows open"),
                "{output}"
            );
        }
    });
}

#[test]
fn an_interface_that_goes_ends_it_and_is_named() {
    with_link("pktgen_gone", |a, b| {
        let goes = |namespace: &Namespace, command: &str, sender: &str, how: &str| {
            let directory = tempfile::tempdir().unwrap();
            let line = format!("--vip 10.9.0.2:7 --to {BACKEND} --flows 1 --rate 1k --duration 60 --sender {sender}");
            let mut running = start_sending(a, (b, "eth0"), &line, &directory.path().join("log"));
            namespace.ip(command);
            let status = running.wait(Duration::from_secs(10)).expect("its end");
            let output = running.output();
            assert_eq!(status.code(), Some(1), "{output}");
            assert!(output.contains("interface eth0 is gone") && output.contains(how), "{sender}: {output}");
        };
        for sender in ["live-frames", "af-xdp"] {
            goes(b, "link set eth0 down", sender, "it was set down");
            b.ip("link set eth0 up");
            goes(a, "link delete eth0", sender, "it was deleted");
            lay_link(a, b);
        }
    });
}

#[test]
fn an_interrupted_run_says_so_and_leaves_no_program() {
    with_link("pktgen_interrupt", |a, b| {
        for (signal, sender) in [("INT", "live-frames"), ("INT", "af-xdp"), ("KILL", "live-frames")] {
            let directory = tempfile::tempdir().unwrap();
            let line = format!("--vip 10.9.0.2:7 --rate 1k --duration 60 --sender {sender} --json");
            let mut running = Background::start(pktgen(a, (b, "eth0"), &line), &directory.path().join("log"));
            let attached = |namespace: &Namespace| namespace.run("ip -d link show eth0").contains("prog/xdp");
            wait_until("the programs", Duration::from_secs(20), || {
                assert_eq!(running.ended(), None, "{}", running.output());
                (attached(a) && attached(b)).then_some(())
            });
            running.signal(signal);
            let status = running.wait(Duration::from_secs(10)).expect("its end");
            let gone = || (!attached(a) && !attached(b)).then_some(());
            wait_until("the programs to be gone", Duration::from_secs(5), gone);
            if signal == "INT" {
                assert_eq!(status.code(), Some(1), "{}", running.output());
                assert!(running.output().contains("interrupted"), "{}", running.output());
            }
        }
    });
}

#[test]
fn what_cannot_be_done_is_refused_in_words() {
    with_link("pktgen_refusals", |a, b| {
        let refused = |arguments: &str| -> Finished { run_within(pktgen(a, (b, "eth0"), arguments), Duration::from_secs(20)) };
        let says = |arguments: &str, code: i32, words: &[&str]| {
            let finished = refused(arguments);
            assert_eq!(finished.code(), Some(code), "{arguments}: {finished}");
            assert!(words.iter().all(|word| finished.stderr.contains(word)), "{arguments}: {finished}");
        };
        says("--vip 10.9.0.2:7 --rate 0", 2, &["allowed: 1 to 20M"]);
        says("--vip 10.9.0.2", 2, &["--vip", "'10.9.0.2'", "allowed: an address and a port"]);
        says("--vip 10.9.0.2:7 --clients xyz", 2, &["--clients", "'xyz'", "allowed: a prefix"]);
        says("--vip 10.9.0.2:7 --cpu 1000", 2, &["--cpu 1000", "allowed: "]);
        says("--vip 10.9.0.2:7 --search --resolution max", 2, &["--resolution", "allowed: 1 to 20M"]);
        says("--vip 10.9.0.2:7 --size 20", 2, &["--size 20", "64", "1518"]);
        says("--vip 10.9.0.2:7 --clients fd00::/64", 2, &["family"]);
        says("--vip 10.77.0.2:7", 1, &["no route", "--to MAC"]);
        says("--vip 10.9.0.2:7 --namespace no-such-one", 1, &["network namespace no-such-one"]);
        if !std::path::Path::new("/proc/net/pktgen").exists() {
            says("--vip 10.9.0.2:7 --sender kernel", 1, &["no pktgen", "--sender live-frames"]);
        }
    });
}

/// A laboratory with known link addresses and a route back to the generator's clients. weir knows its neighbours beforehand: on a busy machine to ask for
/// them takes longer than packets may wait, and what is lost then is not what these tests are about.
fn with_weir(lab: &mut Lab, protocol: &'static str) {
    for family in Family::BOTH {
        let backend = SocketAddr::new(family.backend(1), PORT);
        lab.config.add(&format!("echo-{}", family.name()), SocketAddr::new(family.vip(), PORT), protocol, vec![(backend, 1)]);
    }
    lab.node.ip(&format!(
        "link set outside address {WEIR}\nroute add 198.18.0.0/15 via 10.1.0.2\nroute add 2001:2::/48 via fd00:1::2"
    ));
    // What an XDP program sends back on veth is taken by a peer that has a program, too: so the sink is weir's own peer, with the first
    // backend's addresses.
    lab.backends.remove(0);
    lab.switch.ip("link set uplink nomaster\naddress add 10.2.0.11/24 dev uplink\naddress add fd00:2::11/64 dev uplink nodad");
    let (client, server) = (mac(&lab.client, "eth0"), mac(&lab.switch, "uplink"));
    for (interface, mac, addresses) in
        [("outside", client, ["10.1.0.2", "fd00:1::2"]), ("inside", server, ["10.2.0.11", "fd00:2::11"])]
    {
        for address in addresses {
            lab.node.ip(&format!("neighbour replace {address} lladdr {mac} dev {interface} nud permanent"));
        }
    }
    lab.start_weir();
}

fn mac(namespace: &Namespace, interface: &str) -> String {
    let line = namespace.run(&format!("ip -brief link show {interface}"));
    line.split_whitespace().nth(2).expect("a link address").to_owned()
}

fn conn_count(lab: &mut Lab) -> u64 {
    let status = lab.weir().status();
    let workers = status["workers"].as_array().expect("workers");
    workers.iter().map(|worker| worker["new_connections"].as_u64().expect("a number")).sum()
}

#[test]
fn flows_go_through_weir_and_come_back() {
    run("pktgen_weir", Layout::two_arm().bulk(), |lab| {
        with_weir(lab, "udp");
        for family in Family::BOTH {
            let vip = SocketAddr::new(family.vip(), PORT);
            let line = format!("--vip {vip} --to {WEIR} --flows 100 --rate 1k --duration 0.25 --echo");
            assert_all_came(&generate(&lab.client, (&lab.switch, "uplink"), &line), BATCH, true);
        }
        assert_eq!(conn_count(lab), 200, "a connection a flow");
    });
}

#[test]
fn weir_counts_a_flood_of_syns() {
    run("pktgen_flood", Layout::two_arm().bulk(), |lab| {
        with_weir(lab, "tcp");
        let vip = SocketAddr::new(Family::V4.vip(), PORT);
        let line = format!("--vip {vip} --to {WEIR} --syn-flood --rate 1k --duration 0.25");
        let sent = assert_all_came(&generate(&lab.client, (&lab.switch, "uplink"), &line), BATCH, false);
        let new = conn_count(lab);
        assert!((sent - 10..=sent).contains(&new), "{new} connections by {sent} SYNs, of which two may be from one source");
    });
}
