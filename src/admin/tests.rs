//! The protocol over a real socket, with a desk that knows little.

use super::*;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Counts to what it is asked for.
struct Counting;

impl Desk for Counting {
    fn answer(&self, request: Request, output: &mut Output<'_>) -> io::Result<()> {
        match request {
            Request::ConnectionList { limit, .. } => {
                let count = limit.unwrap_or(0);
                (0..count).try_for_each(|count| output.say(&Answer::Count { count }))?;
                output.say(&Answer::End { count })
            }
            Request::Drops {} => output.say(&Answer::Drops(Vec::new())),
            _ => output.say(&Answer::Error { message: "not known here".into() }),
        }
    }
}

/// A listening server in a directory of its own; its accept loop ends with the test's process.
struct Daemon {
    _directory: tempfile::TempDir,
    path: PathBuf,
    server: Arc<Server>,
}

fn start(limits: Limits) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    let listener = bind(&path).unwrap();
    listener.set_nonblocking(false).unwrap();
    let server = Arc::new(Server::new(Arc::new(Counting), limits));
    let serving = Arc::clone(&server);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = serving.serve(stream.unwrap());
        }
    });
    Daemon { _directory: directory, path, server }
}

fn connect(path: &Path) -> Client {
    Client::connect(path).unwrap()
}

#[test]
fn one_connection_may_ask_again_and_again() {
    let daemon = start(Limits::default());
    let mut client = connect(&daemon.path);
    for _ in 0..3 {
        assert_eq!(client.ask(&Request::Drops {}).unwrap(), Answer::Drops(Vec::new()));
    }
}

#[test]
fn a_long_list_comes_whole_and_ends_with_its_length() {
    let daemon = start(Limits::default());
    let mut client = connect(&daemon.path);
    let count = 100_000;
    let mut answer = client.ask(&Request::ConnectionList { filter: ConnectionFilter::default(), limit: Some(count) }).unwrap();
    for expected in 0..count {
        assert_eq!(answer, Answer::Count { count: expected });
        answer = client.more().unwrap();
    }
    assert_eq!(answer, Answer::End { count });
}

#[test]
fn a_refusal_carries_the_daemons_words() {
    let daemon = start(Limits::default());
    let error = connect(&daemon.path).ask(&Request::Status {}).unwrap_err();
    assert_eq!(error.to_string(), "not known here");
}

#[test]
fn garbage_is_answered_and_the_connection_lives_on() {
    let daemon = start(Limits::default());
    let mut stream = UnixStream::connect(&daemon.path).unwrap();
    stream.write_all(b"\xff\xfe{]\n{\"command\":\"drops\"}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("{\"error\":{\"message\":\"not a request: "), "{text}");
    assert_eq!(lines[1], "{\"drops\":[]}");
}

#[test]
fn an_unknown_command_or_key_is_refused_by_name() {
    let daemon = start(Limits::default());
    let mut stream = UnixStream::connect(&daemon.path).unwrap();
    stream.write_all(b"{\"command\":\"dance\"}\n{\"command\":\"connection_count\",\"filter\":{\"colour\":\"red\"}}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("`dance`") && text.contains("`colour`"), "{text}");
}

#[test]
fn an_unknown_key_beside_the_command_is_refused() {
    let flow = r#""flow":{"source":"10.0.0.1:1","destination":"10.0.0.2:2","protocol":6}"#;
    for (command, keys) in [
        ("status", ""),
        ("drops", ""),
        ("reload", ""),
        ("connection_list", ""),
        ("connection_count", ""),
        ("connection_show", flow),
        ("connection_delete", flow),
        ("connection_flush", r#""filter":{}"#),
        ("connection_top", ""),
        ("connection_events", ""),
        ("drain", r#""pool":"p","backend":"b""#),
        ("undrain", r#""pool":"p","backend":"b""#),
        ("weight", r#""pool":"p","backend":"b","weight":3"#),
        ("diff", ""),
        ("explain", flow),
    ] {
        let comma = if keys.is_empty() { "" } else { "," };
        let right = format!(r#"{{"command":"{command}"{comma}{keys}}}"#);
        let request: Request = serde_json::from_str(&right).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&serde_json::to_string(&request).unwrap()).unwrap(), request);
        let wrong = format!(r#"{{"colour":"red",{}"#, &right[1..]);
        let error = serde_json::from_str::<Request>(&wrong).unwrap_err().to_string();
        assert!(error.contains("`colour`"), "{command}: {error}");
    }
}

#[test]
fn nobody_flushes_everything_by_forgetting_a_key() {
    let error = serde_json::from_str::<Request>(r#"{"command":"connection_flush"}"#).unwrap_err().to_string();
    assert!(error.contains("missing field `filter`"), "{error}");
}

#[test]
fn a_request_without_end_is_cut_off() {
    let daemon = start(Limits { request: 1000, ..Limits::default() });
    let mut stream = UnixStream::connect(&daemon.path).unwrap();
    stream.write_all(&[b'x'; 1000]).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("longer than 1000 bytes"), "{text}");
}

#[test]
fn who_says_nothing_loses_the_seat() {
    let daemon = start(Limits { clients: 1, patience: Duration::from_millis(200), ..Limits::default() });
    let mut silent = UnixStream::connect(&daemon.path).unwrap();
    let mut text = String::new();
    silent.read_to_string(&mut text).unwrap();
    assert_eq!(text, "", "closed without a word");
}

#[test]
fn who_never_reads_loses_the_seat() {
    let daemon = start(Limits { clients: 1, patience: Duration::from_millis(200), ..Limits::default() });
    let mut deaf = UnixStream::connect(&daemon.path).unwrap();
    deaf.write_all(b"{\"command\":\"connection_list\",\"limit\":10000000}\n").unwrap();
    wait_until(|| daemon.server.clients() == 1);
    wait_until(|| daemon.server.clients() == 0);
}

#[test]
fn one_too_many_is_told_so_and_the_others_go_on() {
    let daemon = start(Limits { clients: 2, ..Limits::default() });
    let (mut first, mut second) = (connect(&daemon.path), connect(&daemon.path));
    first.ask(&Request::Drops {}).unwrap();
    second.ask(&Request::Drops {}).unwrap();
    let error = connect(&daemon.path).ask(&Request::Drops {}).unwrap_err();
    assert_eq!(error.to_string(), "too many clients at the admin socket");
    drop(second);
    wait_until(|| daemon.server.clients() == 1);
    connect(&daemon.path).ask(&Request::Drops {}).unwrap();
    first.ask(&Request::Drops {}).unwrap();
}

#[test]
fn without_a_daemon_the_error_names_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    let said = |path: &Path| Client::connect(path).unwrap_err().to_string();
    assert_eq!(said(&path), format!("weir is not running (no socket at {})", path.display()));
    drop(bind(&path).unwrap());
    let expected = format!("weir is not running (nobody answers at {})", path.display());
    assert_eq!(said(&path), expected, "a killed daemon's socket");
}

#[test]
fn a_killed_daemons_socket_is_taken_over_and_a_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    drop(bind(&path).unwrap());
    drop(bind(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let file = directory.path().join("precious");
    std::fs::write(&file, "data").unwrap();
    assert_eq!(bind(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn a_socket_that_somebody_listens_at_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.sock");
    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(bind(&path).unwrap_err().to_string(), "another program listens there");
    drop(other.accept().unwrap());
    UnixStream::connect(&path).unwrap();
    other.accept().unwrap();
}

#[test]
fn a_flow_is_shown_as_its_protocol_has_it() {
    let shown = |source: &str, destination: &str, protocol: u8| {
        Flow { source: source.parse().unwrap(), destination: destination.parse().unwrap(), protocol }.to_string()
    };
    assert_eq!(shown("10.0.0.1:1234", "10.0.0.2:80", 6), "tcp 10.0.0.1:1234 -> 10.0.0.2:80");
    assert_eq!(shown("10.0.0.1:0", "10.0.0.2:0", 47), "gre 10.0.0.1 -> 10.0.0.2");
    assert_eq!(shown("10.0.0.1:1", "10.0.0.2:2", 47), "gre 10.0.0.1 -> 10.0.0.2, key 65538");
    assert_eq!(shown("[2001:db8::1]:77", "[2001:db8::2]:0", 58), "icmpv6 [2001:db8::1]:77 -> 2001:db8::2");
    assert_eq!(shown("10.0.0.1:0", "10.0.0.2:0", 99), "protocol 99 10.0.0.1 -> 10.0.0.2");
}

#[test]
fn events_have_one_form_and_so_has_their_absence() {
    let lost = ConnectionEvent::lost(7, 1_700_000_000_000);
    let text = serde_json::to_string(&Answer::Event(Box::new(lost.clone()))).unwrap();
    assert_eq!(text, r#"{"event":{"type":"lost","time_ms":1700000000000,"count":7}}"#);
    assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), Answer::Event(Box::new(lost)));
    let connection = r#""protocol":"udp","state":null,"source":"10.0.0.1:1","destination":"10.0.0.2:2","backend":"10.0.0.3:3","snat":"10.0.0.4:4","service":"dns","status":[],"seen_reply":false,"assured":false,"expires_in":0"#;
    let text = format!(r#"{{"event":{{"type":"destroy","time_ms":5,"reason":"timeout",{connection}}}}}"#);
    let Answer::Event(event) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    assert_eq!(event.connection.as_ref().map(|connection| connection.source.port()), Some(1));
    assert_eq!(serde_json::to_string(&Answer::Event(event)).unwrap(), text);
}

/// Gives up after 20 s.
fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain");
}
