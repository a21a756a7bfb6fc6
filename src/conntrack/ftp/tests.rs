//! Every form, what is malformed, and what is not whole.

use super::*;
use Direction::{Original, Reply};

/// Form, text, address and port of what is named.
fn named(direction: Direction, ip: Ip, line: &str) -> Option<(Form, &str, Option<String>, u16)> {
    match read(direction, ip, line.as_bytes()) {
        Line::Names(found) => {
            let text = &line[found.at..found.at + found.length];
            Some((found.form, text, found.address.map(|address| address.to_string()), found.port))
        }
        _ => None,
    }
}

fn some(address: &str) -> Option<String> {
    Some(address.to_owned())
}

#[test]
fn port() {
    let text = "10,1,0,5,156,64";
    let found = Some((Form::Port, text, some("10.1.0.5"), 40000));
    for line in ["PORT 10,1,0,5,156,64\r\n", "port 10,1,0,5,156,64\r\n", "PoRt   10,1,0,5,156,64\n", "PORT 10,1,0,5,156,64\r"] {
        assert_eq!(named(Original, Ip::V4, line), found, "{line:?}");
    }
    let largest = "PORT 255,255,255,255,255,255\r\n";
    assert_eq!(named(Original, Ip::V4, largest).map(|found| found.3), Some(65535));
    assert_eq!(
        named(Original, Ip::V4, "PORT 010,001,000,005,000,021\r\n").map(|found| (found.2, found.3)),
        Some((some("10.1.0.5"), 21))
    );
}

#[test]
fn eprt() {
    assert_eq!(
        named(Original, Ip::V4, "EPRT |1|132.235.1.2|6275|\r\n"),
        Some((Form::Eprt, "|1|132.235.1.2|6275|", some("132.235.1.2"), 6275))
    );
    assert_eq!(
        named(Original, Ip::V6, "eprt |2|1080::8:800:200C:417A|5282|\r\n"),
        Some((Form::Eprt, "|2|1080::8:800:200C:417A|5282|", some("1080::8:800:200c:417a"), 5282))
    );
    assert_eq!(named(Original, Ip::V4, "EPRT !1!10.0.0.5!21!").map(|found| found.3), Some(21), "any delimiter");
    let longest = "EPRT |2|2001:0db8:1111:2222:3333:4444:5555:6666|65535|\r\n";
    assert_eq!(named(Original, Ip::V6, longest).map(|found| found.1.len()), Some(longest.len() - "EPRT \r\n".len()));
}

#[test]
fn reply_to_pasv() {
    for (line, text) in [
        ("227 Entering Passive Mode (10,2,0,11,156,64).\r\n", "10,2,0,11,156,64"),
        ("227 Entering Passive Mode. 10,2,0,11,156,64\r\n", "10,2,0,11,156,64"),
        ("227 =10,2,0,11,156,64\r\n", "10,2,0,11,156,64"),
        ("227 10,2,0,11,156,64\n", "10,2,0,11,156,64"),
        ("227 Ok (10,2,0,11,156,64)", "10,2,0,11,156,64"),
    ] {
        assert_eq!(named(Reply, Ip::V4, line), Some((Form::Pasv, text, some("10.2.0.11"), 40000)), "{line:?}");
    }
}

#[test]
fn reply_to_epsv() {
    for line in ["229 Entering Extended Passive Mode (|||6446|)\r\n", "229 (|||6446|)", "229 x(|||6446|"] {
        for ip in [Ip::V4, Ip::V6] {
            assert_eq!(named(Reply, ip, line), Some((Form::Epsv, "|||6446|", None, 6446)), "{line:?}");
        }
    }
    assert_eq!(named(Reply, Ip::V4, "229 (###1#)\r\n").map(|found| found.3), Some(1));
}

#[test]
fn what_is_malformed() {
    for line in [
        "PORT \r\n",
        "PORT 10,1,0,5,156\r\n",
        "PORT 10,1,0,5,156,64,7\r\n",
        "PORT 10,1,0,5,156,\r\n",
        "PORT 10,1,,5,156,64\r\n",
        "PORT 10,1,0,256,156,64\r\n",
        "PORT 10,1,0,5,156,0064\r\n",
        "PORT 10.1.0.5,156,64\r\n",
        "PORT 10,1,0,5,156,64 x\r\n",
        "PORT 10,1,0,5,0,0\r\n",
        "PORT -10,1,0,5,156,64\r\n",
        "EPRT \r\n",
        "EPRT |2|10.0.0.5|21|\r\n",
        "EPRT |2|2001:db8::5|21|\r\n",
        "EPRT |1|10.0.0.5|0|\r\n",
        "EPRT |1|10.0.0.5|65536|\r\n",
        "EPRT |1|10.0.0.5|000021|\r\n",
        "EPRT |1|10.0.0.5|21\r\n",
        "EPRT |1|10.0.0.5|\r\n",
        "EPRT |1|10.0.0|21|\r\n",
        "EPRT |1||21|\r\n",
        "EPRT |1!10.0.0.5|21|\r\n",
        "EPRT 1111110.0.0.5121|\r\n",
        "EPRT |1|10.0.0.5.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18|21|\r\n",
        "EPRT |1|\u{e9}|21|\r\n",
    ] {
        assert_eq!(read(Original, Ip::V4, line.as_bytes()), Line::Malformed, "{line:?}");
    }
    assert_eq!(read(Original, Ip::V6, b"EPRT |1|10.0.0.5|21|\r\n"), Line::Malformed);
    for line in [
        "227 not now\r\n",
        "227 (10,2,0,11,156)\r\n",
        "227 (10,2,0,11,156,64,3)\r\n",
        "229 (||6446|)\r\n",
        "229 (|||6446)\r\n",
        "229 (||||)\r\n",
        "229 (|||0|)\r\n",
        "229 |||6446|\r\n",
        "229 (1116446|)\r\n",
        "229 (   6446 )\r\n",
    ] {
        assert_eq!(read(Reply, Ip::V4, line.as_bytes()), Line::Malformed, "{line:?}");
    }
}

#[test]
fn what_is_not_whole() {
    // As long as the last one of them is missing, it may still be or become one.
    for (direction, ip, line) in [
        (Original, Ip::V4, "PORT 10,1,0,5,156,64\r"),
        (Original, Ip::V4, "EPRT |1|132.235.1.2|6275|"),
        (Original, Ip::V6, "EPRT |2|1080::8|5282|"),
        (Reply, Ip::V4, "227 Entering Passive Mode (10,2,0,11,156,64)"),
        (Reply, Ip::V6, "229 Entering Extended Passive Mode (|||6446|"),
    ] {
        assert!(matches!(read(direction, ip, line.as_bytes()), Line::Names(_)), "{line:?}");
        for length in 0..line.len() {
            assert_eq!(read(direction, ip, &line.as_bytes()[..length]), Line::Partial, "{:?}", &line[..length]);
        }
    }
}

#[test]
fn all_other_lines() {
    for line in
        ["USER anonymous\r\n", "PORTX 1,2,3,4,5,6\r\n", "PASV\r\n", "EPSV\r\n", "EPSV ALL\r\n", "P\r\n", "\r\n", "\n", "PORT\r\n"]
    {
        assert_eq!(read(Original, Ip::V4, line.as_bytes()), Line::Other, "{line:?}");
    }
    for line in [
        "220 welcome\r\n",
        "227-more\r\n",
        "2270 (10,2,0,11,156,64)\r\n",
        "PORT 10,1,0,5,156,64\r\n",
        " 227 (1,2,3,4,5,6)\r\n",
        "227\r\n",
    ] {
        assert_eq!(read(Reply, Ip::V4, line.as_bytes()), Line::Other, "{line:?}");
    }
    assert_eq!(read(Original, Ip::V4, b"227 (10,2,0,11,156,64)\r\n"), Line::Other, "the server's");
}

#[test]
fn the_other_family_is_read_and_believed_elsewhere() {
    assert_eq!(named(Original, Ip::V6, "PORT 10,1,0,5,156,64\r\n").map(|found| found.2), Some(some("10.1.0.5")));
}
