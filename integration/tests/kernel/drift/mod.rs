//! Whatever is changed behind our back shows in `status` with words, and `up` mends
//! just that.
//!
//! One thing that somebody does is a row: what he types, and the steps by which
//! `status` tells of it. What `up` is about to do are those and no others; afterwards
//! all that is in the world is as before, but for the numbers of what was made again,
//! and there is nothing left to change. All rows of a table are tried, and all that
//! is wrong is told at the end.

mod bridges;
mod links;
mod nics;
mod nodes;
mod ovs;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use world::{Finished, Inventory, World, patience};

pub(crate) use bridges::bridges;
pub(crate) use links::links;
pub(crate) use nics::nics;
pub(crate) use nodes::nodes;
pub(crate) use ovs::open_vswitch;

/// The file of the lab.
const FILE: &str = "lab.yaml";

/// How long the world may take to be as it was.
const AS_BEFORE_WITHIN: Duration = Duration::from_secs(15);

/// What lines of rows can say.
pub(super) const WORDS: &str = "
    dev() { ip -o link show dev $1 | sed 's/^[0-9]*: //; s/[:@].*//'; }
    port() { dev d:$1:eth0; }
    keeper() { pgrep -of 'keep-node --lab d --node a'; }
    gone() { while grep -q . /proc/$1/cmdline; do sleep 0.01; done 2>/dev/null; }
    group() { find /sys/fs/cgroup -type d -path \"*/$OVSNS_CGROUP/d.a\" | grep -e $1 -e unified | head -n 1; }
    nic() {
        ip link add ${1}0 address 02:00:00:00:0$2:00 type veth peer name ${1}1 address 02:00:00:00:0$2:01
        ip link set ${1}0 up; ip link set ${1}1 up
    }
";

/// One thing that somebody does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// What he types, in a shell.
    breaks: &'static str,
    /// The steps that mend it, as `status` and `plan` show them.
    drift: &'static [&'static str],
    /// What each step of `plan` is about, where that tells more of it.
    about: &'static [&'static str],
    /// What `status` says besides.
    says: &'static [&'static str],
    /// Why `up` does nothing before that is taken away.
    refused: &'static str,
    /// What takes away what is his own, and stays when all of ours is mended.
    his: &'static str,
}

/// A row of which all is told by steps.
pub(super) const fn row(breaks: &'static str, drift: &'static [&'static str]) -> Row {
    Row { breaks, drift, about: &[], says: &[], refused: "", his: "" }
}

impl Row {
    /// The same, of which `status` says that, too.
    pub(super) const fn says(self, says: &'static [&'static str]) -> Self {
        Self { says, ..self }
    }

    /// The same, where `plan` has more words, each step about one of these.
    pub(super) const fn about(self, about: &'static [&'static str]) -> Self {
        Self { about, ..self }
    }

    /// The same, which `up` refuses to mend as long as what is his own is there.
    pub(super) const fn refused(self, refused: &'static str) -> Self {
        Self { refused, ..self }
    }

    /// The same, where what is his own stays until he takes it away.
    pub(super) const fn his(self, his: &'static str) -> Self {
        Self { his, ..self }
    }
}

/// Makes the lab of `text` and tries all of `rows` in it.
#[track_caller]
pub(super) fn try_all(world: &World, text: &str, rows: &[Row]) {
    world.file(FILE, text);
    world.ovsns(&format!("up {FILE}")).ok();
    world.settled();
    let before = world.likeness();
    let mut wrong = String::new();
    for row in rows {
        let start = Instant::now();
        let found = try_one(world, row, &before);
        println!("{:5} ms  {}", start.elapsed().as_millis(), row.breaks);
        if let Err(what) = found {
            let _ = writeln!(wrong, "$ {}\n{what}", row.breaks);
            // So that the next has what it breaks.
            world.ovsns("down --all");
            world.ovsns(&format!("up {FILE}")).ok();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn try_one(world: &World, row: &Row, before: &Inventory) -> Result<(), String> {
    let well = |finished: Finished| match finished.status.success() {
        true => Ok(finished),
        false => Err(finished.to_string()),
    };
    well(world.shell(&format!("{WORDS}{}", row.breaks)))?;
    let status = well(world.ovsns("status"))?;
    is_as(row.drift, &drift(&status.stdout), "`status`")?;
    if !row.drift.is_empty() && !status.stdout.starts_with("lab d: drifted\n") {
        return Err(format!("`status` does not say that it drifted\n{status}"));
    }
    if let Some(text) = row.says.iter().find(|text| !status.stdout.contains(**text)) {
        return Err(format!("`status` does not say {text:?}\n{status}"));
    }
    if !row.refused.is_empty() {
        let refused = world.ovsns(&format!("up {FILE}"));
        if refused.status.code() != Some(2) || !refused.stderr.contains(row.refused) {
            return Err(format!("it is not refused\n{refused}"));
        }
        well(world.shell(&format!("{WORDS}{}", row.his)))?;
        well(world.ovsns(&format!("up {FILE}")))?;
        return as_before(world, before);
    }
    let plan = well(world.ovsns(&format!("plan {FILE}")))?;
    let todo = steps(&plan.stdout);
    if row.about.is_empty() {
        is_as(row.drift, &todo, "`plan`")?;
    }
    let is_strange = |step: &&String| !row.about.iter().any(|about| step.contains(about));
    if let Some(step) = todo.iter().find(|step| !row.about.is_empty() && is_strange(step)) {
        return Err(format!("`up` does what has nothing to do with it: {step:?}"));
    }
    well(world.ovsns(&format!("up {FILE}")))?;
    well(world.shell(&format!("{WORDS}{}", row.his)))?;
    let again = well(world.ovsns(&format!("plan {FILE}")))?;
    is_as(&[], &steps(&again.stdout), "`plan` afterwards")?;
    as_before(world, before)
}

fn is_as(wanted: &[&str], seen: &[String], what: &str) -> Result<(), String> {
    match seen == wanted {
        true => Ok(()),
        false => Err(format!("{what} has {seen:#?}\nand is to have {wanted:#?}")),
    }
}

/// Awaits that all is like it was.
fn as_before(world: &World, before: &Inventory) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let differences = world.likeness().differences(before);
        if differences.is_empty() {
            return Ok(());
        }
        if AS_BEFORE_WITHIN * patience() < start.elapsed() {
            return Err(format!("not as before:\n{differences}"));
        }
    }
}

/// The steps that `status` shows as drift, and what it shows to be in their way.
fn drift(status: &str) -> Vec<String> {
    let is_head = |line: &&str| {
        !line.starts_with("drift, which") && !line.starts_with("in the way of `ovsns up`")
    };
    let lines = status.lines().skip_while(is_head);
    lines.filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// The steps that `plan` shows.
fn steps(plan: &str) -> Vec<String> {
    plan.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}
