//! What is there of a table of ours in the packet filter, and whether it is as it
//! was made: somebody may have set it to rest, or changed a rule.

use nix::errno::Errno;

use super::wire;
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::{Raw, attributes, find, text, text_of};

/// The chains, the rules, or whatever else there is of a kind, of a table.
pub(crate) fn all_of(
    netlink: &Netlink,
    family: u8,
    table: &str,
    kind: u16,
) -> Result<Vec<Raw>, KernelError> {
    // The name of the table is the first of each.
    let get = wire::request(family, kind, &[text(wire::NFTA_RULE_TABLE, table)]);
    let is_it = |raw: &Raw| {
        let body = wire::body(raw).map(|(_, body)| body).unwrap_or_default();
        find(body, &[wire::NFTA_RULE_TABLE]).and_then(text_of) == Some(table)
    };
    Ok(dump(netlink, &get)?.into_iter().filter(is_it).collect())
}

/// Whether somebody has set a table of ours to rest.
pub(crate) fn is_dormant(netlink: &Netlink, family: u8, name: &str) -> Result<bool, KernelError> {
    let asked = [text(wire::NFTA_TABLE_NAME, name)];
    let get = wire::request(family, wire::NFT_MSG_GETTABLE, &asked);
    let found = netlink.raw(get, 0, || "look at the packet filter".to_owned())?;
    let flags = |raw| find(wire::body(raw)?.1, &[wire::NFTA_TABLE_FLAGS]).and_then(wire::big_of);
    Ok(found.iter().filter_map(flags).any(|flags| flags != 0))
}

/// The steps of a rule.
pub(crate) fn steps(body: &[u8]) -> Option<&[u8]> {
    find(body, &[wire::NFTA_RULE_EXPRESSIONS])
}

/// Whether a rule that is there does what one was made to do: the same steps, each
/// with all that was said of it. The kernel says more, such as its defaults.
pub(crate) fn same_rule(made: Option<&[u8]>, seen: Option<&[u8]>) -> bool {
    let count = |rule: Option<&[u8]>| attributes(rule.unwrap_or_default()).count();
    let of = |rule| attributes(rule).map(|(_, step)| step);
    let (Some(made_steps), Some(seen_steps)) = (made.map(of), seen.map(of)) else { return false };
    let name = |step| find(step, &[wire::NFTA_EXPR_NAME]).and_then(text_of);
    let data = |step| find(step, &[wire::NFTA_EXPR_DATA]).filter(|data| !data.is_empty());
    count(made) == count(seen)
        && made_steps.zip(seen_steps).all(|(made, seen)| {
            let same = data(made).is_none() || covers(data(made), data(seen));
            name(made) == name(seen) && same
        })
}

/// Whether all attributes that were `made` are in what was `seen`, each with its
/// value.
pub(crate) fn covers(made: Option<&[u8]>, seen: Option<&[u8]>) -> bool {
    let (Some(made), Some(seen)) = (made, seen) else { return false };
    let mut wanted = attributes(made).peekable();
    wanted.peek().is_some()
        && wanted.all(|(kind, value)| {
            let there = find(seen, &[kind]);
            there == Some(value) || covers(Some(value), there)
        })
}

/// All of a kind that there is, whosever.
pub(crate) fn dump(netlink: &Netlink, get: &Raw) -> Result<Vec<Raw>, KernelError> {
    match netlink.raw_dump(get, "look at the packet filter") {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP) => {
            Ok(Vec::new())
        }
        other => other,
    }
}
