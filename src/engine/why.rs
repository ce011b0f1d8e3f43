//! Why one node does not hear another: the questions of `plan::why` are put to
//! the kernel and to the switches, until it has a verdict.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::kernel::why::{self as hands, Asked, Names};
use crate::kernel::worker::Worker;
use crate::model::names::{LabName, NodeName};
use crate::model::packet::{Carried, Packet, Spot};
use crate::model::topology::{Datapath, Lab};
use crate::model::world::World;
use crate::plan::why::facts::{RouteAnswer, RouteQuestion};
use crate::plan::why::{Case, Facts, Hop, Question, Verdict, What, judge, walk};

use super::{Engine, EngineError, Status};

/// A port that nobody listens at, as far as anybody knows (`discard`, RFC 863).
const NOBODYS_PORT: u16 = 9;

/// How long the kernel may take to find an address free of duplicates.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// A lab, looked at for [`Engine::why`].
#[derive(Debug)]
pub struct Ground {
    lab: LabName,
    /// What is there.
    pub world: World,
    /// What is remembered as wanted.
    pub wanted: Option<Lab>,
    troubles: Vec<String>,
}

/// All that came out for one address.
#[derive(Debug)]
pub struct Told {
    /// The packet.
    pub packet: Packet,
    /// What is known.
    pub facts: Facts,
    /// Its way.
    pub hops: Vec<Hop>,
    /// How far it comes, and why not further.
    pub verdict: Verdict,
}

impl Ground {
    /// The address at which a node is to be asked, if it has one of that family,
    /// or should have.
    pub fn address(&self, of: &NodeName, near: &NodeName, v4: bool) -> Option<IpAddr> {
        let all = |node: &NodeName| -> Vec<ipnet::IpNet> {
            let seen = self.world.host.nodes.get(node);
            let there = seen.into_iter().flat_map(|seen| {
                let fixed = seen.addresses.values().chain(seen.foreign_addresses.values());
                let dynamic = seen.dynamic.values().flat_map(|all| all.keys().copied());
                fixed.flatten().copied().chain(dynamic).collect::<Vec<_>>()
            });
            let wanted = self.wanted.iter().filter_map(|lab| lab.nodes.get(node));
            let wanted = wanted.flat_map(|node| node.interfaces.values());
            let wanted = wanted.flat_map(|interface| interface.addresses.iter().copied());
            let all = wanted.chain(there);
            all.filter(|net| net.addr().is_ipv4() == v4 && !net.addr().is_loopback()).collect()
        };
        let (own, near) = (all(of), all(near));
        let on_link = own.iter().find(|net| near.iter().any(|it| it.contains(&net.addr())));
        on_link.or(own.first()).filter(|_| !near.is_empty()).map(ipnet::IpNet::addr)
    }
}

impl Engine {
    /// Looks at a lab, to be asked about it.
    pub async fn ground(&mut self, lab: &LabName) -> Result<Ground, EngineError> {
        let Status { world, lab: wanted, troubles, .. } = self.status(lab).await?;
        Ok(Ground { lab: lab.clone(), world, wanted, troubles })
    }

    /// Sends a packet from one node to another, and says how far it comes and why
    /// not further. Changes nothing.
    pub async fn why(
        &mut self,
        ground: &Ground,
        (from, to): (&NodeName, &NodeName),
        at: IpAddr,
        carried: Carried,
    ) -> Result<Told, EngineError> {
        let worker = Worker::start()?;
        let mut facts = Facts::default();
        let home = Spot::Home;
        facts.spots.insert(home.clone(), hands::look(&worker, &ground.lab, &home).await?);
        let ends = [from, to].map(|node| Spot::Node(node.clone()));
        for spot in &ends {
            facts.spots.insert(spot.clone(), hands::look(&worker, &ground.lab, spot).await?);
        }
        let first = RouteQuestion { node: from.clone(), from: None, to: at, enters: None };
        let chosen = hands::route(&worker, &ground.lab, &first).await?;
        let source = match &chosen {
            RouteAnswer::Leaves { from: Some(from), .. } => Some(*from),
            RouteAnswer::Leaves { .. } | RouteAnswer::Local | RouteAnswer::Refused(_) => None,
        };
        let source = source.or_else(|| ground.address(from, to, at.is_ipv4()));
        facts.routes.insert(first, chosen);
        let packet = Packet { from: source.unwrap_or(at), to: at, carried };
        let hops = self.way(&worker, ground, &mut facts, (from, to), &packet).await?;
        self.none_is_tentative(&worker, ground, &mut facts).await?;
        let names = names(&facts);
        let there = facts.spot(&ends[0]).is_some();
        if there {
            let asked = Asked { node: from.clone(), packet, bytes: 0 };
            let tried = hands::probe(&worker, &ground.lab, &asked, &names).await?;
            let well = tried.outcome == crate::plan::why::facts::Outcome::Answered;
            facts.tried = Some(tried);
            if well && matches!(carried, Carried::Echo { .. }) {
                self.try_more(&worker, ground, &mut facts, (&asked, &hops), &names).await?;
            }
        }
        // What was seen tells which of several ways it took, and what was asked and
        // answered by the way is in the tables of neighbours now.
        for (spot, there) in &mut facts.spots {
            *there = hands::look(&worker, &ground.lab, spot).await?;
        }
        let packet = facts.tried.as_ref().and_then(|tried| tried.packet).unwrap_or(packet);
        loop {
            let hops = self.way(&worker, ground, &mut facts, (from, to), &packet).await?;
            let case = Case {
                lab: &ground.lab,
                world: &ground.world,
                wanted: ground.wanted.as_ref(),
                troubles: &ground.troubles,
                ends: (from, to),
                facts: &facts,
                packet,
                hops: &hops,
            };
            match judge(&case) {
                Ok(verdict) => return Ok(Told { packet, facts, hops, verdict }),
                Err(question) => self.answer(&worker, ground, &mut facts, question).await?,
            }
        }
    }

    /// A large packet, and, where a switch is in userspace, a TCP connection.
    async fn try_more(
        &mut self,
        worker: &Worker,
        ground: &Ground,
        facts: &mut Facts,
        (asked, hops): (&Asked, &[Hop]),
        names: &Names,
    ) -> Result<(), EngineError> {
        let leaves = hops.first().and_then(|hop| match &hop.what {
            What::Node(node) => node.leaves.as_deref(),
            What::Wire { .. } | What::Switch { .. } | What::Lost(_) => None,
        });
        let spot = Spot::Node(asked.node.clone());
        let mtu = leaves.and_then(|device| facts.link(&spot, device)).map(|link| link.mtu);
        if let Some(mtu) = mtu.filter(|mtu| *mtu <= 65_000) {
            let Carried::Echo { id } = asked.packet.carried else { return Ok(()) };
            // Another number, so that late answers to the small one are not taken
            // for those to this.
            let carried = Carried::Echo { id: id ^ 0x8000 };
            let packet = Packet { carried, ..asked.packet };
            let large = Asked { packet, bytes: mtu as usize, ..asked.clone() };
            facts.tried_large = Some(hands::probe(worker, &ground.lab, &large, names).await?);
        }
        let in_userspace = hops.iter().any(|hop| match &hop.what {
            What::Switch { switch, .. } => {
                let seen = ground.world.fabric.switches.get(switch);
                seen.is_some_and(|seen| seen.spec.datapath == Some(Datapath::Netdev))
            }
            What::Node(_) | What::Wire { .. } | What::Lost(_) => false,
        });
        if in_userspace {
            let carried = Carried::Tcp { from: 0, to: NOBODYS_PORT };
            let packet = Packet { carried, ..asked.packet };
            let tcp = Asked { packet, ..asked.clone() };
            facts.tried_tcp = Some(hands::probe(worker, &ground.lab, &tcp, names).await?);
        }
        Ok(())
    }

    /// Waits for addresses that the kernel still tries for duplicates, as after
    /// `up`: until then it neither asks nor answers with them.
    async fn none_is_tentative(
        &mut self,
        worker: &Worker,
        ground: &Ground,
        facts: &mut Facts,
    ) -> Result<(), EngineError> {
        let start = Instant::now();
        let unsettled = |facts: &Facts| {
            let mut spots = facts.spots.values().flatten();
            spots.any(|there| {
                let carrier = |device: &str| there.links.get(device).is_some_and(|it| it.carrier);
                let mut all = there.addresses.iter();
                all.any(|it| it.tentative && !it.duplicate && carrier(&it.device))
            })
        };
        while unsettled(facts) && start.elapsed() < SETTLED_WITHIN {
            tokio::time::sleep(LOOK).await;
            for (spot, there) in &mut facts.spots {
                if *spot != Spot::Home {
                    *there = hands::look(worker, &ground.lab, spot).await?;
                }
            }
        }
        Ok(())
    }

    async fn way(
        &mut self,
        worker: &Worker,
        ground: &Ground,
        facts: &mut Facts,
        ends: (&NodeName, &NodeName),
        packet: &Packet,
    ) -> Result<Vec<Hop>, EngineError> {
        loop {
            match walk(&ground.world, facts, ends, packet) {
                Ok(hops) => return Ok(hops),
                Err(question) => self.answer(worker, ground, facts, question).await?,
            }
        }
    }

    async fn answer(
        &mut self,
        worker: &Worker,
        ground: &Ground,
        facts: &mut Facts,
        question: Question,
    ) -> Result<(), EngineError> {
        match question {
            Question::Spot(spot) => {
                let there = hands::look(worker, &ground.lab, &spot).await?;
                facts.spots.insert(spot, there);
            }
            Question::Route(route) => {
                let answer = hands::route(worker, &ground.lab, &route).await?;
                facts.routes.insert(route, answer);
            }
            Question::Way(way) => {
                let spec = ground.world.fabric.switches.get(&way.switch).map(|seen| &seen.spec);
                let answer = match spec {
                    None => Err("it is gone".to_owned()),
                    Some(spec) => match self.switch(spec.backend) {
                        None => Err(format!("there is no backend `{}` here", spec.backend)),
                        Some(switch) => {
                            let told = switch.way(spec, &way.enters, &way.frame).await;
                            told.map_err(|error| error.to_string())
                        }
                    },
                };
                facts.ways.insert(way, answer);
            }
        }
        Ok(())
    }
}

/// What the devices are called in all namespaces that are known.
fn names(facts: &Facts) -> Names {
    let mut names = Names::new();
    for (spot, there) in &facts.spots {
        let Some(there) = there else { continue };
        let all: BTreeMap<u32, String> =
            there.links.iter().map(|(name, link)| (link.index, name.clone())).collect();
        names.insert(spot.clone(), all);
    }
    names
}
