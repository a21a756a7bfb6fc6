//! Aim: limits strike and let in again, a client stays with its backend over two services, the backup pool answers when nobody else
//! does and no longer, and weights are kept by chance, too.

use crate::support::{Config, Family, Lab, Layout, curl, run, spread_of_requests, wait_until};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection that has ended is counted until these are over.
const SHORT: &str = "timeouts = { tcp_time_wait = \"1s\", tcp_fin_wait = \"2s\", tcp_close_wait = \"2s\", tcp_last_ack = \"2s\", tcp_close = \"1s\" }";

#[test]
fn a_limit_strikes_and_recovers() {
    run("limits", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        for family in Family::BOTH {
            set(lab, family, &format!("limits = {{ connections = 3, over = \"reject\" }}\n{SHORT}"));
        }
        // All addresses of the laboratory are in one /64.
        lab.config.more = "[sources]\nprefix_v6 = 128\n".into();
        lab.start_weir();
        for family in Family::BOTH {
            let mut open: Vec<_> = (0..3).map(|_| connect(lab, family).expect("a connection below the limit")).collect();
            let refused = connect(lab, family).expect_err("one over the limit");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "by a RST");
            assert_eq!(struck(lab, family, "connections"), 1);
            let explained = lab.weir().command(&format!("explain {} {} tcp", family.client(), vip(family))).stdout;
            assert!(explained.contains("rejected by a RST") && explained.contains("verdict: service_limit"), "{explained}");
            open.pop();
            let again = wait_until("room for one", Duration::from_secs(20), || connect(lab, family).ok());
            assert_eq!(connect(lab, family).expect_err("full again").kind(), ErrorKind::ConnectionRefused);
            drop((open, again));
            // A source that is over its limit hears nothing, and others do not hear of it.
            wait_until("all of them to be over", Duration::from_secs(20), || (connections(lab, family) == 0).then_some(()));
            set(lab, family, &format!("limits = {{ source_connections = 1 }}\n{SHORT}"));
            reload(lab);
            let held = connect(lab, family).expect("the first one of its source");
            let refused = connect(lab, family).expect_err("the second one");
            assert!(matches!(refused.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{refused}");
            assert!(lab.weir().drops()["source_limit"] >= 1);
            let other = other_client(family, 7);
            lab.client.ip(&format!("addr add {} dev eth0", family.on_link(other)));
            let from_other = format!("--silent --fail --max-time 5 --interface {other} {}", family.url("name"));
            assert!(curl(&lab.client, &from_other).success(), "another source");
            drop(held);
            let status = lab.weir().command("status").stdout;
            assert!(status.contains("source_connections") && status.contains("STRUCK"), "{status}");
        }
    });
}

#[test]
fn a_client_stays_with_its_backend_over_two_services() {
    run("persistence", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        for family in Family::BOTH {
            // Of another port, as HTTPS is, and a pool of its own on the same hosts.
            let backends = (1..=3).map(|number| (SocketAddr::new(family.backend(number), 80), 1)).collect();
            let name = format!("second-{}", family.name());
            lab.config.add(&name, SocketAddr::new(family.vip(), 443), "tcp", backends);
            let keys = format!("persistence = {{ timeout = \"1m\", group = \"shop-{}\" }}", family.name());
            set(lab, family, &keys);
            lab.config.set_access(&name, &keys);
            for number in 0..6 {
                lab.client.ip(&format!("addr add {} dev eth0", family.on_link(other_client(family, number))));
            }
        }
        lab.start_weir();
        for family in Family::BOTH {
            let homes: Vec<String> = (0..6).map(|number| home(lab, family, number)).collect();
            assert!(homes.iter().collect::<BTreeSet<_>>().len() >= 2, "all of them at one: {homes:?}");
            let client = other_client(family, 0);
            let explained = lab.weir().command(&format!("explain {client} {} tcp", vip(family))).stdout;
            assert!(explained.contains("persistence: "), "{explained}");
            // A reload keeps them; who takes no connections has no clients.
            let away = homes[0].clone();
            let number = away.trim_start_matches('b').parse::<usize>().expect("its number");
            for pool in ["web", "second"] {
                lab.config.backends(&format!("{pool}-{}", family.name()))[number - 1].1 = 0;
            }
            reload(lab);
            for (client, before) in (0..6).zip(&homes) {
                let now = home(lab, family, client);
                assert!(if *before == away { now != away } else { now == *before }, "client {client}: {before}, then {now}");
            }
        }
        assert!(lab.weir().status()["services"][0]["persisted"].as_u64() > Some(20));
    });
}

/// The backend of a client, the same one on both ports.
fn home(lab: &Lab, family: Family, client: u16) -> String {
    let client = other_client(family, client);
    let ask = |port: u16| {
        let url = format!("http://{}/name", SocketAddr::new(family.vip(), port));
        curl(&lab.client, &format!("--silent --fail --max-time 5 --interface {client} {url}")).stdout.trim().to_owned()
    };
    let home = ask(80);
    assert!(!home.is_empty(), "no answer for {client}");
    for port in [443, 80, 443, 80] {
        assert_eq!(ask(port), home, "{client} on port {port}");
    }
    home
}

#[test]
fn the_backup_pool_answers_while_all_others_are_down() {
    run("backup", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        for family in Family::BOTH {
            let pool = format!("web-{}", family.name());
            lab.config.backends(&pool).pop();
            lab.config.set_health(&pool, "{ type = \"tcp\", interval = \"100ms\", timeout = \"100ms\", rise = 1, fall = 1 }");
            let sorry = SocketAddr::new(family.backend(3), 80);
            let name = format!("sorry-{}", family.name());
            lab.config.more += &format!("[[pool]]\nname = \"{name}\"\nbackends = [{{ address = \"{sorry}\" }}]\n");
            set(lab, family, &format!("backup = \"{name}\""));
        }
        lab.start_weir();
        let answers = |lab: &Lab| {
            let spreads = Family::BOTH.map(|family| spread_of_requests(&lab.client, &family.url("name"), 20));
            spreads.iter().flat_map(|spread| spread.keys().cloned()).collect::<BTreeSet<String>>()
        };
        assert_eq!(answers(lab), ["b1".to_owned(), "b2".to_owned()].into());
        lab.backends[..2].iter_mut().for_each(|backend| backend.stop());
        wait_until("both to be down", Duration::from_secs(20), || (up(lab) == 0).then_some(()));
        assert_eq!(answers(lab), ["b3".to_owned()].into());
        let explained = lab.weir().command(&format!("explain 10.1.0.2 {} tcp", vip(Family::V4))).stdout;
        assert!(explained.contains("backup: ") && explained.contains("sorry-v4"), "{explained}");
        for service in lab.weir().status()["services"].as_array().expect("services") {
            assert_eq!(service["at_backup"].as_u64(), Some(20), "{service}");
        }
        lab.backends[..2].iter_mut().for_each(|backend| backend.start());
        wait_until("both to be up", Duration::from_secs(20), || (up(lab) == 4).then_some(()));
        assert_eq!(answers(lab), ["b1".to_owned(), "b2".to_owned()].into());
    });
}

#[test]
fn random_choices_are_spread_by_weight() {
    const REQUESTS: u32 = 1200;
    run("random_spread", Layout::two_arm(), |lab| {
        let weights = [5, 3, 1];
        lab.config = lab.config.clone().with_web(weights);
        for family in Family::BOTH {
            lab.config.set_scheduler(&format!("web-{}", family.name()), "random");
        }
        lab.start_weir();
        for family in Family::BOTH {
            let spread = spread_of_requests(&lab.client, &family.url("name"), REQUESTS);
            let sum: u32 = weights.iter().sum();
            let terms = ["b1", "b2", "b3"].iter().zip(weights).map(|(name, weight)| {
                let expected = f64::from(REQUESTS * weight) / f64::from(sum);
                (f64::from(spread.get(*name).copied().unwrap_or(0)) - expected).powi(2) / expected
            });
            let chi_square: f64 = terms.sum();
            // Two degrees of freedom: exceeded by chance once in a million times.
            assert!(chi_square < 27.6, "{chi_square}: {spread:?}");
        }
    });
}

fn set(lab: &mut Lab, family: Family, keys: &str) {
    lab.config.set_access(&format!("web-{}", family.name()), keys);
}

fn reload(lab: &mut Lab) {
    let config: Config = lab.config.clone();
    lab.weir().write_config(&config);
    let done = lab.weir().command("reload");
    assert!(done.success(), "{done}");
}

fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(family.vip(), 80)
}

fn connect(lab: &Lab, family: Family) -> std::io::Result<TcpStream> {
    lab.client.inside(|| TcpStream::connect_timeout(&vip(family), Duration::from_millis(1500)))
}

/// Further addresses of the client, of IPv6 in the same /64.
fn other_client(family: Family, number: u16) -> std::net::IpAddr {
    match family {
        Family::V4 => format!("10.1.0.{}", 20 + number),
        Family::V6 => format!("fd00:1::{}", 20 + number),
    }
    .parse()
    .expect("an address")
}

fn service(lab: &mut Lab, family: Family) -> serde_json::Value {
    let status = lab.weir().status();
    let name = format!("web-{}", family.name());
    status["services"].as_array().and_then(|all| all.iter().find(|service| service["name"] == name.as_str())).expect("it").clone()
}

fn struck(lab: &mut Lab, family: Family, limit: &str) -> u64 {
    let service = service(lab, family);
    let limits = service["limits"].as_array().expect("limits");
    limits.iter().find(|known| known["limit"] == limit).and_then(|known| known["struck"].as_u64()).expect("the limit")
}

fn connections(lab: &mut Lab, family: Family) -> u64 {
    service(lab, family)["connections"].as_u64().expect("a number")
}

/// Backends that passed their checks.
fn up(lab: &mut Lab) -> usize {
    let status = lab.weir().status();
    let pools = status["pools"].as_array().expect("pools");
    pools
        .iter()
        .flat_map(|pool| pool["backends"].as_array().expect("backends"))
        .filter(|backend| backend["health"] == "up")
        .count()
}
