//! Aim: FTP through a VIP, with vsftpd in the backends and curl as the client: passive and active, old and extended commands, IPv4 and
//! IPv6, over two queues, byte by byte. Without the helper no data connection is opened.

use crate::support::{
    Background, Config, Family, FtpSession, Lab, Layout, Mapping, curl, map_queues, run, start_vsftpd, wait_until,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// How curl opens data connections, for which families.
const WAYS: [(&str, &[Family]); 4] = [
    ("--ftp-pasv", &Family::BOTH),
    ("--ftp-pasv --disable-epsv", &[Family::V4]),
    ("--ftp-port -", &Family::BOTH),
    ("--ftp-port - --disable-eprt", &[Family::V4]),
];

#[test]
fn every_way_of_transfer_over_two_queues() {
    run("ftp", Layout::two_arm().queues(2).bulk(), |lab| {
        let _servers = start(lab, Some("ftp"));
        // Control and data connections, and their two directions, on whatever queue.
        map_queues(&lab.client, "eth0", Mapping::SourcePort, &lab.directory);
        map_queues(&lab.switch, "uplink", Mapping::DestinationPort, &lab.directory);
        let noise = noise(10 << 20);
        lab.backends.iter().for_each(|backend| std::fs::write(backend.file("down"), &noise).expect("a file to serve"));
        std::fs::write(lab.directory.join("original"), &noise).expect("the original");
        let mut transfers = 0;
        for (way, families) in WAYS {
            for family in families {
                transfer(lab, way, *family, &noise);
                transfers += 2;
            }
        }
        let status = lab.weir().status();
        assert_eq!(of_workers(&status, "expected"), transfers);
        assert_eq!(of_workers(&status, "refused_expectations"), 0);
        assert_eq!(status["connections"]["expected"], 0, "nothing is expected any more");
        let received = lab.weir().of_workers("rx");
        assert!(received.iter().all(|frames| *frames > 1000), "frames received by each worker: {received:?}");
        let expected = connections(lab).into_iter().filter(|connection| has_status(connection, "EXPECTED"));
        let data: Vec<Value> = expected.collect();
        assert_eq!(data.len() as u64, transfers, "{data:#?}");
        for connection in &data {
            let (client, vip) = (&connection["source"], &connection["destination"]);
            assert!(Family::BOTH.iter().any(|family| is_at(client, family.client()) && is_at(vip, family.vip())), "{connection}");
            assert!(connection["master"]["destination"].as_str().is_some_and(|vip| vip.ends_with(":21")), "{connection}");
        }
        assert_eq!(lab.weir().drops(), BTreeMap::new());
    });
}

#[test]
fn what_is_announced_is_listed_and_opened_once() {
    run("ftp_expected", Layout::two_arm(), |lab| {
        let _servers = start(lab, Some("ftp"));
        for family in Family::BOTH {
            let mut session = FtpSession::open(&lab.client, SocketAddr::new(family.vip(), 21));
            assert!(session.ask("TYPE I").starts_with("200 "));
            let reply = session.ask("EPSV");
            let port: u16 = reply.split('|').nth(3).and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{reply}"));
            let vip = SocketAddr::new(family.vip(), port);
            let listed = expectations(lab);
            assert_eq!(listed.len(), 1, "{listed:#?}");
            assert_eq!(listed[0]["destination"], vip.to_string());
            assert_eq!(listed[0]["source"], family.client().to_string());
            let explained = lab.weir().command(&format!("explain {} {vip} tcp", SocketAddr::new(family.client(), 12345)));
            assert!(explained.stdout.contains("expected"), "{explained}");
            // A third one has nothing of it; the client has, once.
            let stranger =
                lab.client.attempt(&format!("curl --silent --max-time 1 http://{}", SocketAddr::new(family.vip(), port - 1)));
            assert!(!stranger.success());
            lab.client.inside(|| TcpStream::connect_timeout(&vip, Duration::from_secs(5))).expect("the data connection");
            assert_eq!(expectations(lab), [Value::Null; 0]);
            let again = lab.client.inside(|| TcpStream::connect_timeout(&vip, Duration::from_millis(300)));
            assert!(again.is_err(), "the same announcement twice");
            // One that is announced and not opened ends with its control connection.
            session.ask("EPSV");
            assert_eq!(expectations(lab).len(), 1);
            let finished = lab.weir().command("conn delete --dst 0.0.0.0/0");
            assert!(finished.success(), "{finished}");
            let finished = lab.weir().command("conn delete --dst ::/0");
            assert!(finished.success(), "{finished}");
            assert_eq!(expectations(lab), [Value::Null; 0]);
            wait_until("nothing to be expected", Duration::from_secs(5), || {
                (lab.weir().status()["connections"]["expected"] == 0).then_some(())
            });
        }
    });
}

#[test]
fn a_third_ones_address_is_not_believed() {
    run("ftp_bounce", Layout::two_arm(), |lab| {
        let _servers = start(lab, Some("ftp"));
        let mut session = FtpSession::open(&lab.client, SocketAddr::new(Family::V4.vip(), 21));
        // vsftpd does not believe it either.
        assert!(session.ask("PORT 10,2,0,12,4,4").starts_with("500 "));
        assert!(session.ask("PORT 10,1,0,2,200,200").starts_with("200 "), "its own, rewritten to the SNAT address");
        assert_eq!(of_workers(&lab.weir().status(), "refused_expectations"), 1);
        assert_eq!(expectations(lab).len(), 1);
    });
}

#[test]
fn without_the_helper_no_data_connection_is_opened() {
    run("ftp_without", Layout::two_arm(), |lab| {
        let _servers = start(lab, None);
        lab.backends.iter().for_each(|backend| std::fs::write(backend.file("down"), b"never").expect("a file to serve"));
        for (way, families) in WAYS {
            for family in families {
                let finished = curl(&lab.client, &format!("{way} --connect-timeout 3 --max-time 5 {}", url(*family, "down")));
                assert!(!finished.success(), "{way} {family:?}: {finished}");
            }
        }
        assert_eq!(of_workers(&lab.weir().status(), "expectations"), 0);
        assert!(connections(lab).iter().all(|connection| !has_status(connection, "EXPECTED")));
        // Ports of the VIP that are no service are the kernel's, as ever.
        let refused = lab.client.inside(|| TcpStream::connect(SocketAddr::new(Family::V4.vip(), 40000)));
        assert_eq!(refused.map_err(|error| error.kind()).err(), Some(std::io::ErrorKind::ConnectionRefused));
    });
}

/// vsftpd in all backends, and weir before them with two SNAT addresses of each family.
fn start(lab: &mut Lab, helper: Option<&'static str>) -> Vec<Background> {
    let servers = lab.backends.iter().map(start_vsftpd).collect();
    let mut config: Config = lab.config.clone();
    for (family, second) in Family::BOTH.into_iter().zip(["10.2.0.201", "fd00:2::201"]) {
        let backends = (1..=3).map(|number| (SocketAddr::new(family.backend(number), 21), 1)).collect();
        let name = format!("ftp-{}", family.name());
        config.add(&name, SocketAddr::new(family.vip(), 21), "tcp", backends);
        config.set_helper(&name, helper);
        config.snat.push(second.parse().expect("an address"));
    }
    lab.config = config;
    lab.start_weir();
    servers
}

/// The file to the client and back to a backend.
#[track_caller]
fn transfer(lab: &Lab, way: &str, family: Family, noise: &[u8]) {
    let copy = lab.directory.join("copy");
    let finished = curl(&lab.client, &format!("{way} --output {} {}", copy.display(), url(family, "down")));
    assert!(finished.success(), "download {way} {family:?}: {finished}");
    assert!(std::fs::read(&copy).expect("the copy") == noise, "download {way} {family:?}");

    let original = lab.directory.join("original");
    let finished = curl(&lab.client, &format!("{way} --upload-file {} {}", original.display(), url(family, "up")));
    assert!(finished.success(), "upload {way} {family:?}: {finished}");
    let uploaded: Vec<_> = lab.backends.iter().map(|backend| backend.file("up")).filter(|file| file.exists()).collect();
    assert_eq!(uploaded.len(), 1, "one backend took the upload: {uploaded:?}");
    assert!(std::fs::read(&uploaded[0]).expect("the upload") == noise, "upload {way} {family:?}");
    std::fs::remove_file(&uploaded[0]).expect("the upload away");
}

fn url(family: Family, file: &str) -> String {
    format!("ftp://{}/{file}", SocketAddr::new(family.vip(), 21))
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    let mut source = std::fs::File::open("/dev/urandom").expect("/dev/urandom");
    std::io::Read::read_exact(&mut source, &mut noise).expect("noise");
    noise
}

fn connections(lab: &mut Lab) -> Vec<Value> {
    list(lab, "conn list --json")
}

fn expectations(lab: &mut Lab) -> Vec<Value> {
    list(lab, "conn list --expected --json")
}

fn list(lab: &mut Lab, command: &str) -> Vec<Value> {
    let finished = lab.weir().command(command);
    assert!(finished.success(), "{command}: {finished}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{command}: {error}\n{finished}"))
}

fn has_status(connection: &Value, bit: &str) -> bool {
    connection["status"].as_array().is_some_and(|bits| bits.iter().any(|name| name == bit))
}

fn is_at(address: &Value, ip: IpAddr) -> bool {
    address.as_str().and_then(|address| address.parse::<SocketAddr>().ok()).is_some_and(|address| address.ip() == ip)
}

fn of_workers(status: &Value, counter: &str) -> u64 {
    let workers = status["workers"].as_array().expect("workers");
    workers.iter().map(|worker| worker[counter].as_u64().unwrap_or_else(|| panic!("no counter {counter}"))).sum()
}
