//! Aim: a backend that fails is found out in time, however it fails, and gets no connection from then on; each type of probe passes and
//! fails against a real server; what follows from health: ejections, slow start, `min_up`, quorums.

use crate::support::{Background, Config, Family, Lab, Layout, Load, failures, run, wait_until};
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Longest wait for anything that must happen at all.
const LONG: Duration = Duration::from_secs(30);
const HTTP: &str = r#"{ type = "http", path = "/name", body = "b", interval = "500ms", timeout = "400ms", rise = 2, fall = 2 }"#;
/// fall × interval + timeout of it.
const IN_TIME: Duration = Duration::from_millis(2 * 500 + 400);
/// What a busy machine may add: the hurting itself, weir's log, this test's look at it.
const SLACK: Duration = Duration::from_millis(600);

#[test]
fn whoever_fails_is_found_out_in_time() {
    run("health_found_out", Layout::two_arm(), |lab| {
        lab.config = with_web(HTTP);
        lab.start_weir();
        let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 2);
        load.wait_for(100);
        found_out(lab, &load, "killed", |lab| lab.backends[1].stop(), |lab| lab.backends[1].start());
        found_out(lab, &load, "paused", |lab| lab.backends[1].signal("STOP"), |lab| lab.backends[1].signal("CONT"));
        found_out(lab, &load, "blackholed", |lab| filter(lab, "drop"), unfilter);
        found_out(lab, &load, "refusing", |lab| filter(lab, "reject with tcp reset"), unfilter);
        // Flapping: each time anew, and in the end it is up.
        for _ in 0..3 {
            found_out(lab, &load, "flapping", |lab| lab.backends[1].stop(), |lab| lab.backends[1].start());
        }
        let healed = Instant::now();
        load.wait_for(200);
        let outcomes = load.stop();
        assert_eq!(failures(outcomes.iter().filter(|outcome| outcome.begun > healed)), [""; 0]);
    });
}

/// Hurts b2 under load; it must be found out in time, get no connection from then on, also over a reload, and come back once healed.
#[track_caller]
fn found_out(lab: &mut Lab, load: &Load, how: &str, hurt: impl FnOnce(&mut Lab), heal: impl FnOnce(&mut Lab)) {
    let told = |lab: &mut Lab| Family::BOTH.map(|family| lab.weir().log().matches(&down(family)).count());
    let before = told(lab);
    let hurt_at = Instant::now();
    hurt(lab);
    wait_until(&format!("b2, {how}, to be found out"), LONG, || {
        let now = told(lab);
        (now[0] > before[0] && now[1] > before[1]).then_some(())
    });
    let (found_at, took) = (Instant::now(), hurt_at.elapsed());
    assert!(took <= IN_TIME + SLACK, "{how}: found out after {took:?}, {IN_TIME:?} are allowed");

    let connections = |lab: &mut Lab| -> u64 { backends(lab, 1).iter().map(|b2| number(b2, "total_connections")).sum() };
    let total = connections(lab);
    load.wait_for(50);
    let generation = number(&lab.weir().status(), "generation");
    let weight = generation as u32 % 7 + 2;
    for family in Family::BOTH {
        lab.config.backends(&pool(family))[2].1 = weight;
    }
    let changed = lab.config.clone();
    lab.weir().write_config(&changed);
    let reloaded = lab.weir().command("reload");
    assert!(reloaded.success(), "{reloaded}");
    load.wait_for(50);
    assert_eq!(connections(lab), total, "{how}: connections after it was found out");
    let outcomes = load.outcomes();
    assert_eq!(failures(outcomes.iter().filter(|outcome| outcome.begun > found_at)), [""; 0], "{how}");
    heal(lab);
    wait_until(&format!("b2, no longer {how}, to be up"), LONG, || {
        backends(lab, 1).iter().all(|b2| b2["health"] == "up" && b2["detail"].is_null()).then_some(())
    });
}

#[test]
fn every_type_of_probe_passes_and_fails() {
    run("health_types", Layout::two_arm(), |lab| {
        let address = Family::V4.backend(1);
        let (certificate, script) = (make_certificate(lab), make_script(lab));
        let authority = make_certificate_named(lab, "authority", "CA:TRUE");
        let https = format!("type = \"https\", sni = \"b1.example\", ca_file = \"{certificate}\"");
        let kinds: Vec<(&'static str, u16, String)> = vec![
            ("tcp", 80, "type = \"tcp\"".into()),
            ("http", 80, "type = \"http\", path = \"/name\", header = \"Server\", body = \"b1\"".into()),
            ("https", 8443, format!("{https}, header = \"X-Ready: yes\", body = \"very well\"")),
            ("https-any", 8443, "type = \"https\", verify = false".into()),
            ("udp", 53, "type = \"udp\", send = \"hex:123401000001000000000000027570076578616d706c650000010001\", expect = \"hex:c0000205\"".into()),
            ("dns", 53, "type = \"dns\", query = \"up.example\", answer = \"192.0.2.5\"".into()),
            ("dns-code", 53, "type = \"dns\", query = \"no.example\", rcode = \"NXDOMAIN\"".into()),
            ("icmp", 80, "type = \"icmp\"".into()),
            ("exec", 80, format!("type = \"exec\", command = [\"{script}\", \"/name\"]")),
            ("agent", 7777, "type = \"agent\"".into()),
        ];
        // They never pass, each for its reason.
        let never = [
            ("https-stranger", 8443, "type = \"https\", sni = \"b1.example\"".to_owned(), "TLS: invalid peer certificate: "),
            ("https-name", 8443, https.replace("b1.example", "b2.example"), "TLS: invalid peer certificate: "),
            (
                "https-authority",
                8444,
                https.replace(&certificate, &authority),
                "TLS: invalid peer certificate: it is an authority's own (CA:TRUE)",
            ),
            ("https-header", 8443, format!("{https}, header = \"X-Ready: no\""), "answered without the header `X-Ready: no`"),
            ("https-plain", 80, "type = \"https\", verify = false".to_owned(), "TLS: "),
            (
                "dns-answer",
                53,
                "type = \"dns\", query = \"up.example\", answer = \"192.0.2.6\"".to_owned(),
                "the answer does not have",
            ),
            ("dns-refused", 53, "type = \"dns\", query = \"no.example\"".to_owned(), "answered with NXDOMAIN"),
        ];
        let all =
            kinds.iter().map(|(name, port, health)| (*name, *port, health)).chain(never.iter().map(|(n, p, h, _)| (*n, *p, h)));
        for (number, (name, port, health)) in (2000..).zip(all) {
            lab.config.add(name, SocketAddr::new(Family::V4.vip(), number), "tcp", vec![(SocketAddr::new(address, port), 1)]);
            lab.config.set_health(
                name,
                &format!("{{ {health}, interval = \"500ms\", timeout = \"450ms\", jitter = \"50ms\", rise = 1, fall = 2, start = \"down\" }}"),
            );
        }
        let agent = lab.backends[0].namespace.inside(|| TcpListener::bind((address, 7777)).expect("the agent's port"));
        let says = std::sync::Arc::new(std::sync::Mutex::new("75%\n"));
        let said = std::sync::Arc::clone(&says);
        std::thread::spawn(move || {
            for mut stream in agent.incoming().flatten() {
                let _ = stream.write_all(said.lock().expect("what to say").as_bytes());
            }
        });
        let mut servers = start_servers(lab);
        lab.start_weir();
        let look = |lab: &mut Lab, name: &str| -> Value { backend_of(lab, name) };
        for (name, ..) in &kinds {
            wait_until(&format!("{name} to pass"), LONG, || (look(lab, name)["health"] == "up").then_some(()));
        }
        for (name, _, _, why) in &never {
            wait_until(&format!("{name} to fail: {why}"), LONG, || {
                look(lab, name)["detail"].as_str().is_some_and(|detail| detail.starts_with(why)).then_some(())
            });
            assert_eq!(look(lab, name)["health"], "down", "{name}");
        }
        assert_eq!(look(lab, "agent")["effective_weight"], 0.75);
        *says.lock().expect("what to say") = "drain\n";
        wait_until("the agent to drain", LONG, || (look(lab, "agent")["effective_weight"] == 0.0).then_some(()));
        assert_eq!(look(lab, "agent")["health"], "up");

        servers.clear();
        lab.backends[0].stop();
        lab.backends[0].namespace.sysctl(&["net/ipv4/icmp_echo_ignore_all=1"]);
        *says.lock().expect("what to say") = "down # for a test\n";
        let whys = [
            ("tcp", "cannot connect: Connection refused"),
            ("http", "cannot connect: Connection refused"),
            ("https", "cannot connect: Connection refused"),
            ("udp", "unreachable: Connection refused"),
            ("dns", "unreachable: Connection refused"),
            ("icmp", "no answer in time"),
            ("exec", "the script exited with 7"),
            ("agent", "the agent says \"down # for a test\""),
        ];
        for (name, why) in whys {
            wait_until(&format!("{name} to fail: {why}"), LONG, || {
                let backend = look(lab, name);
                let detail = backend["detail"].as_str().unwrap_or_default();
                (backend["health"] == "down" && detail.starts_with(why)).then_some(())
            });
            let told = format!("backend {} of pool {name} is down", look(lab, name)["address"].as_str().unwrap_or_default());
            assert!(lab.weir().log().contains(&told), "{told}");
        }
        lab.backends[0].namespace.sysctl(&["net/ipv4/icmp_echo_ignore_all=0"]);
        lab.backends[0].start();
        servers = start_servers(lab);
        *says.lock().expect("what to say") = "ready\n";
        for (name, ..) in &kinds {
            wait_until(&format!("{name} to pass again"), LONG, || (look(lab, name)["health"] == "up").then_some(()));
        }
        drop(servers);
    });
}

/// Aim: a certificate that does not verify any more is noticed although probes resume sessions: in the stated time where the server goes on to
/// take its tickets, at once where it does not. The server is replaced by another one, which listens before the first one ends.
#[test]
fn a_certificate_that_goes_bad_is_noticed() {
    run("health_certificate", Layout::two_arm(), |lab| {
        const FULL: Duration = Duration::from_secs(4);
        let certificate = make_certificate(lab);
        make_certificate_named(lab, "stranger", "CA:FALSE");
        let key = lab.directory.join("ticket.key");
        std::fs::write(&key, [7; 80]).expect("the key of tickets");
        let backend = vec![(SocketAddr::new(Family::V4.backend(1), 8443), 1)];
        lab.config.add("tls", SocketAddr::new(Family::V4.vip(), 2000), "tcp", backend);
        let full = FULL.as_secs();
        lab.config.set_health(
            "tls",
            &format!(
                "{{ type = \"https\", sni = \"b1.example\", ca_file = \"{certificate}\", full_handshake = \"{full}s\", \
                 interval = \"200ms\", timeout = \"200ms\", rise = 1, fall = 2, start = \"down\" }}"
            ),
        );
        lab.start_weir();
        let bound = FULL + Duration::from_millis(2 * 200 + 200);
        for version in ["TLSv1.2", "TLSv1.3"] {
            let lasting = format!("ssl_protocols {version}; ssl_session_ticket_key {};", key.display());
            let (took, resumed) = goes_bad(lab, &format!("{version}-lasting"), &lasting);
            assert!(took <= bound + SLACK, "{version}: noticed after {took:?}, {bound:?} are allowed");
            assert!(took < Duration::from_secs(1) || resumed > 0, "{version}: tickets have outlasted the certificate");
            let (took, _) = goes_bad(lab, version, &format!("ssl_protocols {version};"));
            assert!(took <= FULL - SLACK, "{version}: noticed after {took:?}: the tickets were still good");
        }
    });
}

/// Serves with the good certificate until there was a whole handshake just now, and from then on with the other one. When that was noticed,
/// and how many handshakes of that server were resumed before.
fn goes_bad(lab: &mut Lab, name: &str, more: &str) -> (Duration, usize) {
    let health = |lab: &mut Lab, health: &str| (backend_of(lab, "tls")["health"] == health).then_some(());
    let handshakes = |lab: &Lab, server: &str, kind: &str| {
        let log = std::fs::read_to_string(lab.directory.join(server).join("access.log")).unwrap_or_default();
        log.lines().filter(|line| line.ends_with(kind)).count()
    };
    let (good, bad) = (format!("{name}-good"), format!("{name}-bad"));
    let first = start_nginx(lab, &good, "b1", more);
    wait_until("the backend to pass", LONG, || health(lab, "up"));
    let before = ["r", "."].map(|kind| handshakes(lab, &good, kind));
    wait_until("two more whole handshakes", LONG, || (handshakes(lab, &good, ".") >= before[1] + 2).then_some(()));
    let resumed = handshakes(lab, &good, "r") - before[0];
    assert!(resumed > 10, "{name}: most handshakes are resumed, not {resumed}");
    let replaced = Instant::now();
    let _second = start_nginx(lab, &bad, "stranger", more);
    wait_until("the other server", LONG, || lab.directory.join(&bad).join("nginx.pid").exists().then_some(()));
    first.signal("QUIT");
    wait_until("the other certificate to be noticed", LONG, || health(lab, "down"));
    let took = replaced.elapsed();
    let why = backend_of(lab, "tls")["detail"].as_str().unwrap_or_default().to_owned();
    assert!(why.starts_with("TLS: invalid peer certificate"), "{name}: {why}");
    (took, handshakes(lab, &bad, "r"))
}

#[test]
fn programs_get_none_of_weirs_files_and_may_outlive_it() {
    run("health_exec_files", Layout::two_arm(), |lab| {
        let (script, seen) = (lab.directory.join("files.sh"), lab.directory.join("files"));
        let (seen, pid) = (seen.display().to_string(), lab.directory.join("pid").display().to_string());
        // What weir itself inherited may be among them, nothing that it has opened. What it leaves behind has a session of its own, so it is not killed.
        let text = format!(
            "#!/bin/sh\nif mkdir {pid}.once; then\nsetsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60' &\n\
             while [ ! -e {pid} ]; do :; done\nfi\n\
             readlink /proc/$$/fd/* > {seen}.$$\nmv {seen}.$$ {seen}\n"
        );
        std::fs::write(&script, text).expect("the script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("an executable script");
        lab.config = with_web(&format!("{{ type = \"exec\", command = [\"{}\"], interval = \"500ms\" }}", script.display()));
        lab.start_weir();
        wait_until("something to be left behind", LONG, || std::path::Path::new(&pid).exists().then_some(()));
        let files = wait_until("the program to run", LONG, || std::fs::read_to_string(&seen).ok());
        assert!(files.contains("/dev/null"), "{files}");
        assert!(!files.contains("socket:") && !files.contains("anon_inode") && !files.contains("bpf"), "{files}");
        // A process that the program left behind is alive, and weir has its queues back.
        lab.weir().stop();
        let left = std::fs::read_to_string(&pid).expect("what is left behind").trim().to_owned();
        assert!(std::path::Path::new("/proc").join(&left).exists(), "{left}");
        lab.start_weir();
        let _ = std::process::Command::new("kill").arg(&left).status();
    });
}

#[test]
fn packets_eject_and_the_weight_comes_back_slowly() {
    run("health_passive", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        for family in Family::BOTH {
            let rules = "passive = { failures = 2, window = \"5s\", eject = \"2s\", max_eject = \"3s\" }\nslow_start = \"5s\"";
            lab.config.set_pool(&pool(family), rules);
        }
        lab.start_weir();
        let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 2);
        load.wait_for(100);
        for (how, hurt, heal) in [
            ("refusing", (|lab| lab.backends[1].stop()) as fn(&mut Lab), (|lab| lab.backends[1].start()) as fn(&mut Lab)),
            ("silent", |lab| filter(lab, "drop"), |lab| unfilter(lab)),
        ] {
            hurt(lab);
            wait_until(&format!("b2, {how}, to be ejected"), LONG, || {
                backends(lab, 1).iter().all(|b2| b2["health"] == "ejected" && b2["serves"] == false).then_some(())
            });
            heal(lab);
            // A client that had waited may speak against it once more.
            wait_until(&format!("b2, no longer {how}, to be back with a part of its weight"), LONG, || {
                let partly =
                    |b2: &Value| b2["serves"] == true && b2["effective_weight"].as_f64().is_some_and(|weight| weight < 1.0);
                backends(lab, 1).iter().any(partly).then_some(())
            });
            wait_until("all of its weight", LONG, || {
                backends(lab, 1).iter().all(|b2| b2["serves"] == true && b2["effective_weight"] == 1.0).then_some(())
            });
        }
        let healed = Instant::now();
        load.wait_for(100);
        let outcomes = load.stop();
        assert_eq!(failures(outcomes.iter().filter(|outcome| outcome.begun > healed)), [""; 0]);
        assert!(lab.weir().log().contains("is ejected for 2 s"), "{}", lab.weir().log());
    });
}

/// Weights, and a service that comes, are what the reloads change: what is known of b2 they do not.
#[test]
fn ejection_and_slow_start_go_on_over_a_reload() {
    run("health_kept", Layout::two_arm(), |lab| {
        const EJECT: Duration = Duration::from_secs(8);
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        for family in Family::BOTH {
            let rules = "passive = { failures = 2, window = \"5s\", eject = \"8s\", max_eject = \"8s\" }\nslow_start = \"20s\"";
            lab.config.set_pool(&pool(family), rules);
        }
        lab.start_weir();
        let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 2);
        load.wait_for(100);
        lab.backends[1].stop();
        let all = |lab: &mut Lab, is: &dyn Fn(&Value) -> bool| web_backends(lab, 1).iter().all(is).then_some(());
        let is_ejected = |b2: &Value| b2["health"] == "ejected" && b2["serves"] == false;
        wait_until("b2 to be ejected", LONG, || all(lab, &is_ejected));
        let ejected_at = Instant::now();
        lab.backends[1].start();
        let healed_at = Instant::now();
        let total = |lab: &mut Lab| -> u64 { web_backends(lab, 1).iter().map(|b2| number(b2, "total_connections")).sum() };
        let before = total(lab);
        load.wait_for(100);
        // Half of its time is over when it is reloaded: begun anew it would be out for half as long again.
        std::thread::sleep((EJECT / 2).saturating_sub(ejected_at.elapsed()));
        change(lab, 2);
        assert!(all(lab, &is_ejected).is_some(), "ejected over the reload: {:?}", web_backends(lab, 1));
        load.wait_for(100);
        assert_eq!(total(lab), before, "connections while it is ejected");
        wait_until("b2 to be back", LONG, || all(lab, &|b2| b2["serves"] == true));
        assert!(ejected_at.elapsed() < EJECT + EJECT / 4, "back after {:?}", ejected_at.elapsed());

        let weights = |lab: &mut Lab| -> Vec<f64> {
            web_backends(lab, 1).iter().map(|b2| b2["effective_weight"].as_f64().expect("a weight")).collect()
        };
        wait_until("a part of its weight", LONG, || weights(lab).iter().all(|weight| *weight > 0.2).then_some(()));
        let before = weights(lab);
        change(lab, 3);
        let after = weights(lab);
        assert!(
            before.iter().zip(&after).all(|(before, after)| after >= before && *after < 0.9),
            "neither begun anew nor given up: {before:?}, then {after:?}"
        );
        wait_until("more of its weight", LONG, || weights(lab).iter().zip(&after).all(|(now, then)| now > then).then_some(()));
        wait_until("all of its weight", LONG, || weights(lab).iter().all(|weight| *weight == 1.0).then_some(()));
        let outcomes = load.stop();
        assert_eq!(failures(outcomes.iter().filter(|outcome| outcome.begun > healed_at)), [""; 0]);
    });
}

/// Reloads: another weight for b3, and a service more.
fn change(lab: &mut Lab, weight: u32) {
    for family in Family::BOTH {
        lab.config.backends(&pool(family))[2].1 = weight;
    }
    let more = SocketAddr::new(Family::V4.vip(), 1000 + weight as u16);
    lab.config.add(&format!("more-{weight}"), more, "tcp", vec![(SocketAddr::new(Family::V4.backend(1), 80), 1)]);
    let changed = lab.config.clone();
    lab.weir().write_config(&changed);
    let reloaded = lab.weir().command("reload");
    assert!(reloaded.success(), "{reloaded}");
}

/// A reload brings a VIP whose backends do not answer: at no moment is it on the interface; nor is it later than its quorum.
#[test]
fn a_new_vip_is_not_announced_before_its_quorum() {
    run("health_new_vip", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let monitor = {
            let mut command = lab.node.command("ip");
            command.args(["-o", "monitor", "address"]);
            Background::start(command, &lab.directory.join("addresses.log"))
        };
        // The monitor has begun once it says something.
        wait_until("the monitor", LONG, || {
            lab.node.run("ip address add 192.0.2.1/32 dev lo");
            lab.node.run("ip address del 192.0.2.1/32 dev lo");
            monitor.output().contains("192.0.2.1").then_some(())
        });
        lab.backends[0].stop();
        let vips = [("waits", "10.1.0.120", 1), ("ready", "10.1.0.121", 2), ("always", "10.1.0.122", 0)];
        for (name, vip, quorum) in vips {
            let servers = if name == "ready" { 2..=3 } else { 1..=1 };
            let backends = servers.map(|number| (SocketAddr::new(Family::V4.backend(number), 80), 1)).collect();
            lab.config.add(name, SocketAddr::new(vip.parse().expect("an address"), 80), "tcp", backends);
            lab.config.set_health(name, &HTTP.replace("rise = 2", "rise = 1, start = \"down\""));
            lab.config.set_access(name, &format!("quorum = {quorum}"));
        }
        let changed = lab.config.clone();
        lab.weir().write_config(&changed);
        let reloaded = lab.weir().command("reload");
        assert!(reloaded.success(), "{reloaded}");
        let is_there = |vip: &str| monitor.output().contains(&format!(" {vip}/"));
        wait_until("the VIP without a quorum", LONG, || is_there("10.1.0.122").then_some(()));
        wait_until("the VIP that reaches its quorum", LONG, || is_there("10.1.0.121").then_some(()));
        assert!(!is_there("10.1.0.120"), "{}", monitor.output());
        assert!(lab.weir().log().contains("VIP 10.1.0.120 is withdrawn"), "{}", lab.weir().log());
        lab.backends[0].start();
        wait_until("the VIP whose backend has come", LONG, || is_there("10.1.0.120").then_some(()));
        let load = Load::start(&lab.client, &[SocketAddr::new("10.1.0.120".parse().expect("an address"), 80)], 1);
        load.wait_for(20);
        assert_eq!(failures(&load.stop()), [""; 0]);
    });
}

#[test]
fn enough_stay_up_and_a_vip_without_quorum_is_withdrawn() {
    run("health_quorum", Layout::two_arm(), |lab| {
        lab.config = with_web(&HTTP.replace("rise = 2", "rise = 1, start = \"down\""));
        for family in Family::BOTH {
            lab.config.set_pool(&pool(family), "min_up = 2");
            lab.config.set_access(&pool(family), "quorum = 2\nquorum_hysteresis = 1");
        }
        lab.start_weir();
        let announced = |lab: &mut Lab| {
            let addresses = lab.node.run("ip -o address show");
            Family::BOTH.map(|family| addresses.contains(&format!(" {}/", family.vip())))
        };
        wait_until("the VIPs", LONG, || (announced(lab) == [true; 2]).then_some(()));
        assert!(
            lab.weir().log().contains("quorum missed, 0 backends are up and 2 are needed"),
            "nothing before the first probes"
        );
        let load = Load::start(&lab.client, &[SocketAddr::new(Family::V4.vip(), 80)], 1);
        load.wait_for(30);
        drop(load);

        let down = |lab: &mut Lab, count: usize, serving: usize| {
            wait_until(&format!("{count} to be down and {serving} to take connections"), LONG, || {
                let all: Vec<Value> = (0..3).flat_map(|number| backends(lab, number)).collect();
                let is_down = all.iter().filter(|backend| backend["health"] == "down").count();
                let serve = all.iter().filter(|backend| backend["serves"] == true).count();
                ((is_down, serve) == (2 * count, 2 * serving)).then_some(())
            });
        };
        lab.backends[0].stop();
        down(lab, 1, 2);
        assert_eq!(announced(lab), [true; 2], "two are a quorum");
        lab.backends[1].stop();
        down(lab, 2, 2);
        wait_until("no VIPs", LONG, || (announced(lab) == [false; 2]).then_some(()));
        assert!(
            lab.weir().status()["services"].as_array().expect("services").iter().all(|service| service["announced"] == false)
        );
        lab.backends[2].stop();
        down(lab, 3, 2);
        for number in [0, 1] {
            lab.backends[number].start();
        }
        down(lab, 1, 2);
        assert_eq!(announced(lab), [false; 2], "hysteresis");
        lab.backends[2].start();
        wait_until("the VIPs again", LONG, || (announced(lab) == [true; 2]).then_some(()));
        let load = Load::start(&lab.client, &Family::BOTH.map(|family| SocketAddr::new(family.vip(), 80)), 1);
        load.wait_for(50);
        assert_eq!(failures(&load.stop()), [""; 0]);
    });
}

fn with_web(health: &str) -> Config {
    let mut config = Config::new(Layout::two_arm().interfaces()).with_web([1, 1, 1]);
    Family::BOTH.iter().for_each(|family| config.set_health(&pool(*family), health));
    config
}

fn pool(family: Family) -> String {
    format!("web-{}", family.name())
}

fn down(family: Family) -> String {
    format!("backend {} of pool {} is down", SocketAddr::new(family.backend(2), 80), pool(family))
}

/// What b2 does with requests from now on.
fn filter(lab: &mut Lab, what: &str) {
    let b2 = &lab.backends[1].namespace;
    b2.run("nft add table inet hurt");
    b2.run("nft add chain inet hurt in { type filter hook input priority 0 ; }");
    b2.run(&format!("nft add rule inet hurt in tcp dport 80 {what}"));
}

fn unfilter(lab: &mut Lab) {
    lab.backends[1].namespace.run("nft delete table inet hurt");
}

/// The status of a backend in each pool.
fn backends(lab: &mut Lab, number: usize) -> Vec<Value> {
    let status = lab.weir().status();
    status["pools"].as_array().expect("pools").iter().map(|pool| pool["backends"][number].clone()).collect()
}

/// Of the pools that every test here has.
fn web_backends(lab: &mut Lab, at: usize) -> Vec<Value> {
    let status = lab.weir().status();
    let pools = status["pools"].as_array().expect("pools").iter();
    let is_web = |pool: &&Value| pool["name"].as_str().is_some_and(|name| name.starts_with("web-"));
    pools.filter(is_web).map(|pool| pool["backends"][at].clone()).collect()
}

/// The status of the only backend of a pool.
fn backend_of(lab: &mut Lab, pool: &str) -> Value {
    let status = lab.weir().status();
    let found = status["pools"].as_array().expect("pools").iter().find(|known| known["name"] == pool);
    found.unwrap_or_else(|| panic!("no pool {pool}"))["backends"][0].clone()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// A certificate that signs itself, for b1.example. Its path.
fn make_certificate(lab: &Lab) -> String {
    make_certificate_named(lab, "b1", "CA:FALSE")
}

fn make_certificate_named(lab: &Lab, name: &str, constraint: &str) -> String {
    let (key, certificate) = (lab.directory.join(format!("{name}.key")), lab.directory.join(format!("{name}.pem")));
    lab.client.run(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=b1.example -addext \
         subjectAltName=DNS:b1.example -addext basicConstraints=critical,{constraint} -keyout {} -out {}",
        key.display(),
        certificate.display()
    ));
    certificate.display().to_string()
}

fn make_script(lab: &Lab) -> String {
    let path = lab.directory.join("check.sh");
    let text = "#!/bin/sh\nexec curl -s -f --max-time 0.3 \"http://$WEIR_ADDRESS:$WEIR_PORT$1\"\n";
    std::fs::write(&path, text).expect("the script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("an executable script");
    path.display().to_string()
}

/// dnsmasq, and nginx with TLS, on b1.
fn start_servers(lab: &Lab) -> Vec<Background> {
    let mut dnsmasq = lab.backends[0].namespace.command("dnsmasq");
    dnsmasq.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="]);
    dnsmasq.args(["--address=/up.example/192.0.2.5", "--local=/example/"]);
    let above = lab.directory.display();
    // Where an authority shows its own certificate.
    let authority = format!(
        "}} server {{ listen 8444 ssl; ssl_certificate {above}/authority.pem; ssl_certificate_key {above}/authority.key;"
    );
    vec![Background::start(dnsmasq, &lab.directory.join("dnsmasq.log")), start_nginx(lab, "tls", "b1", &authority)]
}

/// nginx with TLS on b1. Its log tells how each handshake went: `r` resumed, `.` whole.
fn start_nginx(lab: &Lab, name: &str, certificate: &str, more: &str) -> Background {
    let directory = lab.directory.join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let config = directory.join("nginx.conf");
    let (here, above) = (directory.display(), lab.directory.display());
    let text = format!(
        "user root; daemon off; master_process off; pid {here}/nginx.pid; error_log {here}/nginx.log warn;
        events {{ worker_connections 256; }}
        http {{
            log_format handshakes '$status $ssl_protocol $ssl_session_reused'; access_log {here}/access.log handshakes;
            client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
            uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
            server {{
                listen 8443 ssl reuseport; ssl_certificate {above}/{certificate}.pem;
                ssl_certificate_key {above}/{certificate}.key;
                location / {{ add_header X-Ready yes; return 200 \"all is very well\\n\"; }}
                {more}
            }}
        }}\n"
    );
    std::fs::write(&config, text).expect("nginx.conf");
    let mut nginx = lab.backends[0].namespace.command("nginx");
    nginx.arg("-c").arg(&config).arg("-p").arg(&directory).arg("-e").arg(directory.join("nginx.log"));
    Background::start(nginx, &directory.join("nginx.log"))
}
