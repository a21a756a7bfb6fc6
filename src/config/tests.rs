//! What the files under `tests/bad_config` do not show.

use super::*;
use crate::schedule::Kind;

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
