//! Keys that hold one of a few words.

use serde_json::{Value as Json, json};

use super::{Written, Wrong, one_of};
use crate::model::problem::quoted;
use crate::model::topology::{
    Backend, BondMode, Datapath, FailMode, Lacp, Macvlan, Routing, TunnelKind,
};

/// The datapath asked for; `None` is `auto`.
pub(in crate::model) struct DatapathChoice(pub(in crate::model) Option<Datapath>);

one_of!(DatapathChoice, "the datapath", "`auto`, `system` or `netdev`",
    "auto" => Self(None),
    "system" => Self(Some(Datapath::System)),
    "netdev" => Self(Some(Datapath::Netdev)));

one_of!(FailMode, "the mode without a controller", "`standalone` or `secure`",
    "standalone" => Self::Standalone,
    "secure" => Self::Secure);

one_of!(TunnelKind, "the type of a tunnel", "`vxlan`, `geneve` or `gre`",
    "vxlan" => Self::Vxlan,
    "geneve" => Self::Geneve,
    "gre" => Self::Gre);

one_of!(BondMode, "the mode of a bond", "`active-backup`, `balance-slb` or `balance-tcp`",
    "active-backup" => Self::ActiveBackup,
    "balance-slb" => Self::BalanceSlb,
    "balance-tcp" => Self::BalanceTcp);

one_of!(Macvlan, "the mode of a macvlan", "`bridge`, `private`, `vepa` or `passthru`",
    "bridge" => Self::Bridge,
    "private" => Self::Private,
    "vepa" => Self::Vepa,
    "passthru" => Self::Passthru);

/// How a NIC of the machine is shared into the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum NicMode {
    Bridge,
    Macvlan,
    Move,
}

one_of!(NicMode, "the mode of a NIC", "`bridge`, `macvlan` or `move`",
    "bridge" => Self::Bridge,
    "macvlan" => Self::Macvlan,
    "move" => Self::Move);

one_of!(Routing, "a way of `routing`", "`static`",
    "static" => Self::Static);

one_of!(Lacp, "`lacp`", "`off` or `active`",
    "off" => Self::Off,
    "active" => Self::Active);

/// A version of OpenFlow.
pub(in crate::model) struct Protocol(pub(in crate::model) String);

one_of!(Protocol, "a version of OpenFlow",
    "`OpenFlow10`, `OpenFlow11`, `OpenFlow12`, `OpenFlow13`, `OpenFlow14` or `OpenFlow15`",
    "OpenFlow10" => Self("OpenFlow10".into()),
    "OpenFlow11" => Self("OpenFlow11".into()),
    "OpenFlow12" => Self("OpenFlow12".into()),
    "OpenFlow13" => Self("OpenFlow13".into()),
    "OpenFlow14" => Self("OpenFlow14".into()),
    "OpenFlow15" => Self("OpenFlow15".into()));

/// The backend asked for; `None` is `auto`.
pub(in crate::model) struct Choice(pub(in crate::model) Option<Backend>);

impl Written for Choice {
    const WORDS: &'static str = "`auto`, `ovs` or `linux`";
    fn schema() -> Json {
        json!({ "enum": ["auto", "ovs", "linux"] })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Self(None)),
            "ovs" => Ok(Self(Some(Backend::Ovs))),
            "linux" => Ok(Self(Some(Backend::Linux))),
            _ => Err(Wrong::new(format!("the backend is {}, not {}", Self::WORDS, quoted(text)))),
        }
    }
}
