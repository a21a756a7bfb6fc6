//! weir itself, run as a user runs it.

use super::config::Config;
use super::namespace::Namespace;
use super::program::{Background, Finished, run_within, wait_until};
use serde_json::Value;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Longest that weir may take to serve its first packet.
const START: Duration = Duration::from_secs(60);

/// A running `weir run`.
#[derive(Debug)]
pub struct Daemon {
    /// Its configuration file.
    pub config: PathBuf,
    socket: PathBuf,
    process: Background,
    /// What it may tell its service manager, to the end.
    _notify: Option<UnixDatagram>,
}

impl Daemon {
    /// Starts weir in `node` and waits until it says READY=1.
    #[track_caller]
    pub fn start(node: &Namespace, directory: &Path, config: &Config) -> Self {
        let notify = directory.join("notify");
        // Left over from the weir before this one, perhaps.
        let _ = std::fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).expect("the notify socket");
        ready.set_nonblocking(true).expect("a non-blocking socket");
        let mut daemon = Self::spawn(node, directory, config, Some(&notify));
        wait_until("READY=1 of weir", START, || {
            let ended = daemon.process.ended();
            assert!(ended.is_none(), "weir ended with {ended:?}:\n{}", daemon.log());
            let mut message = [0; 512];
            let length = ready.recv(&mut message).ok()?;
            String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1").then_some(())
        });
        daemon._notify = Some(ready);
        daemon
    }

    /// Starts weir without waiting for anything.
    #[track_caller]
    pub fn spawn(node: &Namespace, directory: &Path, config: &Config, notify: Option<&Path>) -> Self {
        let (file, socket) = (directory.join("weir.toml"), directory.join("weir.sock"));
        write_config(&file, &socket, config);
        let mut command = node.command(&binary());
        command.args(["run", "--config"]).arg(&file);
        if let Some(notify) = notify {
            command.env("NOTIFY_SOCKET", notify);
        }
        let process = Background::start(command, &directory.join("weir.log"));
        Self { config: file, socket, process, _notify: None }
    }

    /// Everything it logged, also under an earlier process of the same test.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Runs another command of the binary against it.
    pub fn command(&self, arguments: &str) -> Finished {
        let mut command = std::process::Command::new(binary());
        command.args(arguments.split_whitespace()).arg("--socket").arg(&self.socket);
        run_within(command, Duration::from_secs(30))
    }

    /// Starts another command of the binary against it, which goes on until it is killed.
    pub fn background(&self, arguments: &str, output: std::process::Stdio) -> std::process::Child {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments.split_whitespace()).arg("--socket").arg(&self.socket).stdin(std::process::Stdio::null());
        command.stdout(output).spawn().expect("weir")
    }

    /// `weir status --json`
    #[track_caller]
    pub fn status(&self) -> Value {
        let finished = self.command("status --json");
        assert!(finished.success(), "weir status --json: {finished}");
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("weir status --json: {error}\n{finished}"))
    }

    /// Where the configuration is.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Writes a configuration into another file of the same directory.
    pub fn write_beside(&self, config: &Config, name: &str) -> PathBuf {
        let path = self.config.with_file_name(name);
        write_config(&path, &self.socket, config);
        path
    }

    /// Writes a new configuration, which nobody has read yet.
    pub fn write_config(&self, config: &Config) {
        write_config(&self.config, &self.socket, config);
    }

    /// Writes a new configuration and sends SIGHUP.
    pub fn reload(&self, config: &Config) {
        self.write_config(config);
        self.process.signal("HUP");
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(30)).unwrap_or_else(|| panic!("weir did not end on SIGTERM:\n{}", self.log()))
    }

    /// kill -9
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait(Duration::from_secs(5));
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process.wait(limit)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }
}

/// The binary under test: the one that cargo built with the tests, unless somebody says where another is.
fn binary() -> String {
    std::env::var("WEIR_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_weir").to_owned())
}

fn write_config(file: &Path, socket: &Path, config: &Config) {
    let text = format!("[admin]\nsocket = \"{}\"\n\n{}", socket.display(), config.to_toml());
    // Moved into place, as an editor does: weir never reads half a file.
    let draft = file.with_extension("draft");
    std::fs::write(&draft, text).expect("the configuration");
    std::fs::rename(&draft, file).expect("the configuration in place");
}
