//! What the files under `tests/bad_config` do not show.

use super::*;
use crate::schedule::Kind;
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
    let backends =
        [("10.1.0.11:8443", 10), ("10.1.0.12:8443", 1)].map(|(a, weight)| Backend { address: a.parse().unwrap(), weight });
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
