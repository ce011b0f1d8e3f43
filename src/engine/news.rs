//! When to look again: whatever tells by itself that something of a lab may not be
//! as it was. What that is, a look says (`Engine::status`).

use std::collections::BTreeSet;

use super::state::State;
use crate::kernel::KernelError;
use crate::kernel::life::news::LifeNews;
use crate::kernel::netns;
use crate::kernel::news::{FileNews, LinkNews};
use crate::model::names::{LabName, NodeName};
use crate::switch::news::SwitchNews;

/// Hears of changes on this machine: of links, addresses and routes in its own network
/// namespace and in nodes; of names of namespaces; of what is remembered of labs, and of
/// commands that are done with one; of Open vSwitch's database; of processes of nodes.
pub struct News {
    links: LinkNews,
    files: FileNews,
    switches: SwitchNews,
    lives: LifeNews,
    state: State,
}

/// Whom to hear of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whom {
    /// The labs.
    pub labs: BTreeSet<LabName>,
    /// The network namespaces of their nodes, as `ip netns` calls them.
    pub namespaces: BTreeSet<String>,
    /// The nodes that have a keeper.
    pub keepers: BTreeSet<(LabName, NodeName)>,
}

impl News {
    /// Begins. What happens from now on is told by `next`, however much later that is
    /// called.
    pub fn begin(state: &State) -> Result<Self, KernelError> {
        let mut news = Self {
            links: LinkNews::begin()?,
            files: FileNews::begin()?,
            switches: SwitchNews::begin(state.directory()),
            lives: LifeNews::default(),
            state: state.clone(),
        };
        news.follow(&Whom::default())?;
        Ok(news)
    }

    /// Hears of these labs, besides of those that come.
    pub fn follow(&mut self, whom: &Whom) -> Result<(), KernelError> {
        let labs = self.state.labs_directory();
        let of_labs = whom.labs.iter().map(|lab| labs.join(lab.as_str()));
        let of_machine = [self.state.directory().to_owned(), netns::DIRECTORY.into()];
        let of_switches = self.switches.directories();
        let directories = of_labs.chain(of_machine).chain(of_switches).chain([labs.clone()]);
        self.files.follow(directories.collect::<BTreeSet<_>>())?;
        self.links.follow(whom.namespaces.iter().map(String::as_str))?;
        self.switches.follow();
        self.lives.follow(whom.keepers.clone());
        Ok(())
    }

    /// Awaits that something is told. All that was told by then is one.
    pub async fn next(&mut self) -> Result<(), KernelError> {
        tokio::select! {
            told = self.links.next() => told,
            told = self.files.next() => told,
            () = self.switches.next() => Ok(()),
            () = self.lives.next() => Ok(()),
        }
    }
}
