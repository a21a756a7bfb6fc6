//! What the files under `tests/bad_config` do not show.

use super::*;
use crate::schedule::Kind;
use crate::xdp::{MAX_ADDRESSES, MAX_SERVICES};
use proptest::prelude::*;

const SHORTEST: &str = r#"
[[interface]]
name = "eth0"

[snat]
addresses = ["10.0.0.200"]
ports = "1024-65535"

[timeouts]
tcp_established = "15m"
udp = "30s"

[[service]]
name = "web"
vip = "10.0.0.100:443"
protocol = "tcp"
scheduler = "maglev"
pool = "web"

[[pool]]
name = "web"
health = { type = "http", path = "/healthz", interval = "2s", rise = 2, fall = 3 }
backends = [
  { address = "10.1.0.11:8443", weight = 10 },
  { address = "10.1.0.12:8443" },
]
"#;

fn parse(source: &str) -> Config {
    Config::parse(Path::new("test.toml"), source).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn the_shortest_useful_file_means_what_it_says() {
    let config = parse(SHORTEST);
    assert_eq!(
        config.interfaces,
        [Interface { name: "eth0".into(), mode: Mode::Auto, checksum: Checksum::Incremental, queues: None }]
    );
    assert_eq!((config.worker, config.max_connections), (Worker::default(), 1_000_000));
    assert_eq!(config.snat, SnatPool { v4: vec!["10.0.0.200".parse().unwrap()], v6: vec![], ports: 1024..=65535 });
    assert_eq!((config.timeouts.tcp_established, config.timeouts.udp), (900_000, 30_000));
    let [service] = &config.services[..] else { panic!("{:?}", config.services) };
    assert_eq!((service.vip, service.port, service.scheduler), ("10.0.0.100".parse().unwrap(), Some(443), Kind::Maglev));
    let [pool] = &config.pools[..] else { panic!("{:?}", config.pools) };
    let backends = [("10.1.0.11:8443", 10), ("10.1.0.12:8443", 1)].map(|(a, weight)| Backend {
        address: a.parse().unwrap(),
        weight,
        priority: 0,
        overflow_at: None,
        max_connections: None,
    });
    assert_eq!(pool.backends, backends);
    let health = pool.health.as_ref().unwrap();
    assert_eq!(
        (health.interval, health.timeout, health.rise, health.fall),
        (Duration::from_secs(2), Duration::from_secs(1), 2, 3)
    );
}

#[test]
fn how_it_is_written_does_not_matter() {
    let other = SHORTEST.replace("\"15m\"", "\"900s\"").replace("ports = \"1024-65535\"\n", "").replace("rise = 2, ", "");
    assert_eq!(parse(SHORTEST), parse(&format!("# a comment\n{other}\n[worker]\n")));
    assert_ne!(parse(SHORTEST), parse(&SHORTEST.replace("weight = 10", "weight = 11")));
}

#[test]
fn an_any_port_service_takes_the_ports_that_no_other_service_has() {
    let other = "[[service]]\nname = \"rest\"\nvip = \"10.0.0.100\"\nprotocol = \"tcp\"\npool = \"rest\"\n\
                 [[pool]]\nname = \"rest\"\nbackends = [{ address = \"10.1.0.13\" }]\n";
    let config = parse(&format!("{SHORTEST}{other}"));
    assert_eq!(config.services.iter().map(|service| service.port).collect::<Vec<_>>(), [Some(443), None]);
    assert_eq!(config.pools[1].backends[0].address, "10.1.0.13:0".parse().unwrap());
}

#[test]
fn what_only_a_restart_changes_is_named() {
    let named = |from: &str, to: &str| {
        assert!(SHORTEST.contains(from), "{from}");
        parse(SHORTEST).needs_restart(&parse(&SHORTEST.replacen(from, to, 1))).join(", ")
    };
    let eth0 = "name = \"eth0\"\n";
    let second = "[[interface]]\nname = \"eth1\"\n";
    assert_eq!(named(eth0, &format!("{eth0}mode = \"copy\"\nqueues = 1\n")), "interface eth0 (mode, queues)");
    assert_eq!(named(eth0, "name = \"eth1\"\n"), "interface eth1 (added), interface eth0 (removed)");
    assert_eq!(named("[snat]", "[worker]\nframes = 512\n[admin]\nsocket = \"/x\"\n[snat]"), "worker.frames, admin.socket");
    assert_eq!(named("\"30s\"", "\"31s\""), "");
    let both =
        |first: &str, last: &str| parse(&SHORTEST.replacen("[[interface]]\nname = \"eth0\"\n", &format!("{first}{last}"), 1));
    let first = "[[interface]]\nname = \"eth0\"\n";
    assert_eq!(both(first, second).needs_restart(&both(second, first)), ["the order of the interfaces"]);
}

/// A file with services at these VIPs, all of one pool.
fn with_vips(vips: impl Iterator<Item = String>) -> Result<Config, ConfigReport> {
    let mut text = "[[interface]]\nname = \"eth0\"\n[snat]\naddresses = [\"10.0.0.200\"]\n".to_owned();
    text += "[[pool]]\nname = \"web\"\nbackends = [{ address = \"10.1.0.11:80\" }]\n";
    for (number, vip) in vips.enumerate() {
        text += &format!("[[service]]\nname = \"s{number}\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\npool = \"web\"\n");
    }
    Config::parse(Path::new("test.toml"), &text)
}

#[test]
fn no_more_is_accepted_than_the_xdp_program_holds() {
    let said = |report: ConfigReport| {
        let [problem] = report.problems() else { panic!("{report}") };
        format!("{}; {}", problem.found, problem.allowed)
    };
    let services = |count: usize| with_vips((0..count).map(|number| format!("10.0.0.100:{}", number + 1)));
    assert!(services(MAX_SERVICES).is_ok());
    let told = "there are too many IPv4 services on one port; at most 16384 of a family";
    assert_eq!(said(services(MAX_SERVICES + 1).unwrap_err()), told);
    // The SNAT address is one of them.
    let addresses = |count: usize| with_vips((0..count).map(|number| format!("10.2.{}.{}:80", number / 200, number % 200 + 1)));
    assert!(addresses(MAX_ADDRESSES - 1).is_ok());
    let told = "there are too many IPv4 VIPs and SNAT addresses; at most 4096 of a family, VIPs and SNAT addresses together";
    assert_eq!(said(addresses(MAX_ADDRESSES).unwrap_err()), told);
}

proptest! {
    /// A file that is cut, spliced or garbled anywhere is refused or accepted, and its report can be shown.
    #[test]
    fn no_file_is_too_broken_to_talk_about(cut in 0..SHORTEST.len(), gone in 0usize..40, put in any::<Vec<u8>>(), word in "[\\[\\]{}=\",.a-z0-9\n -]{0,12}") {
        let mut bytes = SHORTEST.as_bytes().to_vec();
        let end = bytes.len().min(cut + gone);
        for put in [put, word.into_bytes()] {
            bytes.splice(cut..end, put);
            let path = Path::new("test.toml");
            if let Err(report) = Config::parse_bytes(path, bytes.clone()) {
                prop_assert!(!report.problems().is_empty());
                prop_assert!(report.to_string().contains("test.toml") && !report.render_styled().is_empty());
                for place in report.problems().iter().flat_map(|problem| &problem.places) {
                    let (line, column) = report.line_and_column(place);
                    prop_assert!(line >= 1 && column >= 1);
                }
            }
            bytes = SHORTEST.as_bytes().to_vec();
        }
    }
}

#[test]
fn a_wrong_rate_does_not_hide_a_wrong_burst() {
    let source = SHORTEST.replace("pool = \"web\"\n\n", "pool = \"web\"\nlimits = { rate = -1, burst = 0 }\n\n");
    let report = Config::parse(Path::new("test.toml"), &source).unwrap_err();
    let keys: Vec<&str> = report.problems().iter().map(|problem| &*problem.key).collect();
    assert_eq!(keys, ["service.limits.rate", "service.limits.burst"]);
}
