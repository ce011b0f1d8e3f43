//! A graph for other programs that draw: Graphviz and Mermaid.

use std::fmt::Write as _;

use super::{Edge, Graph, Kind, State, Vertex};

const TAKES: &str = "a string takes all";

/// What stands in the box of a thing.
fn lines(vertex: &Vertex) -> Vec<String> {
    let words = [vertex.name.clone()].into_iter().chain(vertex.details.clone());
    words.chain(vertex.state.word().map(str::to_owned)).collect()
}

/// In the language of Graphviz (dot(1)).
pub fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{text}\"")
    };
    let mut text = format!("graph {} {{\n", quoted(&graph.lab));
    text.push_str("  overlap=false;\n");
    text.push_str("  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    text.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for vertex in &graph.nodes {
        let shape = match vertex.kind {
            Kind::Switch => ", style=filled, fillcolor=\"#dbeafe\"",
            Kind::Node => "",
            Kind::Nic | Kind::Remote => ", style=\"rounded,dashed\"",
        };
        let label = quoted(&lines(vertex).join("\n"));
        let colour = colour(vertex.state);
        writeln!(text, "  {} [label={label}{shape}{colour}];", quoted(&vertex.id)).expect(TAKES);
    }
    for edge in &graph.edges {
        let [a, b] = &edge.ends;
        let mut words = Vec::new();
        let label = edge.label();
        if !label.is_empty() {
            words.push(format!("label={}", quoted(&label)));
        }
        for (end, key) in [(a, "taillabel"), (b, "headlabel")] {
            let said = end.interface.iter().chain(&end.addresses).cloned().collect::<Vec<_>>();
            if !said.is_empty() {
                words.push(format!("{key}={}", quoted(&said.join("\n"))));
            }
        }
        let words = format!("{}{}", words.join(", "), style(edge));
        let words = words.trim_start_matches(", ");
        writeln!(text, "  {} -- {} [{words}];", quoted(&a.node), quoted(&b.node)).expect(TAKES);
    }
    for note in &graph.notes {
        writeln!(text, "  // {}", note.replace(['\n', '\r'], " ")).expect(TAKES);
    }
    text + "}\n"
}

fn colour(state: State) -> &'static str {
    match state {
        State::Wanted | State::Up => "",
        State::Down | State::Missing => ", color=\"#dc2626\"",
        State::HeldDown => ", color=\"#a16207\"",
        State::Extra => ", color=\"#c026d3\"",
    }
}

fn style(edge: &Edge) -> String {
    let dashed = if edge.state.word().is_some() { ", style=dashed" } else { "" };
    format!("{}{dashed}", colour(edge.state))
}

/// In the language of Mermaid (mermaid.js.org), which Markdown pages draw.
pub fn mermaid(graph: &Graph) -> String {
    let quoted = |text: &str| {
        let mut safe = String::new();
        for letter in text.chars() {
            match letter {
                '\n' => safe.push_str("<br/>"),
                plain if plain.is_alphanumeric() || " .:/,-_".contains(plain) => safe.push(plain),
                other => write!(safe, "#{};", other as u32).expect(TAKES),
            }
        }
        format!("\"{safe}\"")
    };
    let joined = graph.joined();
    let mut own = vec![Vec::new(); graph.nodes.len()];
    for (edge, ends) in graph.edges.iter().zip(&joined) {
        for (end, at) in edge.ends.iter().zip(ends.iter().flatten()) {
            let words = end.interface.iter().chain(&end.addresses).cloned().collect::<Vec<_>>();
            own[*at].extend(Some(words.join(" ")).filter(|words| !words.is_empty()));
        }
    }
    let mut text = "graph TD\n".to_owned();
    for ((at, vertex), own) in graph.nodes.iter().enumerate().zip(own) {
        let lines: Vec<String> = lines(vertex).into_iter().chain(own).collect();
        let label = quoted(&lines.join("\n"));
        let shape = match vertex.kind {
            Kind::Switch => format!("[{label}]"),
            Kind::Node => format!("({label})"),
            Kind::Nic | Kind::Remote => format!("([{label}])"),
        };
        writeln!(text, "  n{at}{shape}{}", class(vertex)).expect(TAKES);
    }
    for (edge, ends) in graph.edges.iter().zip(&joined) {
        let Some([a, b]) = ends else { continue };
        let label = edge.label();
        let line = match (label.is_empty(), edge.state.word()) {
            (true, _) => "---".to_owned(),
            (false, None) => format!("-- {} ---", quoted(&label)),
            (false, Some(_)) => format!("-. {} .-", quoted(&label)),
        };
        writeln!(text, "  n{a} {line} n{b}").expect(TAKES);
    }
    for note in &graph.notes {
        writeln!(text, "  %% {}", note.replace(['\n', '\r', '{', '}'], " ")).expect(TAKES);
    }
    text.push_str("  classDef switch fill:#dbeafe,stroke:#2563eb,color:#1e293b\n");
    text.push_str("  classDef down stroke:#dc2626,stroke-dasharray:4\n");
    text
}

fn class(vertex: &Vertex) -> &'static str {
    match (vertex.state.word(), vertex.kind) {
        (Some(_), _) => ":::down",
        (None, Kind::Switch) => ":::switch",
        (None, Kind::Node | Kind::Nic | Kind::Remote) => "",
    }
}
