//! What this machine can do, and what is wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, CallError, Desk, Failure};
use crate::kernel::doctor::{self, Finding, Part, Verdict};
use crate::kernel::laid;
use crate::kernel::permissions::{self, Capability};
use crate::switch::ovs::report::Report;
use crate::switch::own::Own;

/// Says what this machine can do, what is wrong, and the mend. Kernel features are
/// tried in a namespace of their own, not looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Doctor {}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// What it is a part of, such as `kernel`.
    pub part: String,
    /// What it is.
    pub what: String,
    /// `ok`, `lacks` (something cannot be done), `warn`, or `bad` (nothing can).
    pub verdict: String,
    /// What it is needed for.
    pub needed_for: String,
    /// What was found.
    pub said: String,
    /// What to do.
    pub mend: Option<String>,
}

/// All that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// By its parts.
    pub found: Vec<Found>,
    /// Whether all that ovsns cannot do without is there.
    pub works: bool,
}

impl Call for Doctor {
    const NAME: &'static str = "doctor";
    type Answer = Diagnosis;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Diagnosis, CallError> {
        let mut findings = allowed();
        if findings.iter().all(|finding| finding.verdict != Verdict::Bad) {
            findings.extend(doctor::examine().await);
            findings.push(machines_ovs().await);
            findings.push(own_ovs().await);
            findings.extend(leftovers(desk).await);
        }
        findings.sort_by_key(|finding| finding.part);
        let works = findings.iter().all(|finding| finding.verdict != Verdict::Bad);
        Ok(Diagnosis { found: findings.into_iter().map(found).collect(), works })
    }
}

fn found(finding: Finding) -> Found {
    Found {
        part: finding.part.words().to_owned(),
        what: finding.what,
        verdict: match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Lacking => "lacks",
            Verdict::Warning => "warn",
            Verdict::Bad => "bad",
        }
        .to_owned(),
        needed_for: finding.needed_for,
        said: finding.said,
        mend: finding.mend,
    }
}

fn allowed() -> Vec<Finding> {
    let needs = [
        (Capability::NetAdmin, "making links and addresses"),
        (Capability::SysAdmin, "making and entering namespaces"),
        (Capability::NetRaw, "`ovsns ping`"),
    ];
    let finding = |(capability, needed_for): (Capability, &str)| {
        let missing = !permissions::missing(&[capability]).is_empty();
        Finding {
            part: Part::Process,
            what: capability.name().to_owned(),
            verdict: if missing { Verdict::Bad } else { Verdict::Good },
            needed_for: needed_for.to_owned(),
            said: if missing { "not there" } else { "there" }.to_owned(),
            mend: missing.then(|| "run as root: `sudo ovsns doctor`".to_owned()),
        }
    };
    needs.into_iter().map(finding).collect()
}

/// The Open vSwitch of our own of the state directory that the environment names.
pub(crate) fn own() -> Own {
    Own::of(&laid::state_directory())
}

/// The Open vSwitch of this machine.
async fn machines_ovs() -> Finding {
    let report = Report::look().await;
    let mend = report.mend();
    Finding {
        part: Part::OpenVswitch,
        what: "Open vSwitch of this machine".to_owned(),
        verdict: if mend.is_some() { Verdict::Warning } else { Verdict::Good },
        needed_for: "switches of the ovs backend".to_owned(),
        said: report.to_string(),
        mend,
    }
}

/// The Open vSwitch of our own, with what its logs say if something is wrong.
async fn own_ovs() -> Finding {
    let report = own().report().await;
    let mut said = report.to_string();
    let (verdict, mend) = match (&report.missing, report.is_wrong()) {
        (_, true) => {
            for (log, lines) in &report.logs {
                lines.iter().for_each(|line| said += &format!("\n      {log}: {line}"));
            }
            let mend = "the next command that uses it mends what can be mended, or now: \
                        `ovsns keep-ovs --use`";
            (Verdict::Warning, Some(mend.to_owned()))
        }
        (Some(missing), false) => (Verdict::Lacking, Some(missing.hint())),
        (None, false) => (Verdict::Good, None),
    };
    Finding {
        part: Part::OpenVswitch,
        what: "Open vSwitch of our own".to_owned(),
        verdict,
        needed_for: "switches of the ovs backend where no other Open vSwitch runs".to_owned(),
        said,
        mend,
    }
}

/// What crashes left, and what is not where it belongs. What cannot be seen is a
/// finding, too.
async fn leftovers(desk: &mut Desk<'_>) -> Vec<Finding> {
    match look_for_leftovers(desk).await {
        Ok(found) if found.is_empty() => {
            vec![left("leftovers", Verdict::Good, "nothing was left", None)]
        }
        Ok(found) => found,
        Err(error) => {
            let Failure { message, causes, .. } = error.told();
            let said = [vec![message], causes].concat().join(": ");
            let mend = "`ovsns list` says more".to_owned();
            vec![left("leftovers", Verdict::Warning, &said, Some(mend))]
        }
    }
}

async fn look_for_leftovers(desk: &mut Desk<'_>) -> Result<Vec<Finding>, CallError> {
    let mut engine = desk.engine("ovsns doctor").await?;
    let mut found = Vec::new();
    for lab in engine.labs().await? {
        let fail = crate::engine::EngineError::from;
        // What is under way was not left.
        if engine.state().is_at_work(&lab) {
            continue;
        }
        for nic in engine.attachments(&lab)?.all() {
            let said = format!("it is shared into lab {lab}");
            let mend = format!("`ovsns detach {nic}` brings it home");
            found.push(left(&format!("NIC {nic}"), Verdict::Good, &said, Some(mend)));
        }
        let status = engine.state().read(&lab).map_err(fail)?;
        let (said, mend) = match (status.cut_off, status.lab) {
            (Some(command), _) => (
                format!("{command} was cut off in the middle of a change"),
                format!("`ovsns up` with its file goes on, `ovsns down {lab}` removes it"),
            ),
            (None, None) => ("no file remembers it".to_owned(), "`ovsns gc` removes it".to_owned()),
            (None, Some(_)) => continue,
        };
        found.push(left(&format!("lab {lab}"), Verdict::Warning, &said, Some(mend)));
    }
    for device in engine.orphans().await? {
        let said = "it was cut off at its birth, and is of no lab";
        let mend = "`ovsns gc` removes it".to_owned();
        found.push(left(&format!("device {device}"), Verdict::Warning, said, Some(mend)));
    }
    Ok(found)
}

fn left(what: &str, verdict: Verdict, said: &str, mend: Option<String>) -> Finding {
    Finding {
        part: Part::Left,
        what: what.to_owned(),
        verdict,
        needed_for: "a clean machine".to_owned(),
        said: said.to_owned(),
        mend,
    }
}
