//! Aim: a service is for those that its lists say, from the reload on that says so; what is open goes on.

use crate::support::{Config, Family, Lab, Layout, curl, run, spread_of_requests};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn a_service_is_for_whom_its_lists_say() {
    run("access", Layout::two_arm(), |lab| {
        lab.config = lab.config.clone().with_web([1, 1, 1]);
        lab.start_weir();
        let mut open = lab.open_connection(Family::V4);
        let everybody = lab.config.clone();

        let plan = reload(lab, |config| config.set_access("web-v4", "deny = [\"10.1.0.0/24\"]"));
        assert_eq!(plan, "service web-v4: 0 prefixes allowed and 1 denied, for new connections\ngeneration 2 is in force\n");
        assert!(!is_served(lab, Family::V4));
        assert!(lab.weir().drops().get("access_denied").is_some_and(|count| *count >= 1), "{:?}", lab.weir().drops());
        let explained = lab.weir().command("explain 10.1.0.2 10.1.0.100:80 tcp").stdout;
        assert!(explained.contains("access_denied"), "{explained}");
        spread_of_requests(&lab.client, &Family::V6.url("name"), 30);
        assert_eq!(answer(&mut open), "HTTP/1.1 200 OK", "what was open");

        // The longer prefix wins.
        reload(lab, |config| config.set_access("web-v4", "allow = [\"10.1.0.2\"]\ndeny = [\"10.1.0.0/24\"]"));
        spread_of_requests(&lab.client, &Family::V4.url("name"), 30);
        // Whoever is not allowed by name.
        reload(lab, |config| config.set_access("web-v6", "allow = [\"fd00:9::/32\"]"));
        assert!(!is_served(lab, Family::V6));
        reload(lab, |config| *config = everybody);
        for family in Family::BOTH {
            spread_of_requests(&lab.client, &family.url("name"), 30);
        }
    });
}

fn is_served(lab: &Lab, family: Family) -> bool {
    curl(&lab.client, &format!("--silent --fail --max-time 1 {}", family.url("name"))).success()
}

fn reload(lab: &mut Lab, change: impl FnOnce(&mut Config)) -> String {
    change(&mut lab.config);
    let config = lab.config.clone();
    lab.weir().write_config(&config);
    let done = lab.weir().command("reload");
    assert!(done.success(), "{done}");
    done.stdout
}

/// The first line.
fn answer(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer.lines().next().unwrap_or_default().to_owned()
}
