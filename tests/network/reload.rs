//! Aim: reloads that an operator need not fear: foreseen to the last connection, refused above a limit, hundreds in a row under load without
//! a failed request, a thousand services at a time, and applied by themselves once an edit has settled.

use crate::support::{Config, Family, Lab, Layout, Load, answers, failures, run, spread_of_requests, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(15);

/// Nobody sends a signal: the file alone is written: half of it, then all of it in place, then another one by a rename.
#[test]
fn an_edit_is_applied_once_it_has_settled() {
    run("reload_watch", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[reload]\nwatch = true\n".into();
        let complete = lab.config.clone();
        lab.config.backends("web-v4").pop();
        let fewer = lab.config.clone();
        lab.start_weir();
        let load = Load::start(&lab.client, &[SocketAddr::new(Family::V4.vip(), 80)], 1);
        load.wait_for(50);

        let path = lab.weir().config_path().to_owned();
        let whole = std::fs::read(&path).expect("the config");
        std::fs::write(&path, &whole[..whole.len() - 20]).expect("half a config");
        wait_until("the refusal in the log", SOON, || lab.weir().log().contains("reload refused").then_some(()));
        assert_eq!(lab.weir().status()["generation"], 1);
        // In place: it means what is in force.
        std::fs::write(&path, &whole).expect("a config");
        wait_until("the whole file to be read", SOON, || lab.weir().log().contains("the file changes nothing").then_some(()));
        // As editors do it, by a rename.
        lab.weir().write_config(&complete);
        wait_until("answers of b3", SOON, || answers(&load.outcomes()).get("b3").map(|_| ()));
        assert_eq!(lab.weir().status()["generation"], 2);
        lab.weir().write_config(&fewer);
        wait_until("generation 3", SOON, || (lab.weir().status()["generation"] == 3).then_some(()));
        load.wait_for(100);
        let outcomes = load.stop();
        assert_eq!(failures(&outcomes), [""; 0]);
        assert!(!answers(&outcomes[outcomes.len() - 80..]).contains_key("b3"), "b3 is out again");
    });
}

/// The file is reached over a link that is swapped, as in a volume of a ConfigMap, and what it leads to goes away for a while.
#[test]
fn a_config_behind_links_is_followed_and_what_is_lost_is_told_of() {
    run("reload_watch_links", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[reload]\nwatch = true\n".into();
        lab.start_weir();
        let path = lab.weir().config_path().to_owned();
        let at = |name: &str| path.with_file_name(name);
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, at("draft")).expect("a link");
            std::fs::rename(at("draft"), at(name)).expect("a link in place");
        };
        for version in 2..5 {
            lab.config.backends("web-v4")[0].1 = version;
            let directory = format!("..{version}");
            std::fs::create_dir(at(&directory)).expect("a directory");
            let config = lab.config.clone();
            let written = lab.weir().write_beside(&config, "planned.toml");
            std::fs::rename(written, at(&directory).join("weir.toml")).expect("the config of this version");
            link(&directory, "..data");
            if version == 2 {
                link("..data/weir.toml", "weir.toml");
            }
            wait_until("its generation", SOON, || (lab.weir().status()["generation"] == version).then_some(()));
            if version == 3 {
                std::fs::remove_dir_all(at(&directory)).expect("the directory removed");
                wait_until("the loss in the log", SOON, || lab.weir().log().contains("cannot be watched").then_some(()));
            }
        }
        let log = lab.weir().log();
        assert_eq!(log.matches("cannot be watched").count(), 1, "{log}");
        wait_until("the return in the log", SOON, || lab.weir().log().contains("is watched again").then_some(()));
    });
}

/// Six connections, two with each backend.
#[test]
fn a_plan_counts_the_connections_that_a_reload_takes_away() {
    run("reload_plan", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.more = "[reload]\nmax_reset = 5\n".into();
        lab.start_weir();
        let unchanged = lab.config.clone();
        let mut open: Vec<TcpStream> = (0..6).map(|_| lab.open_connection(Family::V4)).collect();

        let all_kept = "connections: 6 kept, 0 drained, 0 moved, 0 reset\n";
        assert_eq!(plan(lab, &unchanged), format!("the file changes nothing\n{all_kept}"));
        let mut heavier = unchanged.clone();
        heavier.backends("web-v4")[0].1 = 7;
        assert_eq!(plan(lab, &heavier), format!("pool web-v4: backend 10.2.0.11:80 weight 7, before 1\n{all_kept}"));
        let mut fewer = unchanged.clone();
        fewer.backends("web-v4").pop();
        let said = plan(lab, &fewer);
        assert!(
            said.starts_with("pool web-v4: backend 10.2.0.13:80 removed, its connections go on until they end: 2 drained\n"),
            "{said}"
        );
        assert!(said.ends_with("\nconnections: 4 kept, 2 drained, 0 moved, 0 reset\n"), "{said}");
        // Another service takes its place: packets go on to weir, connections to their backends.
        let mut renamed = unchanged.clone();
        renamed.rename_service("web-v4", "shop");
        assert!(plan(lab, &renamed).ends_with(all_kept), "{}", plan(lab, &renamed));

        let mut removed = unchanged.clone();
        removed.remove("web-v4");
        let said = plan(lab, &removed);
        assert!(said.contains("service web-v4: removed, 10.1.0.100 port 80 tcp is not served any more: 6 reset\n"), "{said}");
        assert!(said.contains("\nconnections: 0 kept, 0 drained, 0 moved, 6 reset\na reload would be refused"), "{said}");
        lab.weir().write_config(&removed);
        let refused = lab.weir().command("reload");
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(
            refused.stderr.contains("it would reset 6 connections, and reload.max_reset is 5; nothing was applied"),
            "{refused}"
        );
        assert_eq!(lab.weir().status()["generation"], 1);
        // The server closes these then.
        for stream in &mut open[..3] {
            assert_eq!(request(stream), "HTTP/1.1 200 OK");
        }

        let json: serde_json::Value = serde_json::from_str(&lab.weir().command("reload --force --json").stdout).expect("JSON");
        assert_eq!(json["reloaded"]["generation"], 2, "{json}");
        // Told at once, not left to find out.
        for stream in &mut open[3..] {
            let told = stream.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(told, Err(std::io::ErrorKind::ConnectionReset));
        }
        for backend in &lab.backends {
            wait_until("no connection at a backend", SOON, || {
                backend.namespace.run("ss -Htn state established sport = :80").is_empty().then_some(())
            });
        }
        wait_until("an empty table", SOON, || (lab.weir().status()["connections"]["count"] == 0).then_some(()));
    });
}

/// Whoever leaves already gets the new time whole: a reload that shortens it resets nobody there and then, and the plan says who has it.
#[test]
fn a_drain_that_is_changed_counts_from_the_reload() {
    run("reload_drain", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.set_drain("web-v4", r#"{ deadline = "1h" }"#);
        lab.config.more = "[reload]\nmax_reset = 0\n".into();
        lab.start_weir();
        let _open: Vec<TcpStream> = (0..6).map(|_| lab.open_connection(Family::V4)).collect();
        let established = |lab: &mut Lab| lab.weir().command("conn count --state ESTABLISHED").stdout;
        let done = lab.weir().command("drain web-v4 10.2.0.12:80");
        assert!(done.success(), "{done}");
        let draining = |lab: &mut Lab| lab.weir().status()["draining"][0].clone();
        wait_until("a drain that lasts longer than the new deadline", SOON, || {
            draining(lab)["seconds"].as_u64().is_some_and(|seconds| seconds >= 3).then_some(())
        });
        lab.config.set_drain("web-v4", r#"{ deadline = "2s" }"#);
        let sooner = lab.config.clone();
        assert_eq!(
            plan(lab, &sooner),
            "pool web-v4: drain changed: connections of a backend that leaves have 2s to end, then TCP is reset and UDP moves, \
             from this reload on: 2 drained\nconnections: 4 kept, 2 drained, 0 moved, 0 reset\n"
        );
        lab.weir().write_config(&sooner);
        let done = lab.weir().command("reload");
        assert!(done.success(), "{done}");
        assert!(draining(lab)["seconds_left"].as_u64().is_some_and(|left| (1..=2).contains(&left)), "{}", draining(lab));
        assert_eq!(established(lab), "6\n");
        wait_until("nothing left of two seconds", SOON, || (draining(lab)["connections"] == 0).then_some(()));
        assert_eq!(established(lab), "4\n");
    });
}

/// Connections that are over stay in the table for a while. Nobody misses them, so neither `weir plan` nor `max_reset` counts them.
#[test]
fn a_plan_counts_no_connection_that_is_over() {
    run("reload_plan_over", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.config.set_drain("web-v4", r#"{ deadline = "60s" }"#);
        lab.config.more = "[reload]\nmax_reset = 5\n".into();
        lab.start_weir();
        let mut open: Vec<TcpStream> = (0..6).map(|_| lab.open_connection(Family::V4)).collect();
        // Six in TIME_WAIT, and three in CLOSE, by a RST.
        spread_of_requests(&lab.client, &Family::V4.url("name"), 6);
        for _ in 0..3 {
            let reset = lab.open_connection(Family::V4);
            socket2::SockRef::from(&reset).set_linger(Some(Duration::ZERO)).expect("a socket option");
        }
        let in_state = |lab: &mut Lab, state: &str| lab.weir().command(&format!("conn count --state {state}")).stdout;
        wait_until("connections that are over", SOON, || {
            (in_state(lab, "TIME_WAIT") == "6\n" && in_state(lab, "CLOSE") == "3\n").then_some(())
        });

        let mut fewer = lab.config.clone();
        fewer.backends("web-v4").clear();
        fewer.backends("web-v4").push(("10.2.0.14:80".parse().expect("an address"), 1));
        let said = plan(lab, &fewer);
        assert!(said.ends_with("\nconnections: 0 kept, 6 drained, 0 moved, 0 reset\n"), "{said}");
        let unchanged = lab.config.clone();
        assert!(plan(lab, &unchanged).ends_with("connections: 6 kept, 0 drained, 0 moved, 0 reset\n"));
        let mut removed = lab.config.clone();
        removed.remove("web-v4");
        assert!(plan(lab, &removed).contains("\nconnections: 0 kept, 0 drained, 0 moved, 6 reset\n"));
        lab.weir().write_config(&removed);
        let refused = lab.weir().command("reload");
        assert!(refused.stderr.contains("it would reset 6 connections, and reload.max_reset is 5"), "{refused}");

        // One more is over: five may be reset, and the other ten are in nobody's way.
        drop(open.pop());
        wait_until("the sixth to be over", SOON, || {
            plan(lab, &removed).contains("\nconnections: 0 kept, 0 drained, 0 moved, 5 reset\n").then_some(())
        });
        let done = lab.weir().command("reload");
        assert!(done.success(), "{done}");
    });
}

#[test]
fn a_plan_of_a_config_with_mistakes_or_for_a_restart_says_so() {
    run("reload_plan_refused", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let mut config = lab.config.clone();
        config.more = "[reload]\nmax_resets = 1\n".into();
        let refused = refused_plan(lab, &config);
        assert!(refused.contains("there is no key `max_resets` here") && refused.contains("planned.toml:"), "{refused}");
        config.more = "[conntrack]\nmax_connections = 5000\n".into();
        let refused = refused_plan(lab, &config);
        assert!(refused.contains("only a restart can change conntrack.max_connections"), "{refused}");
    });
}

/// A backend comes and goes, five hundred times, while two clients ask without a pause.
#[test]
fn five_hundred_reloads_in_a_row_fail_no_request() {
    run("reload_500", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let complete = lab.config.clone();
        let mut fewer = complete.clone();
        for family in Family::BOTH {
            fewer.backends(&format!("web-{}", family.name())).pop();
        }
        let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 2);
        load.wait_for(50);
        let before = load.outcomes().len();
        for round in 0..500 {
            lab.weir().write_config(if round % 2 == 0 { &fewer } else { &complete });
            let done = lab.weir().command("reload");
            assert!(done.success(), "reload {round}: {done}");
        }
        assert_eq!(lab.weir().status()["generation"], 501);
        let during = load.outcomes().len() - before;
        let outcomes = load.stop();
        assert_eq!(failures(&outcomes), [""; 0], "of {} requests", outcomes.len());
        assert!(during > 500, "{during} requests while it was reloaded");
    });
}

#[test]
fn a_thousand_services_of_twenty_backends_are_reloaded_within_a_second() {
    run("reload_1000", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        let one = lab.config.clone();
        for service in 0..1000_u32 {
            let vip =
                SocketAddr::new(Ipv4Addr::from_bits(0x0a01_0000 + 110 + service % 100).into(), 1000 + (service / 100) as u16);
            let backend = |number: u32| SocketAddr::new(Ipv4Addr::from_bits(0x0a04_0000 + service * 20 + number).into(), 80);
            lab.config.add(&format!("service-{service}"), vip, "tcp", (0..20).map(|number| (backend(number), 1)).collect());
        }
        let thousand = lab.config.clone();
        lab.config = one.clone();
        lab.start_weir();
        let (took, steps) = timed_reload(lab, &thousand);
        println!("1,000 services and pools added: {took:?}");
        assert!(took < Duration::from_secs(1) && steps == 2000, "{steps} steps in {took:?}");
        let mut other = thousand.clone();
        for service in 0..1000 {
            let backends = other.backends(&format!("service-{service}"));
            backends[0].1 = 2;
            backends.pop();
        }
        let mut times = Vec::new();
        for round in 0..5 {
            let (took, steps) = timed_reload(lab, if round % 2 == 0 { &other } else { &thousand });
            assert_eq!(steps, 2000, "two a service");
            times.push(took);
        }
        times.sort();
        println!("a reload that changes 1,000 services and 2,000 of 20,000 backends: {:?}", times[2]);
        assert!(times[2] < Duration::from_secs(1), "{times:?}");

        // All of them away, and their addresses.
        let (took, _) = timed_reload(lab, &one);
        println!("all removed: {took:?}");
        assert_eq!(lab.weir().status()["services"].as_array().map(Vec::len), Some(2));
        // 25,000 backends went: a few lines of each second, and how many more there were.
        wait_until("their number in the log", SOON, || {
            lab.weir().log().contains(" more backends that take no new connections have none left").then_some(())
        });
        let told = lab.weir().log().matches("no connection left").count();
        assert!(told < 400, "{told} lines about single backends");
    });
}

/// How long the command takes: the file read, checked, planned and in force; and how many steps there were.
fn timed_reload(lab: &mut Lab, config: &Config) -> (Duration, usize) {
    lab.weir().write_config(config);
    let start = Instant::now();
    let done = lab.weir().command("reload");
    let took = start.elapsed();
    assert!(done.success(), "{done}");
    (took, done.stdout.lines().count() - 1)
}

/// What `weir plan` says of a config.
fn plan(lab: &mut Lab, config: &Config) -> String {
    let said = command_plan(lab, config);
    assert!(said.success(), "{said}");
    said.stdout
}

fn refused_plan(lab: &mut Lab, config: &Config) -> String {
    let said = command_plan(lab, config);
    assert_eq!(said.code(), Some(1), "{said}");
    said.stderr
}

fn command_plan(lab: &mut Lab, config: &Config) -> crate::support::Finished {
    let planned = lab.weir().write_beside(config, "planned.toml");
    lab.weir().command(&format!("plan {}", planned.display()))
}

fn request(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /name HTTP/1.1\r\nHost: b\r\n\r\n").expect("request");
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).expect("answer");
    String::from_utf8_lossy(&answer).into_owned()
}
