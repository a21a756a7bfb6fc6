//! TLS below an HTTP probe: whom it trusts, and bytes through it without waiting.

use super::Failure;
use super::connection::Connection;
use super::settings::{Tls, Trust};
use mio::event::Event;
use mio::net::TcpStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

/// Client configs by whom they trust. Few pools differ in that, and making one from the system's store takes milliseconds.
#[derive(Debug, Default)]
pub(super) struct Clients(Vec<(Trust, Result<Arc<ClientConfig>, String>)>);

impl Clients {
    /// Makes the config for `trust` unless it is there.
    pub(super) fn prepare(&mut self, trust: &Trust) {
        if self.find(trust).is_none() {
            self.0.push((trust.clone(), client(trust)));
        }
    }

    /// Keeps those that somebody still needs; the system's store is read anew for the others when they come back.
    pub(super) fn retain(&mut self, needed: impl Fn(&Trust) -> bool) {
        self.0.retain(|(trust, _)| needed(trust));
    }

    fn find(&self, trust: &Trust) -> Option<&Result<Arc<ClientConfig>, String>> {
        self.0.iter().find(|(known, _)| known == trust).map(|(_, client)| client)
    }

    /// The config for `trust`.
    pub(super) fn get(&self, trust: &Trust) -> Result<Arc<ClientConfig>, Failure> {
        let missing = || Err("not ready".to_owned());
        self.find(trust).cloned().unwrap_or_else(missing).map_err(|why| Failure::Local(io::Error::other(why)))
    }
}

/// A connection that has not begun, with the backend at `address`.
pub(super) fn connection(config: Arc<ClientConfig>, tls: &Tls, address: IpAddr) -> Result<Box<ClientConnection>, Failure> {
    let name = tls.name.clone().unwrap_or(ServerName::IpAddress(address.into()));
    ClientConnection::new(config, name).map(Box::new).map_err(|error| Failure::Tls(error.to_string()))
}

/// All that rustls offers unless asked, in another order: SHA-256 has instructions of its own on most CPUs, SHA-384 has not.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let cheapest = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    provider.cipher_suites.sort_by_key(|suite| !cheapest.contains(&suite.suite()));
    // A probe has no secret that a quantum computer of later years would look for; ML-KEM would cost a second message in return.
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1];
    provider
}

pub(super) fn client(trust: &Trust) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anybody => Arc::new(Anybody(Arc::clone(&provider))),
        Trust::System => verifier(rustls_native_certs::load_native_certs().certs, &provider)?,
        Trust::Only(certificates) => verifier(certificates.clone(), &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    // Each backend gets memory of its own: [`super::sessions`].
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn verifier(
    certificates: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    // A store may hold certificates that are no roots; without any, every handshake would fail for a reason that misleads.
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        return Err("the system has no certificates to trust; install ca-certificates, or set ca_file or verify".to_owned());
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().map_err(|error| error.to_string())
}

/// `verify = false`: whoever has the key of the certificate that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// In the words of rustls, and of RFC 5280 where those are names of its types.
fn explain(error: &rustls::Error) -> String {
    let text = error.to_string();
    if !text.contains("CaUsedAsEndEntity") {
        return text;
    }
    "invalid peer certificate: it is an authority's own (CA:TRUE), such as `openssl req -x509` makes, which must sign others but be no server's; \
     make it anew with `-addext basicConstraints=critical,CA:FALSE`, or have it sign one for the server"
        .to_owned()
}

/// A connection, with TLS or without.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connection: Connection,
    session: Option<Box<ClientConnection>>,
    /// What the socket is known to hold for TLS.
    waiting: Waiting,
}

/// What a socket holds that was not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// Some bytes; whoever gets fewer than asked for has had them all (epoll(7), on edges).
    Bytes,
    /// Perhaps some bytes, and then the end or an error.
    End,
}

impl Wire {
    /// Over a connection that is being made.
    pub(super) fn new(connection: Connection, session: Option<Box<ClientConnection>>) -> Self {
        Self { connection, session, waiting: Waiting::Nothing }
    }

    /// Takes note of an event of the connection.
    pub(super) fn heed(&mut self, event: &Event) {
        if event.is_read_closed() || event.is_error() {
            self.waiting = Waiting::End;
        } else if event.is_readable() && self.waiting == Waiting::Nothing {
            self.waiting = Waiting::Bytes;
        }
    }

    /// How the TLS handshake went, once the server has said.
    pub(super) fn handshake(&self) -> Option<HandshakeKind> {
        self.session.as_ref()?.handshake_kind()
    }

    /// Whether bytes go through it as they are.
    pub(super) fn is_plain(&self) -> bool {
        self.session.is_none()
    }

    /// What a probe that takes too long has waited for.
    pub(super) fn awaited(&self) -> &'static str {
        match &self.session {
            Some(session) if session.is_handshaking() && self.connection.was_established() => "TLS handshake",
            _ => self.connection.awaited(),
        }
    }

    /// Sends some bytes; an error of the kind `WouldBlock` means later. Over TLS they are kept, and sent by [`Wire::read`] in one piece with
    /// the end of the handshake, after the server has proved who it is.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.connection.stream.write(bytes),
            Some(session) => session.writer().write(bytes),
        }
    }

    /// Receives some bytes, 0 at the end; an error of the kind `WouldBlock` means later.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.connection.stream.read(buffer) };
        let stream = &mut self.connection.stream;
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Closed without saying so first, as many servers do: nothing is read here that could be cut off unnoticed to any harm.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            while session.wants_write() {
                session.write_tls(stream)?;
            }
            if self.waiting == Waiting::Nothing {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            session.read_tls(&mut Noting { stream, waiting: &mut self.waiting })?;
            if let Err(error) = session.process_new_packets() {
                // The alert that says why.
                let _ = session.write_tls(stream);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }

    /// Why reading or writing failed.
    pub(super) fn failure(&self, error: io::Error) -> Failure {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Failure::Tls(explain(error)),
            None => Failure::Broken(error),
        }
    }
}

/// Notes when there is no more to read, which saves asking for it.
struct Noting<'a> {
    stream: &'a mut TcpStream,
    waiting: &'a mut Waiting,
}

impl Read for Noting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        let is_drained = match &read {
            Ok(length) => *length < buffer.len() && *self.waiting == Waiting::Bytes,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        if is_drained {
            *self.waiting = Waiting::Nothing;
        }
        read
    }
}
