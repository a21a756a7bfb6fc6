//! What a failed test leaves behind: weir's log, its status, and a directory with everything else.

use super::lab::Lab;
use std::path::Path;

/// Lines of a log that are shown.
const LINES: usize = 60;

/// Prints what may explain the failure. The test's directory, with captures and logs, is left where it is.
pub fn show(lab: &mut Lab) {
    println!("\n==== evidence of {} ====", lab.name);
    let links = lab.node.attempt("ip -d -s link");
    let neighbours = lab.node.attempt("ip neigh");
    println!("---- links and neighbours at weir\n{}\n{}", links.stdout, neighbours.stdout);
    println!("---- addresses at weir\n{}", lab.node.attempt("ip -br address").stdout);
    if let Some(weir) = &mut lab.weir {
        println!("---- weir.toml\n{}", std::fs::read_to_string(&weir.config).unwrap_or_default());
        println!("---- weir's log\n{}", tail(&weir.log()));
        println!("---- weir status --json\n{}", weir.command("status --json"));
        println!("---- weir conn list\n{}", tail(&weir.command("conn list").to_string()));
    }
    // Where packets ended that weir has sent.
    for machine in [&lab.client, &lab.switch].into_iter().chain(lab.backends.iter().map(|backend| &backend.namespace)) {
        let seen = ["ip -s link", "ip neigh", "cat /proc/net/snmp"].map(|command| machine.attempt(command).stdout);
        println!("---- links, neighbours and counters at {}\n{}", machine.name(), seen.join("\n"));
    }
    for backend in &lab.backends {
        println!("---- nginx of {}\n{}", backend.name, tail(&backend.log()));
    }
    println!("---- everything, with captures: {}", shown(&lab.directory));
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn shown(directory: &Path) -> String {
    directory.display().to_string()
}
