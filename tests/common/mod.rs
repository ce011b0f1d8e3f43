//! Labs at random, for tests of what holds for all of them.

use ovsns::model::file::read;
use ovsns::model::topology::Lab;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// A file that has a good chance to be a lab.
pub(crate) fn file() -> impl Strategy<Value = Json> {
    let switch = (any::<[bool; 4]>(), 2..31u32, 0..1000u32, 68..9000u32).prop_map(
        |([mac, device, mtu, snooping], delay, ageing, bytes)| {
            let mut switch = json!({
                "backend": (["auto", "ovs", "linux"][(ageing % 3) as usize]),
                "stp": true, "forward_delay": delay, "ageing": ageing,
                "multicast_snooping": snooping,
            });
            if mac {
                switch["mac"] = format!("02:00:00:00:{:02x}:{:02x}", delay, ageing % 256).into();
            }
            if device {
                switch["device"] = format!("br{delay}-{ageing}").into();
            }
            if mtu {
                switch["mtu"] = bytes.into();
            }
            switch
        },
    );
    let node = (any::<[bool; 4]>(), 0..250u32).prop_map(|([forwarding, named, none, mac], n)| {
        let mut node = json!({ "forwarding": forwarding });
        if named {
            node["interfaces"]["eth0"] = match none {
                true => json!({ "addresses": [] }),
                false => json!({ "addresses": [format!("10.0.0.{}/24", n + 1), format!("fd00::{}/64", n + 1)] }),
            };
            if mac {
                node["interfaces"]["eth0"]["mac"] = format!("02:00:00:00:00:{n:02x}").into();
            }
        } else {
            node["sysctls"] = json!({ "net.ipv4.conf.all.rp_filter": n, "net.ipv4.x": "a b" });
        }
        if n % 5 == 0 {
            node["files"] = json!({
                "/etc/motd": format!("{n}\n"), "/etc/x/y": { "text": "", "mode": "0600" },
            });
        }
        if n % 3 == 0 {
            node["routes"] = json!([
                { "to": "10.77.0.0/16", "interface": "eth0", "metric": n },
                { "to": "fd77::/64", "via": "fe80::1", "interface": "eth0" },
            ]);
        }
        node
    });
    let link = (0..8usize, 0..8usize, any::<[bool; 3]>(), 68..9000u32, 1..4095u32);
    (
        prop::collection::vec(switch, 0..4),
        prop::collection::vec(node, 0..6),
        prop::collection::vec(link, 0..10),
    )
        .prop_map(|(switches, nodes, links)| {
            let (s, n) = (switches.len(), nodes.len());
            let name = |i: usize| match i % (s + n).max(1) {
                i if i < s => format!("s{i}"),
                i => format!("n{}", i - s),
            };
            // Every node is linked once, so that `eth0` is there.
            let first =
                (0..n).filter(|_| 0 < s).map(|i| json!({ "endpoints": [format!("n{i}"), "s0"] }));
            let more = links.into_iter().filter(|_| 1 < s + n).map(|(a, b, flags, mtu, vlan)| {
                // Two different ends.
                let b = a + 1 + b % (s + n - 1);
                let mut link = json!({ "endpoints": [name(a), name(b)] });
                if flags[0] {
                    link["mtu"] = mtu.into();
                }
                if name(a).starts_with('s') {
                    link["isolated"] = flags[1].into();
                    match flags[2] {
                        true => link["vlan"] = vlan.into(),
                        false => {
                            link["trunks"] = json!([vlan, 7]);
                            link["native"] = vlan.into();
                        }
                    }
                }
                link
            });
            let named = |letter: &str, things: Vec<Json>| -> Map<String, Json> {
                things
                    .into_iter()
                    .enumerate()
                    .map(|(i, thing)| (format!("{letter}{i}"), thing))
                    .collect()
            };
            let mut file = json!({
                "links": first.chain(more).collect::<Vec<_>>(),
                "switches": named("s", switches),
                "nodes": named("n", nodes),
            });
            file["hosts"] = (s + n == 5).into();
            match s + n {
                3 => file["prefixes"] = json!(["172.16.0.0/12"]),
                4 if 0 < s => file["switches"]["s0"]["prefixes"] = json!(["192.168.0.0/16"]),
                _ => {}
            }
            file
        })
}

/// The lab of a file, if it is one.
pub(crate) fn lab_of(file: &Json) -> Option<Lab> {
    read(&serde_json::to_vec(file).expect("JSON"), "file", Some("lab")).ok()
}
