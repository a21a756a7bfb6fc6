//! `allow` and `deny` of a service.

use super::problems::{Located, Problems};
use crate::config::raw;
use crate::config::value::{Complaint, Endpoint, family, prefix, refuse};
use ipnet::IpNet;
use serde_spanned::Spanned;

/// Both lists: prefixes of the VIP's family, none of them twice.
pub(super) fn check_access(
    service: &raw::Service,
    vip: Option<&Located<Endpoint>>,
    problems: &mut Problems,
) -> (Vec<IpNet>, Vec<IpNet>) {
    let mut list = |key, list: Option<&Spanned<Vec<Spanned<String>>>>| -> Vec<Located<IpNet>> {
        let given = list.map_or(&[][..], |list| list.get_ref());
        given.iter().filter_map(|text| problems.value(key, Some(text), |text| of_family(prefix(text)?, vip))).collect()
    };
    let (allow, deny) = (list("service.allow", service.allow.as_ref()), list("service.deny", service.deny.as_ref()));
    problems.unique("service.deny", allow.iter().chain(&deny), |prefix| format!("{prefix} is named twice"));
    let values = |list: Vec<Located<IpNet>>| list.into_iter().map(|prefix| prefix.value).collect();
    (values(allow), values(deny))
}

/// Others never come to this VIP, so whoever wrote one meant something else.
fn of_family(prefix: IpNet, vip: Option<&Located<Endpoint>>) -> Result<IpNet, Complaint> {
    match vip.map(|vip| vip.value.address) {
        Some(vip) if vip.is_ipv4() != prefix.addr().is_ipv4() => refuse(
            format!("{prefix} is {}, and the VIP is {}", family(prefix.addr()), family(vip)),
            "prefixes of the VIP's family",
        ),
        _ => Ok(prefix),
    }
}
