//! `ovsns doctor`

use serde::Serialize;

use super::{CliError, Ending, input, keep_ovs, show};
use crate::engine::Engine;
use crate::kernel::doctor::{self, Finding, Verdict};
use crate::kernel::permissions::{self, Capability};
use crate::switch::ovs::report::Report;

/// Say what this machine can do, what is wrong, and the mend
///
/// Kernel features are tried in a namespace of their own, not looked up. The
/// exit status is 0 if all that ovsns cannot do without is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns doctor")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    what: String,
    verdict: &'static str,
    needed_for: String,
    said: String,
    mend: Option<String>,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CliError> {
    let mut findings = allowed();
    if findings.iter().all(|finding| finding.verdict != Verdict::Bad) {
        findings.extend(doctor::examine().await?);
        findings.push(machines_ovs().await);
        findings.push(own_ovs().await);
        findings.extend(leftovers(&mut input::engine("ovsns doctor").await?).await?);
    }
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    let rows: Vec<Row> = findings.into_iter().map(row).collect();
    if args.json {
        show::json(&rows);
    } else {
        for row in &rows {
            show::line(&format!("{:<5} {}: {}", row.verdict, row.what, row.said));
            if let Some(mend) = &row.mend {
                show::line(&format!("      needed for {}; mend: {mend}", row.needed_for));
            }
        }
    }
    Ok(if bad { Ending::No } else { Ending::Well })
}

fn row(finding: Finding) -> Row {
    Row {
        what: finding.what,
        verdict: match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Lacking => "lacks",
            Verdict::Warning => "warn",
            Verdict::Bad => "bad",
        },
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
            what: capability.name().to_owned(),
            verdict: if missing { Verdict::Bad } else { Verdict::Good },
            needed_for: needed_for.to_owned(),
            said: if missing { "not there" } else { "there" }.to_owned(),
            mend: missing.then(|| "run as root: `sudo ovsns doctor`".to_owned()),
        }
    };
    needs.into_iter().map(finding).collect()
}

/// The Open vSwitch of this machine.
async fn machines_ovs() -> Finding {
    let report = Report::look().await;
    let mend = report.mend();
    Finding {
        what: "Open vSwitch of this machine".to_owned(),
        verdict: if mend.is_some() { Verdict::Warning } else { Verdict::Good },
        needed_for: "switches of the ovs backend".to_owned(),
        said: report.to_string(),
        mend,
    }
}

/// The Open vSwitch of our own, with what its logs say if something is wrong.
async fn own_ovs() -> Finding {
    let report = keep_ovs::own().report().await;
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
        what: "Open vSwitch of our own".to_owned(),
        verdict,
        needed_for: "switches of the ovs backend where no other Open vSwitch runs".to_owned(),
        said,
        mend,
    }
}

/// Labs that no file remembers, and changes that were cut off.
async fn leftovers(engine: &mut Engine) -> Result<Vec<Finding>, CliError> {
    let mut found = Vec::new();
    for lab in engine.labs().await? {
        let status = engine.state().read(&lab).map_err(crate::engine::EngineError::from)?;
        let (said, mend) = match (status.cut_off, status.lab) {
            (Some(command), _) => (
                format!("{command} was cut off in the middle of a change"),
                format!("`ovsns up` with its file goes on, `ovsns down {lab}` removes it"),
            ),
            (None, None) => ("no file remembers it".to_owned(), "`ovsns gc` removes it".to_owned()),
            (None, Some(_)) => continue,
        };
        found.push(Finding {
            what: format!("lab {lab}"),
            verdict: Verdict::Warning,
            needed_for: "a clean machine".to_owned(),
            said,
            mend: Some(mend),
        });
    }
    Ok(found)
}
