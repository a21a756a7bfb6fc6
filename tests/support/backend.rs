//! A backend: nginx in a namespace of its own, that answers its name and keeps files.

use super::namespace::Namespace;
use super::program::{Background, wait_until};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One backend. `GET /name` gives its name, `PUT` and `GET` of any other path its files.
#[derive(Debug)]
pub struct Backend {
    /// `b1`, `b2`, `b3`
    pub name: &'static str,
    /// Where it runs, behind `eth0`.
    pub namespace: Namespace,
    files: PathBuf,
    nginx: Option<Background>,
}

impl Backend {
    /// A backend that does not run yet.
    pub fn new(name: &'static str, directory: &Path) -> Self {
        let files = directory.join(name);
        std::fs::create_dir_all(&files).expect("the backend's directory");
        Self { name, namespace: Namespace::new(name), files, nginx: None }
    }

    /// Where the files lie that it serves.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.join("files").join(name)
    }

    /// Starts nginx and waits until it listens on port 80.
    pub fn start(&mut self) {
        std::fs::create_dir_all(self.files.join("files")).expect("the directory of files");
        let config = self.files.join("nginx.conf");
        std::fs::write(&config, self.nginx_config()).expect("nginx.conf");
        let mut command = self.namespace.command("nginx");
        command.arg("-c").arg(&config).arg("-p").arg(&self.files).arg("-e").arg(self.files.join("nginx.log"));
        let mut nginx = Background::start(command, &self.files.join("nginx.log"));
        wait_until(&format!("nginx of {} on port 80", self.name), Duration::from_secs(10), || {
            let early_end = nginx.ended();
            assert!(early_end.is_none(), "nginx of {} ended: {}", self.name, nginx.output());
            self.namespace.inside(|| TcpStream::connect("127.0.0.1:80").is_ok()).then_some(())
        });
        self.nginx = Some(nginx);
    }

    /// Stops nginx at once, with all its connections.
    pub fn stop(&mut self) {
        self.nginx = None;
    }

    /// Sends nginx a signal.
    pub fn signal(&self, signal: &str) {
        self.nginx.as_ref().expect("nginx runs").signal(signal);
    }

    /// What nginx had to say.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.files.join("nginx.log")).unwrap_or_default()
    }

    /// One process, so that no worker can outlive the test; one connection a request, so that each request is balanced.
    fn nginx_config(&self) -> String {
        let (name, directory) = (self.name, self.files.display());
        format!(
            "user root; daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/nginx.log warn;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; keepalive_timeout 0; sendfile on; client_max_body_size 0; default_type application/octet-stream;
                client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
                uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
                server {{
                    listen 80 backlog=4096; listen [::]:80 backlog=4096;
                    location = /name {{ return 200 \"{name}\\n\"; }}
                    location / {{ root {directory}/files; dav_methods PUT; }}
                }}
            }}\n"
        )
    }
}
