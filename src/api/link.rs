//! Links, one at a time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::edit::{self, Changed, Settings};
use super::{Call, CallError, Desk};

/// Adds a link to a running lab.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkAdd {
    /// One end: `NODE`, `NODE:INTERFACE` or `SWITCH`.
    pub a: String,
    /// The other end.
    pub b: String,
    /// Keys of a link in the topology file.
    #[serde(default)]
    pub set: Settings,
    /// What happens to frames that pass it.
    #[serde(default)]
    pub impair: Impair,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

/// What happens to frames that pass a link; what is not said stays as it is, and
/// `none` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Impair {
    /// How long each is kept: `10ms`.
    pub delay: Option<String>,
    /// By how much that varies: `2ms`.
    pub jitter: Option<String>,
    /// How many are lost: `1%`.
    pub loss: Option<String>,
    /// How many arrive twice: `1%`.
    pub duplicate: Option<String>,
    /// How many overtake those that are kept: `1%`.
    pub reorder: Option<String>,
    /// How many have a bit turned round: `1%`.
    pub corrupt: Option<String>,
    /// How much passes in a second: `10mbit`.
    pub rate: Option<String>,
    /// Say these only of frames that come from this end, not of both directions.
    pub from: Option<String>,
}

impl Impair {
    fn said(&self) -> Vec<(&'static str, &str)> {
        let Self { delay, jitter, loss, duplicate, reorder, corrupt, rate, from: _ } = self;
        let all = [
            ("delay", delay),
            ("jitter", jitter),
            ("loss", loss),
            ("duplicate", duplicate),
            ("reorder", reorder),
            ("corrupt", corrupt),
            ("rate", rate),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).collect()
    }

    /// Writes them into a link of a file, where they go before all that was said
    /// of the same directions.
    fn write(&self, link: &mut Json) -> Result<(), CallError> {
        let said = self.said();
        let ends = edit::endpoints(link);
        let from = match &self.from {
            None => None,
            Some(_) if said.is_empty() => {
                return Err(CallError::usage(
                    "`--from` says of which direction, and nothing is said of it",
                    "add what, such as `--delay 10ms`",
                ));
            }
            Some(words) => {
                let is = |end: &&str| **end == *words || end.split(':').next() == Some(words);
                let [a, b] = ends;
                let found = [a, b].into_iter().find(is);
                Some(found.map(|end| end.to_string()).ok_or_else(|| {
                    CallError::usage(
                        format!("`{words}` is at no end of this link"),
                        format!("it goes from `{a}` to `{b}`"),
                    )
                })?)
            }
        };
        if said.is_empty() {
            return Ok(());
        }
        let impairments = &mut link["impairments"];
        for (key, value) in said {
            match &from {
                Some(end) => impairments["from"][end][key] = value.into(),
                None => {
                    let ends = impairments["from"].as_object_mut().into_iter().flatten();
                    for direction in ends.filter_map(|(_, it)| it.as_object_mut()) {
                        direction.remove(key);
                    }
                    impairments[key] = value.into();
                }
            }
        }
        Ok(())
    }
}

impl Call for LinkAdd {
    const NAME: &'static str = "link.add";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        edit::change(desk, "ovsns link add", self.lab.as_deref(), |file| {
            let mut link = json!({ "endpoints": [self.a, self.b] });
            self.impair.write(&mut link)?;
            self.set.write(&mut link)?;
            edit::links(file).push(link);
            Ok(())
        })
        .await
    }
}

/// Removes a link from a running lab, and the interfaces it was on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRm {
    /// One end: `NODE`, `NODE:INTERFACE`, `SWITCH` or `SWITCH#NUMBER`.
    pub a: String,
    /// The other end.
    pub b: String,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for LinkRm {
    const NAME: &'static str = "link.rm";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        edit::change(desk, "ovsns link rm", self.lab.as_deref(), |file| {
            let index = find(edit::links(file), &self.a, &self.b)?;
            let gone = edit::links(file)[index].clone();
            // Of several links between two switches, the one that was found.
            let same = |link: &Json| *link == gone;
            if 1 < edit::links(file).iter().filter(|link| same(link)).count() {
                edit::links(file).remove(index);
            } else {
                edit::remove_links(file, same);
            }
            Ok(())
        })
        .await
    }
}

/// Changes a link of a running lab; what is not said stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSet {
    /// One end: `NODE`, `NODE:INTERFACE`, `SWITCH` or `SWITCH#NUMBER`.
    pub a: String,
    /// The other end.
    pub b: String,
    /// Keys of a link in the topology file.
    #[serde(default)]
    pub set: Settings,
    /// What happens to frames that pass it.
    #[serde(default)]
    pub impair: Impair,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for LinkSet {
    const NAME: &'static str = "link.set";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        if self.set.is_empty() && self.impair == Impair::default() {
            return Err(CallError::usage(
                "nothing to set was given",
                "say what, such as `--mtu 9000` or `--isolated true`",
            ));
        }
        edit::change(desk, "ovsns link set", self.lab.as_deref(), |file| {
            let index = find(edit::links(file), &self.a, &self.b)?;
            let link = &mut edit::links(file)[index];
            self.impair.write(link)?;
            self.set.write(link)
        })
        .await
    }
}

/// Takes a link of a running lab down, which is a part of what the lab is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkDown {
    /// One end: `NODE`, `NODE:INTERFACE`, `SWITCH` or `SWITCH#NUMBER`.
    pub a: String,
    /// The other end.
    pub b: String,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for LinkDown {
    const NAME: &'static str = "link.down";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        hold(desk, "ovsns link down", [&self.a, &self.b], self.lab.as_deref(), true).await
    }
}

/// Brings a link of a running lab up again, with the addresses and routes that went
/// with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkUp {
    /// One end: `NODE`, `NODE:INTERFACE`, `SWITCH` or `SWITCH#NUMBER`.
    pub a: String,
    /// The other end.
    pub b: String,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for LinkUp {
    const NAME: &'static str = "link.up";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        hold(desk, "ovsns link up", [&self.a, &self.b], self.lab.as_deref(), false).await
    }
}

async fn hold(
    desk: &mut Desk<'_>,
    command: &str,
    [a, b]: [&str; 2],
    lab: Option<&str>,
    down: bool,
) -> Result<Changed, CallError> {
    edit::change(desk, command, lab, |file| {
        let index = find(edit::links(file), a, b)?;
        edit::links(file)[index]["down"] = down.into();
        Ok(())
    })
    .await
}

/// The one link between two ends, each a whole endpoint or a node's name. Of
/// several between two switches it is the one whose number is behind an end
/// (`s2#1`, as `ovsns link list` has it), and without a number the last, which was
/// added last.
fn find(links: &[Json], a: &str, b: &str) -> Result<usize, CallError> {
    let is = |end: &str, words: &str| {
        end == words || end.split_once(':').is_some_and(|(node, _)| node == words)
    };
    let ([whole_a, whole_b], [(a, near), (b, far)]) = ([a, b], [a, b].map(split_number));
    let joins = |link: &Json| {
        let [x, y] = edit::endpoints(link);
        (is(x, a) && is(y, b)) || (is(x, b) && is(y, a))
    };
    let found: Vec<usize> = (0..links.len()).filter(|i| joins(&links[*i])).collect();
    let named: Vec<_> = found.iter().map(|i| edit::endpoints(&links[*i])).collect();
    let between_switches = named.iter().flatten().all(|end| !end.contains(':'));
    match (near.or(far), found.as_slice()) {
        (Some(number), [_, ..]) if between_switches && far.is_none_or(|it| it == number) => {
            found.get(number).copied().ok_or_else(|| {
                CallError::usage(
                    format!("there is no link {number} between `{a}` and `{b}`"),
                    match found.len() {
                        1 => "there is one, which needs no number".to_owned(),
                        all => format!("there are {all}, from `{a} {b}#0` to `{b}#{}`", all - 1),
                    },
                )
            })
        }
        (Some(_), _) | (None, []) => Err(CallError::usage(
            format!("there is no link between `{whole_a}` and `{whole_b}`"),
            "`ovsns link list` shows the links",
        )),
        (None, [.., last]) if named.iter().all(|ends| *ends == named[0]) || between_switches => {
            Ok(*last)
        }
        _ => {
            let all: Vec<_> = named.iter().map(|[x, y]| format!("`{x} {y}`")).collect();
            Err(CallError::usage(
                format!(
                    "there are {} links between `{a}` and `{b}`: {}",
                    all.len(),
                    all.join(", ")
                ),
                "name the interface, too",
            ))
        }
    }
}

/// A switch and the number of one of its links, if that is said: `s2#1`.
fn split_number(end: &str) -> (&str, Option<usize>) {
    let parts = end.split_once('#').filter(|(switch, _)| !switch.contains(':'));
    match parts.and_then(|(switch, number)| Some((switch, number.parse().ok()?))) {
        Some((switch, number)) => (switch, Some(number)),
        None => (end, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_by_its_ends() {
        // In a file, which of two switches comes first is anybody's guess.
        let ends = [
            ["n1:eth0", "s1"],
            ["s1", "s2"],
            ["n1:eth1", "n2:eth0"],
            ["s2", "s1"],
            ["n1:eth2", "n2:eth1"],
            ["s2", "s3"],
        ];
        let links = ends.map(|ends| json!({ "endpoints": ends }));
        let check = |a: &str, b: &str, expected: Result<usize, &str>| {
            let found = find(&links, a, b).map_err(|error| error.to_string());
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{a} {b}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                _ => panic!("{a} {b}: {found:?}"),
            }
        };
        check("n1", "s1", Ok(0));
        check("s1", "s2", Ok(3));
        check("s1", "s2#0", Ok(1));
        check("s2#0", "s1", Ok(1));
        check("s1#1", "s2", Ok(3));
        check("s1#1", "s2#1", Ok(3));
        check("s1#0", "s2#1", Err("no link between `s1#0` and `s2#1`"));
        check("s1", "s2#2", Err("no link 2 between `s1` and `s2`"));
        check("s2", "s3#0", Ok(5));
        check("s2", "s3#1", Err("no link 1 between"));
        check("s1", "s3#0", Err("no link between"));
        check("n1#0", "n2", Err("no link between"));
        check("s1#x", "s2", Err("no link between"));
        check("n1", "n2", Err("there are 2 links between"));
        check("n1:eth2", "n2", Ok(4));
    }
}
