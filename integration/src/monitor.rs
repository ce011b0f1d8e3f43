//! Hearing every change to links, addresses, routes and rules of a namespace,
//! by `ip monitor`.

use crate::witness::until;
use crate::{Running, World};

/// Not in anybody's network (RFC 5737): the route by which a monitor is told
/// that it has heard enough.
const SENTINEL: &str = "203.0.113.255";

/// An `ip monitor` in one namespace.
pub struct Monitor {
    namespace: String,
    process: Running,
}

impl World {
    /// Starts to listen in the namespace, `""` for the world's own. Returns
    /// when the kernel has it subscribed.
    pub fn monitor(&self, namespace: &str) -> Monitor {
        let place = place(namespace);
        let process = self.start(&format!("ip {place} monitor link address route rule"));
        let id = process.id().to_string();
        until("ip monitor is subscribed", || {
            let table = std::fs::read_to_string(format!("/proc/{id}/net/netlink"));
            table.unwrap_or_default().lines().any(|line| {
                // Socket, protocol, port (the process), groups.
                let words: Vec<&str> = line.split_whitespace().collect();
                words.get(2) == Some(&&*id) && words.get(3).is_some_and(|it| *it != "00000000")
            })
        });
        Monitor { namespace: namespace.to_owned(), process }
    }

    /// Monitors of the world's own namespace and of every named one.
    pub fn monitors(&self) -> Vec<Monitor> {
        let mut monitors = vec![self.monitor("")];
        monitors.extend(self.namespaces().iter().map(|name| self.monitor(name)));
        monitors
    }
}

impl Monitor {
    /// What was heard up to now. A route added here is heard last, which
    /// proves that the monitor hears.
    pub fn heard(mut self, world: &World) -> Vec<String> {
        let place = place(&self.namespace);
        world.run(&format!("ip {place} route add blackhole {SENTINEL}"));
        let mut heard = self.process.lines_to(SENTINEL);
        world.run(&format!("ip {place} route del blackhole {SENTINEL}"));
        heard.pop();
        heard
    }
}

fn place(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!("-n {namespace}") }
}
