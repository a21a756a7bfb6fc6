//! vsftpd in a backend, and a control connection by hand.

use super::backend::Backend;
use super::namespace::Namespace;
use super::program::{Background, wait_until};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Starts vsftpd over the backend's files, for anonymous users, and waits until it listens on port 21. It refuses data connections whose
/// other end is not that of the control connection.
#[track_caller]
pub fn start_vsftpd(backend: &Backend) -> Background {
    let [files, config, empty, log] = ["", "vsftpd.conf", "empty", "vsftpd.log"].map(|name| backend.file(&format!("../{name}")));
    std::fs::create_dir_all(&empty).expect("an empty directory");
    let text = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nrun_as_launching_user=YES\nanonymous_enable=YES\nlocal_enable=NO\n\
         no_anon_password=YES\nwrite_enable=YES\nanon_upload_enable=YES\nanon_root={}/files\nsecure_chroot_dir={}\n\
         connect_from_port_20=YES\nidle_session_timeout=60\ndata_connection_timeout=60\nxferlog_enable=NO\n\
         seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\nftpd_banner={}\n",
        files.display(),
        empty.display(),
        backend.name,
    );
    std::fs::write(&config, text).expect("vsftpd.conf");
    let mut command = backend.namespace.command("vsftpd");
    command.arg(&config);
    let mut vsftpd = Background::start(command, &log);
    wait_until(&format!("vsftpd of {} on port 21", backend.name), Duration::from_secs(10), || {
        let early_end = vsftpd.ended();
        assert!(early_end.is_none(), "vsftpd of {} ended: {}", backend.name, vsftpd.output());
        backend.namespace.inside(|| TcpStream::connect("127.0.0.1:21").is_ok()).then_some(())
    });
    vsftpd
}

/// A control connection of an anonymous user.
#[derive(Debug)]
pub struct FtpSession {
    stream: BufReader<TcpStream>,
}

impl FtpSession {
    /// Logs in.
    #[track_caller]
    pub fn open(client: &Namespace, server: SocketAddr) -> Self {
        let stream = client.inside(|| TcpStream::connect_timeout(&server, Duration::from_secs(5))).expect("a control connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut session = Self { stream: BufReader::new(stream) };
        assert!(session.reply().starts_with("220 "));
        assert!(session.ask("USER anonymous").starts_with("230 "));
        session
    }

    /// Sends a command; the last line of its reply.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("a command");
        self.reply()
    }

    #[track_caller]
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a reply");
            assert!(!line.is_empty(), "the server closed the control connection");
            if line.as_bytes().get(3) == Some(&b' ') {
                return line.trim_end().to_owned();
            }
        }
    }
}
