//! Flows as people write them: `ovs-ofctl(8)`, with names in place of the
//! numbers of ports.
//!
//! Only where a port stands is looked at (`in_port=`, `output:`, `enqueue:`,
//! `resubmit(` and the like); what else a flow says is Open vSwitch's to
//! understand.

/// What comes right before a port.
const BEFORE_A_PORT: [&str; 8] = [
    "in_port=",
    "in_port(",
    "output:",
    "output(port=",
    "enqueue:",
    "enqueue(",
    "resubmit(",
    "resubmit:",
];

/// Ports that every switch has (`ovs-ofctl(8)`, "Port Names").
const RESERVED: [&str; 9] =
    ["in_port", "table", "normal", "flood", "all", "controller", "local", "any", "none"];

/// A place in a flow where a port stands.
struct Place<'t> {
    /// Where in the text it begins.
    start: usize,
    /// The port, as written.
    port: &'t str,
}

/// Returns `text` with each named port as `name` has it. Numbers, reserved
/// ports and what is in quotes stay.
pub fn with_ports(text: &str, mut name: impl FnMut(&str) -> String) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), 0);
    for Place { start, port } in places(text) {
        out.push_str(&text[rest..start]);
        out.push_str(&name(port));
        rest = start + port.len();
    }
    out.push_str(&text[rest..]);
    out
}

/// The named ports of a flow, as written.
pub fn ports(text: &str) -> Vec<&str> {
    places(text).map(|place| place.port).collect()
}

fn places(text: &str) -> impl Iterator<Item = Place<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (start, enqueue) = next_port(text, at)?;
            let end = text[start..].find(|c: char| !is_of_a_name(c));
            let word = &text[start..end.map_or(text.len(), |end| start + end)];
            at = start + word.len();
            // `enqueue:PORT:QUEUE`
            let port = match word.rsplit_once(':') {
                Some((port, queue)) if enqueue && is_number(queue) => port,
                _ => word,
            };
            let reserved = RESERVED.iter().any(|name| name.eq_ignore_ascii_case(port));
            // A field, such as `NXM_NX_REG0[]`, that holds a number.
            let field = text[at..].starts_with('[');
            if !port.is_empty() && !is_number(port) && !reserved && !field {
                return Some(Place { start, port });
            }
        }
    })
}

/// Where the next port stands, at or after `from`, and whether it is one of an
/// `enqueue:`.
fn next_port(text: &str, from: usize) -> Option<(usize, bool)> {
    let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let found = BEFORE_A_PORT.iter().filter_map(|word| {
        let mut hits = text[from..].match_indices(word).map(|(at, _)| from + at);
        let at = hits.find(|at| begins(*at))?;
        Some((at + word.len(), *word == "enqueue:"))
    });
    found.min()
}

fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (word.starts_with("0x") || word.bytes().all(|b| b.is_ascii_digit()))
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '~' | '#' | '@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_where_they_stand() {
        check(
            "in_port=n1:eth0,actions=output:n2:eth0",
            "in_port=<n1:eth0>,actions=output:<n2:eth0>",
        );
        check("priority=5,actions=normal", "priority=5,actions=normal");
        check(
            "in_port=1 actions=output:2,output:0xfffe",
            "in_port=1 actions=output:2,output:0xfffe",
        );
        check("in_port=LOCAL,actions=in_port", "in_port=LOCAL,actions=in_port");
        check("actions=enqueue:n1:1,enqueue(n2,3)", "actions=enqueue:<n1>:1,enqueue(<n2>,3)");
        check("actions=resubmit(n1,2),resubmit(,3)", "actions=resubmit(<n1>,2),resubmit(,3)");
        check("actions=output(port=s2,max_len=100)", "actions=output(port=<s2>,max_len=100)");
        check("actions=output:s1~s2#0", "actions=output:<s1~s2#0>");
        check("actions=output:\"eth0\"", "actions=output:\"eth0\"");
        check("actions=output:NXM_NX_REG0[]", "actions=output:NXM_NX_REG0[]");
        check(
            "nw_src=10.0.0.1,actions=mod_nw_dst:10.0.0.2,output:s1@t0",
            "nw_src=10.0.0.1,actions=mod_nw_dst:10.0.0.2,output:<s1@t0>",
        );

        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(with_ports(text, |port| format!("<{port}>")), expected);
        }
    }
}
