//! What holds for every topology file: a lab survives being written and read,
//! the end of a file changes nothing before it, and no bytes make us panic.

use std::collections::BTreeMap;

use ovsns::model::file::{read, shape, to_file};
use ovsns::model::names::LabName;
use ovsns::model::topology::Lab;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// Reads what `to_file` wrote, by way of its text.
fn again(lab: &Lab) -> Lab {
    let text = serde_json::to_vec_pretty(&to_file(lab)).expect("JSON");
    read(&text, "again", None).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A file that has a good chance to be a lab.
fn file() -> impl Strategy<Value = Json> {
    let switch = (any::<[bool; 4]>(), 2..31u32, 0..1000u32, 68..9000u32).prop_map(
        |([mac, device, mtu, snooping], delay, ageing, bytes)| {
            let mut switch = json!({
                "backend": (["auto", "ovs", "linux"][(ageing % 3) as usize]),
                "stp": true, "forward_delay": delay, "ageing": ageing,
                "multicast_snooping": snooping,
            });
            if mac {
                switch["mac"] = format!("02:00:00:00:{:02x}:{:02x}", delay, ageing % 256).into();
            }
            if device {
                switch["device"] = format!("br{delay}-{ageing}").into();
            }
            if mtu {
                switch["mtu"] = bytes.into();
            }
            switch
        },
    );
    let node = (any::<[bool; 4]>(), 0..250u32).prop_map(|([forwarding, named, none, mac], n)| {
        let mut node = json!({ "forwarding": forwarding });
        if named {
            node["interfaces"]["eth0"] = match none {
                true => json!({ "addresses": [] }),
                false => json!({ "addresses": [format!("10.0.0.{}/24", n + 1), format!("fd00::{}/64", n + 1)] }),
            };
            if mac {
                node["interfaces"]["eth0"]["mac"] = format!("02:00:00:00:00:{n:02x}").into();
            }
        } else {
            node["sysctls"] = json!({ "net.ipv4.conf.all.rp_filter": n, "net.ipv4.x": "a b" });
        }
        if n % 3 == 0 {
            node["routes"] = json!([
                { "to": "10.77.0.0/16", "interface": "eth0", "metric": n },
                { "to": "fd77::/64", "via": "fe80::1", "interface": "eth0" },
            ]);
        }
        node
    });
    let link = (0..8usize, 0..8usize, any::<[bool; 3]>(), 68..9000u32, 1..4095u32);
    (
        prop::collection::vec(switch, 0..4),
        prop::collection::vec(node, 0..6),
        prop::collection::vec(link, 0..10),
    )
        .prop_map(|(switches, nodes, links)| {
            let (s, n) = (switches.len(), nodes.len());
            let name = |i: usize| match i % (s + n).max(1) {
                i if i < s => format!("s{i}"),
                i => format!("n{}", i - s),
            };
            // Every node is linked once, so that `eth0` is there.
            let first =
                (0..n).filter(|_| 0 < s).map(|i| json!({ "endpoints": [format!("n{i}"), "s0"] }));
            let more = links.into_iter().filter(|_| 1 < s + n).map(|(a, b, flags, mtu, vlan)| {
                // Two different ends.
                let b = a + 1 + b % (s + n - 1);
                let mut link = json!({ "endpoints": [name(a), name(b)] });
                if flags[0] {
                    link["mtu"] = mtu.into();
                }
                if name(a).starts_with('s') {
                    link["isolated"] = flags[1].into();
                    match flags[2] {
                        true => link["vlan"] = vlan.into(),
                        false => {
                            link["trunks"] = json!([vlan, 7]);
                            link["native"] = vlan.into();
                        }
                    }
                }
                link
            });
            let named = |letter: &str, things: Vec<Json>| -> Map<String, Json> {
                things
                    .into_iter()
                    .enumerate()
                    .map(|(i, thing)| (format!("{letter}{i}"), thing))
                    .collect()
            };
            json!({
                "links": first.chain(more).collect::<Vec<_>>(),
                "switches": named("s", switches),
                "nodes": named("n", nodes),
            })
        })
}

fn lab_of(file: &Json) -> Option<Lab> {
    read(&serde_json::to_vec(file).expect("JSON"), "file", Some("lab")).ok()
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
