//! Flows as people write them: `ovs-ofctl(8)`, with names in place of the
//! numbers of ports.
//!
//! Only where a port stands is looked at (`in_port=`, `output:`, `enqueue:`,
//! `resubmit(` and the like); what else a flow says is Open vSwitch's to
//! understand. A port in quotes is Open vSwitch's own name of it, and stays.

use std::collections::BTreeMap;

use super::names::IfName;
use super::problem::quoted;

/// What comes right before a port.
const BEFORE_A_PORT: [&str; 10] = [
    "in_port=",
    "in_port(",
    "output:",
    "output(port=",
    "enqueue:",
    "enqueue(",
    "resubmit(",
    "resubmit:",
    "members:",
    "slaves:",
];

/// Of those, what may have more ports behind the first, after commas.
const BEFORE_PORTS: [&str; 2] = ["members:", "slaves:"];

/// Actions that can stand alone, besides the ports that every switch has.
const ACTIONS: [&str; 13] = [
    "drop",
    "strip_vlan",
    "pop_vlan",
    "dec_ttl",
    "dec_mpls_ttl",
    "dec_nsh_ttl",
    "decap",
    "pop_queue",
    "exit",
    "ct",
    "ct_clear",
    "clear_actions",
    "debug_recirc",
];

/// Ports that every switch has (`ovs-ofctl(8)`, "Port Names").
const RESERVED: [&str; 9] =
    ["in_port", "table", "normal", "flood", "all", "controller", "local", "any", "none"];

/// A flow as Open vSwitch reads it, whatever way it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Its table, priority and match. Of those that have the same, a switch
    /// keeps the last.
    pub matches: String,
    /// What is done with such packets.
    pub actions: String,
}

/// Why a text is no flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadFlow {
    /// What is wrong.
    pub what: String,
    /// A thing to do, if there is one.
    pub hint: Option<String>,
}

/// A place in a flow where a port stands.
struct Place<'t> {
    /// Where in the text it begins.
    start: usize,
    /// The port, as written.
    port: &'t str,
}

/// Checks what Open vSwitch would not tell, or not well.
pub fn check(text: &str) -> Result<(), BadFlow> {
    let shown = quoted(text);
    let bad =
        |what: String, hint: Option<&str>| Err(BadFlow { what, hint: hint.map(str::to_owned) });
    if text.chars().any(char::is_control) {
        return bad(format!("the flow {shown} is more than one line"), None);
    }
    if !has_actions(text) {
        let hint = "write it as `ovs-ofctl add-flow` takes it";
        return bad(format!("the flow {shown} has no `actions=`"), Some(hint));
    }
    // In an action it is another flow's, which is to be learned.
    if fields(text).any(|(key, _)| key == "cookie") {
        let hint = "leave it out; the cookie is how ovsns knows its flows again";
        return bad(format!("the flow {shown} has a cookie"), Some(hint));
    }
    let ends = |(key, value): &(&str, &str)| {
        matches!(*key, "idle_timeout" | "hard_timeout") && *value != "0"
    };
    if let Some((key, _)) = fields(text).find(ends) {
        let hint = format!(
            "it would be missing then, and come back with the next change: leave `{key}` out; one \
             that ends is not of the lab, and added by hand (`ovs-ofctl add-flow`)"
        );
        return bad(format!("the flow {shown} ends by itself (`{key}`)"), Some(&hint));
    }
    let made = actions(text).into_iter().find_map(|start| {
        let of = |word: &&str| argument(&text[start..], word).is_some();
        ["group", "meter"].into_iter().find(|word| of(word))
    });
    if let Some(word) = made {
        let hint = "ovsns makes neither groups nor meters; name the ports (`output:n1,output:n2`), \
                    or leave it to a controller, which can make them";
        return bad(format!("the flow {shown} needs a {word}"), Some(hint));
    }
    if with_ports(text, |_| String::new()).contains('#') {
        let hint = "`ovs-ofctl` takes it, and what is behind it, for a comment";
        return bad(format!("the flow {shown} has a `#` in it"), Some(hint));
    }
    Ok(())
}

/// What a flow says before its actions, each with its value.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let head = text.split("action").next().unwrap_or_default();
    let words = head.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    words.map(|word| word.split_once(['=', ':', '(']).unwrap_or((word, "")))
}

/// Where the actions of a flow begin, those in `clone(...)` and the like among
/// them.
fn actions(text: &str) -> Vec<usize> {
    const HOLD_ACTIONS: [&str; 3] = ["clone", "write_actions", "apply_actions"];
    let Some(start) = ["actions=", "action="].iter().find_map(|w| Some(text.find(w)? + w.len()))
    else {
        return Vec::new();
    };
    let mut found: Vec<usize> = Vec::new();
    let (mut open, mut begins) = (Vec::new(), true);
    for (at, c) in text[start..].char_indices().map(|(at, c)| (start + at, c)) {
        match c {
            '(' => {
                let word = found.last().map_or("", |begin| &text[*begin..at]);
                open.push(open.last() != Some(&false) && HOLD_ACTIONS.contains(&word));
            }
            ')' => drop(open.pop()),
            _ => {}
        }
        let between = matches!(c, ',' | ' ' | '\t' | '(');
        if begins && !between && c != ')' {
            found.push(at);
        }
        begins = between && open.last() != Some(&false);
    }
    found
}

/// What is behind the word of an action, if it is that action.
fn argument<'t>(action: &'t str, word: &str) -> Option<&'t str> {
    action.strip_prefix(word)?.strip_prefix([':', '=', '('])
}

/// Whether a flow has frames wait in a queue other than the default one.
pub fn queues(text: &str) -> bool {
    let queue = |action: &str| -> Option<String> {
        let digits = |rest: &str| rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        if let Some(rest) = argument(action, "set_queue") {
            return Some(digits(rest));
        }
        let rest = argument(action, "enqueue")?;
        let port = rest.find([':', ','])?;
        Some(digits(&rest[port + 1..]))
    };
    let mut queues = actions(text).into_iter().filter_map(|start| queue(&text[start..]));
    queues.any(|queue| queue.trim_start_matches("0x").bytes().any(|digit| digit != b'0'))
}

/// A flow with `output:` before each port that stands alone among its actions,
/// where `ovs-ofctl` takes the number of one.
pub fn with_output(text: &str, is_port: impl Fn(&str) -> bool) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), 0);
    for start in actions(text) {
        let end = text[start..].find(|c| !is_of_a_name(c)).map_or(text.len(), |end| start + end);
        let word = &text[start..end];
        let alone = text[end..].is_empty() || text[end..].starts_with([',', ' ', '\t', ')']);
        let is_action =
            ACTIONS.contains(&word) || BEFORE_A_PORT.iter().any(|before| word.starts_with(before));
        if alone && !is_action && is_name(word) && is_port(word) {
            out.push_str(&text[rest..start]);
            out.push_str("output:");
            rest = start;
        }
    }
    out.push_str(&text[rest..]);
    out
}

/// Whether a text says what is to be done with packets, and not only which.
pub fn has_actions(text: &str) -> bool {
    text.contains("actions=") || text.contains("action=")
}

/// Whether a word is the name of a port where one stands, and not a number or
/// one that every switch has.
pub fn is_name(word: &str) -> bool {
    let reserved = RESERVED.iter().any(|name| name.eq_ignore_ascii_case(word));
    !word.is_empty() && !is_number(word) && !reserved && word.chars().all(is_of_a_name)
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

/// A flow with what `enqueue` stands for in its place, where that has a port
/// in quotes: `ovs-ofctl` (3.1, `parse_ENQUEUE()`) takes such a name to end at
/// its first `q`.
pub fn without_enqueue(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("enqueue") {
        let (before, action) = rest.split_at(at);
        out.push_str(before);
        match enqueued(action) {
            Some((port, queue, after)) => {
                out.push_str(&format!("set_queue:{queue},output:\"{port}\",pop_queue"));
                rest = after;
            }
            None => {
                let word = "enqueue".len();
                out.push_str(&action[..word]);
                rest = &action[word..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// `enqueue:"PORT":QUEUE` and `enqueue("PORT",QUEUE)`, taken apart, with what
/// is behind.
fn enqueued(action: &str) -> Option<(&str, &str, &str)> {
    let (rest, close) = match action.strip_prefix("enqueue:\"") {
        Some(rest) => (rest, ""),
        None => (action.strip_prefix("enqueue(\"")?, ")"),
    };
    let (port, rest) = rest.split_once('"')?;
    let rest = rest.strip_prefix([':', ','])?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (queue, rest) = rest.split_at(end);
    is_number(queue).then_some((port, queue, rest.strip_prefix(close)?))
}

/// What is in quotes in a flow: Open vSwitch's own names of ports.
pub fn devices(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// Flows with a number in place of each device in quotes: such as can be read
/// where there is no switch. A device has that of `numbers`, so that a flow
/// reads the same by the name and by the number of a port; one that is not
/// among them has one far from those that ports have, the same everywhere.
pub fn numbered<'t>(
    texts: impl IntoIterator<Item = &'t str>,
    numbers: &BTreeMap<&str, u16>,
) -> Vec<String> {
    const FIRST: usize = 0xfeff;
    let mut others: Vec<&str> = Vec::new();
    let mut number = |device: &'t str| -> String {
        if let Some(number) = numbers.get(device) {
            return number.to_string();
        }
        let place = others.iter().position(|other| *other == device).unwrap_or_else(|| {
            others.push(device);
            others.len() - 1
        });
        FIRST.saturating_sub(place).to_string()
    };
    let texts = texts.into_iter().map(|text| {
        let parts = text.split('"').enumerate().map(|(i, part)| match i % 2 {
            0 => part.to_owned(),
            _ => number(part),
        });
        parts.collect()
    });
    texts.collect()
}

/// Returns what Open vSwitch printed with its devices as people call them, and
/// without the quotes around those; a bridge keeps them, as in `bridge("s1")`.
pub fn with_devices(text: &str, called: &BTreeMap<IfName, String>) -> String {
    let name = |word: &str| called.get(&IfName::new(word).ok()?).map(String::as_str);
    let mut out = String::with_capacity(text.len());
    let quotes = text.matches('"').count();
    for (i, part) in text.split('"').enumerate() {
        let is_quoted = i % 2 == 1;
        match name(part).filter(|_| is_quoted && !out.ends_with("bridge(")) {
            Some(name) => out.push_str(name),
            None if is_quoted => {
                out.push('"');
                out.push_str(name(part).unwrap_or(part));
                // The last may be cut off.
                out.extend((i < quotes).then_some('"'));
            }
            None => push_with_devices(&mut out, part, name),
        }
    }
    out
}

/// The same for a text without quotes.
fn push_with_devices<'n>(out: &mut String, text: &str, name: impl Fn(&str) -> Option<&'n str>) {
    let is_of_a_device = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut rest = text;
    while let Some(start) = rest.find(is_of_a_device) {
        let word = rest[start..].split(|c| !is_of_a_device(c)).next().unwrap_or_default();
        out.push_str(&rest[..start]);
        out.push_str(name(word).unwrap_or(word));
        rest = &rest[start + word.len()..];
    }
    out.push_str(rest);
}

fn places(text: &str) -> impl Iterator<Item = Place<'_>> {
    let mut at = 0;
    let mut listed = false;
    std::iter::from_fn(move || {
        loop {
            let (start, before) = match listed && text[at..].starts_with(',') {
                true => (at + 1, ""),
                false => next_port(text, at)?,
            };
            listed = BEFORE_PORTS.contains(&before) || before.is_empty();
            let end = text[start..].find(|c: char| !is_of_a_name(c));
            let word = &text[start..end.map_or(text.len(), |end| start + end)];
            at = start + word.len();
            // `enqueue:PORT:QUEUE`
            let port = match word.rsplit_once(':') {
                Some((port, queue)) if before == "enqueue:" && is_number(queue) => port,
                _ => word,
            };
            // A field, such as `NXM_NX_REG0[]`, that holds a number.
            let field = text[at..].starts_with('[');
            if is_name(port) && !field {
                return Some(Place { start, port });
            }
        }
    })
}

/// Where the next port stands, at or after `from`, and what is before it.
fn next_port(text: &str, from: usize) -> Option<(usize, &'static str)> {
    let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let found = BEFORE_A_PORT.iter().filter_map(|word| {
        let mut hits = text[from..].match_indices(word).map(|(at, _)| from + at);
        let at = hits.find(|at| begins(*at))?;
        Some((at + word.len(), *word))
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
            "actions=bundle(eth_src,50,hrw,ofport,members:n1,2,n2),output:n3",
            "actions=bundle(eth_src,50,hrw,ofport,members:<n1>,2,<n2>),output:<n3>",
        );
        check(
            "actions=learn(table=1,in_port=n1,output:NXM_OF_IN_PORT[])",
            "actions=learn(table=1,in_port=<n1>,output:NXM_OF_IN_PORT[])",
        );
        check("in_port=b.1.1:eth0.5 actions=drop", "in_port=<b.1.1:eth0.5> actions=drop");
        check("in_port=7a,actions=output:0x7", "in_port=<7a>,actions=output:0x7");
        check(
            "nw_src=10.0.0.1,actions=mod_nw_dst:10.0.0.2,output:s1@t0",
            "nw_src=10.0.0.1,actions=mod_nw_dst:10.0.0.2,output:<s1@t0>",
        );

        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(with_ports(text, |port| format!("<{port}>")), expected);
        }
    }

    #[test]
    fn what_enqueue_stands_for() {
        check(
            "actions=enqueue:\"q1\":0x7,drop",
            "actions=set_queue:0x7,output:\"q1\",pop_queue,drop",
        );
        check("actions=enqueue(\"q1\",3)", "actions=set_queue:3,output:\"q1\",pop_queue");
        check("actions=enqueue:1:2,enqueue:\"a", "actions=enqueue:1:2,enqueue:\"a");
        check("actions=enqueue:\"a\":foo", "actions=enqueue:\"a\":foo");
        check("in_port=\"enqueue\",actions=drop", "in_port=\"enqueue\",actions=drop");

        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(without_enqueue(text), expected);
        }
    }

    #[test]
    fn ports_that_stand_alone() {
        check("actions=n1", "actions=output:n1");
        check("actions=n1:eth0,n2 n1", "actions=output:n1:eth0,output:n2 output:n1");
        check("in_port=n1 action= n2 , drop", "in_port=n1 action= output:n2 , drop");
        check(
            "actions=clone(n1,write_actions(n2))",
            "actions=clone(output:n1,write_actions(output:n2))",
        );
        check("actions=output:n1,enqueue:n1:2", "actions=output:n1,enqueue:n1:2");
        check("actions=resubmit(n1,2),ct(n1),n9,drop,1", "actions=resubmit(n1,2),ct(n1),n9,drop,1");
        check("actions=n1(2),n2=3", "actions=n1(2),n2=3");
        check("in_port=n1", "in_port=n1");

        #[track_caller]
        fn check(text: &str, expected: &str) {
            let known = ["n1", "n1:eth0", "n2", "drop"];
            assert_eq!(with_output(text, |word| known.contains(&word)), expected);
        }
    }

    #[test]
    fn flows_with_queues() {
        check("actions=set_queue:3,normal", true);
        check("actions=set_queue(0x1),normal", true);
        check("actions=normal,enqueue:1:2", true);
        check("actions=clone(enqueue(1,2))", true);
        check("actions=set_queue:0,output:\"q1\",pop_queue", false);
        check("actions=enqueue:1:0", false);
        check("actions=output:set_queue:3", false);

        #[track_caller]
        fn check(text: &str, expected: bool) {
            assert_eq!(queues(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_flow() {
        check("in_port=n1,actions=drop", "");
        check("in_port=s1~s2#0,actions=output:s1~s2#0.1", "");
        check("actions=learn(cookie=7,output:NXM_OF_IN_PORT[])", "");
        check("actions=learn(idle_timeout=7,output:NXM_OF_IN_PORT[])", "");
        check("idle_timeout=0,actions=controller(meter_id=3)", "");
        check("actions=output:group,output:meter:eth0", "");
        check(
            "arp,idle_timeout=7,actions=drop",
            "the flow `arp,idle_timeout=7,actions=drop` ends by itself (`idle_timeout`)",
        );
        check(
            "hard_timeout:9 actions=drop",
            "the flow `hard_timeout:9 actions=drop` ends by itself (`hard_timeout`)",
        );
        check("actions=normal,group:1", "the flow `actions=normal,group:1` needs a group");
        check("actions=clone(meter=1)", "the flow `actions=clone(meter=1)` needs a meter");
        check("in_port=n1", "the flow `in_port=n1` has no `actions=`");
        check("cookie=7,actions=drop", "the flow `cookie=7,actions=drop` has a cookie");
        check("ip, cookie:7 actions=drop", "the flow `ip, cookie:7 actions=drop` has a cookie");
        check("cookie(7),actions=drop", "the flow `cookie(7),actions=drop` has a cookie");
        check("actions=drop # all", "the flow `actions=drop # all` has a `#` in it");
        check(
            "actions=drop\nactions=drop",
            "the flow `actions=drop\\nactions=drop` is more than one line",
        );

        #[track_caller]
        fn check(text: &str, expected: &str) {
            let what = super::check(text).err().map(|bad| bad.what).unwrap_or_default();
            assert_eq!(what, expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_in_place_of_names() {
        let texts = [
            "in_port=\"n1\",actions=output:\"n2\",output:3",
            "in_port=\"veth7\",actions=output:\"n1\",output:\"n2\"",
        ];
        assert_eq!(
            numbered(texts, &BTreeMap::from([("n1", 1), ("n9", 9)])),
            [
                "in_port=1,actions=output:65279,output:3",
                "in_port=65278,actions=output:1,output:65279",
            ]
        );
    }

    #[test]
    fn devices_as_people_call_them() {
        check(
            "in_port=\"n1eth0.ienan3v2\" actions=output:\"veth7\"",
            "in_port=n1:eth0 actions=output:\"veth7\"",
        );
        check("Datapath actions: n1eth0.ienan3v2,3", "Datapath actions: n1:eth0,3");
        check("bridge(\"s1.j4wykquh\")", "bridge(\"s1\")");
        check("resubmit(\"n1eth0.ienan3v2\",2),drop", "resubmit(n1:eth0,2),drop");

        #[track_caller]
        fn check(text: &str, expected: &str) {
            let called = [("n1eth0.ienan3v2", "n1:eth0"), ("s1.j4wykquh", "s1")];
            let called = called.map(|(device, called)| {
                (IfName::new(device).expect("a good name"), called.to_owned())
            });
            assert_eq!(with_devices(text, &called.into()), expected);
        }
    }
}
