//! What of this machine surprises labs, or is surprised by them: who else filters
//! what passes, and who sees to its NICs.

use std::fs;

use netlink_packet_route::link::InfoKind;

use super::{Finding, Part, Verdict};
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::worker::{Where, Worker};
use crate::kernel::{exits, nic, observe};
use crate::model::exits::{Drops, is_of_a_lab};
use crate::model::mark::Mark;
use crate::model::names::IfName;
use crate::plan::attach::preflight;

/// Looks at the machine's own namespace.
pub(super) async fn examine(worker: &Worker) -> Result<Vec<Finding>, KernelError> {
    worker.inside(Where::Home, look).await?
}

fn look() -> Result<Vec<Finding>, KernelError> {
    let drops = exits::chains_that_drop(&[])?;
    let drops: Vec<Drops> = drops.into_iter().filter(|it| !is_of_a_lab(&it.table)).collect();
    let mut findings = forwarding();
    findings.push(forwarded(&drops));
    findings.extend(bridged(&drops));
    findings.extend(neighbours());
    findings.extend(nics(&Netlink::new()?)?);
    Ok(findings)
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn fine(what: &str, needed_for: &str, said: impl Into<String>) -> Finding {
    Finding {
        part: Part::Machine,
        what: what.to_owned(),
        verdict: Verdict::Good,
        needed_for: needed_for.to_owned(),
        said: said.into(),
        mend: None,
    }
}

fn forwarding() -> Vec<Finding> {
    let families = [("IPv4", "net.ipv4.ip_forward"), ("IPv6", "net.ipv6.conf.all.forwarding")];
    let finding = |(family, key): (&str, &str)| {
        let value = read(&format!("/proc/sys/{}", key.replace('.', "/")))?;
        let what = format!("forwarding of {family}");
        let needed_for = format!("`nat` of switches and nodes, {family}");
        let fine = fine(&what, &needed_for, format!("this machine forwards {family}"));
        Some(match value.as_str() {
            "0" => Finding {
                verdict: Verdict::Lacking,
                said: format!("this machine does not forward {family}"),
                mend: Some(format!("`sysctl -w {key}=1`")),
                ..fine
            },
            _ => fine,
        })
    };
    families.into_iter().filter_map(finding).collect()
}

fn chain(drops: &Drops) -> String {
    format!("chain `{}` of table `{} {}`", drops.chain, drops.family, drops.table)
}

/// Docker's `FORWARD DROP`, and whoever does the same.
fn forwarded(drops: &[Drops]) -> Finding {
    let fine = fine(
        "what is forwarded",
        "`nat` of switches and nodes",
        "no chain of others drops all that no rule lets through",
    );
    if drops.is_empty() {
        return fine;
    }
    let chains: Vec<String> = drops.iter().map(chain).collect();
    Finding {
        verdict: Verdict::Warning,
        said: format!("{} drops what no rule lets through", chains.join(" and ")),
        mend: Some(
            "`up` of a lab with `nat` says the command that lets that lab through".to_owned(),
        ),
        ..fine
    }
}

/// `br_netfilter` sends bridged packets through the machine's packet filter,
/// where such a chain ends them. Chains of the old `iptables-legacy` are not seen.
fn bridged(drops: &[Drops]) -> Option<Finding> {
    let calls = |family: &str| {
        let key = format!("bridge-nf-call-{family}tables");
        (read(&format!("/proc/sys/net/bridge/{key}"))? == "1").then_some(key)
    };
    let on: Vec<String> = ["ip", "ip6"].into_iter().filter_map(calls).collect();
    if on.is_empty() {
        return None;
    }
    let legacy = read("/proc/self/net/ip_tables_names").is_some_and(|it| it.contains("filter"));
    let fine = fine(
        &on.join(", "),
        "pings between nodes on linux switches, where the packet filter drops what it forwards",
        "packets on linux switches pass this machine's chains that see what is forwarded, and \
         none drops them",
    );
    if drops.is_empty() && !legacy {
        return Some(fine);
    }
    let said = match drops {
        [] => "packets on linux switches pass this machine's iptables FORWARD chain".to_owned(),
        some => {
            let chains: Vec<String> = some.iter().map(chain).collect();
            format!("packets on linux switches are dropped by {}", chains.join(" and "))
        }
    };
    let settings: Vec<String> = on.iter().map(|key| format!("net.bridge.{key}=0")).collect();
    let unsure = if drops.is_empty() { "if `iptables-legacy -S FORWARD` says DROP: " } else { "" };
    let mend = format!("{unsure}`sysctl -w {}`", settings.join(" "));
    Some(Finding { verdict: Verdict::Warning, said, mend: Some(mend), ..fine })
}

/// All namespaces share one table; its size shows in the machine's first one alone.
fn neighbours() -> Option<Finding> {
    let most = ["ipv4", "ipv6"].map(|family| {
        read(&format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"))
            .map(|most| format!("{most} of {}", family.replace("ipv", "IPv")))
    });
    let most: Vec<String> = most.into_iter().flatten().collect();
    (!most.is_empty()).then(|| {
        fine(
            "table of neighbours",
            "nodes that talk to each other: two of a pair",
            format!("has room for {}, of all namespaces together", most.join(" and ")),
        )
    })
}

/// Who sees to each of the machine's NICs.
fn nics(netlink: &Netlink) -> Result<Vec<Finding>, KernelError> {
    let mut findings = Vec::new();
    for link in observe::links(netlink)? {
        let Ok(name) = IfName::new(&link.name) else { continue };
        let is_nic = !matches!(link.kind, Some(InfoKind::Bridge | InfoKind::Dummy | InfoKind::Tun));
        if !is_nic || Mark::parse(&link.seen.alias).is_some() {
            continue;
        }
        let managers = nic::managers(&name, link.index);
        if managers.is_empty() {
            continue;
        }
        let unheard = managers.iter().any(preflight::Manager::is_deaf);
        let words: Vec<String> =
            managers.iter().map(|it| preflight::manager_words(&name, it)).collect();
        let fine =
            fine(&format!("NIC {name}"), &format!("`ovsns attach {name}`"), words.join("; "));
        findings.push(match unheard {
            false => fine,
            true => Finding {
                verdict: Verdict::Warning,
                mend: Some(
                    "install the program by which it is told: `networkctl` or `nmcli`".to_owned(),
                ),
                ..fine
            },
        });
    }
    Ok(findings)
}
