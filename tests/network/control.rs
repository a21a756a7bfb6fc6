//! Aim: what the control thread promises beside the packets: reloads that say what they do, addresses that stay where they belong,
//! one daemon at a socket, and commands that tell the truth.

use crate::support::{Daemon, Family, Lab, Layout, Load, failures, has_carrier, run, spread_of_requests, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// A connection that is open goes on over its old source address; new ones take the new one; the old one goes with its last connection.
#[test]
fn a_snat_address_is_given_up_only_when_nothing_uses_it() {
    run("snat_retired", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[timeouts]\ntcp_time_wait = \"1s\"\ntcp_close = \"1s\"\n".into();
        lab.start_weir();
        let (old, new): (IpAddr, IpAddr) = (Family::V4.snat(), "10.2.0.201".parse().expect("an address"));
        let mut open = lab.open_connection(Family::V4);
        let mut config = lab.config.clone();
        config.snat[0] = new;
        let plan = reload(lab, &config);
        assert!(plan.contains("10.2.0.201 added") && plan.contains("10.2.0.200 takes no new connections"), "{plan}");
        assert!(has_address(lab, old) && has_address(lab, new));

        spread_of_requests(&lab.client, &Family::V4.url("name"), 30);
        assert_eq!(count(lab, "--service web-v4 --state established"), 1, "the one that is open");
        assert_eq!(request(&mut open), "HTTP/1.1 200 OK");
        drop(open);
        wait_until("the old SNAT address to be gone", Duration::from_secs(30), || (!has_address(lab, old)).then_some(()));
        spread_of_requests(&lab.client, &Family::V4.url("name"), 30);
    });
}

#[test]
fn what_only_a_restart_changes_is_refused_by_name() {
    run("reload_restart", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let unchanged = lab.config.clone();
        // No packet, no counter, no flow.
        let mut open = [(); 3].map(|()| lab.open_connection(Family::V4));
        let established = |lab: &mut Lab| lab.weir().command("conn count --state ESTABLISHED").stdout;
        wait_until("three connections", SOON, || (established(lab) == "3\n").then_some(()));
        let counted = |lab: &mut Lab| (lab.weir().of_workers("rx"), lab.weir().of_workers("tx"), lab.weir().drops());
        let before = counted(lab);
        assert_eq!(reload(lab, &unchanged), "the file changes nothing, generation 1 stays\n");
        assert_eq!((counted(lab), established(lab)), (before, "3\n".to_owned()));
        assert_eq!(open.each_mut().map(request), ["HTTP/1.1 200 OK"; 3]);
        let mut config = lab.config.clone();
        config.interfaces[0].push_str("\nmode = \"copy\"");
        config.add("more", "10.1.0.101:80".parse().expect("an address"), "tcp", vec![("10.2.0.11:80".parse().expect("one"), 1)]);
        lab.weir().write_config(&config);
        let refused = lab.weir().command("reload");
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains(" (mode); nothing was applied"), "{refused}");
        let differs = lab.weir().command("diff").stdout;
        assert!(differs.contains("a reload would be refused: only a restart can change interface "), "{differs}");
        assert!(differs.contains("service more: added"), "what else the file changes: {differs}");
        assert!(!has_address(lab, "10.1.0.101".parse().expect("an address")), "nothing of it was applied");
        assert_eq!(lab.weir().status()["generation"], 1);
    });
}

/// Addresses that go away without weir's doing come back, also those of IPv6 that the kernel takes away with the link.
#[test]
fn addresses_come_back() {
    run("addresses_back", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let there = |lab: &Lab| Family::BOTH.iter().all(|family| has_address(lab, family.vip())).then_some(());
        lab.node.ip(&format!("address delete {}/32 dev outside", Family::V4.vip()));
        wait_until("the VIP to be back", SOON, || there(lab));

        let mtu = lab.weir().status()["interfaces"][0]["mtu"].clone();
        lab.node.ip("link set outside down");
        wait_until("the interface to be seen down", SOON, || (lab.weir().status()["interfaces"][0]["up"] == false).then_some(()));
        assert_eq!((&lab.weir().status()["interfaces"][0]["mtu"], mtu.as_u64()), (&mtu, Some(1500)), "it has one all the same");
        lab.node.ip("link set outside up\naddress replace fd00:1::1/64 dev outside nodad");
        wait_until("both VIPs to be back", SOON, || there(lab));
        for family in Family::BOTH {
            let served = || (curl_name(lab, family)).then_some(());
            wait_until("an answer after the link came back", SOON, served);
            spread_of_requests(&lab.client, &family.url("name"), 30);
        }
    });
}

/// A switch may start later than this machine, and a card may lose its link while the one before was detached.
#[test]
fn an_interface_may_begin_without_a_carrier() {
    run("no_carrier", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.client.ip("link set eth0 down");
        wait_until("the carrier to be gone", SOON, || (!has_carrier(&lab.node, "outside")).then_some(()));
        lab.start_weir();
        assert!(lab.weir().log().contains("interface outside: it has no carrier yet"), "{}", lab.weir().log());
        assert_eq!(lab.weir().status()["interfaces"][0]["up"], false);

        lab.client.ip(&format!("link set eth0 up\naddress replace {} dev eth0", Family::V6.on_link(Family::V6.client())));
        for family in Family::BOTH {
            wait_until("an answer", SOON, || curl_name(lab, family).then_some(()));
            spread_of_requests(&lab.client, &family.url("name"), 30);
        }
    });
}

/// An address is where its subnet is, also when the subnet comes after the start or goes and comes back with its interface.
#[test]
fn addresses_follow_their_subnet() {
    run("addresses_follow", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        let snat = Family::V6.snat();
        let subnet = "address replace fd00:2::1/64 dev inside nodad";
        lab.node.ip("address delete fd00:2::1/64 dev inside");
        lab.start_weir();
        assert!(is_on(lab, "outside", snat), "no subnet: the first interface");
        assert!(lab.weir().log().contains("fd00:2::200: no interface has a subnet with it"), "{}", lab.weir().log());

        let settled = |lab: &Lab| (is_on(lab, "inside", snat) && !is_on(lab, "outside", snat)).then_some(());
        let served = |lab: &Lab, family| curl_name(lab, family).then_some(());
        lab.node.ip(subnet);
        wait_until("the SNAT address to be where its subnet is now", SOON, || settled(lab));
        wait_until("an answer", SOON, || served(lab, Family::V6));
        assert!(
            lab.weir().log().contains("fd00:2::200 moves from interface outside to interface inside"),
            "{}",
            lab.weir().log()
        );

        lab.node.ip("link set dev inside down");
        wait_until("the interface to be seen down", SOON, || (lab.weir().status()["interfaces"][1]["up"] == false).then_some(()));
        lab.node.ip("link set dev inside up");
        wait_until("the interface to be seen up", SOON, || (lab.weir().status()["interfaces"][1]["up"] == true).then_some(()));
        lab.node.ip(subnet);
        wait_until("the SNAT address to be back", SOON, || settled(lab));
        for family in Family::BOTH {
            wait_until("an answer after the link came back", SOON, || served(lab, family));
            spread_of_requests(&lab.client, &family.url("name"), 30);
        }
    });
}

/// A SNAT address takes all traffic, so it may not be one that the host has from somebody else.
#[test]
fn a_reload_does_not_take_an_address_of_the_host() {
    run("reload_host_address", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let mut config = lab.config.clone();
        config.snat[0] = "10.2.0.1".parse().expect("an address");
        config.add("more", "10.1.0.101:80".parse().expect("an address"), "tcp", vec![("10.2.0.11:80".parse().expect("one"), 1)]);
        lab.weir().write_config(&config);
        let refused = lab.weir().command("reload");
        assert_eq!(refused.code(), Some(1), "{refused}");
        for part in ["SNAT address 10.2.0.1 ", "interface inside", "snat.addresses", "nothing was applied"] {
            assert!(refused.stderr.contains(part), "{part}: {refused}");
        }
        assert!(!has_address(lab, "10.1.0.101".parse().expect("an address")), "nothing of it was applied");
        spread_of_requests(&lab.client, &Family::V4.url("name"), 30);

        let mut config = lab.config.clone();
        config.more = "[[service]]\nname = \"all\"\nvip = \"10.1.0.1\"\nprotocol = \"udp\"\npool = \"all\"\n
             [[pool]]\nname = \"all\"\nbackends = [{ address = \"10.2.0.11\" }]\n"
            .into();
        reload(lab, &config);
        let warning = "service all: 10.1.0.1 is an address of the host, on interface outside, and the service is on every port";
        assert!(lab.weir().log().contains(warning), "{}", lab.weir().log());
    });
}

#[test]
fn a_removed_interface_ends_weir_with_its_name() {
    run("interface_removed", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        lab.node.ip("link delete inside");
        let status = lab.weir().wait(SOON).expect("weir ends by itself");
        assert_eq!(status.code(), Some(1), "{}", lab.weir().log());
        assert!(lab.weir().log().contains("interface inside was removed"), "{}", lab.weir().log());
        assert!(!has_address(lab, Family::V4.vip()), "the VIP was left on the other interface");
    });
}

#[test]
fn a_second_daemon_at_the_same_socket_is_refused_with_the_pid_of_the_first() {
    run("second_at_socket", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let pid = lab.weir().status()["pid"].as_u64().expect("a pid");
        let (directory, config) = (lab.directory.clone(), lab.config.clone());
        let mut second = Daemon::spawn(&lab.node, &directory, &config, None);
        let status = second.wait(SOON).expect("the second one ends by itself");
        let log = second.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(&format!("already running with this admin socket (pid {pid},")), "{log}");
        assert!(lab.directory.join("weir.sock").exists(), "the first one's socket is still there");
        spread_of_requests(&lab.client, &Family::V4.url("name"), 30);
    });
}

/// A VIP that a killed weir left on an interface is its successor's to remove, when the config has it no more.
#[test]
fn what_a_killed_weir_left_is_cleaned_up_by_the_next() {
    run("leftovers", Layout::two_arm(), |lab| {
        let bare = lab.config.clone().with_web([1, 1, 1]);
        let gone: SocketAddr = "10.1.0.101:80".parse().expect("an address");
        lab.config = bare.clone();
        lab.config.add("gone", gone, "tcp", vec![(SocketAddr::new(Family::V4.backend(1), 80), 1)]);
        let before = lab.node.run("ip -o -4 address");
        lab.start_weir();
        lab.weir().kill();
        assert!(has_address(lab, gone.ip()) && has_address(lab, Family::V4.vip()), "a killed weir leaves its addresses");
        lab.config = bare;
        lab.start_weir();
        assert!(!has_address(lab, gone.ip()) && has_address(lab, Family::V4.vip()));
        let status = lab.weir().stop();
        assert_eq!(status.code(), Some(0));
        assert_eq!(lab.node.run("ip -o -4 address"), before, "and nothing is left at the end");
        assert!(!lab.directory.join("weir.sock").exists() && !lab.directory.join("weir.state").exists());
    });
}

#[test]
fn commands_tell_of_connections() {
    run("commands", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let open = lab.open_connection(Family::V4);
        let client = open.local_addr().expect("an address");
        let explained = json(lab, &format!("explain {client} {}:80 tcp --json", Family::V4.vip()));
        assert_eq!(explained["verdict"], "forward", "{explained:#}");
        let shown = json(lab, &format!("conn show {client} {}:80 tcp --json", Family::V4.vip()));
        assert_eq!((&shown["state"], &shown["service"]), (&"ESTABLISHED".into(), &"web-v4".into()), "{shown:#}");
        assert_eq!(explained["backend"], shown["backend"]);

        let reply = json(lab, &format!("conn show {} {} tcp --json", text(&shown["backend"]), text(&shown["snat"])));
        assert_eq!(reply["source"], shown["source"], "found in reply direction too");
        let listed = json(lab, &format!("conn list --json --src {} --state established", client.ip()));
        assert_eq!(listed.as_array().expect("a list").len(), 1, "{listed:#}");
        assert_eq!(count(lab, "--proto udp"), 0);
        assert_eq!(count(lab, &format!("--backend {}", text(&shown["backend"]))), 1);

        let fresh = json(lab, "explain 10.1.0.2 10.1.0.100:80 tcp --json");
        assert_eq!((&fresh["verdict"], &fresh["interface"]), (&"forward".into(), &"inside".into()), "{fresh:#}");
        let passed = json(lab, "explain 10.1.0.2 10.1.0.100:22 tcp --json");
        assert_eq!(passed["verdict"], "pass", "{passed:#}");

        let deleted = lab.weir().command(&format!("conn delete {client} {}:80 tcp", Family::V4.vip()));
        assert!(deleted.success(), "{deleted}");
        assert_eq!(count(lab, &format!("--src {client}")), 0);
        let again = lab.weir().command(&format!("conn delete {client} {}:80 tcp", Family::V4.vip()));
        assert_eq!(again.code(), Some(1), "{again}");
    });
}

#[test]
fn a_stop_under_load_is_in_order() {
    run("stop_under_load", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        for _ in 0..3 {
            lab.start_weir();
            let load = Load::start(&lab.client, &[SocketAddr::new(Family::V4.vip(), 80)], 2);
            load.wait_for(100);
            assert_eq!(failures(&load.outcomes()), [""; 0]);
            let status = lab.weir().stop();
            assert_eq!(status.code(), Some(0), "{}", lab.weir().log());
            assert!(!has_address(lab, Family::V4.vip()));
        }
    });
}

/// The first line of the answer.
fn request(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /name HTTP/1.1\r\nHost: b\r\n\r\n").expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

fn curl_name(lab: &Lab, family: Family) -> bool {
    let url = family.url("name");
    crate::support::curl(&lab.client, &format!("--silent --fail --max-time 3 {url}")).success()
}

/// Writes the config and asks for it to be applied; what was done.
fn reload(lab: &mut Lab, config: &crate::support::Config) -> String {
    lab.weir().write_config(config);
    let done = lab.weir().command("reload");
    assert!(done.success(), "{done}");
    done.stdout
}

fn json(lab: &mut Lab, command: &str) -> Value {
    let finished = lab.weir().command(command);
    assert!(finished.success(), "weir {command}: {finished}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("weir {command}: {error}\n{finished}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("text expected, found {value}"))
}

fn count(lab: &mut Lab, filter: &str) -> u64 {
    json(lab, &format!("conn count --json {filter}"))["count"].as_u64().expect("a count")
}

fn has_address(lab: &Lab, address: IpAddr) -> bool {
    lab.node.run("ip -o address").contains(&format!(" {address}/"))
}

fn is_on(lab: &Lab, interface: &str, address: IpAddr) -> bool {
    lab.node.run(&format!("ip -o address show dev {interface}")).contains(&format!(" {address}/"))
}
