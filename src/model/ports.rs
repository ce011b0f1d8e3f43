//! The ports of a switch, as people call them: by what is at the other end.
//!
//! A port's full name ([`Link::port`], [`Tunnel::port`]) tells it from every
//! other port of the lab. On its own switch less will do, as long as it means
//! one port: `n1` for `n1:eth0`, `s2` for `s1~s2#0`, `t0` for `s1@t0`. Only the
//! full names are needed to know that, and those are in the marks, so that it
//! works with every file lost.

use std::collections::BTreeMap;

use super::flow;
use super::holds::listed;
use super::mark::{Mark, Thing};
use super::names::{IfName, LabName, SwitchName};
use super::nearest::nearest;
use super::problem::quoted;
use super::topology::{End, Lab, Link, Tunnel};
use super::world::{PortKind, SeenSwitch};

/// The ports of one switch.
#[derive(Debug, Clone)]
pub struct Ports {
    switch: SwitchName,
    ports: Vec<Port>,
}

#[derive(Debug, Clone)]
struct Port {
    /// Its full name.
    name: String,
    /// How many cables it is made of, if it is a bond.
    cables: usize,
}

/// No port is called like that, or several are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NoPort {
    /// What is wrong.
    pub what: String,
    /// A thing to do, if there is one.
    pub hint: Option<String>,
}

impl Port {
    /// What it is called on its own switch, if that is one port.
    fn short(&self) -> &str {
        if let Some((_, tunnel)) = self.name.split_once('@') {
            return tunnel;
        }
        match self.name.split_once('~') {
            Some((_, across)) => across.split('#').next().unwrap_or(across),
            None => self.name.split(':').next().unwrap_or(&self.name),
        }
    }

    /// What flows know of it: itself, or the cables of a bond.
    fn numbered(&self) -> Vec<String> {
        match self.cables {
            0 => vec![self.name.clone()],
            cables => (1..=cables).map(|cable| format!("{}.{cable}", self.name)).collect(),
        }
    }
}

impl Ports {
    /// The ports that `links` and `tunnels` give to `switch`.
    pub(super) fn new<'a>(
        switch: &SwitchName,
        links: &[Link],
        tunnels: impl IntoIterator<Item = &'a IfName>,
    ) -> Self {
        let mut ports = Vec::new();
        for link in links {
            let here = (0..2).filter(|side| link.ends[*side] == End::Switch(switch.clone()));
            let cables = link.bond.map_or(0, |bond| bond.members as usize);
            let names = here.filter_map(|side| link.port(side));
            ports.extend(names.map(|name| Port { name, cables }));
        }
        let tunnels = tunnels.into_iter().map(|tunnel| Tunnel::port(switch, tunnel));
        ports.extend(tunnels.map(|name| Port { name, cables: 0 }));
        Self { switch: switch.clone(), ports }
    }

    /// The ports of a switch of `lab`, as wanted.
    pub fn of(lab: &Lab, switch: &SwitchName) -> Self {
        let tunnels = lab.switches.get(switch).map(|switch| switch.tunnels.keys());
        Self::new(switch, &lab.links, tunnels.into_iter().flatten())
    }

    /// The ports of a switch that is there, by their marks.
    pub fn seen(seen: &SeenSwitch) -> Self {
        let ports = seen.ports.values().filter_map(|port| {
            let Thing::Port(name) = Mark::parse(&port.mark)?.thing else { return None };
            let cables = match &port.kind {
                PortKind::Bond { members, .. } => members.len(),
                PortKind::Link | PortKind::Patch { .. } | PortKind::Tunnel { .. } => 0,
            };
            Some(Port { name, cables })
        });
        Self { switch: seen.spec.name.clone(), ports: ports.collect() }
    }

    /// The ports of `switch` by their full names, as marks have them.
    pub fn named(switch: &SwitchName, names: impl IntoIterator<Item = String>) -> Self {
        let ports = names.into_iter().map(|name| Port { name, cables: 0 });
        Self { switch: switch.clone(), ports: ports.collect() }
    }

    /// The full name of the port that `words` mean.
    pub fn find(&self, words: &str) -> Result<&str, NoPort> {
        self.found(words).map(|port| port.name.as_str())
    }

    /// The same for a flow, which knows a bond by its cables.
    pub fn find_numbered(&self, words: &str) -> Result<String, NoPort> {
        let cables = self.ports.iter().filter(|port| port.cables != 0).flat_map(Port::numbered);
        if let Some(cable) = cables.into_iter().find(|cable| cable == words) {
            return Ok(cable);
        }
        let port = self.found(words)?;
        if port.cables == 0 {
            return Ok(port.name.clone());
        }
        let cables: Vec<_> = port.numbered().iter().map(|cable| format!("`{cable}`")).collect();
        Err(NoPort {
            what: format!("{} is a bond, which no flow can name", quoted(words)),
            hint: Some(format!("name one of its cables, {}", listed(&cables, "or"))),
        })
    }

    /// Whether `words` mean a port, or several.
    pub fn know(&self, words: &str) -> bool {
        let named = |port: &Port| {
            port.name == words
                || port.short() == words
                || port.numbered().iter().any(|name| name == words)
        };
        self.ports.iter().any(named)
    }

    fn found(&self, words: &str) -> Result<&Port, NoPort> {
        let meant: Vec<&Port> =
            self.ports.iter().filter(|port| port.name == words || port.short() == words).collect();
        match meant.as_slice() {
            [port] => Ok(port),
            [] => Err(self.unknown(words)),
            ports => {
                let all: Vec<_> = ports.iter().map(|port| format!("`{}`", port.name)).collect();
                let (all, switch) = (listed(&all, "or"), &self.switch);
                Err(NoPort {
                    what: format!("{} could be {all} on `{switch}`", quoted(words)),
                    hint: Some("write which one".into()),
                })
            }
        }
    }

    fn unknown(&self, words: &str) -> NoPort {
        let mut what = format!("nothing called {} is linked to `{}`", quoted(words), self.switch);
        let known = self.ports.iter().flat_map(|port| [port.short(), &port.name]);
        if let Some(near) = nearest(words, known) {
            what += &format!("; did you mean `{near}`?");
        }
        NoPort { what, hint: None }
    }

    /// What a port is called in what is printed: as short as it can be and
    /// still be read as that port.
    pub fn call(&self, name: &str) -> String {
        // An interface is called by its whole name everywhere.
        let port = self.ports.iter().find(|port| port.name == name && !name.contains(':'));
        let short = port.map(Port::short).filter(|short| {
            flow::is_name(short) && self.found(short).is_ok_and(|port| port.name == name)
        });
        short.unwrap_or(name).to_owned()
    }

    /// What the ports that flows know are called, by their devices.
    pub fn devices(&self, lab: &LabName) -> BTreeMap<IfName, String> {
        let ports = self.ports.iter().flat_map(Port::numbered);
        let device = |port: &str| {
            let mark = Mark { lab: lab.clone(), thing: Thing::Port(port.to_owned()) };
            mark.device()
        };
        ports.map(|port| (device(&port), self.call(&port))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a switch `s1`: some names that mean several ports, and some that
    /// mean something else in a flow.
    fn ports() -> Ports {
        let names = [
            "n1:eth0",
            "n2:eth0",
            "n2:eth1",
            "s1~s2#0",
            "s1~s3#0",
            "s1~s3#1",
            "s1@t0",
            "s1@n1",
            "s1~local#0",
            "s1~7#0",
            "b.1.1:eth0.5",
        ];
        let ports = names.map(|name| Port { name: name.to_owned(), cables: 0 });
        let bond = Port { name: "s1~s4#0".to_owned(), cables: 2 };
        let switch = SwitchName::new("s1").expect("a good name");
        Ports { switch, ports: ports.into_iter().chain([bond]).collect() }
    }

    #[test]
    fn what_words_mean() {
        check("n1:eth0", Ok("n1:eth0"));
        check("n1", Err("`n1` could be `n1:eth0` or `s1@n1` on `s1`"));
        check("n2", Err("`n2` could be `n2:eth0` or `n2:eth1` on `s1`"));
        check("n2:eth1", Ok("n2:eth1"));
        check("s2", Ok("s1~s2#0"));
        check("s1~s2#0", Ok("s1~s2#0"));
        check("s3", Err("`s3` could be `s1~s3#0` or `s1~s3#1` on `s1`"));
        check("t0", Ok("s1@t0"));
        check("b.1.1", Ok("b.1.1:eth0.5"));
        check("t00", Err("nothing called `t00` is linked to `s1`; did you mean `t0`?"));
        check(
            "n2:eth9",
            Err("nothing called `n2:eth9` is linked to `s1`; did you mean `n2:eth0`?"),
        );
        check("s4", Err("`s4` is a bond, which no flow can name"));
        check("s1~s4#0.2", Ok("s1~s4#0.2"));
        check(
            "s1~s4#0.3",
            Err("nothing called `s1~s4#0.3` is linked to `s1`; did you mean `s1~s4#0`?"),
        );

        #[track_caller]
        fn check(words: &str, expected: Result<&str, &str>) {
            let found = ports().find_numbered(words).map_err(|error| error.what);
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{words:?}");
        }
    }

    /// What is printed can be written.
    #[test]
    fn what_a_port_is_called_means_that_port() {
        let lab = LabName::new("lab").expect("a good name");
        let called: BTreeMap<String, String> = ports()
            .ports
            .iter()
            .map(|port| (port.name.clone(), ports().call(&port.name)))
            .collect();
        assert_eq!(called["n1:eth0"], "n1:eth0");
        assert_eq!(called["s1~s2#0"], "s2");
        assert_eq!(called["s1~s3#1"], "s1~s3#1");
        assert_eq!(called["s1@t0"], "t0");
        assert_eq!(called["s1@n1"], "s1@n1", "`n1` could be a node");
        assert_eq!(called["s1~local#0"], "s1~local#0", "`local` is every switch's own port");
        assert_eq!(called["s1~7#0"], "s1~7#0", "7 is a number");
        for (device, called) in ports().devices(&lab) {
            let meant = ports().find_numbered(&called).expect("it means a port");
            assert_eq!(Mark { lab: lab.clone(), thing: Thing::Port(meant) }.device(), device);
        }
    }
}
