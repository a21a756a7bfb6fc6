//! Real clients: curl, iperf3, ping.

use super::backend::Backend;
use super::namespace::Namespace;
use super::program::{Background, Finished, run_within};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// `curl` with these arguments (no quoting), silent but for errors, from a namespace.
pub fn curl(from: &Namespace, arguments: &str) -> Finished {
    let mut command = from.command("curl");
    command.args(["--silent", "--show-error", "--globoff", "--max-time", "100"]).args(arguments.split_whitespace());
    run_within(command, Duration::from_secs(110))
}

/// Requests `url` this many times, each over a new connection, 50 at a time, and counts who answered. Every request must succeed.
#[track_caller]
pub fn spread_of_requests(from: &Namespace, url: &str, requests: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    let mut command = from.command("curl");
    // A sequence in the query, for the address of IPv6 has brackets, too, and those must be taken as they are.
    let host = url.replace('[', "\\[").replace(']', "\\]");
    // curl asks the kernel for something about each of the parallel ones, whichever moves: more of them cost an emulator much.
    command.args(["--no-progress-meter", "--parallel", "--parallel-max", "10", "--max-time", "150", "--connect-timeout", "10"]);
    command.args(["--write-out", "%{stderr}%{http_code} %{errormsg}\\n", &format!("{host}?[1-{requests}]")]);
    let finished = run_within(command, Duration::from_secs(180));
    let failed: Vec<&str> = finished.stderr.lines().filter(|line| !line.is_empty() && *line != "200 ").collect();
    assert!(
        failed.is_empty(),
        "{} of {requests} requests to {url} failed, such as: {:?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    for name in finished.stdout.lines() {
        *answers.entry(name.to_owned()).or_default() += 1;
    }
    assert!(finished.success(), "curl {url}: {finished}");
    assert_eq!(answers.values().sum::<u32>(), requests, "answers to {requests} requests to {url}: {answers:?}");
    answers
}

/// Pings once; whether the echo came back within two seconds.
pub fn ping(from: &Namespace, address: IpAddr) -> bool {
    from.attempt(&format!("ping -n -c 1 -W 2 {address}")).success()
}

/// What one run of iperf3 moved.
#[derive(Debug)]
pub struct Moved {
    /// Bytes at the receiver.
    pub bytes: u64,
    /// Datagrams that did not arrive, in percent; 0 for TCP.
    pub lost_percent: f64,
}

/// One run of iperf3 from `client` to a server of its own at `server`, over `address`, with these arguments of the client.
#[track_caller]
pub fn iperf3(client: &Namespace, server: &Backend, address: IpAddr, arguments: &str) -> Moved {
    // A server for each run: one that goes on would not listen for a moment between two.
    let log = server.file("iperf3.log");
    let _ = std::fs::remove_file(&log);
    let mut command = server.namespace.command("iperf3");
    command.args(["--server", "--one-off", "--forceflush", "--interval", "0"]);
    let running = Background::start(command, &log);
    super::wait_until("iperf3 to listen", Duration::from_secs(10), || {
        running.output().contains("Server listening").then_some(())
    });

    let report = report_of_client(client, address, arguments);
    assert!(report["error"].is_null(), "iperf3 {address} {arguments}: {}", report["error"]);
    let (received, udp) = (&report["end"]["sum_received"], &report["end"]["sum"]);
    let sum = if received.is_null() { udp } else { received };
    Moved {
        bytes: sum["bytes"].as_u64().unwrap_or_else(|| panic!("iperf3 reports no bytes: {}", report["end"])),
        lost_percent: udp["lost_percent"].as_f64().unwrap_or(0.0),
    }
}

fn report_of_client(from: &Namespace, address: IpAddr, arguments: &str) -> Value {
    let mut command = from.command("iperf3");
    command.args(["--json", "--connect-timeout", "5000", "--client", &address.to_string()]).args(arguments.split_whitespace());
    let finished = run_within(command, Duration::from_secs(40));
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("iperf3: {error}\n{finished}"))
}
