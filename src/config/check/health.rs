//! `health` of a `[[pool]]`

use super::problems::{Located, Problems};
use crate::config::raw;
use crate::config::read_whole;
use crate::config::value::{Complaint, duration, one_of, refuse, whole};
use crate::config::{Place, Problem};
use crate::health::{Dns, Http, Name, Passive, Probe, Rcode, Record, Rules, Settings, Start, StatusSet, Tls, Trust};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_spanned::Spanned;
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);

pub(super) fn check_health(raw: &Spanned<raw::Health>, problems: &mut Problems) -> Settings {
    let health = raw.get_ref();
    let interval = problems
        .value_or("pool.health.interval", health.interval.as_ref(), Settings::DEFAULT_INTERVAL, |text| duration(text, INTERVALS));
    let timeout = Settings::DEFAULT_TIMEOUT.min(interval);
    Settings {
        probe: check_probe(raw, problems),
        interval,
        jitter: problems.value_or("pool.health.jitter", health.jitter.as_ref(), Duration::ZERO, |text| {
            duration(text, Duration::ZERO..=interval)
        }),
        timeout: problems.value_or("pool.health.timeout", health.timeout.as_ref(), timeout, |text| {
            duration(text, SHORTEST_TIMEOUT..=interval)
        }),
        rise: problems.value_or("pool.health.rise", health.rise.as_ref(), Settings::DEFAULT_RISE, |times| whole(*times, 1..=100)),
        fall: problems.value_or("pool.health.fall", health.fall.as_ref(), Settings::DEFAULT_FALL, |times| whole(*times, 1..=100)),
        start: problems
            .value_or("pool.health.start", health.start.as_ref(), Start::default(), |text| one_of("start", text, Start::NAMES)),
        port: problems.value("pool.health.port", health.port.as_ref(), |port| whole(*port, 1..=65_535)).map(|port| port.value),
    }
}

const SLOW_STARTS: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const EJECTIONS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const MOST_FAILURES: i64 = 1_000_000;

/// What a pool of so many backends does with their health.
pub(super) fn check_rules(pool: &raw::Pool, backends: usize, problems: &mut Problems) -> Rules {
    let most = backends.max(1) as i64;
    Rules {
        min_up: problems.value_or("pool.min_up", pool.min_up.as_ref(), 0, |number| whole(*number, 0..=most)),
        slow_start: problems
            .value_or("pool.slow_start", pool.slow_start.as_ref(), Duration::ZERO, |text| duration(text, SLOW_STARTS)),
        passive: pool.passive.as_ref().map(|passive| check_passive(passive.get_ref(), problems)),
    }
}

fn check_passive(raw: &raw::Passive, problems: &mut Problems) -> Passive {
    let default = Passive::default();
    let eject = problems.value_or("pool.passive.eject", raw.eject.as_ref(), default.eject, |text| duration(text, EJECTIONS));
    let longest = default.max_eject.max(eject);
    Passive {
        failures: problems.value_or("pool.passive.failures", raw.failures.as_ref(), default.failures, |number| {
            whole(*number, 1..=MOST_FAILURES)
        }),
        percent: problems
            .value_or("pool.passive.percent", raw.percent.as_ref(), default.percent, |number| whole(*number, 1..=100)),
        window: problems.value_or("pool.passive.window", raw.window.as_ref(), default.window, |text| duration(text, WINDOWS)),
        eject,
        max_eject: problems
            .value_or("pool.passive.max_eject", raw.max_eject.as_ref(), longest, |text| duration(text, eject..=*EJECTIONS.end())),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Https,
    Udp,
    Dns,
    Icmp,
    Exec,
    Agent,
}

impl Kind {
    const NAMES: &'static [(&'static str, Kind)] = &[
        ("tcp", Kind::Tcp),
        ("http", Kind::Http),
        ("https", Kind::Https),
        ("udp", Kind::Udp),
        ("dns", Kind::Dns),
        ("icmp", Kind::Icmp),
        ("exec", Kind::Exec),
        ("agent", Kind::Agent),
    ];
}

const HTTP: &[Kind] = &[Kind::Http, Kind::Https];
const HTTPS: &[Kind] = &[Kind::Https];

fn check_probe(raw: &Spanned<raw::Health>, problems: &mut Problems) -> Probe {
    let health = raw.get_ref();
    let expected = "\"tcp\", \"http\", \"https\", \"udp\", \"dns\", \"icmp\", \"exec\", \"agent\"";
    let kind = problems.required("pool.health.type", &health.kind, raw.span(), expected);
    let Some(kind) = problems.value("pool.health.type", kind, |text| one_of("type of probe", text, Kind::NAMES)) else {
        return Probe::Tcp;
    };
    refuse_keys_of_others(health, &kind, problems);
    match kind.value {
        Kind::Tcp => Probe::Tcp,
        Kind::Http => Probe::Http(Box::new(check_http(health, None, problems))),
        Kind::Https => {
            let tls = check_tls(health, problems);
            Probe::Http(Box::new(check_http(health, Some(tls), problems)))
        }
        Kind::Udp => check_udp(raw, problems),
        Kind::Dns => check_dns(raw, problems),
        Kind::Icmp => Probe::Icmp,
        Kind::Exec => check_exec(raw, problems),
        Kind::Agent => Probe::Agent,
    }
}

/// A key, where it stands, and the types of probes that it is for.
type Use<'a> = (&'static str, Option<Range<usize>>, &'a [Kind]);

/// Keys that say nothing to a probe of this type are mistakes.
fn refuse_keys_of_others(health: &raw::Health, kind: &Located<Kind>, problems: &mut Problems) {
    let span = |key: &raw::Maybe<String>| key.as_ref().map(Spanned::span);
    let keys: [Use<'_>; 16] = [
        ("pool.health.path", span(&health.path), HTTP),
        ("pool.health.host", span(&health.host), HTTP),
        ("pool.health.status", span(&health.status), HTTP),
        ("pool.health.header", span(&health.header), HTTP),
        ("pool.health.body", span(&health.body), HTTP),
        ("pool.health.sni", span(&health.sni), HTTPS),
        ("pool.health.verify", health.verify.as_ref().map(Spanned::span), HTTPS),
        ("pool.health.ca_file", span(&health.ca_file), HTTPS),
        ("pool.health.full_handshake", span(&health.full_handshake), HTTPS),
        ("pool.health.send", span(&health.send), &[Kind::Udp]),
        ("pool.health.expect", span(&health.expect), &[Kind::Udp]),
        ("pool.health.query", span(&health.query), &[Kind::Dns]),
        ("pool.health.record", span(&health.record), &[Kind::Dns]),
        ("pool.health.rcode", span(&health.rcode), &[Kind::Dns]),
        ("pool.health.answer", span(&health.answer), &[Kind::Dns]),
        ("pool.health.command", health.command.as_ref().map(Spanned::span), &[Kind::Exec]),
    ];
    let name = |kind: Kind| Kind::NAMES.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| *name);
    for (key, span, kinds) in keys {
        let Some(span) = span.filter(|_| !kinds.contains(&kind.value)) else { continue };
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", name(*kind))).collect();
        let (found, allowed) = (name(kind.value), kinds.join(" or "));
        problems.add(
            Problem::new(key, format!("a probe of type {found} has no use for it"), format!("only with type = {allowed}"))
                .at(Place::new(span, "not used"))
                .at(Place::new(kind.span.clone(), "the type")),
        );
    }
}

fn check_http(health: &raw::Health, tls: Option<Tls>, problems: &mut Problems) -> Http {
    Http {
        path: problems.value_or("pool.health.path", health.path.as_ref(), "/".to_owned(), |text| http_path(text)),
        host: problems.value("pool.health.host", health.host.as_ref(), |text| http_host(text)).map(|host| host.value),
        status: problems.value_or("pool.health.status", health.status.as_ref(), StatusSet::default(), |text| {
            StatusSet::parse(text).or_else(|bad| refuse(bad.to_string(), "such as \"200\", \"200-399\" or \"200, 204, 301-302\""))
        }),
        header: problems.value("pool.health.header", health.header.as_ref(), |text| http_header(text)).map(|header| header.value),
        body: problems.value("pool.health.body", health.body.as_ref(), |text| some_text(text)).map(|body| body.value),
        tls,
    }
}

fn check_tls(health: &raw::Health, problems: &mut Problems) -> Tls {
    let name = problems.value("pool.health.sni", health.sni.as_ref(), |text| {
        let name = ServerName::try_from(text.clone());
        name.or_else(|_| refuse(format!("{text:?} cannot be the name of a server"), "a host name or an address"))
    });
    // Unless set, the name in the Host header, if that is one without a port.
    let host = || ServerName::try_from(health.host.as_ref()?.get_ref().clone()).ok();
    let verify = health.verify.as_ref().is_none_or(|verify| *verify.get_ref());
    let trust = match problems.value("pool.health.ca_file", health.ca_file.as_ref(), |path| read_certificates(path)) {
        Some(located) if !verify => {
            problems.add(
                Problem::new("pool.health.ca_file", "nothing is verified", "only without verify = false")
                    .at(Place::new(located.span, "not used")),
            );
            Trust::Anybody
        }
        Some(located) => Trust::Only(located.value),
        None if verify => Trust::System,
        None => Trust::Anybody,
    };
    let full_handshake =
        problems.value_or("pool.health.full_handshake", health.full_handshake.as_ref(), Tls::DEFAULT_FULL_HANDSHAKE, |text| {
            duration(text, Duration::ZERO..=*INTERVALS.end())
        });
    Tls { name: name.map(|name| name.value).or_else(host), trust, full_handshake }
}

fn read_certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let allowed = "an absolute path of a file with at least one certificate in PEM";
    if !path.starts_with('/') {
        return refuse(format!("{path:?} is not an absolute path"), allowed);
    }
    let bytes = match read_whole(Path::new(path)) {
        Ok(bytes) => bytes,
        Err(error) => return refuse(format!("{path:?} cannot be used: {error}"), allowed),
    };
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => refuse(format!("{path:?} has no certificate"), allowed),
        Ok(certificates) => Ok(certificates),
        Err(error) => refuse(format!("{path:?} cannot be used: {error}"), allowed),
    }
}

fn check_udp(raw: &Spanned<raw::Health>, problems: &mut Problems) -> Probe {
    let health = raw.get_ref();
    let expected = "what to send, such as \"PING\\n\" or \"hex:00ff\"";
    let send = problems.required("pool.health.send", &health.send, raw.span(), expected);
    Probe::Udp {
        send: problems.value("pool.health.send", send, |text| bytes(text)).map(|send| send.value).unwrap_or_default(),
        expect: problems.value("pool.health.expect", health.expect.as_ref(), |text| bytes(text)).map(|expect| expect.value),
    }
}

fn check_dns(raw: &Spanned<raw::Health>, problems: &mut Problems) -> Probe {
    let health = raw.get_ref();
    let query = problems.required("pool.health.query", &health.query, raw.span(), "a name, such as \"www.example.org\"");
    let name = problems.value("pool.health.query", query, |text| {
        Name::parse(text).map_or_else(
            || refuse(format!("{text:?} is not a name"), "labels of 1 to 63 printable ASCII characters, 255 in all"),
            Ok,
        )
    });
    let answer = problems.value("pool.health.answer", health.answer.as_ref(), |text| {
        text.parse::<IpAddr>().or_else(|_| {
            refuse(format!("{text:?} is not an address"), "an IPv4 address with record \"A\", an IPv6 address with \"AAAA\"")
        })
    });
    let record = problems.value_or("pool.health.record", health.record.as_ref(), Record::default(), |text| {
        one_of("type of record", text, Record::NAMES)
    });
    if let Some(answer) = answer.as_ref().filter(|answer| record != if answer.value.is_ipv4() { Record::A } else { Record::Aaaa })
    {
        problems.add(
            Problem::new(
                "pool.health.answer",
                format!("{} is not in a record of the type asked for", answer.value),
                "an IPv4 address with record \"A\", an IPv6 address with \"AAAA\"",
            )
            .at(Place::new(answer.span.clone(), "")),
        );
    }
    let rcode = problems
        .value_or("pool.health.rcode", health.rcode.as_ref(), Rcode::default(), |text| one_of("code", text, Rcode::NAMES));
    // Where the name was refused, another one stands for it until the config is.
    let name = name.map(|name| name.value).or_else(|| Name::parse("."));
    name.map_or(Probe::Tcp, |name| Probe::Dns(Dns { name, record, rcode, answer: answer.map(|answer| answer.value) }))
}

fn check_exec(raw: &Spanned<raw::Health>, problems: &mut Problems) -> Probe {
    let expected = "a program and its arguments, such as [\"/usr/local/bin/check\", \"-q\"]";
    let list = problems.required("pool.health.command", &raw.get_ref().command, raw.span(), expected);
    let command = problems.value("pool.health.command", list, |words| {
        let command: Vec<String> = words.iter().map(|word| word.get_ref().clone()).collect();
        match command.first() {
            None => refuse("the list is empty", expected),
            Some(_) if command.iter().any(|word| word.contains('\0')) => refuse("a NUL in a word", expected),
            Some(program) => check_program(program).map(|()| command.clone()),
        }
    });
    Probe::Exec { command: command.map(|command| command.value).unwrap_or_default() }
}

fn check_program(program: &str) -> Result<(), Complaint> {
    let allowed = "the absolute path of a file that can be executed";
    if !program.starts_with('/') {
        return refuse(format!("{program:?} is not an absolute path"), allowed);
    }
    match std::fs::metadata(program) {
        Err(error) => refuse(format!("{program:?} cannot be executed: {error}"), allowed),
        Ok(file) if !file.is_file() || file.permissions().mode() & 0o111 == 0 => {
            refuse(format!("{program:?} is not a file that can be executed"), allowed)
        }
        Ok(_) => Ok(()),
    }
}

/// Text as it is, or bytes as `hex:00ff`.
fn bytes(text: &str) -> Result<Vec<u8>, Complaint> {
    let allowed = "1 to 1024 bytes: text, or \"hex:\" and two digits for each";
    let Some(digits) = text.strip_prefix("hex:") else { return some_text(text).map(String::into_bytes) };
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let both = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
        std::str::from_utf8(pair).ok().filter(|_| both).and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    match pairs.collect::<Option<Vec<u8>>>() {
        Some(bytes) if (1..=1024).contains(&bytes.len()) => Ok(bytes),
        _ => refuse(format!("{text:?} are not such bytes"), allowed),
    }
}

fn some_text(text: &str) -> Result<String, Complaint> {
    match text.len() {
        1..=1024 => Ok(text.to_owned()),
        length => refuse(format!("{length} bytes"), "1 to 1024 bytes"),
    }
}

/// What may stand in a request line (RFC 9112, section 3.2.1), not percent-decoded.
fn http_path(text: &str) -> Result<String, Complaint> {
    let fits = text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if fits {
        Ok(text.to_owned())
    } else {
        refuse(format!("{text:?} cannot be requested"), "a path such as \"/healthz\", printable ASCII without spaces or #")
    }
}

fn http_host(text: &str) -> Result<String, Complaint> {
    let fits =
        (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    if fits {
        Ok(text.to_owned())
    } else {
        refuse(format!("{text:?} cannot be a Host header"), "a host name or address, perhaps with a port")
    }
}

/// `Name` or `Name: value` (RFC 9110, section 5).
fn http_header(text: &str) -> Result<(String, Option<String>), Complaint> {
    let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value.trim().to_owned())));
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let fits = !name.is_empty() && name.bytes().all(is_token) && text.len() <= 1024;
    if fits && value.as_ref().is_none_or(|value| value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())) {
        Ok((name.to_owned(), value))
    } else {
        refuse(
            format!("{text:?} is not a header"),
            "a name, such as \"X-Ready\", or a name and a value, such as \"X-Ready: yes\"",
        )
    }
}
