//! What holds for every topology file: a lab survives being written and read,
//! the end of a file changes nothing before it, and no bytes make us panic.

mod common;

use std::collections::BTreeMap;

use common::{file, lab_of};
use ovsns::model::file::{read, shape, to_file};
use ovsns::model::names::LabName;
use ovsns::model::topology::Lab;
use proptest::prelude::*;
use serde_json::json;

/// Reads what `to_file` wrote, by way of its text.
fn again(lab: &Lab) -> Lab {
    let text = serde_json::to_vec_pretty(&to_file(lab)).expect("JSON");
    read(&text, "again", None).unwrap_or_else(|problems| panic!("{problems}"))
}

proptest! {
    #[test]
    fn a_lab_survives_being_written(file in file()) {
        if let Some(lab) = lab_of(&file) {
            prop_assert_eq!(again(&lab), lab);
        }
    }

    #[test]
    fn a_node_at_the_end_renumbers_nobody(file in file(), end in 0..6usize) {
        let Some(before) = lab_of(&file) else { return Ok(()) };
        let Some(end) = before.switches.keys().map(ToString::to_string)
            .chain(before.nodes.keys().map(ToString::to_string)).nth(end) else { return Ok(()) };
        // To the file itself, and to the file as written with all addresses.
        for mut longer in [file, to_file(&before)] {
            longer["nodes"]["a-new-one"] = json!({});
            let links = longer["links"].as_array_mut().expect("a list");
            links.push(json!({ "endpoints": ["a-new-one", end.clone()] }));
            let after = lab_of(&longer).expect("one more node is no problem");
            let of = |lab: &Lab| -> BTreeMap<String, String> {
                let mut all = BTreeMap::new();
                for (name, node) in &lab.nodes {
                    for (interface, has) in &node.interfaces {
                        all.insert(format!("{name}:{interface}"), format!("{:?}", has.addresses));
                    }
                }
                all
            };
            let (before, after) = (of(&before), of(&after));
            for (interface, addresses) in before {
                prop_assert_eq!(&addresses, &after[&interface], "{}", interface);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes, "bytes", Some("lab")).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|[\\[\\]{}:,&*!|>'\"%@`#\\-?~ \n\t\r]){0,200}") {
        let _ = read(text.as_bytes(), "text", Some("lab")).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_words_of_ours_make_it_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..80)) {
        let _ = read(words.concat().as_bytes(), "words", Some("lab")).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_shape_makes_it_panic(topo in "(single|linear|tree|ring|x)?(,[0-9]{0,3}){0,3}") {
        if let Ok(lab) = shape(&topo, &LabName::default_lab()) {
            prop_assert!(!lab.switches.is_empty());
        }
    }
}

/// Pieces of files, and what holds them together.
const WORDS: &[&str] = &[
    "switches:",
    "nodes:",
    "links:",
    "prefixes:",
    "name:",
    "endpoints:",
    "interfaces:",
    "routes:",
    "addresses:",
    "sysctls:",
    "mtu:",
    "vlan:",
    "stp:",
    "to:",
    "via:",
    " ",
    " ",
    " ",
    "\n",
    "\n",
    "\n  ",
    "\n    ",
    "\n  - ",
    "\n- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "s1",
    "n1",
    "n2",
    "n1:eth0",
    "\"h[1-3]\"",
    "h[1-99999]",
    "h[3-1]",
    "true",
    "1500",
    "10.0.0.1/24",
    "fd00::1/64",
    "default",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "---",
    "...",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "# ",
    "\t",
    "?",
    "<<: ",
    "null",
];

#[test]
fn the_shapes_survive_being_written() {
    for topo in ["single,1", "single,50", "linear,4", "tree,2,3", "tree,3,3", "ring,5"] {
        let lab =
            shape(topo, &LabName::default_lab()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again(&lab), lab, "{topo}");
    }
}

#[test]
fn a_segment_added_to_a_lab_as_written_has_the_labs_prefixes() {
    let text = b"{prefixes: [172.20.0.0/14], switches: {s1: {}, s2: {}}, nodes: {a: {}}, \
                 links: [{endpoints: [a, s1]}]}";
    let lab = read(text, "file", Some("lab")).expect("a good file");
    let mut longer = to_file(&lab);
    longer["nodes"]["b"] = json!({});
    let links = longer["links"].as_array_mut().expect("a list");
    links.push(json!({ "endpoints": ["b", "s2"] }));
    let longer = lab_of(&longer).expect("one more node is no problem");
    let b = longer.nodes.iter().find(|(name, _)| name.as_str() == "b").expect("it was added").1;
    let addresses: Vec<_> =
        b.interfaces.values().flat_map(|i| &i.addresses).map(ToString::to_string).collect();
    assert_eq!(addresses, ["172.21.0.1/16"]);
}
