//! `ovsns link`

use serde_json::{Value as Json, json};

use super::running;
use super::settings::{self, Setting};
use super::view::{BondView, LabView, LinkView, ListArgs};
use super::{CliError, Ending};
use crate::model::impair;

/// Add, remove, change or list links of a running lab
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Example: ovsns link set n1 s1 --rate 10mbit\n         ovsns link down n1 n2"
)]
pub(super) enum Command {
    Add(AddArgs),
    Rm(RmArgs),
    Set(SetArgs),
    Down(DownArgs),
    Up(UpArgs),
    /// List the links of a lab
    #[command(after_help = "Example: ovsns link list --json")]
    List(ListArgs),
}

/// Add a link to a running lab
///
/// Joins a node and a switch, two nodes, or two switches. Undo with `ovsns
/// link rm A B`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns link add n1 s2\n         ovsns link add n1:eth5 n2:eth5 --mtu 9000"
)]
pub(super) struct AddArgs {
    /// One end: NODE, NODE:INTERFACE or SWITCH
    a: String,
    /// The other end
    b: String,
    #[command(flatten)]
    settings: Settings,
    /// Other keys of a link in the topology file (`ovsns schema` lists them)
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<Setting>,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Remove a link from a running lab
///
/// The interfaces it was on go with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns link rm n1 s2")]
pub(super) struct RmArgs {
    /// One end: NODE, NODE:INTERFACE or SWITCH
    a: String,
    /// The other end
    b: String,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Change a link of a running lab
///
/// What is not said stays as it is. Any key of a link in the topology file can
/// be said as `KEY=VALUE`; `KEY=` takes it away.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns link set n1 s1 --isolated true\n         \
                  ovsns link set n1 s1 policing.rate=10000\n         \
                  ovsns link set n1 s1 --delay 10ms --loss 1% --from n1")]
pub(super) struct SetArgs {
    /// One end: NODE, NODE:INTERFACE or SWITCH
    a: String,
    /// The other end
    b: String,
    #[command(flatten)]
    settings: Settings,
    /// Other keys of a link in the topology file (`ovsns schema` lists them)
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<Setting>,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Take a link of a running lab down
///
/// Neither end has carrier then, and nothing passes. It is a part of what the
/// lab is to be: `ovsns status` shows the link as held down, and not as drift.
/// Undo with `ovsns link up A B`, or `ovsns up` with a file that does not say
/// `down: true`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns link down h1 s1")]
pub(super) struct DownArgs {
    #[command(flatten)]
    link: Which,
}

/// Bring a link of a running lab up again
///
/// With the addresses and routes that went with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns link up h1 s1")]
pub(super) struct UpArgs {
    #[command(flatten)]
    link: Which,
}

/// A link by its ends.
#[derive(Debug, clap::Args)]
struct Which {
    /// One end: NODE, NODE:INTERFACE or SWITCH
    a: String,
    /// The other end
    b: String,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// How a link behaves.
#[derive(Debug, clap::Args)]
struct Settings {
    /// MTU of both ends, in bytes
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Whether its port hears only ports that are not isolated
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    isolated: Option<bool>,
    /// Its port's VLAN (access port)
    #[arg(long, value_name = "ID", conflicts_with_all = ["trunks", "native"])]
    vlan: Option<u16>,
    /// The VLANs that pass its port tagged
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', value_parser = vlan)]
    trunks: Vec<u16>,
    /// The VLAN that passes its port untagged
    #[arg(long, value_name = "ID", requires = "trunks")]
    native: Option<u16>,
    #[command(flatten)]
    impairments: Impairments,
}

/// What happens to frames that pass a link.
#[derive(Debug, clap::Args)]
struct Impairments {
    /// How long each frame is kept: `10ms`; `none` takes it away, as with the rest
    #[arg(long, value_name = "TIME", value_parser = |text: &str| said("delay", text))]
    delay: Option<String>,
    /// By how much that varies: `2ms`
    #[arg(long, value_name = "TIME", value_parser = |text: &str| said("jitter", text))]
    jitter: Option<String>,
    /// How many frames are lost: `1%`
    #[arg(long, value_name = "SHARE", value_parser = |text: &str| said("loss", text))]
    loss: Option<String>,
    /// How many arrive twice
    #[arg(long, value_name = "SHARE", value_parser = |text: &str| said("duplicate", text))]
    duplicate: Option<String>,
    /// How many overtake those that are kept
    #[arg(long, value_name = "SHARE", value_parser = |text: &str| said("reorder", text))]
    reorder: Option<String>,
    /// How many have a bit turned round
    #[arg(long, value_name = "SHARE", value_parser = |text: &str| said("corrupt", text))]
    corrupt: Option<String>,
    /// How much passes in a second: `10mbit`
    #[arg(long, value_name = "RATE", value_parser = |text: &str| said("rate", text))]
    rate: Option<String>,
    /// Say these only of frames that come from this end, not of both directions
    #[arg(long, value_name = "END")]
    from: Option<String>,
}

fn said(key: &str, text: &str) -> Result<String, String> {
    impair::check(key, text).map(|()| text.to_owned())
}

impl Impairments {
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
    fn write(&self, link: &mut Json) -> Result<(), CliError> {
        let said = self.said();
        let ends = running::endpoints(link);
        let from = match &self.from {
            None => None,
            Some(_) if said.is_empty() => {
                return Err(CliError::usage(
                    "`--from` says of which direction, and nothing is said of it",
                    "add what, such as `--delay 10ms`",
                ));
            }
            Some(words) => {
                let is = |end: &&str| **end == *words || end.split(':').next() == Some(words);
                let [a, b] = ends;
                let found = [a, b].into_iter().find(is);
                Some(found.map(|end| end.to_string()).ok_or_else(|| {
                    CliError::usage(
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

fn vlan(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "write numbers with commas between: `--trunks 10,11,12`".to_owned())
}

impl Settings {
    fn write(&self, link: &mut Json) -> Result<(), CliError> {
        if let Some(mtu) = self.mtu {
            link["mtu"] = mtu.into();
        }
        if let Some(isolated) = self.isolated {
            link["isolated"] = isolated.into();
        }
        let vlans = self.vlan.is_some() || !self.trunks.is_empty();
        if let (true, Some(link)) = (vlans, link.as_object_mut()) {
            for key in ["vlan", "trunks", "native"] {
                link.remove(key);
            }
        }
        if let Some(vlan) = self.vlan {
            link["vlan"] = vlan.into();
        }
        if !self.trunks.is_empty() {
            link["trunks"] = json!(self.trunks);
        }
        if let Some(native) = self.native {
            link["native"] = native.into();
        }
        self.impairments.write(link)
    }

    fn is_empty(&self) -> bool {
        self.mtu.is_none()
            && self.isolated.is_none()
            && self.vlan.is_none()
            && self.trunks.is_empty()
            && self.impairments.said().is_empty()
            && self.impairments.from.is_none()
    }
}

pub(super) async fn run(command: &Command) -> Result<Ending, CliError> {
    match command {
        Command::Add(args) => add(args).await?,
        Command::Rm(args) => rm(args).await?,
        Command::Set(args) => set(args).await?,
        Command::Down(args) => hold("ovsns link down", &args.link, true).await?,
        Command::Up(args) => hold("ovsns link up", &args.link, false).await?,
        Command::List(args) => args.show("ovsns link list", |view| &view.links, table).await?,
    }
    Ok(Ending::Well)
}

async fn add(args: &AddArgs) -> Result<(), CliError> {
    running::change("ovsns link add", args.lab.as_deref(), |file| {
        let mut link = json!({ "endpoints": [args.a, args.b] });
        args.settings.write(&mut link)?;
        settings::write(&args.keys, &mut link)?;
        running::links(file).push(link);
        Ok(())
    })
    .await
}

async fn rm(args: &RmArgs) -> Result<(), CliError> {
    running::change("ovsns link rm", args.lab.as_deref(), |file| {
        let index = find(running::links(file), &args.a, &args.b)?;
        let gone = running::links(file)[index].clone();
        // Of several links between two switches, the one that was found.
        let same = |link: &Json| *link == gone;
        if 1 < running::links(file).iter().filter(|link| same(link)).count() {
            running::links(file).remove(index);
        } else {
            running::remove_links(file, same);
        }
        Ok(())
    })
    .await
}

async fn set(args: &SetArgs) -> Result<(), CliError> {
    if args.settings.is_empty() && args.keys.is_empty() {
        return Err(CliError::usage(
            "nothing to set was given",
            "say what, such as `--mtu 9000` or `--isolated true`",
        ));
    }
    running::change("ovsns link set", args.lab.as_deref(), |file| {
        let index = find(running::links(file), &args.a, &args.b)?;
        let link = &mut running::links(file)[index];
        args.settings.write(link)?;
        settings::write(&args.keys, link)
    })
    .await
}

async fn hold(command: &str, which: &Which, down: bool) -> Result<(), CliError> {
    running::change(command, which.lab.as_deref(), |file| {
        let index = find(running::links(file), &which.a, &which.b)?;
        running::links(file)[index]["down"] = down.into();
        Ok(())
    })
    .await
}

/// The one link between two ends, each a whole endpoint or a node's name. Of
/// several between two switches it is the last, which was added last.
fn find(links: &[Json], a: &str, b: &str) -> Result<usize, CliError> {
    let is = |end: &str, words: &str| {
        end == words || end.split_once(':').is_some_and(|(node, _)| node == words)
    };
    let joins = |link: &Json| {
        let [x, y] = running::endpoints(link);
        (is(x, a) && is(y, b)) || (is(x, b) && is(y, a))
    };
    let found: Vec<usize> = (0..links.len()).filter(|i| joins(&links[*i])).collect();
    let named: Vec<_> = found.iter().map(|i| running::endpoints(&links[*i])).collect();
    match found.as_slice() {
        [] => Err(CliError::usage(
            format!("there is no link between `{a}` and `{b}`"),
            "`ovsns link list` shows the links",
        )),
        [.., last] if named.iter().all(|ends| *ends == named[0]) => Ok(*last),
        _ => {
            let all: Vec<_> = named.iter().map(|[x, y]| format!("`{x} {y}`")).collect();
            Err(CliError::usage(
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

/// What is special about a link, in words.
fn settings(link: &LinkView) -> String {
    let mut words = link.settings.words.clone();
    let [a, b] = &link.impairments;
    let impaired = match (&a.is_none(), &b.is_none()) {
        (true, true) => String::new(),
        _ if a == b => format!(" {a} both ways"),
        (false, true) => format!(" from {}: {a}", link.ends[0]),
        (true, false) => format!(" from {}: {b}", link.ends[1]),
        (false, false) => format!(" from {}: {a}, from {}: {b}", link.ends[0], link.ends[1]),
    };
    words = (words + &impaired).trim().to_owned();
    match &link.bond {
        None => words,
        Some(BondView { mode, lacp, members, agreed: _ }) => {
            let bond = format!("bond of {members}, {mode}, lacp {lacp}");
            [bond.as_str(), &words].join(" ").trim_end().to_owned()
        }
    }
}

/// A row a link.
pub(super) fn table(view: &LabView) -> Vec<Vec<String>> {
    let head = ["LINK", "", "STATE", "MTU", "SETTINGS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for link in &view.links {
        rows.push(vec![
            link.ends[0].clone(),
            link.ends[1].clone(),
            match (link.up, link.held_down) {
                (true, _) => "up",
                (false, true) => "held down",
                (false, false) => "down",
            }
            .to_owned(),
            link.mtu.map_or("-".into(), |mtu| mtu.to_string()),
            settings(link),
        ]);
    }
    rows
}
