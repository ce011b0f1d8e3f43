//! What must hold for any bytes from outside that become nouns: see `crate::fuzzing`.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::adopt::{Adopt, AdoptMark};
use super::file::{self, Format, Read};
use super::flow;
use super::frame;
use super::hosts::{self, Edit};
use super::icmp::{BYTES, Echo};
use super::mark::{Mac, Mark};
use super::names::{IfName, InterfaceName, LabName, NodeName, ProcessName, SwitchName};
use super::nic::{AwayMark, LentMark};
use super::packet::{Carried, Packet};
use super::pcapng::LinkType;
use super::problem::Problems;
use super::ranges::Pattern;

/// A topology file: a lab that is written and read again is the same; each problem
/// is at a place that the text has.
pub fn topology(input: &[u8]) {
    read(Format::Lab, input);
}

/// The same of a graph.
pub fn graph(input: &[u8]) {
    read(Format::Graph, input);
}

fn read(format: Format, input: &[u8]) {
    let mut nothing = |_: &_| Err("nothing is beside it".to_owned());
    match file::read_as(Some(format), input, "input", Some("lab"), &mut nothing) {
        Ok(Read { lab, told: _ }) => again(&lab),
        Err(problems) => are_told(&problems, input),
    }
}

fn again(lab: &super::topology::Lab) {
    let text = serde_json::to_vec(&file::to_file(lab)).expect("JSON");
    let read = file::read(&text, "again", None).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(read, *lab);
}

fn are_told(problems: &Problems, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // As YAML counts them; a position may be that of the end.
    let lines: Vec<&str> = text.split('\n').flat_map(|line| line.split('\r')).collect();
    for problem in problems.problems() {
        if problem.line == 0 {
            continue;
        }
        assert!(problem.line <= lines.len(), "{problem:?}");
        let most = text.split(['\n', '\r']).map(|line| line.chars().count()).max().unwrap_or(0);
        assert!((1..=most + 1).contains(&problem.column), "{problem:?}");
    }
    let shown = problems.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

/// One value, and a shape.
pub fn values(input: &[u8]) {
    if let Ok(value) = file::value(input) {
        let text = value.to_string();
        let again = file::value(text.as_bytes()).unwrap_or_else(|bad| panic!("{text}: {bad}"));
        assert_eq!(again, value, "{text}");
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(lab) = file::shape(text, &LabName::default_lab())
        && lab.nodes.len() < 300
    {
        again(&lab);
    }
}

/// Names and ranges of names, and what else is a word of its own.
pub fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    is_kept(text, LabName::new(text), LabName::BYTES_MAX);
    is_kept(text, NodeName::new(text), NodeName::BYTES_MAX);
    is_kept(text, SwitchName::new(text), SwitchName::BYTES_MAX);
    is_kept(text, InterfaceName::new(text), InterfaceName::BYTES_MAX);
    is_kept(text, IfName::new(text), IfName::BYTES_MAX);
    is_kept(text, ProcessName::new(text), ProcessName::BYTES_MAX);
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse::<Mac>().expect("its own words"), mac);
    }
    match text.parse::<Adopt>() {
        Ok(adopt) => assert_eq!(adopt.to_string().parse::<Adopt>().as_ref(), Ok(&adopt)),
        Err(bad) => assert!(!bad.to_string().contains(char::is_control), "{bad}"),
    }
    if let Ok(pattern) = Pattern::new(text) {
        assert_eq!(pattern.as_str(), text);
        if pattern.count() <= 10_000 {
            let names = pattern.names();
            assert_eq!(u64::try_from(names.len()), Ok(pattern.count()));
            assert!(text.contains('[') || names == [text]);
        }
    }
}

fn is_kept<N: Display, E: Display>(text: &str, name: Result<N, E>, bytes_max: usize) {
    match name {
        Ok(name) => {
            assert_eq!(name.to_string(), text);
            assert!((1..=bytes_max).contains(&text.len()));
        }
        Err(bad) => {
            let said = bad.to_string();
            assert!(said.len() < 1000 && !said.contains(char::is_control), "{said:?}");
        }
    }
}

/// Marks on links, namespaces and rows: what is read as one is one to the letter.
pub fn marks(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(mark) = Mark::parse(text) {
        assert_eq!(mark.of_node(Mark::sealed(text)), text);
        let _ = (mark.full_name(), mark.device(), mark.mac(), mark.link());
    }
    is_to_the_letter(text, AwayMark::parse(text));
    is_to_the_letter(text, LentMark::parse(text));
    is_to_the_letter(text, AdoptMark::parse(text));
}

fn is_to_the_letter(text: &str, mark: Option<impl Display>) {
    if let Some(mark) = mark {
        assert_eq!(mark.to_string(), text);
    }
}

/// Answers to pings: of what is read as one, each byte that was ours is there.
pub fn icmp(input: &[u8]) {
    let v4 = Echo::reply_v4(input);
    let v6 = Echo::reply_v6(input);
    if let Some(echo) = v4 {
        let header = usize::from(input[0] & 0x0f) * 4;
        has(echo.request_v6(), &input[header..]);
    }
    if let Some(echo) = v6 {
        has(echo.request_v6(), input);
    }
    // However long it is, it is the same.
    let longer = [input, &[0; 9]].concat();
    assert!(v4.is_none() || Echo::reply_v4(&longer) == v4);
    assert!(v6.is_none() || Echo::reply_v6(&longer) == v6);

    /// All but the type and the checksum.
    #[track_caller]
    fn has(request: [u8; BYTES], answer: &[u8]) {
        assert_eq!(request[4..], answer[4..BYTES]);
        assert_eq!(answer[1], 0);
    }
}

/// Frames: told in a line without anything that moves the cursor, and sorted.
pub fn frames(input: &[u8]) {
    for link_type in [LinkType::Ethernet, LinkType::Ip] {
        let length = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let line = frame::in_a_line(input, link_type, length);
        assert!(!line.contains(char::is_control) && line.len() < 300, "{line:?}");
    }
    let mut tagged = input.to_vec();
    frame::put_tag_back(&mut tagged, 0x8100, 10);
    match tagged.len() - input.len() {
        0 => assert!(input.len() < 12),
        _ => assert_eq!([&tagged[..12], &tagged[16..]].concat(), input),
    }
    let v4 = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let v6 = |last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    let carried = [
        Carried::Echo { id: 7 },
        Carried::Tcp { from: 40_000, to: 80 },
        Carried::Udp { from: 40_000, to: 53 },
    ];
    for carried in carried {
        for (from, to) in [(v4(1), v4(2)), (v6(1), v6(2))] {
            let packet = Packet { from, to, carried };
            // A tag changes nothing of what is behind it.
            let sort = packet.sort(input);
            assert!(tagged.len() == input.len() || packet.sort(&tagged) == sort);
            let _ = packet.is_request(input);
        }
    }
}

/// Flows as people write them and as Open vSwitch prints them.
pub fn flows(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(bad) = flow::check(text) {
        assert!(!bad.what.contains(char::is_control), "{bad}");
    }
    // What is called as it was called before is the same text.
    assert_eq!(flow::with_ports(text, str::to_owned), text);
    assert_eq!(flow::with_output(text, |_| false), text);
    assert_eq!(flow::with_devices(text, &BTreeMap::new()), text);
    let _ = (flow::queues(text), flow::without_enqueue(text), flow::has_actions(text));
    let devices: Vec<&str> = flow::devices(text).collect();
    let numbers = devices.iter().zip(1..).map(|(device, number)| (*device, number)).collect();
    let numbered = flow::numbered([text], &numbers);
    assert!(numbered.iter().all(|text| !text.contains('"')));
}

/// `/etc/hosts` as it may be: a lab's names are in it when they were written, and
/// all else is as it was when they are taken out.
pub fn hosts(input: &[u8]) {
    let lab = LabName::default_lab();
    let block = "# ovsns lab=default\n10.0.0.1\tn n.default # ovsns\n# end of ovsns lab=default\n";
    let before = hosts::on_machine(input);
    let with = edited(input, &lab, Some(block));
    assert_eq!(hosts::on_machine(&with).get(&lab).map(String::as_str), Some(block));
    let without = edited(&with, &lab, None);
    let mut after = hosts::on_machine(&without);
    assert_eq!(after.remove(&lab), None);
    if !before.contains_key(&lab) {
        assert_eq!(without, input, "to the byte");
        assert_eq!(after, before);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = hosts::blocks(text);
        let seen = hosts::laid_over(block, text);
        assert!(seen.starts_with(block));
    }
}

/// What a file is after an edit.
fn edited(text: &[u8], lab: &LabName, block: Option<&str>) -> Vec<u8> {
    let Some(Edit { turned, cut, added }) = hosts::edit(text, lab, block) else {
        return text.to_vec();
    };
    let mut file = text.to_vec();
    if let Some((at, bytes)) = turned {
        file.splice(at..at + bytes.len(), bytes);
    }
    assert_eq!(file.len(), text.len(), "only the order is another");
    file.truncate(cut);
    file.extend(added);
    file
}

/// Whatever is read as a value of a type is written and read again as the same.
pub(crate) fn same<T: DeserializeOwned + Serialize>(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(input) else { return };
    let text = serde_json::to_string(&value).expect("our own types have no odd keys");
    let again: T = serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{text}: {bad}"));
    assert_eq!(serde_json::to_string(&again).expect("as before"), text);
}

/// The same of one whose values can be compared.
pub(crate) fn equal<T: DeserializeOwned + Serialize + PartialEq + Debug>(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(input) else { return };
    let text = serde_json::to_string(&value).expect("our own types have no odd keys");
    let again: T = serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{text}: {bad}"));
    assert_eq!(again, value);
}
