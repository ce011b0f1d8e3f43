//! Asking neighbours whether they are there, with the kernel's own questions
//! (ARP, RFC 4861): it then knows the answer, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};

use super::wire;
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::Raw;
use crate::model::names::IfName;
use crate::model::nic::Neighbour;

// linux/neighbour.h
const NUD_REACHABLE: u16 = 0x02;
const NUD_PROBE: u16 = 0x10;
const NUD_FAILED: u16 = 0x20;
const NUD_PERMANENT: u16 = 0x80;
const NTF_USE: u8 = 0x01;

/// How long neighbours have to answer: the kernel asks three times, a second
/// apart.
const ANSWERED_WITHIN: Duration = Duration::from_millis(3500);

/// Which of `neighbours` answer behind `device`. Those that somebody entered
/// for ever are not asked, and count as answering: the kernel does not ask
/// either.
pub(super) async fn probe(
    netlink: &Netlink,
    device: &IfName,
    neighbours: &BTreeSet<IpAddr>,
) -> Result<BTreeSet<IpAddr>, KernelError> {
    if neighbours.is_empty() {
        return Ok(BTreeSet::new());
    }
    let index = netlink.index_of(device.as_str())?;
    let known: BTreeMap<IpAddr, Neighbour> = entries(netlink)?
        .iter()
        .filter_map(|raw| wire::neighbour(raw, index))
        .map(|neighbour| (neighbour.ip, neighbour))
        .collect();
    let mut questions = Vec::new();
    for ip in neighbours {
        match known.get(ip) {
            Some(neighbour) if neighbour.permanent => {}
            Some(Neighbour { mac, router, .. }) => {
                let raw = wire::neighbour_for(*ip, Some(*mac), index, NUD_PROBE, *router);
                questions.push((raw, NLM_F_ACK | NLM_F_REPLACE));
            }
            None => {
                let mut raw = wire::neighbour_for(*ip, None, index, 0, false);
                raw.bytes[10] |= NTF_USE;
                questions.push((raw, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE));
            }
        }
    }
    let asked = |_| format!("ask the neighbours behind `{device}`");
    if let Some(error) = netlink.burst(&questions, asked)?.into_values().next() {
        return Err(error);
    }
    let start = Instant::now();
    loop {
        let states: BTreeMap<IpAddr, u16> = entries(netlink)?
            .iter()
            .filter_map(|raw| wire::neighbour_state(raw, index))
            .filter(|(ip, _)| neighbours.contains(ip))
            .collect();
        let is = |ip: &IpAddr, bits: u16| states.get(ip).is_some_and(|state| state & bits != 0);
        let decided = |ip: &IpAddr| is(ip, NUD_REACHABLE | NUD_FAILED | NUD_PERMANENT);
        if neighbours.iter().all(decided) || ANSWERED_WITHIN < start.elapsed() {
            let answers = |ip: &&IpAddr| is(ip, NUD_REACHABLE | NUD_PERMANENT);
            return Ok(neighbours.iter().filter(answers).copied().collect());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn entries(netlink: &Netlink) -> Result<Vec<Raw>, KernelError> {
    let mut all = Vec::new();
    for family in [wire::AF_INET, wire::AF_INET6] {
        let header = [&[family], &[0; 11][..]].concat();
        let message = Raw::new(wire::RTM_GETNEIGH, &header, &[]);
        all.extend(netlink.raw_dump(&message, "list neighbours")?);
    }
    Ok(all)
}
