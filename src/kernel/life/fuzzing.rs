//! What must hold for any list of `/proc`, and for any message to or from a keeper:
//! see `crate::fuzzing`.

use std::path::Path;

use super::groups::Groups;
use super::{files, ports, wire};
use crate::model::fuzzing::same;
use crate::model::life::Port;

pub(in crate::kernel) fn proc(text: &str) {
    let groups = Groups::read(text, "ovsns", |_: &Path| text.to_owned());
    assert_eq!(groups.controllers().len(), groups.versions().len());
    for udp in [false, true] {
        let _ = ports::has(text, Port { number: 80, udp });
    }
    for place in text.lines().filter_map(|line| line.split(' ').nth(4)) {
        assert!(files::unescaped(place).as_os_str().len() <= place.len());
    }
}

pub(in crate::kernel) fn messages(input: &[u8]) {
    same::<wire::Charge>(input);
    same::<wire::Begun>(input);
    same::<wire::Ask>(input);
    same::<wire::Tell>(input);
}
