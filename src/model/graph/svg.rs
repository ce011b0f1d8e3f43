//! A graph as a picture for a browser or a README, by day and by night.
//!
//! It needs no font and no script, names are escaped, and it brings its own ground, so
//! that it can be read on any page. What is down is also said in words.

use std::fmt::Write as _;

use super::layout::{Point, Rect, Sketch, picture};
use super::{Edge, Graph, Kind, State};

/// What letters and gaps measure, in pixels. A letter is as wide as the widest of
/// the fonts below.
const LETTER: f64 = 7.3;
const LINE: i32 = 16;
const PAD: (i32, i32) = (11, 8);
/// Around everything, and above it, where the title is.
const MARGIN: i32 = 24;
const TITLE: i32 = 46;

/// By day; below it by night.
const STYLE: &str = "\
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #475569 }
  .ground { fill: #ffffff; stroke: #e2e8f0 }
  .title { font-size: 15px; font-weight: 600; fill: #0f172a }
  .name { font-weight: 600; fill: #0f172a }
  .box { stroke-width: 1.4; fill: #f8fafc; stroke: #94a3b8 }
  .switch .box { fill: #dbeafe; stroke: #2563eb }
  .nic .box { fill: #fef3c7; stroke: #b45309 }
  .remote .box { fill: #ede9fe; stroke: #7c3aed }
  .wire { fill: none; stroke: #64748b; stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round }
  .tag { fill: #ffffff }
  .note { font-size: 11px; fill: #0f766e }
  .down .box, .wire.down { stroke: #dc2626; stroke-dasharray: 5 4 }
  .held .box, .wire.held { stroke: #a16207; stroke-width: 2.6; stroke-dasharray: 1 4.5 }
  .missing .box, .wire.missing { stroke: #dc2626; stroke-dasharray: 2 4 }
  .missing .box { fill: none }
  .extra .box, .wire.extra { stroke: #c026d3 }
  .bad { fill: #dc2626; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #cbd5e1 }
    .ground { fill: #0d1117; stroke: #30363d }
    .title, .name { fill: #f8fafc }
    .box { fill: #1e293b; stroke: #64748b }
    .switch .box { fill: #172554; stroke: #60a5fa }
    .nic .box { fill: #422006; stroke: #f59e0b }
    .remote .box { fill: #2e1065; stroke: #a78bfa }
    .wire { stroke: #94a3b8 }
    .tag { fill: #0d1117 }
    .note { fill: #5eead4 }
    .down .box, .wire.down, .missing .box, .wire.missing { stroke: #f87171 }
    .held .box, .wire.held { stroke: #facc15 }
    .extra .box, .wire.extra { stroke: #e879f9 }
    .bad { fill: #f87171 }
  }
";

const TAKES: &str = "a string takes all";

/// A line in a box.
struct Line {
    class: &'static str,
    text: String,
}

/// As a picture.
pub fn svg(graph: &Graph) -> String {
    let joined = graph.joined();
    let mut near = vec![Vec::new(); graph.nodes.len()];
    for (edge, ends) in joined.iter().enumerate() {
        for (side, at) in ends.iter().flatten().enumerate() {
            near[*at].push((edge, side));
        }
    }
    // What is to be said of a link to something that has no other stands in its box.
    let in_box = |edge: usize| {
        let ends = joined[edge].into_iter().flatten();
        let is_switch = |at: usize| graph.nodes[at].kind == Kind::Switch;
        ends.filter(|at| !is_switch(*at)).find(|at| near[*at].len() == 1)
    };
    let lines: Vec<Vec<Line>> =
        (0..graph.nodes.len()).map(|at| lines(graph, at, &near[at], in_box)).collect();
    let labels: Vec<String> = graph
        .edges
        .iter()
        .enumerate()
        .map(|(at, edge)| if in_box(at).is_some() { String::new() } else { edge.label() })
        .collect();
    let sketch = Sketch {
        sizes: lines.iter().map(|lines| size(lines)).collect(),
        joined,
        labels: labels.iter().map(|label| if label.is_empty() { 0 } else { tag(label) }).collect(),
        outside: graph.nodes.iter().map(|it| matches!(it.kind, Kind::Nic | Kind::Remote)).collect(),
    };
    let picture = picture(&sketch);
    let title = format!("lab {}: {}", graph.lab, graph.counts());
    let wide = graph.notes.iter().chain([&title]).map(|line| width(line, 1.25)).max().unwrap_or(0);
    let foot = if graph.notes.is_empty() { 0 } else { 12 + LINE * graph.notes.len() as i32 };
    let (w, h) = (picture.size.0.max(wide) + 2 * MARGIN, picture.size.1 + TITLE + MARGIN + foot);
    let (dx, dy) = ((w - picture.size.0) / 2, TITLE);
    let moved = |p: Point| (p.0 + dx, p.1 + dy);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
         viewBox=\"0 0 {w} {h}\" xml:space=\"preserve\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">lab {}</title>\n<desc id=\"desc\">{}</desc>\n\
         <style>\n{STYLE}</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"10\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"29\">{}</text>\n",
        safe(&graph.lab),
        safe(&described(graph)),
        w - 1,
        h - 1,
        safe(&title)
    );
    // Lines first: boxes lie over their ends. What is well lies below what is not.
    let mut order: Vec<usize> = (0..graph.edges.len()).collect();
    order.sort_by_key(|at| graph.edges[*at].state.word().is_some());
    for at in &order {
        let (edge, wire) = (&graph.edges[*at], &picture.wires[*at]);
        let move_all = |points: &[Point]| points.iter().map(|p| moved(*p)).collect::<Vec<_>>();
        let (shared, own) = (move_all(&wire.shared), move_all(&wire.own));
        let class = edge.state.class();
        if class == "up" {
            let all: Vec<Point> = shared.iter().chain(&own).copied().collect();
            drawn(&mut out, "wire", &all);
        } else {
            drawn(&mut out, "wire", &shared);
            drawn(&mut out, &format!("wire {class}"), &own);
        }
    }
    for ((vertex, rect), lines) in graph.nodes.iter().zip(&picture.boxes).zip(&lines) {
        let kind = match vertex.kind {
            Kind::Switch => "switch",
            Kind::Node => "node",
            Kind::Nic => "nic",
            Kind::Remote => "remote",
        };
        let Rect { w, h, .. } = rect;
        let (x, y) = moved((rect.x, rect.y));
        let round = if vertex.kind == Kind::Switch { 4 } else { 9 };
        let class = vertex.state.class();
        writeln!(
            out,
            "<g class=\"{kind} {class}\"><rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{w}\" \
             height=\"{h}\" rx=\"{round}\"/>"
        )
        .expect(TAKES);
        // A name alone stands in the middle.
        let is_alone = lines.len() == 1;
        let anchor = if is_alone { " text-anchor=\"middle\"" } else { "" };
        let x = if is_alone { x + w / 2 } else { x + PAD.0 };
        for (number, Line { class, text }) in lines.iter().enumerate() {
            let (y, text) = (y + PAD.1 + LINE * number as i32 + 12, safe(text));
            writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{text}</text>")
                .expect(TAKES);
        }
        out.push_str("</g>\n");
    }
    for ((edge, wire), label) in graph.edges.iter().zip(&picture.wires).zip(&labels) {
        let Some((x, y)) = wire.label.filter(|_| !label.is_empty()).map(moved) else { continue };
        let wide = tag(label) - 6;
        let class = if is_bad(edge) { "note bad" } else { "note" };
        let (left, top) = (x - wide / 2, y - 7);
        writeln!(
            out,
            "<rect class=\"tag\" x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"14\"/>\
             <text class=\"{class}\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y + 4,
            safe(label)
        )
        .expect(TAKES);
    }
    for (number, note) in graph.notes.iter().enumerate() {
        let y = h - MARGIN - LINE * (graph.notes.len() - 1 - number) as i32 + 6;
        writeln!(out, "<text x=\"{MARGIN}\" y=\"{y}\">{}</text>", safe(note)).expect(TAKES);
    }
    out + "</svg>\n"
}

/// What stands in the box of a thing: its name, what is known of it, and its
/// interfaces with their addresses.
fn lines(
    graph: &Graph,
    at: usize,
    near: &[(usize, usize)],
    in_box: impl Fn(usize) -> Option<usize>,
) -> Vec<Line> {
    let vertex = &graph.nodes[at];
    let line = |class, text: &str| Line { class, text: text.to_owned() };
    let mut lines = vec![line("name", &vertex.name)];
    lines.extend(vertex.details.iter().map(|detail| line("", detail)));
    lines.extend(vertex.state.word().map(|word| line("bad", word)));
    let several = 1 < near.len();
    for (edge, side) in near {
        let (is_here, edge) = (in_box(*edge) == Some(at), &graph.edges[*edge]);
        let end = &edge.ends[*side];
        if let Some(interface) = &end.interface {
            let across = &edge.ends[1 - side].node;
            let across = across.strip_prefix("nic:").unwrap_or(across);
            let to = if several { format!(" - {across}") } else { String::new() };
            let mut words = format!("{interface}{to}");
            let indent = " ".repeat(interface.chars().count() + 1);
            match end.addresses.as_slice() {
                [first, rest @ ..] if !several => {
                    lines.push(line("", &format!("{interface} {first}")));
                    lines.extend(rest.iter().map(|it| line("", &format!("{indent}{it}"))));
                }
                all => {
                    if let Some(word) = edge.state.word().filter(|_| several) {
                        words = format!("{words} ({word})");
                    }
                    lines.push(line("", &words));
                    lines.extend(all.iter().map(|it| line("", &format!("  {it}"))));
                }
            }
        }
        if is_here {
            lines.extend(edge.notes.iter().map(|note| line("note", note)));
            let word = edge.state.word().filter(|_| edge.state != vertex.state);
            lines.extend(word.map(|word| line("note bad", &format!("link {word}"))));
        }
    }
    lines
}

/// The picture for those who do not see it.
fn described(graph: &Graph) -> String {
    const TOLD_MAX: usize = 40;
    let mut words = vec![graph.counts()];
    words.extend(graph.edges.iter().take(TOLD_MAX).map(|edge| {
        let [a, b] = edge.ends.each_ref().map(super::EdgeEnd::words);
        let label = edge.label();
        if label.is_empty() { format!("{a} to {b}") } else { format!("{a} to {b} ({label})") }
    }));
    if TOLD_MAX < graph.edges.len() {
        words.push(format!("and {} links more", graph.edges.len() - TOLD_MAX));
    }
    words.join("; ")
}

fn is_bad(edge: &Edge) -> bool {
    matches!(edge.state, State::Down | State::Missing | State::HeldDown | State::Extra)
}

fn width(text: &str, times: f64) -> i32 {
    (text.chars().count() as f64 * LETTER * times).ceil() as i32
}

fn tag(label: &str) -> i32 {
    width(label, 0.93) + 14
}

fn size(lines: &[Line]) -> Point {
    let wide = lines.iter().map(|line| width(&line.text, 1.0)).max().unwrap_or(0);
    (wide.max(40) + 2 * PAD.0, LINE * lines.len() as i32 + 2 * PAD.1)
}

/// A line with rounded corners.
fn drawn(out: &mut String, class: &str, points: &[Point]) {
    let mut points = points.to_vec();
    points.dedup();
    // A corner that is none.
    let mut at = 1;
    while at + 1 < points.len() {
        let [a, b, c] = [points[at - 1], points[at], points[at + 1]];
        let is_straight = (a.0 == b.0 && b.0 == c.0) || (a.1 == b.1 && b.1 == c.1);
        if is_straight {
            points.remove(at);
        } else {
            at += 1;
        }
    }
    let [first, .., last] = points.as_slice() else { return };
    let mut path = format!("M{} {}", first.0, first.1);
    for corner in points.windows(3) {
        let [a, b, c] = [corner[0], corner[1], corner[2]];
        let towards = |to: Point| {
            let (dx, dy) = (to.0 - b.0, to.1 - b.1);
            let length = dx.abs().max(dy.abs()).max(1);
            let by = 7.min(length / 2);
            (b.0 + dx * by / length, b.1 + dy * by / length)
        };
        let (from, to) = (towards(a), towards(c));
        write!(path, "L{} {}Q{} {} {} {}", from.0, from.1, b.0, b.1, to.0, to.1).expect(TAKES);
    }
    writeln!(out, "<path class=\"{class}\" d=\"{path}L{} {}\"/>", last.0, last.1).expect(TAKES);
}

/// A text in which nothing is read as a tag, and of which XML allows every letter.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No XML 1.0 has these, not even escaped.
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}');
            }
            plain => out.push(plain),
        }
    }
    out
}
