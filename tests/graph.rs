//! Pictures of labs: as a person sees them, and as other programs read them. No
//! root is needed, and the same lab is the same picture at every time.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::{Command, Output, Stdio};

use ovsns::model::file;
use ovsns::model::graph::{self, EdgeEnd, Graph, Kind, State};
use ovsns::model::names::LabName;
use ovsns::model::topology::Lab;
use proptest::prelude::*;

fn shape(words: &str) -> Lab {
    file::shape(words, &LabName::new("lab").expect("a good name")).expect("a shape")
}

fn example(name: &str) -> Lab {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let text = std::fs::read(format!("{examples}/{name}")).expect("an example");
    let mut beside =
        |from: &str| std::fs::read(format!("{examples}/{from}")).map_err(|error| error.to_string());
    file::read_with(&text, name, None, &mut beside).expect("a good example")
}

/// `k` pods of a fat tree: three tiers, each switch joined to half of the next.
fn fat_tree(k: usize) -> Lab {
    let half = k / 2;
    let (mut switches, mut links) = (String::new(), String::new());
    let mut hosts = 0;
    for core in 1..=half * half {
        writeln!(switches, "  core{core}: {{ stp: true }}").expect("a string takes all");
    }
    let mut link = |a: String, b: String| {
        writeln!(links, "  - endpoints: [{a}, {b}]").expect("a string takes all");
    };
    for pod in 1..=k {
        for at in 1..=half {
            for tier in ["agg", "edge"] {
                writeln!(switches, "  {tier}{pod}-{at}: {{ stp: true }}")
                    .expect("a string takes all");
            }
            for to in 1..=half {
                link(format!("agg{pod}-{at}"), format!("edge{pod}-{to}"));
                link(format!("agg{pod}-{at}"), format!("core{}", (at - 1) * half + to));
                hosts += 1;
                link(format!("h{hosts}"), format!("edge{pod}-{at}"));
            }
        }
    }
    let text =
        format!("name: fat\nswitches:\n{switches}nodes:\n  h[1-{hosts}]: {{}}\nlinks:\n{links}");
    file::read(text.as_bytes(), "fat.yaml", None).expect("a fat tree")
}

/// A router at every crossing, joined to all beside it: no tree, no ring, no tiers.
fn grid(side: usize) -> Lab {
    let mut text = format!("name: grid\nnodes:\n  r[1-{}]: {{}}\nlinks:\n", side * side);
    for at in 1..=side * side {
        for next in [at + 1, at + side] {
            let is_beside = next == at + side || at % side != 0;
            if is_beside && next <= side * side {
                writeln!(text, "  - endpoints: [r{at}, r{next}]").expect("a string takes all");
            }
        }
    }
    file::read(text.as_bytes(), "grid.yaml", None).expect("a grid")
}

#[test]
fn for_a_terminal() {
    let labs = [
        example("two-nodes.yaml"),
        example("cable.yaml"),
        example("router.yaml"),
        example("open-vswitch.yaml"),
        example("tunnel.yaml"),
        shape("tree,2,2"),
        shape("linear,3"),
        shape("ring,4"),
        fat_tree(2),
    ];
    let text: Vec<String> = labs.iter().map(|lab| graph::text(&Graph::wanted(lab))).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn for_graphviz_and_mermaid() {
    let graph = Graph::wanted(&example("open-vswitch.yaml"));
    insta::assert_snapshot!(format!("{}\n{}", graph::dot(&graph), graph::mermaid(&graph)));
}

#[test]
fn for_programs() {
    let graph = Graph::wanted(&example("two-nodes.yaml"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&graph).expect("JSON"));
}

/// The picture of the README is what the command makes, into a file and into a pipe.
#[test]
fn the_picture_of_the_example_is_made_by_the_command() {
    let kept = include_str!("../examples/tree.svg");
    let here = env!("CARGO_MANIFEST_DIR");
    let tree = format!("{here}/examples/tree.yaml");
    let made = ovsns(&["graph", &tree, "--format", "svg"]);
    let made = String::from_utf8(made.stdout).expect("a text");
    assert_eq!(kept, made, "ovsns graph examples/tree.yaml --format svg -o examples/tree.svg");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tree.svg");
    let name = path.to_str().expect("a text");
    for before in ["", "what was there before"] {
        std::fs::write(&path, before).expect("a file");
        assert!(ovsns(&["graph", &tree, "-f", "svg", "-o", name]).status.success());
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), kept);
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

fn ovsns(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ovsns")).args(words).output().expect("the program runs")
}

/// A picture that cannot be written says so, and what was there before stays.
#[test]
fn what_cannot_be_written_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("no/such/place.svg");
    let name = path.to_str().expect("a text");
    let output = ovsns(&["graph", "--topo", "single,2", "-o", name]);
    let told = String::from_utf8_lossy(&output.stderr).replace(name, "PLACE");
    insta::assert_snapshot!(format!("{told}status {}", output.status.code().expect("a status")));
    // Nobody can write there, root neither.
    let output = ovsns(&["graph", "--topo", "single,2", "-o", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no space left"), "{output:?}");
}

/// Who reads through `head` has read enough.
#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ovsns"))
        .args(["graph", "--topo", "single,1000", "--format", "svg"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// What a name holds is never read as a part of the language.
#[test]
fn names_are_only_names() {
    let mut graph = Graph::new("<script>&\"");
    let name = "a\"]; <b> & \\ #1; -->\u{1}";
    graph.add(name, Kind::Node, vec!["</text>".into()], State::Up);
    graph.add("s", Kind::Switch, Vec::new(), State::Up);
    let ends = [EdgeEnd::on(name, "e\"", vec!["1".into()]), EdgeEnd::at("s")];
    graph.join(ends, vec!["]]> -- x".into()], State::Down);
    graph.notes.push("end */ %% }\n n0 --- n1".into());
    let graph = graph.in_order();
    let svg = graph::svg(&graph);
    let read = roxmltree::Document::parse(&svg).expect("XML");
    let texts: Vec<&str> = read.descendants().filter_map(|it| it.text()).collect();
    assert!(texts.contains(&name.replace('\u{1}', "\u{fffd}").as_str()), "{texts:?}");
    assert!(!svg.contains("<b>") && !svg.contains("<script>"));
    assert!(graph::dot(&graph).contains("label=\"a\\\"]; <b> & \\\\ #1;"));
    let mermaid = graph::mermaid(&graph);
    assert!(mermaid.contains("a#34;#93;#59; #60;b#62; #38; #92; #35;1#59;"), "{mermaid}");
    assert_eq!(mermaid.lines().count(), 7, "{mermaid}");
}

/// What runs is told from what should, and from what nobody asked for.
#[test]
fn what_is_not_as_in_the_file_says_so() {
    let wanted = Graph::wanted(&shape("single,2"));
    let mut seen = wanted.clone();
    seen.nodes.retain(|it| it.id != "h2");
    seen.edges.retain(|it| it.ends.iter().all(|end| end.node != "h2"));
    seen.add("stranger", Kind::Node, Vec::new(), State::Up);
    seen.edges[0].state = State::Down;
    let graph = seen.in_order().beside(wanted).in_order();
    let states: Vec<_> = graph.nodes.iter().map(|it| (it.id.as_str(), it.state)).collect();
    assert_eq!(
        states,
        [
            ("s1", State::Wanted),
            ("h1", State::Wanted),
            ("h2", State::Missing),
            ("stranger", State::Extra)
        ]
    );
    insta::assert_snapshot!(graph::text(&graph));
    let svg = graph::svg(&graph);
    for class in ["wire down", "wire missing", "node missing", "node extra"] {
        assert!(svg.contains(&format!("class=\"{class}\"")), "{class}");
    }
}

#[test]
fn no_box_lies_over_another() {
    let labs = ["single,1", "single,6", "single,7", "single,100", "linear,2", "linear,30"];
    let more = ["tree,2,3", "tree,3,3", "ring,3", "ring,4", "ring,12", "ring,13", "ring,40"];
    let shapes = labs.iter().chain(&more).map(|words| shape(words));
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let files = files.expect("examples").map(|entry| entry.expect("an example").file_name());
    let files: BTreeSet<String> = files.filter_map(|name| name.into_string().ok()).collect();
    let examples = files.iter().filter(|name| name.ends_with(".yaml")).map(|name| example(name));
    let fabrics = [fat_tree(4), fat_tree(8), grid(3), grid(10)];
    for lab in shapes.chain(examples).chain(fabrics) {
        check(&Graph::wanted(&lab));
    }
}

/// A thousand of anything.
#[test]
fn a_thousand_nodes_are_drawn() {
    let labs = [shape("single,1000"), shape("linear,500"), shape("ring,500"), shape("tree,3,10")];
    for lab in labs.into_iter().chain([fat_tree(14), grid(31)]) {
        let graph = Graph::wanted(&lab);
        assert!(1000 <= graph.nodes.len() + graph.edges.len());
        for text in [graph::svg(&graph), graph::text(&graph), graph::dot(&graph)] {
            assert!(graph.nodes.iter().all(|node| text.contains(&node.name)));
        }
    }
}

/// It is XML, all boxes are in it and lie beside each other, and it is drawn the same
/// again.
#[track_caller]
fn check(graph: &Graph) {
    let svg = graph::svg(graph);
    assert_eq!(svg, graph::svg(graph));
    let read = roxmltree::Document::parse(&svg).expect("XML");
    let number = |node: &roxmltree::Node, key: &str| -> f64 {
        node.attribute(key).and_then(|text| text.parse().ok()).expect("a number")
    };
    let root = read.root_element();
    let size = [number(&root, "width"), number(&root, "height")];
    let boxes: Vec<[f64; 4]> = read
        .descendants()
        .filter(|node| node.attribute("class") == Some("box"))
        .map(|node| ["x", "y", "width", "height"].map(|key| number(&node, key)))
        .collect();
    assert_eq!(boxes.len(), graph.nodes.len());
    for (at, a) in boxes.iter().enumerate() {
        let is_inside =
            0.0 <= a[0] && 0.0 <= a[1] && a[0] + a[2] <= size[0] && a[1] + a[3] <= size[1];
        assert!(is_inside, "lab {}: {a:?} in {size:?}", graph.lab);
        for b in &boxes[..at] {
            let apart = a[0] + a[2] <= b[0]
                || b[0] + b[2] <= a[0]
                || a[1] + a[3] <= b[1]
                || b[1] + b[3] <= a[1];
            assert!(apart, "lab {}: {a:?} {b:?}", graph.lab);
        }
    }
    let wires = read.descendants().filter(|node| node.has_tag_name("path")).count();
    assert!(graph.edges.len() <= wires, "lab {}: {wires} lines", graph.lab);
}

proptest! {
    /// Whatever the lab.
    #[test]
    fn every_lab_can_be_drawn(file in common::file()) {
        if let Some(lab) = common::lab_of(&file) {
            let graph = Graph::wanted(&lab);
            check(&graph);
            graph::text(&graph);
            graph::dot(&graph);
            graph::mermaid(&graph);
        }
    }
}
