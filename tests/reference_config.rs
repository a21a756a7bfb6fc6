//! `docs/configuration.md` tells the truth: it lists exactly the keys that exist, with their defaults, their ranges, and whether a reload
//! applies them. Asked of the config reader itself, not of a second list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use weir::config::{Config, ConfigReport};

/// One row of a table of keys.
#[derive(Debug)]
struct Key {
    table: String,
    name: String,
    default: String,
    allowed: String,
    applied_by: String,
}

/// The tables of keys, under their headings.
fn documented() -> Vec<Key> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("docs/configuration.md");
    let (mut keys, mut table, mut in_keys) = (Vec::new(), String::new(), false);
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            table = heading
                .split('`')
                .filter(|part| !part.trim().is_empty())
                .map(|part| part.trim_matches(['[', ']']))
                .collect::<Vec<_>>()
                .join(".");
        } else if line.starts_with("| key | default | allowed | applied by |") {
            in_keys = true;
        } else if !line.starts_with('|') {
            in_keys = false;
        } else if in_keys && !line.starts_with("|---") {
            let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
            let [_, name, default, allowed, applied_by, ..] = &cells[..] else { panic!("too few cells: {line}") };
            let name = name.trim_matches('`').to_owned();
            keys.push(Key {
                table: table.clone(),
                name,
                default: default.clone(),
                allowed: allowed.clone(),
                applied_by: applied_by.clone(),
            });
        }
    }
    assert!(keys.len() > 40, "{} keys found: has the form of the tables changed?", keys.len());
    keys
}

type Lines = BTreeMap<String, String>;

/// A small config, as key and value by table; `pool.backends` and `pool.health` stand inside of `pool`.
fn base() -> BTreeMap<&'static str, Lines> {
    let lines = |lines: &[(&str, &str)]| lines.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    BTreeMap::from([
        ("interface", lines(&[("name", "\"eth0\"")])),
        ("worker", lines(&[])),
        ("conntrack", lines(&[])),
        ("fragments", lines(&[])),
        ("admin", lines(&[])),
        ("reload", lines(&[])),
        ("sources", lines(&[])),
        ("service.limits", lines(&[])),
        ("service.persistence", lines(&[])),
        ("snat", lines(&[("addresses", "[\"10.0.0.200\"]")])),
        ("timeouts", lines(&[])),
        ("service", lines(&[("name", "\"web\""), ("vip", "\"10.0.0.100:443\""), ("protocol", "\"tcp\""), ("pool", "\"web\"")])),
        ("pool", lines(&[("name", "\"web\"")])),
        ("pool.backends", lines(&[("address", "\"10.1.0.11:8443\"")])),
        ("pool.health", lines(&[("type", "\"http\"")])),
        ("pool.drain", lines(&[])),
        ("pool.passive", lines(&[])),
    ])
}

fn write(config: &BTreeMap<&str, Lines>) -> String {
    let inline = |lines: &Lines| {
        let pairs: Vec<String> = lines.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    };
    let mut text = String::new();
    for (table, lines) in config.iter().filter(|(table, _)| !table.contains('.')) {
        let many = ["interface", "service", "pool"].contains(table);
        text += &if many { format!("[[{table}]]\n") } else { format!("[{table}]\n") };
        lines.iter().for_each(|(key, value)| text += &format!("{key} = {value}\n"));
        if *table == "service" {
            for part in ["limits", "persistence"].into_iter().filter(|part| !lines.contains_key(*part)) {
                text += &format!("{part} = {}\n", inline(&config[&*format!("service.{part}")]));
            }
        }
        if *table == "pool" {
            let tables = ["pool.health", "pool.drain", "pool.passive", "pool.backends"];
            let [health, drain, passive, backends] = tables.map(|table| inline(&config[table]));
            // A test may have given the whole of it.
            let given = |key| lines.contains_key(key);
            text += &if given("health") { String::new() } else { format!("health = {health}\n") };
            text += &if given("passive") { String::new() } else { format!("passive = {passive}\n") };
            text += &if given("drain") { String::new() } else { format!("drain = {drain}\n") };
            text += &if given("backends") { String::new() } else { format!("backends = [{backends}]\n") };
        }
    }
    // One that stands by, for the keys that name it.
    text + "[[pool]]\nname = \"sorry\"\nbackends = [{ address = \"10.1.0.99:8443\" }]\n"
}

/// The scheduler without which a key is refused.
fn scheduler_of(key: &str) -> Option<&'static str> {
    match key {
        "maglev_table_size" => Some("\"maglev\""),
        "hash_balance_factor" => Some("\"bounded_hash\""),
        "priority" => Some("\"failover\""),
        "overflow_at" => Some("\"first_available\""),
        _ => None,
    }
}

/// What a key of a probe needs beside it: the type, and what that needs.
fn probe_of(key: &str, value: &str) -> Vec<(&'static str, &'static str)> {
    match (key, value) {
        ("sni" | "verify" | "ca_file" | "full_handshake", _) | ("type", "\"https\"") => vec![("type", "\"https\"")],
        ("send" | "expect", _) | ("type", "\"udp\"") => vec![("type", "\"udp\""), ("send", "\"ping\"")],
        ("query" | "record" | "rcode" | "answer", _) | ("type", "\"dns\"") => {
            vec![("type", "\"dns\""), ("query", "\"example.org\"")]
        }
        ("command", _) | ("type", "\"exec\"") => vec![("type", "\"exec\""), ("command", "[\"/bin/sh\"]")],
        _ => Vec::new(),
    }
}

/// The base with one key set, and what that key needs beside it.
fn with(table: &str, key: &str, value: &str) -> String {
    let mut config = base();
    if let Some(scheduler) = scheduler_of(key) {
        config.get_mut("service").map(|lines| lines.insert("scheduler".into(), scheduler.into()));
    }
    if key == "protocol" && ["\"gre\"", "\"icmp\""].contains(&value) {
        for (table, key, value) in
            [("service", "vip", "\"10.0.0.100\""), ("pool.backends", "address", "\"10.1.0.11\""), ("pool.health", "port", "80")]
        {
            config.get_mut(table).map(|lines| lines.insert(key.into(), value.into()));
        }
    }
    if key == "quorum_hysteresis" {
        config.get_mut(table).map(|lines| lines.insert("quorum".into(), "0".into()));
    }
    if table == "pool.health" {
        for (key, value) in probe_of(key, value) {
            config.get_mut(table).map(|lines| lines.insert(key.into(), value.into()));
        }
    }
    if value == "\"backup\"" {
        config.get_mut("service").map(|lines| lines.insert("backup".into(), "\"sorry\"".into()));
    }
    if let Some(rate) = key.strip_suffix("burst") {
        config.get_mut(table).map(|lines| lines.insert(format!("{rate}rate"), "10".into()));
    }
    let lines = config.get_mut(table).unwrap_or_else(|| panic!("the table {table} is not in this test"));
    lines.insert(key.to_owned(), value.to_owned());
    write(&config)
}

fn parse(source: &str) -> Result<Config, ConfigReport> {
    Config::parse(Path::new("reference.toml"), source)
}

fn accepted(source: &str) -> Config {
    parse(source).unwrap_or_else(|report| panic!("{report}\n{source}"))
}

fn default_of(key: &Key) -> Option<&str> {
    key.default.strip_prefix('`').and_then(|rest| rest.split_once('`')).map(|(default, _)| default)
}

#[test]
fn exactly_the_keys_that_exist_are_listed() {
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for key in documented() {
        assert!(listed.entry(key.table.clone()).or_default().insert(key.name.clone()), "{key:?} is listed twice");
    }
    assert_eq!(listed.keys().map(String::as_str).collect::<Vec<_>>(), base().into_keys().collect::<Vec<_>>());
    for (table, keys) in &listed {
        let report = parse(&with(table, "no_such_key", "\"1s\"")).expect_err("a key that does not exist");
        let [problem] = report.problems() else { panic!("{report}") };
        let exist: BTreeSet<String> = problem.allowed.split(", ").map(str::to_owned).collect();
        assert_eq!(*keys, exist, "listed, and existing, in {table}");
    }
    let report = parse(&format!("[no_such_table]\n{}", write(&base()))).expect_err("a table that does not exist");
    let tables: BTreeSet<&str> = report.problems()[0].allowed.split(", ").collect();
    let top: BTreeSet<&str> = base().into_keys().filter(|table| !table.contains('.')).collect();
    assert_eq!(tables, top);
}

#[test]
fn defaults_are_what_they_are_said_to_be() {
    let mut tried = 0;
    for key in documented() {
        let Some(default) = default_of(&key) else { continue };
        let unset = match (scheduler_of(&key.name), probe_of(&key.name, default).first()) {
            (Some(scheduler), _) => with("service", "scheduler", scheduler),
            (None, Some((_, kind))) => with("pool.health", "type", kind),
            (None, None) => write(&base()),
        };
        assert_eq!(accepted(&with(&key.table, &key.name, default)), accepted(&unset), "{key:?}");
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
}

#[test]
fn what_is_required_is_required_and_nothing_else() {
    for key in documented() {
        let mut config = base();
        let was_there = config.get_mut(&*key.table).is_some_and(|lines| lines.remove(&key.name).is_some());
        if key.name == "backends" {
            continue; // The list is written by this test; `tests/bad_config/pool_without_backends.toml` leaves it out.
        }
        assert_eq!(key.default == "required", was_there, "{key:?}");
        assert_eq!(parse(&write(&config)).is_err(), was_there, "{key:?}");
    }
}

#[test]
fn ranges_end_where_they_are_said_to() {
    let mut tried = 0;
    for key in documented() {
        let words: Vec<&str> = key.allowed.split(' ').collect();
        if let [first, "to", last] = &words[..] {
            let number = |text: &str| text.parse::<i64>().ok();
            let (inside, outside) = match (number(first), number(last)) {
                (Some(first), Some(last)) => {
                    ([first.to_string(), last.to_string()], vec![(first - 1).to_string(), (last + 1).to_string()])
                }
                // A millisecond beyond, as a sum of two units; what ends at another key is tried in tests/bad_config.
                _ if last.starts_with('`') => continue,
                _ => ([format!("\"{first}\""), format!("\"{last}\"")], vec!["\"0ms\"".to_owned(), format!("\"{last} 1ms\"")]),
            };
            inside.iter().for_each(|value| drop(accepted(&with(&key.table, &key.name, value))));
            for value in outside {
                let report = parse(&with(&key.table, &key.name, &value)).expect_err(&value);
                assert!(report.problems().iter().any(|problem| problem.key == format!("{}.{}", key.table, key.name)), "{report}");
            }
            tried += 1;
        }
        let quoted: Vec<&str> = key.allowed.split(", ").collect();
        if quoted.iter().all(|word| word.starts_with("`\"") && word.ends_with("\"`")) {
            for word in &quoted {
                drop(accepted(&with(&key.table, &key.name, word.trim_matches('`'))));
            }
            let report = parse(&with(&key.table, &key.name, "\"no such word\"")).expect_err("a word that is not allowed");
            assert_eq!(report.problems()[0].allowed, key.allowed.replace('`', ""), "{key:?}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_reload_applies_what_it_is_said_to() {
    let base_config = accepted(&write(&base()));
    for key in documented() {
        let value = match (&*key.table, &*key.name) {
            ("interface", "name") => "\"eth1\"",
            ("interface", "mode") => "\"copy\"",
            ("interface", "checksum") => "\"recompute\"",
            ("worker", "cpus") => "[1]",
            ("worker", "idle") => "\"spin\"",
            ("worker", "busy_poll") => "20",
            ("worker", "frame_size") => "4096",
            ("conntrack", "checksum") => "\"all\"",
            ("service", "timeouts") => "{ tcp_established = \"7s\" }",
            ("conntrack", "preallocate" | "accounting" | "evict_established" | "tcp_be_liberal" | "tcp_loose") => "true",
            ("admin", "socket") => "\"/run/other.sock\"",
            ("snat", "addresses") => "[\"10.0.0.201\"]",
            ("snat", "ports") => "\"2000-3000\"",
            ("timeouts", _) | ("fragments", "timeout") => "\"7s\"",
            ("service", "vip") => "\"10.0.0.101:80\"",
            ("service", "protocol") => "\"udp\"",
            ("service", "helper") => "\"ftp\"",
            ("service", "allow" | "deny") => "[\"192.0.2.0/24\"]",
            ("service", "scheduler") => "\"least_conn\"",
            ("service", "maglev_table_size") => "251",
            ("service", "hash_balance_factor") => "150",
            ("service", "limits") => "{ rate = 5 }",
            ("service", "persistence") => "{ timeout = \"7m\" }",
            ("service", "backup") => "\"sorry\"",
            ("service.limits", "over") => "\"reject\"",
            ("service.limits", _) => "1024",
            ("service.persistence", "timeout") => "\"7m\"",
            ("service.persistence", "group") => "\"shop\"",
            ("service.persistence" | "sources", "prefix_v4") => "24",
            ("service.persistence" | "sources", "prefix_v6") => "56",
            ("sources", _) => "2048",
            ("pool.backends", "priority") => "3",
            ("service" | "pool", "name" | "pool") => continue, // Names that refer to each other; a name is no setting.
            ("reload", "watch") => "true",
            ("reload", "max_reset") => "7",
            ("reload", "overrides") => "\"drop\"",
            ("service", "quorum" | "quorum_hysteresis") | ("pool", "min_up") => "1",
            ("pool", "slow_start") => "\"10s\"",
            ("pool", "passive") => "{ failures = 9 }",
            ("pool.passive", "window" | "eject" | "max_eject") => "\"40s\"",
            ("pool.passive", "failures" | "percent") => "7",
            ("pool", "drain") => "{ udp = \"rehash\" }",
            ("pool.drain", "deadline" | "failed_deadline") => "\"7s\"",
            ("pool.drain", "tcp") => "\"wait\"",
            ("pool.drain", "udp") => "\"rehash\"",
            ("pool", "health") => "{ type = \"tcp\" }",
            ("pool", "backends") => "[{ address = \"10.1.0.12:80\" }]",
            ("pool.backends", "address") => "\"10.1.0.12:80\"",
            ("pool.health", "type") => "\"tcp\"",
            ("pool.health", "path") => "\"/x\"",
            ("pool.health", "host") => "\"x\"",
            ("pool.health", "status") => "\"200\"",
            ("pool.health", "header") => "\"X-Ready\"",
            ("pool.health", "body" | "expect" | "send") => "\"pong\"",
            ("pool.health", "sni") => "\"a.example\"",
            ("pool.health", "verify") => "false",
            ("pool.health", "ca_file") => concat!("\"", env!("CARGO_MANIFEST_DIR"), "/tests/certificates/somebody.pem\""),
            ("pool.health", "query") => "\"other.example\"",
            ("pool.health", "record") => "\"TXT\"",
            ("pool.health", "rcode") => "\"NXDOMAIN\"",
            ("pool.health", "answer") => "\"192.0.2.1\"",
            ("pool.health", "command") => "[\"/bin/true\"]",
            ("pool.health", "full_handshake") => "\"0s\"",
            ("pool.health", "jitter") => "\"100ms\"",
            ("pool.health", "interval") => "\"3s\"",
            ("pool.health", "timeout") => "\"900ms\"",
            ("pool.health", "start") => "\"down\"",
            ("interface", "queues")
            | ("worker", "frames")
            | ("conntrack", "max_connections")
            | ("fragments", _)
            | ("pool.backends" | "pool.health", _) => "1024",
            (table, key) => panic!("{table}.{key}: which other value is allowed?"),
        };
        let value = match (&*key.name, value) {
            ("queues" | "rise" | "fall", _) => "7",
            _ => value,
        };
        let changed = accepted(&with(&key.table, &key.name, value));
        assert_ne!(changed, base_config, "{key:?} = {value} changes nothing");
        let restart = !base_config.needs_restart(&changed).is_empty();
        assert_eq!(key.applied_by, if restart { "restart" } else { "reload" }, "{key:?}");
    }
}

#[test]
fn the_example_in_the_reference_is_accepted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("docs/configuration.md");
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let config = accepted(example);
    assert_eq!((config.services.len(), config.pools[0].backends.len()), (1, 2));
}
