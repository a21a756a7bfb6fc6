//! TLS below an HTTP probe: whom it trusts, and bytes through it without waiting.
//!
//! Sessions are never resumed: a probe has to see the certificate that a new client would see.

use super::Failure;
use super::connection::Connection;
use super::settings::{Tls, Trust};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
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

    /// A session that has not begun, with the backend at `address`.
    pub(super) fn session(&self, tls: &Tls, address: IpAddr) -> Result<Box<ClientConnection>, Failure> {
        let missing = || Err("not ready".to_owned());
        let config =
            self.find(&tls.trust).cloned().unwrap_or_else(missing).map_err(|why| Failure::Local(io::Error::other(why)))?;
        let name = tls.name.clone().unwrap_or(ServerName::IpAddress(address.into()));
        ClientConnection::new(config, name).map(Box::new).map_err(|error| Failure::Tls(error.to_string()))
    }
}

fn client(trust: &Trust) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anybody => Arc::new(Anybody(Arc::clone(&provider))),
        Trust::System => verifier(rustls_native_certs::load_native_certs().certs, &provider)?,
        Trust::Only(certificates) => verifier(certificates.clone(), &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
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

/// A connection, with TLS or without.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connection: Connection,
    session: Option<Box<ClientConnection>>,
}

impl Wire {
    /// Over a connection that is being made.
    pub(super) fn new(connection: Connection, session: Option<Box<ClientConnection>>) -> Self {
        Self { connection, session }
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

    /// Sends some bytes; an error of the kind `WouldBlock` means later.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.connection.stream.write(bytes),
            Some(session) => rustls::Stream::new(&mut **session, &mut self.connection.stream).write(bytes),
        }
    }

    /// Receives some bytes, 0 at the end; an error of the kind `WouldBlock` means later.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.connection.stream.read(buffer) };
        match rustls::Stream::new(&mut **session, &mut self.connection.stream).read(buffer) {
            // Closed without saying so first, as many servers do: nothing is read here that could be cut off unnoticed to any harm.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }

    /// Why reading or writing failed.
    pub(super) fn failure(&self, error: io::Error) -> Failure {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Failure::Tls(error.to_string()),
            None => Failure::Broken(error),
        }
    }
}
