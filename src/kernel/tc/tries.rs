//! What a kernel can do, tried and not looked up: a module that is configured
//! may not be loadable, and one that can be loaded is loaded by the try.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;

use super::wire::{self, Classifier};
use super::{Direction, POLICE_PREF, Policing, add_filter, add_qdisc, egress};
use crate::kernel::error::{self, KernelError, Tried};
use crate::kernel::worker::{Where, Worker};
use crate::model::impair::Impairments;
use crate::model::world::Ability;

/// The loopback, which every namespace is born with.
const LOOPBACK: u32 = 1;

const POLICE: &str = "the action `police` (module act_police, CONFIG_NET_ACT_POLICE)";
const MIRRED: &str = "the action `mirred` (module act_mirred, CONFIG_NET_ACT_MIRRED)";

/// Tries policing as [`super::set_policing`] does it, in a namespace that ends
/// with the try.
pub async fn can_police(worker: &Worker) -> Result<Tried, KernelError> {
    let action = wire::police(SOME, &wire::police_cookie(SOME, true));
    try_filter(worker, "clsact", &wire::OUR_CLASSIFIERS, &action, POLICE).await
}

/// Tries policing as Open vSwitch does it (`netdev_linux_set_policing` of 3.1):
/// under a qdisc `ingress`, by the classifier `matchall` or else `basic`. Where
/// a kernel has not what it takes, its database keeps the rate and shows no
/// error, and nothing is policed. Nor is it at a port where somebody else's
/// `clsact` is in the place of that qdisc.
pub async fn can_police_like_ovs(worker: &Worker) -> Result<Tried, KernelError> {
    let classifiers = [Classifier::Matchall, Classifier::Basic];
    try_filter(worker, "ingress", &classifiers, &wire::police(SOME, &[]), POLICE).await
}

/// Tries mirrors as [`super::add_mirror`] does them, in a namespace that ends
/// with the try.
pub async fn can_mirror(worker: &Worker) -> Result<Tried, KernelError> {
    let action = wire::mirror(LOOPBACK, &wire::mirror_cookie("try", true));
    try_filter(worker, "clsact", &wire::OUR_CLASSIFIERS, &action, MIRRED).await
}

/// Tries the qdisc with which Open vSwitch shapes what leaves by a port
/// (`linux-htb`), in a namespace that ends with the try.
pub async fn can_shape(worker: &Worker) -> Result<Tried, KernelError> {
    let netlink = worker.netlink(Where::Fresh).await?;
    let asked = || "try to shape".to_owned();
    let made = netlink.raw(wire::new_htb(LOOPBACK), NLM_F_CREATE | NLM_F_EXCL, asked);
    error::tried(
        made,
        "the queueing discipline `htb` (module sch_htb, CONFIG_NET_SCH_HTB)",
        &[Errno::ENOENT],
    )
}

/// Tries the qdisc that impairs what leaves by a device, in a namespace that
/// ends with the try.
pub async fn can_impair(worker: &Worker, ability: Ability) -> Result<Tried, KernelError> {
    let (some, words) = match ability {
        Ability::Rate => (Impairments { rate_kbps: 1000, ..Impairments::default() }, TBF),
        Ability::Netem | Ability::Cut | Ability::Nat => {
            (Impairments { delay_us: 1000, ..Impairments::default() }, NETEM)
        }
    };
    let netlink = worker.netlink(Where::Fresh).await?;
    let header =
        wire::Header { index: LOOPBACK, parent: wire::TC_H_ROOT, ..wire::Header::default() };
    let asked = || "try to impair".to_owned();
    let tried = egress::new(header, &some, 1500);
    error::tried(netlink.raw(tried, NLM_F_CREATE | NLM_F_EXCL, asked), words, &[Errno::ENOENT])
}

const TBF: &str = "the queueing discipline `tbf` (module sch_tbf, CONFIG_NET_SCH_TBF)";
const NETEM: &str = "the queueing discipline `netem` (module sch_netem, CONFIG_NET_SCH_NETEM)";

const SOME: Policing = Policing { rate_kbit_per_s: 1000, burst_kbit: 1000 };

async fn try_filter(
    worker: &Worker,
    qdisc: &str,
    classifiers: &[Classifier],
    action: &DefaultNla,
    action_words: &str,
) -> Result<Tried, KernelError> {
    let netlink = worker.netlink(Where::Fresh).await?;
    let asked = || format!("try a filter under `{qdisc}`");
    let made = add_qdisc(&netlink, LOOPBACK, qdisc, asked);
    let words = "hooks for what comes in (module sch_ingress, CONFIG_NET_SCH_INGRESS)";
    if let Err(missing) = error::tried(made, words, &[Errno::ENOENT])? {
        return Ok(Err(missing));
    }
    // A classifier and an action that are missing have the same number; but a
    // classifier can do without an action.
    let header = wire::filter_header(LOOPBACK, Direction::In, POLICE_PREF);
    let mut there = Vec::new();
    for classifier in classifiers {
        match add_filter(&netlink, header, &[*classifier], None, asked) {
            Ok(()) => {
                netlink.raw(wire::delete_filter(header, classifier.kind()), 0, asked)?;
                there.push(*classifier);
            }
            Err(error) if error.errno == Errno::ENOENT => {}
            Err(error) => return Err(error),
        }
    }
    if there.is_empty() {
        let names: Vec<String> = classifiers.iter().map(|it| words_for(*it)).collect();
        return Ok(Err(format!("this kernel has not {}", names.join(" or "))));
    }
    error::tried(
        add_filter(&netlink, header, &there, Some(action), asked),
        action_words,
        &[Errno::ENOENT],
    )
}

fn words_for(classifier: Classifier) -> String {
    let kind = classifier.kind();
    let option = kind.to_uppercase();
    format!("the classifier `{kind}` (module cls_{kind}, CONFIG_NET_CLS_{option})")
}
