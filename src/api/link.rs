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
    /// One end: `NODE`, `NODE:INTERFACE` or `SWITCH`.
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
    /// One end: `NODE`, `NODE:INTERFACE` or `SWITCH`.
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
    /// One end: `NODE`, `NODE:INTERFACE` or `SWITCH`.
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
/// several between two switches it is the last, which was added last.
fn find(links: &[Json], a: &str, b: &str) -> Result<usize, CallError> {
    let is = |end: &str, words: &str| {
        end == words || end.split_once(':').is_some_and(|(node, _)| node == words)
    };
    let joins = |link: &Json| {
        let [x, y] = edit::endpoints(link);
        (is(x, a) && is(y, b)) || (is(x, b) && is(y, a))
    };
    let found: Vec<usize> = (0..links.len()).filter(|i| joins(&links[*i])).collect();
    let named: Vec<_> = found.iter().map(|i| edit::endpoints(&links[*i])).collect();
    match found.as_slice() {
        [] => Err(CallError::usage(
            format!("there is no link between `{a}` and `{b}`"),
            "`ovsns link list` shows the links",
        )),
        [.., last] if named.iter().all(|ends| *ends == named[0]) => Ok(*last),
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
