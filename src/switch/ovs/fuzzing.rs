//! What must hold for anything that the tools of Open vSwitch print: see
//! `crate::fuzzing`.

use super::{openflow, tools, way};

/// Each reader on the whole, or on each line.
pub(in crate::switch) fn printed(text: &str) {
    let lines = text.lines().count();
    assert!(tools::read_fdb(text).len() <= lines);
    assert!(tools::read_ports(text).len() <= lines);
    assert!(tools::read_bond(text).members.len() <= lines);
    assert!(openflow::read_no_flood(text).len() <= lines);
    let _ = (openflow::find_table_miss(text), openflow::left_out(text), tools::complaint(text));
    for line in text.lines() {
        let _ = openflow::read_form(line);
        if let Some(flow) = openflow::read_counted(line) {
            assert!(flow.text.contains("actions="), "{line:?}");
            let _ = way::same(&flow.text, line);
        }
    }
    let read = way::read(text);
    assert!(read.words.len() <= lines);
}
