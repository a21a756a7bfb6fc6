//! A session as of ssh: many short lines, then much at once.

use super::namespace::Namespace;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A whole session from `client` to a server that `host` runs at `address` as long as it lasts.
#[track_caller]
pub fn converse(client: &Namespace, host: &Namespace, address: SocketAddr) {
    let listener = host.inside(|| TcpListener::bind(address)).unwrap_or_else(|error| panic!("{address}: {error}"));
    let server = host.spawn(move || echo(&listener));
    client.inside(|| type_and_read(address));
    server.join().expect("the echo server");
}

/// Serves one session.
fn echo(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("a session");
    let mut copy = stream.try_clone().expect("a second handle");
    std::io::copy(&mut stream, &mut copy).expect("echo");
}

/// Types a few hundred short lines one by one, as in a shell, then pastes a megabyte.
fn type_and_read(address: SocketAddr) {
    let mut stream =
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    for number in 0..300 {
        let line = format!("line {number}\n");
        stream.write_all(line.as_bytes()).expect("typing");
        let mut answer = vec![0; line.len()];
        stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{address}, line {number}: {error}"));
        assert_eq!(answer, line.as_bytes());
    }
    let paste: Vec<u8> = (0..1 << 20).map(|byte: u32| (byte % 251) as u8).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let copy = paste.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy).and_then(|()| writer.shutdown(Shutdown::Write)));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{address}, paste: {error}"));
    writing.join().expect("the writer").expect("pasting");
    assert!(answer == paste, "{address}: {} bytes came back of {}", answer.len(), paste.len());
}
