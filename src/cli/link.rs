//! `ovsns link`

use serde_json::{Value as Json, json};

use super::ask::{ListArgs, change};
use super::settings::{self, Setting};
use super::{CallError, Ending};
use crate::api::view::{BondView, LabView, LinkView};
use crate::api::{Impair, LinkAdd, LinkDown, LinkRm, LinkSet, LinkUp, edit};
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
    /// One end: NODE, NODE:INTERFACE, SWITCH or SWITCH#NUMBER
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
    /// One end: NODE, NODE:INTERFACE, SWITCH or SWITCH#NUMBER
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
    /// One end: NODE, NODE:INTERFACE, SWITCH or SWITCH#NUMBER
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
    fn impair(&self) -> Impair {
        let Self { delay, jitter, loss, duplicate, reorder, corrupt, rate, from } = self;
        Impair {
            delay: delay.clone(),
            jitter: jitter.clone(),
            loss: loss.clone(),
            duplicate: duplicate.clone(),
            reorder: reorder.clone(),
            corrupt: corrupt.clone(),
            rate: rate.clone(),
            from: from.clone(),
        }
    }
}

fn vlan(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "write numbers with commas between: `--trunks 10,11,12`".to_owned())
}

impl Settings {
    /// These and others, as keys of the file; of two of one key, the other.
    fn set(&self, others: &[Setting]) -> edit::Settings {
        let mut set = edit::Settings::default();
        let mut say = |key: &str, value: Json| set.0.insert(key.to_owned(), value);
        self.mtu.map(|mtu| say("mtu", mtu.into()));
        self.isolated.map(|isolated| say("isolated", isolated.into()));
        self.vlan.map(|vlan| say("vlan", vlan.into()));
        if !self.trunks.is_empty() {
            say("trunks", json!(self.trunks));
        }
        self.native.map(|native| say("native", native.into()));
        set.0.extend(settings::all(others).0);
        set
    }
}

pub(super) async fn run(command: &Command) -> Result<Ending, CallError> {
    match command {
        Command::Add(AddArgs { a, b, settings, keys, lab }) => {
            let (set, impair) = (settings.set(keys), settings.impairments.impair());
            let (a, b, lab) = (a.clone(), b.clone(), lab.clone());
            change("link add", LinkAdd { a, b, set, impair, lab }).await?;
        }
        Command::Rm(RmArgs { a, b, lab }) => {
            change("link rm", LinkRm { a: a.clone(), b: b.clone(), lab: lab.clone() }).await?;
        }
        Command::Set(SetArgs { a, b, settings, keys, lab }) => {
            let (set, impair) = (settings.set(keys), settings.impairments.impair());
            let (a, b, lab) = (a.clone(), b.clone(), lab.clone());
            change("link set", LinkSet { a, b, set, impair, lab }).await?;
        }
        Command::Down(DownArgs { link: Which { a, b, lab } }) => {
            change("link down", LinkDown { a: a.clone(), b: b.clone(), lab: lab.clone() }).await?;
        }
        Command::Up(UpArgs { link: Which { a, b, lab } }) => {
            change("link up", LinkUp { a: a.clone(), b: b.clone(), lab: lab.clone() }).await?;
        }
        Command::List(args) => args.show(|view| &view.links, table).await?,
    }
    Ok(Ending::Well)
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
