//! An address and a port as a line of FTP names them (`nf_nat_ftp_fmt_cmd`).

use crate::conntrack::ftp::Form;
use arrayvec::ArrayString;
use std::fmt::Write;
use std::net::IpAddr;

/// The longest is `|2|`, an IPv6 address of 39 letters, `|65535|`: 49.
pub type Text = ArrayString<64>;

/// The text that stands in the place of what was found there. `None`: an IPv6 address cannot be written so.
pub fn write(form: Form, address: IpAddr, port: u16) -> Option<Text> {
    let mut text = Text::new();
    let written = match (form, address) {
        (Form::Port | Form::Pasv, IpAddr::V4(address)) => {
            let ([a, b, c, d], [upper, lower]) = (address.octets(), port.to_be_bytes());
            write!(text, "{a},{b},{c},{d},{upper},{lower}")
        }
        (Form::Port | Form::Pasv, IpAddr::V6(_)) => return None,
        (Form::Eprt, IpAddr::V4(address)) => write!(text, "|1|{address}|{port}|"),
        (Form::Eprt, IpAddr::V6(address)) => write!(text, "|2|{address}|{port}|"),
        (Form::Epsv, _) => write!(text, "|||{port}|"),
    };
    written.is_ok().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form() {
        let [v4, v6]: [IpAddr; 2] = ["10.9.0.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        for (form, address, text) in [
            (Form::Port, v4, Some("10,9,0,1,156,65")),
            (Form::Pasv, v4, Some("10,9,0,1,156,65")),
            (Form::Eprt, v4, Some("|1|10.9.0.1|40001|")),
            (Form::Eprt, v6, Some("|2|2001:db8::1|40001|")),
            (Form::Epsv, v4, Some("|||40001|")),
            (Form::Epsv, v6, Some("|||40001|")),
            (Form::Port, v6, None),
            (Form::Pasv, v6, None),
        ] {
            assert_eq!(write(form, address, 40001).as_deref(), text, "{form:?}");
        }
        let longest = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        assert_eq!(write(Form::Eprt, longest, 65535).unwrap().len(), 49);
    }
}
