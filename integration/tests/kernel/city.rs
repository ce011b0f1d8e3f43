//! Labs from graphs of others: cities of hundreds of nodes, all links cables.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use world::{Verdict, World};

/// Ulm: 217 nodes, 447 cables
pub(crate) fn a_city_comes_and_goes(world: &World) -> Verdict {
    let foreign = world.foreign();
    comes_and_goes(world, "city-ulm", [217, 447]);
    foreign.is_untouched(world);
    Ok(())
}

/// Leipzig and Berlin, which lists nodes twice and one not at all
pub(crate) fn larger_cities_come_and_go(world: &World) -> Verdict {
    let foreign = world.foreign();
    comes_and_goes(world, "city-leipzig", [210, 413]);
    comes_and_goes(world, "city-berlin", [761, 1123]);
    foreign.is_untouched(world);
    Ok(())
}

/// Ulm and forty nodes on one switch: more who know each other than the machine's
/// table of neighbours has room for
pub(crate) fn more_neighbours_than_a_table_holds(world: &World) -> Verdict {
    world.example("city-ulm.json");
    world.ovsns("up city-ulm.json").ok();
    // An entry of the machine's own stays, one that was written by hand, too.
    let plan = world.json("ip -n city-ulm.2 -j -4 address show dev eth0 scope global");
    let own = plan[0]["addr_info"][0]["local"].as_str().expect("an address").to_owned();
    let own: std::net::Ipv4Addr = own.parse().expect("an address");
    let other = std::net::Ipv4Addr::from(u32::from(own) ^ 3);
    let mac = world.json("ip -n city-ulm.2 -j neigh show")[0]["lladdr"].clone();
    assert!(mac.is_null(), "nobody has asked yet: {mac}");
    world.run("ip -n city-ulm.2 neigh add 10.255.255.254 lladdr 02:00:00:00:00:09 dev eth0");
    world.pings("city-ulm.2", &other.to_string());
    let said = world.ovsns("ping --neighbours --timeout 10").ok();
    said.says("894 of 894 pairs answer");
    let known = world.json("ip -n city-ulm.2 -j neigh show");
    let known: BTreeSet<_> =
        known.as_array().expect("neighbours").iter().filter_map(|it| it["dst"].as_str()).collect();
    assert!(known.contains("10.255.255.254"), "{known:?}");
    assert!(known.contains(other.to_string().as_str()), "{known:?}");
    world.ovsns("down").ok();

    world.ovsns("up --topo single,40 --backend linux").ok();
    world.ovsns("ping --timeout 10").ok().says("1560 of 1560 pairs answer");
    // Whom it has asked for that, nobody remembers.
    let known = world.json("ip -n default.h1 -j neigh show nud all");
    let known = known.as_array().expect("neighbours");
    let learned =
        known.iter().filter(|it| it["dst"].as_str().is_some_and(|to| to.starts_with("10.0.")));
    assert_eq!(learned.count(), 0, "{known:?}");
    world.ovsns("down").ok();
    Ok(())
}

fn comes_and_goes(world: &World, city: &str, [nodes, links]: [usize; 2]) {
    let file = format!("{city}.json");
    let graph: Value = serde_json::from_str(&world.example(&file)).expect("a graph");
    let up = world.ovsns(&format!("up {file} --format graph")).ok();
    up.says(&format!("lab {city} is up: {nodes} nodes, 0 switches, {links} links"));

    // The kernel has the graph: who has a cable to whom, by their own networks.
    let mut networks: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut seen = 0;
    for namespace in world.namespaces() {
        let Some(node) = namespace.strip_prefix(&format!("{city}.")) else { continue };
        seen += 1;
        let interfaces = world.json(&format!("ip -n {namespace} -j -4 address show up"));
        for address in interfaces.as_array().expect("interfaces") {
            let address = &address["addr_info"][0];
            if address["scope"] == "host" {
                continue;
            }
            assert_eq!(address["prefixlen"], 30, "{address}");
            let own = address["local"].as_str().expect("an address").to_owned();
            let ip: std::net::Ipv4Addr = own.parse().expect("an address");
            let network = (u32::from(ip) & !3).to_string();
            networks.entry(network).or_default().push((node.to_owned(), own));
        }
    }
    assert_eq!(seen, nodes);
    let text = |end: &Value| end.as_str().map_or_else(|| end.to_string(), str::to_owned);
    let mut wanted: Vec<[String; 2]> = Vec::new();
    for link in graph["links"].as_array().expect("links") {
        let mut ends = [text(&link["source"]), text(&link["target"])];
        ends.sort();
        wanted.push(ends);
    }
    let mut made: Vec<[String; 2]> = Vec::new();
    for ends in networks.values() {
        let [(a, _), (b, _)] = &ends[..] else { panic!("a cable has two ends: {ends:?}") };
        let mut ends = [a.clone(), b.clone()];
        ends.sort();
        made.push(ends);
    }
    wanted.sort();
    made.sort();
    assert_eq!(made, wanted);
    // Frames pass: a few of them, since the machine's table of neighbours is small.
    for ends in networks.values().step_by(links / 10) {
        world.pings(&format!("{city}.{}", ends[0].0), &ends[1].1);
    }
    let (asker, neighbour) = (&wanted[0][0], &wanted[0][1]);
    let said = world.ovsns(&format!("ping --neighbours --from {asker} --json")).ok().json();
    let said = said.as_array().expect("answers");
    let degree = wanted.iter().filter(|ends| ends.contains(asker)).count();
    assert_eq!(said.len(), 2 * degree, "each neighbour in two families");
    assert!(said.iter().all(|it| it["from"] == asker.as_str() && it["received"] == 1));
    assert!(said.iter().any(|it| it["to"] == neighbour.as_str()));

    world.ovsns(&format!("up {file}")).ok().says(&format!("lab {city} is up: nothing to change"));
    // What is changed behind our back is mended, and that alone.
    world.run(&format!("ip -n {city}.{asker} link delete eth0"));
    let drift = world.ovsns("status").ok().stdout;
    assert!(drift.contains(&format!("lab {city}: drifted")), "{drift}");
    let plan = world.ovsns(&format!("plan {file} --json")).ok().json();
    let steps = plan["steps"].as_array().expect("steps").len();
    assert!((1..=10).contains(&steps), "{plan}");
    world.ovsns(&format!("up {file}")).ok();
    let pairs = 2 * links;
    let said = world.ovsns("ping --neighbours --timeout 10").ok();
    said.says(&format!("{pairs} of {pairs} pairs answer"));
    world.ovsns("down").ok();
}
