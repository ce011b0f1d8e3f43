//! What a node is to be: its interfaces, parameters, routes and what lives in it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{InterfaceDraft, NodeDraft};
use crate::model::holds::{Destination, listed};
use crate::model::laid;
use crate::model::life::{Isolation, Life, Room};
use crate::model::life_spec;
use crate::model::names::{InterfaceName, NodeName};
use crate::model::nearest::nearest;
use crate::model::problem::{At, Found, Position};
use crate::model::spec::{InterfaceSpec, NodeSpec, RouteSpec};
use crate::model::topology::{Dynamic, Route};

impl<'s> NodeDraft<'s> {
    pub(super) fn new(name: NodeName, at: Position, spec: &'s NodeSpec) -> Self {
        let interface = |(name, spec): &'s (At<InterfaceName>, InterfaceSpec)| {
            (name.value.clone(), InterfaceDraft::new(name.at, Some(spec)))
        };
        let interfaces = spec.interfaces.iter().map(interface).collect();
        Self { name, at, spec, interfaces, next_eth: 0 }
    }

    /// Puts the first `ethN` that is on no link on link `link`.
    pub(super) fn next_free(&mut self, at: Position, link: usize) -> InterfaceName {
        loop {
            // A namespace of somebody else's is likely to have an `eth0`.
            let letters = if self.spec.adopt.is_some() { "lab" } else { "eth" };
            let name = InterfaceName::new(&format!("{letters}{}", self.next_eth));
            let name = name.expect("three letters and a number are a name");
            self.next_eth += 1;
            let interface = self.interfaces.entry(name.clone());
            let interface = interface.or_insert_with(|| InterfaceDraft::new(at, None));
            if interface.link.is_none() {
                interface.link = Some(link);
                return name;
            }
        }
    }

    pub(super) fn sysctls(&self, found: &mut Found) -> BTreeMap<String, String> {
        let mut sysctls: BTreeMap<_, _> = self
            .spec
            .sysctls
            .iter()
            .map(|(key, value)| (key.value.clone(), value.clone()))
            .collect();
        if let Some(forwarding) = self.spec.forwarding {
            let value = if forwarding.value { "1" } else { "0" };
            for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
                let before = sysctls.insert(key.to_owned(), value.to_owned());
                if before.is_some_and(|before| before != value) {
                    let at = self.spec.sysctls.iter().find(|(at, _)| at.value == key);
                    let at = at.map_or(forwarding.at, |(key, _)| key.at);
                    found.add(
                        at,
                        format!("`{key}` says otherwise than `forwarding: {}`", forwarding.value),
                    );
                }
            }
        }
        sysctls
    }

    /// What it is besides a network namespace.
    pub(super) fn life(&self, found: &mut Found) -> Life {
        let mut kinds: BTreeSet<Isolation> = self.spec.isolation.iter().copied().collect();
        if let Some(hostname) = &self.spec.hostname
            && !kinds.contains(&Isolation::Uts)
        {
            found
                .add(hostname.at, "a `hostname` without `uts` in `isolation`")
                .hint("write `isolation: [uts]`: else it would be the machine's host name");
        }
        let hostname = self.spec.hostname.as_ref().map(|name| name.value.clone());
        let run = life_spec::processes(&self.spec.run, found);
        let files = laid::files(&self.spec.files, found);
        if !files.is_empty() {
            // Else they would lie over the machine's own.
            kinds.insert(Isolation::Mount);
        }
        Life { room: Room { kinds, hostname }, limits: self.spec.limits, run, files }
    }

    /// The routes. What follows from addresses is only checked if the lab is
    /// `sound` so far, as the addresses may be wrong otherwise.
    pub(super) fn routes(&self, sound: bool, found: &mut Found) -> BTreeSet<Route> {
        let mut routes = BTreeSet::new();
        let mut taken = HashSet::new();
        for At { at, value: spec } in &self.spec.routes {
            if spec.flawed {
                continue;
            }
            self.check_interface(spec, found);
            let Some(route) = route(spec, *at, found) else { continue };
            if let Some(via) = spec.via {
                self.check_gateway(via, &route, sound, found);
            }
            // The kernel's own defaults: 0 and 1024 (which 0 means, too).
            let metric = match (route.to, route.metric) {
                (IpNet::V4(_), metric) => metric.unwrap_or(0),
                (IpNet::V6(_), None | Some(0)) => 1024,
                (IpNet::V6(_), Some(metric)) => metric,
            };
            if !taken.insert((route.to, metric)) {
                let to = route.to;
                found
                    .add(*at, format!("a second route to `{to}` with the metric {metric}"))
                    .hint("give one of them another `metric`");
            }
            routes.insert(route);
        }
        routes
    }

    fn check_interface(&self, spec: &RouteSpec, found: &mut Found) {
        let Some(At { at, value: name }) = &spec.interface else { return };
        if self.spec.flawed || self.interfaces.contains_key(name) {
            return;
        }
        let near = nearest(name.as_str(), self.interfaces.keys().map(InterfaceName::as_str));
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        found.add(*at, format!("the node has no interface `{name}`{meant}"));
    }

    /// A router is a neighbour: on a network of one of the node's interfaces.
    fn check_gateway(&self, via: At<IpAddr>, route: &Route, sound: bool, found: &mut Found) {
        let ip = via.value;
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            if route.interface.is_none() {
                found
                    .add(via.at, format!("`{ip}` is on every link"))
                    .hint("say which one with `interface:`");
            }
            return;
        }
        let given = self.interfaces.values().any(|interface| interface.explicit().is_none());
        if self.spec.flawed || (given && !sound) {
            return;
        }
        let on = |name: &InterfaceName| route.interface.as_ref().is_none_or(|only| only == name);
        let nets: Vec<_> = self
            .interfaces
            .iter()
            .filter(|(name, _)| on(name))
            .flat_map(|(_, interface)| match interface.addresses.is_empty() {
                // Those of an interface without a link were not filled in.
                true => interface.explicit().into_iter().flatten().map(|net| net.value).collect(),
                false => interface.addresses.iter().copied().collect::<Vec<_>>(),
            })
            .collect();
        if nets.iter().any(|net| net.addr() == ip) {
            found.add(via.at, format!("`{ip}` is the node's own address"));
        } else if !nets.iter().any(|net| net.contains(&ip)) {
            let place = match &route.interface {
                Some(interface) => format!("network of `{interface}`"),
                None => "network of the node".to_owned(),
            };
            let problem = found.add(via.at, format!("`{ip}` is on no {place}"));
            let near: BTreeSet<_> = nets
                .iter()
                .filter(|net| net.addr().is_ipv4() == ip.is_ipv4())
                .map(|net| format!("`{}`", net.trunc()))
                .collect();
            let near: Vec<_> = near.into_iter().take(4).collect();
            if !near.is_empty() {
                problem.hint(format!(
                    "a router is a neighbour; the node's are in {}",
                    listed(&near, "and")
                ));
            }
        }
    }
}

impl<'s> InterfaceDraft<'s> {
    pub(super) fn new(at: Position, spec: Option<&'s InterfaceSpec>) -> Self {
        Self { at, spec, link: None, addresses: BTreeSet::new() }
    }

    /// What else gives it addresses.
    pub(super) fn dynamic(&self) -> impl Iterator<Item = &'s At<Dynamic>> + use<'s> {
        self.spec.into_iter().flat_map(|spec| &spec.dynamic)
    }

    /// The addresses that the file gives it, if it says anything of them.
    pub(super) fn explicit(&self) -> Option<&'s [At<IpNet>]> {
        self.spec.and_then(|spec| spec.addresses.as_deref())
    }
}

/// Reads a route by itself.
fn route(spec: &RouteSpec, at: Position, found: &mut Found) -> Option<Route> {
    let to = spec.to.as_ref()?;
    let via = spec.via.map(|via| via.value);
    let net = match (&to.value, via) {
        (Destination::Net(net), _) => *net,
        (Destination::Default, Some(IpAddr::V4(_))) => Ipv4Net::default().into(),
        (Destination::Default, Some(IpAddr::V6(_))) => Ipv6Net::default().into(),
        (Destination::Default, None) => {
            found
                .add(to.at, "`default` without `via` is of no family")
                .hint("write `0.0.0.0/0` or `::/0`, or add `via`");
            return None;
        }
    };
    if via.is_none() && spec.interface.is_none() {
        found.add(at, "a route with neither `via` nor `interface`");
        return None;
    }
    if let Some(via) = spec.via
        && via.value.is_ipv4() != net.addr().is_ipv4()
    {
        let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!(
            "`{}` is {}, but the route to `{net}` is {}",
            via.value,
            family(via.value),
            family(net.addr()),
        );
        found.add(via.at, message);
        return None;
    }
    let interface = spec.interface.as_ref().map(|interface| interface.value.clone());
    Some(Route { to: net, via, interface, metric: spec.metric })
}
