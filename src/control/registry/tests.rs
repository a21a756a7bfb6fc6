use super::*;
use crate::schedule::Request;
use std::path::Path;

fn config(services: &[(&str, &str)], pools: &[(&str, &str, &[&str])]) -> Config {
    let mut text = "[[interface]]\nname = \"eth0\"\n[snat]\naddresses = [\"10.0.0.200\"]\n".to_owned();
    for (number, (name, pool)) in services.iter().enumerate() {
        text += &format!("[[service]]\nname = \"{name}\"\nvip = \"10.0.0.{number}:80\"\nprotocol = \"tcp\"\npool = \"{pool}\"\n");
    }
    for (name, more, backends) in pools {
        let backends: Vec<String> = backends.iter().map(|backend| format!("{{ {backend} }}")).collect();
        text += &format!("[[pool]]\nname = \"{name}\"\n{more}\nbackends = [{}]\n", backends.join(", "));
    }
    Config::parse(Path::new("test.toml"), &text).unwrap_or_else(|report| panic!("{report}"))
}

const A: &str = "address = \"10.1.0.1:80\"";
const A_HEAVY: &str = "address = \"10.1.0.1:80\", weight = 9";
const B: &str = "address = \"10.1.0.2:80\"";
const C: &str = "address = \"10.1.0.3:80\"";

fn ids(snapshot: &Snapshot) -> Vec<(&str, String, u16)> {
    let held = snapshot.backends.iter().flatten();
    held.map(|backend| (backend.pool.as_str(), backend.address().to_string(), backend.id.0)).collect()
}

#[test]
fn backends_and_services_keep_their_ids_over_reloads() {
    let mut registry = Registry::default();
    let first = registry.snapshot(&config(&[("x", "p"), ("y", "q")], &[("p", "", &[A, B]), ("q", "", &[A])])).unwrap();
    let second = registry.snapshot(&config(&[("z", "q"), ("y", "q")], &[("q", "", &[C, A_HEAVY]), ("p", "", &[B])])).unwrap();
    assert_eq!((first.generation, second.generation), (1, 2));
    let named = |name: &str, address: &str, id| (name.to_owned(), address.to_owned(), id);
    let expected =
        [named("p", "10.1.0.1:80", 0), named("p", "10.1.0.2:80", 1), named("q", "10.1.0.1:80", 2), named("q", "10.1.0.3:80", 3)];
    let held: Vec<_> = ids(&second).into_iter().map(|(pool, address, id)| (pool.to_owned(), address, id)).collect();
    assert_eq!(held, expected, "the removed one stays while the first snapshot lives");
    let kept = second.backend(BackendId(2)).unwrap();
    assert!(Arc::ptr_eq(kept, first.backend(BackendId(2)).unwrap()));
    assert_eq!(kept.member.configured_weight(), 9);
    let names: Vec<_> = second.services.iter().map(|service| (service.name.as_str(), service.id.0)).collect();
    assert_eq!(names, [("z", 2), ("y", 1)]);
    let members: Vec<_> = second.services.iter().map(|service| service.pool.members.len()).collect();
    assert_eq!(members, [2, 2]);
}

#[test]
fn a_removed_backend_stays_while_somebody_may_refer_to_it() {
    let mut registry = Registry::default();
    let both = config(&[("x", "p")], &[("p", "", &[A, B])]);
    let without = config(&[("x", "p")], &[("p", "", &[B])]);
    let with_another = config(&[("x", "p")], &[("p", "", &[B, C])]);

    let before = registry.snapshot(&both).unwrap();
    let removed = Arc::clone(&before.backend(BackendId(0)).unwrap().member);
    let after = registry.snapshot(&without).unwrap();
    // A worker still looks at `before` and opens a connection.
    let still = registry.snapshot(&without).unwrap();
    assert!(still.backend(BackendId(0)).is_some());
    removed.connection_opened();
    drop((before, after));
    let still = {
        drop(still);
        registry.snapshot(&without).unwrap()
    };
    assert!(still.backend(BackendId(0)).is_some(), "it has a connection");
    assert!(still.services.iter().all(|service| service.pool.members.len() == 1), "but gets no more");
    removed.connection_closed();
    let gone = registry.snapshot(&with_another).unwrap();
    assert_eq!(ids(&gone), [("p", "10.1.0.3:80".to_owned(), 0), ("p", "10.1.0.2:80".to_owned(), 1)], "its id is free again");
}

#[test]
fn a_backend_that_comes_back_is_the_one_that_was() {
    let mut registry = Registry::default();
    let (both, without) = (config(&[], &[("p", "", &[A, B])]), config(&[], &[("p", "", &[B])]));
    let first = registry.snapshot(&both).unwrap();
    first.backend(BackendId(0)).unwrap().member.connection_opened();
    drop(first);
    drop(registry.snapshot(&without).unwrap());
    let back = registry.snapshot(&both).unwrap();
    assert_eq!(back.backend(BackendId(0)).unwrap().member.connections(), 1);
}

#[test]
fn ids_that_run_out_are_told_before_anything_changes() {
    let mut registry = Registry::default();
    let small = config(&[("x", "p")], &[("p", "", &[A])]);
    let mut snapshots = vec![registry.snapshot(&small).unwrap()];
    let addresses = |from: u32| (from..from + 30_000).map(|n| SocketAddr::new(std::net::Ipv4Addr::from_bits(n).into(), 80));
    for from in [0x0b00_0000, 0x0c00_0000, 0x0d00_0000] {
        let mut large = small.clone();
        large.pools[0].backends = addresses(from)
            .map(|address| crate::config::Backend { address, weight: 1, priority: 0, overflow_at: None, max_connections: None })
            .collect();
        // As if older snapshots were still looked at.
        match registry.snapshot(&large) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(error) => assert_eq!(error, OutOfIds::Backends { wanted: 30_000, lingering: 60_001 }),
        }
    }
    assert_eq!(snapshots.len(), 3);
    assert_eq!(registry.backends.len(), 60_001);
    drop(snapshots);
    assert_eq!(registry.snapshot(&small).unwrap().backends.iter().flatten().count(), 1);
}

#[test]
fn probes_go_to_the_port_that_health_names() {
    let mut registry = Registry::default();
    let probed = config(
        &[],
        &[
            ("p", "health = { type = \"tcp\", port = 99, start = \"down\" }", &[A]),
            ("q", "", &[B]),
            ("r", "health = { type = \"tcp\" }", &[C]),
        ],
    );
    let snapshot = registry.snapshot(&probed).unwrap();
    let targets: Vec<_> = registry.targets(&probed).iter().map(|target| (target.backend.0, target.address.to_string())).collect();
    assert_eq!(targets, [(0, "10.1.0.1:99".to_owned()), (2, "10.1.0.3:80".to_owned())]);
    let eligible: Vec<_> = snapshot.backends.iter().flatten().map(|backend| backend.member.is_eligible()).collect();
    assert_eq!(eligible, [false, true, true]);
    // Without health checks nobody could bring it up again.
    let unprobed = registry.snapshot(&config(&[], &[("p", "", &[A])])).unwrap();
    assert!(unprobed.backend(BackendId(0)).unwrap().member.is_eligible());
}

#[test]
fn health_moves_the_choice_of_every_service_of_the_pool() {
    let mut registry = Registry::default();
    let snapshot = registry.snapshot(&config(&[("x", "p"), ("y", "p")], &[("p", "", &[A, B])])).unwrap();
    let request = Request { client: [192, 0, 2, 1].into(), client_port: 1 };
    let picks = || {
        let services = snapshot.services.iter();
        services
            .flat_map(|service| [(); 4].map(|()| service.scheduler.pick(&request, &service.pool.members).unwrap()))
            .collect::<Vec<_>>()
    };
    set_health(&snapshot, BackendId(0), false);
    assert_eq!(picks(), [1; 8]);
    set_health(&snapshot, BackendId(0), true);
    assert!(picks().contains(&0));
}
