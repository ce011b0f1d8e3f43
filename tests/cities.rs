//! Graphs of others, read as labs: real ones, as messy as they are, and what is
//! told of those that are wrong.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use ovsns::model::file::{Format, Read, read_as};
use ovsns::model::problem::Problems;
use ovsns::model::topology::Lab;

fn read(format: Option<Format>, text: &str) -> Result<Read, Problems> {
    read_as(format, text.as_bytes(), "city.json", Some("city"), &mut |_| Err("none".to_owned()))
}

fn city(text: &str) -> Read {
    read(None, text).expect("a city")
}

fn error(text: &str) -> String {
    format!("error: {}", read(Some(Format::Graph), text).expect_err("the file is wrong"))
}

fn shown(lab: &Lab) -> String {
    let links = lab.links.iter().map(|link| format!("{} -- {}", link.ends[0], link.ends[1]));
    links.collect::<Vec<_>>().join("\n")
}

fn counts(lab: &Lab) -> [usize; 3] {
    [lab.nodes.len(), lab.switches.len(), lab.links.len()]
}

#[test]
fn the_cities_are_read_as_they_are() {
    let leipzig = city(include_str!("../examples/city-leipzig.json"));
    assert_eq!((counts(&leipzig.lab), leipzig.told), ([210, 0, 413], vec![]));
    let ulm = city(include_str!("../examples/city-ulm.json"));
    assert_eq!((counts(&ulm.lab), ulm.told), ([217, 0, 447], vec![]));
    // Nodes that are there again, names and numbers mixed, and one that is only linked.
    let berlin = city(include_str!("../examples/city-berlin.json"));
    assert_eq!(counts(&berlin.lab), [761, 0, 1123]);
    insta::assert_snapshot!(berlin.told.join("\n"), @r"
    of 976 nodes 216 are listed again; each is one node
    1 node is listed only at ends of links, and made, too: `ic-0`
    ");
    // Each cable is a network of its own, in both families.
    let mut networks = BTreeSet::new();
    for interface in berlin.lab.nodes.values().flat_map(|node| node.interfaces.values()) {
        assert_eq!(interface.addresses.len(), 2);
        networks.extend(interface.addresses.iter().map(ipnet::IpNet::trunc));
    }
    assert_eq!(networks.len(), 2 * 1123);
}

#[test]
fn a_name_and_a_number_are_the_same_node() {
    let text = r#"{"directed": false, "nodes": [{"id": 1, "x": 0.5}, {"id": "b.2"}],
        "links": [{"source": "1", "target": "b.2", "tq": 255}, {"source": "b.2", "target": "c"}]}"#;
    let Read { lab, told } = city(text);
    insta::assert_snapshot!(shown(&lab), @r"
    1:eth0 -- b.2:eth0
    b.2:eth1 -- c:eth0
    ");
    assert_eq!(told, ["1 node is listed only at ends of links, and made, too: `c`"]);
}

/// What it is by its looks; and what somebody says that it is.
#[test]
fn a_graph_is_known_by_its_looks() {
    let graph = r#"{"nodes": [{"id": 1}, {"id": 2}], "links": []}"#;
    assert_eq!(counts(&city(graph).lab), [2, 0, 0]);
    assert!(read(Some(Format::Lab), graph).is_err());
    let lab = r#"{"nodes": {"a": {}, "b": {}}, "links": [{"endpoints": ["a", "b"]}]}"#;
    assert_eq!(counts(&city(lab).lab), [2, 0, 1]);
    assert!(read(Some(Format::Graph), lab).is_err());
    // A lab with a mistake stays one.
    let mistaken = read(None, "nodes: [a, b]\nlinks: [{ endpoints: [a, b] }]\n");
    let told = mistaken.expect_err("no list").to_string();
    assert!(told.contains("`nodes` holds a mapping of names"), "{told}");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = r#"{
  "nodes": [
    {"id": "ok"},
    {"id": "B\u00f6hlitz 3"},
    {"id": "B\u00f6hlitz 3"},
    {"id": "../../etc"},
    {"name": "nameless"},
    {"id": [1]},
    {"id": null},
    "plain"
  ],
  "links": [
    {"source": "ok", "target": "ok"},
    {"source": "ok", "target": 2},
    {"source": 2, "target": "ok"},
    {"source": "ok", "target": "2"},
    {"source": "ok", "target": "B\u00f6hlitz 3"},
    {"source": "ok", "target": "-x"},
    {"source": "ok"},
    {"from": "ok", "to": 2},
    7
  ]
}"#;
    insta::assert_snapshot!(error(text));
    insta::assert_snapshot!("no_graph", error(r#"{"edges": [], "nodes": {}}"#));
}

#[test]
fn every_command_that_reads_files_reads_graphs() {
    let ulm = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/city-ulm.json");
    let drawn = ovsns(&["graph", ulm]);
    let text = String::from_utf8_lossy(&drawn.stdout);
    assert!(text.starts_with("lab city-ulm: 217 nodes, 447 links\n"), "{text}");
    let berlin = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/city-berlin.json");
    let drawn = ovsns(&["graph", berlin, "--format", "svg"]);
    assert!(drawn.status.success() && drawn.stdout.starts_with(b"<svg "));
    let told = String::from_utf8_lossy(&drawn.stderr);
    assert!(told.contains("city-berlin.json: of 976 nodes 216 are listed again"), "{told}");
    // A file that is one by `--format` is one for `up`, too, before root is asked for.
    let refused = ovsns(&[
        "up",
        "--format",
        "graph",
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tree.yaml"),
    ]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("`nodes` of a graph is a list, not a mapping"), "{told}");
}

fn ovsns(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ovsns")).args(words).output().expect("the program runs")
}
