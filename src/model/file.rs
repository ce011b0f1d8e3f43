//! The topology file: its text to a lab, a lab to its text, and its schema.
//!
//! The keys and what they hold are the tables in `spec.rs`, what makes sense
//! is in `check.rs`; here are the ways in and out. Nothing is opened: the
//! caller has read the bytes, and gives the name under which messages show
//! them.

use serde_json::{Map, Value as Json, json};

use super::check;
use super::holds::{Holds, Object, Of, definition};
use super::names::LabName;
use super::problem::{Found, Position, Problems, quoted};
use super::shapes;
use super::spec::{InterfaceSpec, LabSpec, LinkSpec, NodeSpec, RouteSpec, SwitchSpec};
use super::topology::{Interface, Lab, Link, Node, Route, Switch, Vlan};
use super::yaml;

pub use super::yaml::BYTES_MAX;

/// Reads a topology file, or tells everything that is wrong with it.
///
/// `origin` is what messages call the file. `fallback_name` is the lab's name
/// if the file gives none: its stem, or what somebody said instead.
pub fn read(text: &[u8], origin: &str, fallback_name: Option<&str>) -> Result<Lab, Problems> {
    let mut found = Found::default();
    let lab = read_lab(text, fallback_name, &mut found);
    // What is shown of the text need not be more than is fit to be shown.
    let shown = yaml::text(text, &mut Found::default()).unwrap_or_default();
    found.into_result(origin, shown)?;
    Ok(lab.expect("either a lab or a problem comes out"))
}

fn read_lab(text: &[u8], fallback_name: Option<&str>, found: &mut Found) -> Option<Lab> {
    let tree = yaml::parse(text, found)?;
    if !matches!(tree.kind, yaml::Kind::Map(_)) {
        let message = format!("a lab is {}, not {}", Of::<LabSpec>::words(), tree.in_words());
        found.add(tree.at, message);
        return None;
    }
    let spec = Of::<LabSpec>::read(&tree, LabSpec::NAME, found)?;
    let name = lab_name(&spec, fallback_name, found);
    // Only things that are the lab's alone are made from its name.
    check::lab(&spec, name.unwrap_or_else(LabName::default_lab), found)
}

fn lab_name(spec: &LabSpec, fallback: Option<&str>, found: &mut Found) -> Option<LabName> {
    if spec.misnamed || spec.name.is_some() {
        return spec.name.clone();
    }
    let hint = "write `name: my-lab` at the top of the file, or give `--lab my-lab`";
    let Some(fallback) = fallback else {
        found.add(Position::NOWHERE, "the lab has no name").hint(hint);
        return None;
    };
    LabName::new(fallback)
        .map_err(|bad| {
            let message = format!("the lab cannot be called {}: {bad}", quoted(fallback));
            found.add(Position::NOWHERE, message).hint(hint);
        })
        .ok()
}

/// Returns the lab of a `--topo`, such as `tree,2,3`.
pub fn shape(topo: &str, name: &LabName) -> Result<Lab, Problems> {
    let mut found = Found::default();
    let lab =
        shapes::spec(topo, &mut found).and_then(|spec| check::lab(&spec, name.clone(), &mut found));
    found.into_result(&format!("--topo {topo}"), "")?;
    Ok(lab.expect("either a lab or a problem comes out"))
}

/// The JSON Schema of the topology file (draft 2020-12), made from the same
/// tables by which it is read.
pub fn json_schema() -> Json {
    let mut schema = definition::<LabSpec>();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "ovsns topology".into();
    schema["type"] = "object".into();
    schema["$defs"] = json!({
        (SwitchSpec::NAME): definition::<SwitchSpec>(),
        (NodeSpec::NAME): definition::<NodeSpec>(),
        (InterfaceSpec::NAME): definition::<InterfaceSpec>(),
        (RouteSpec::NAME): definition::<RouteSpec>(),
        (LinkSpec::NAME): definition::<LinkSpec>(),
    });
    schema
}

/// Writes a lab as a topology file that leaves nothing to be filled in.
/// Reading it gives the same lab.
pub fn to_file(lab: &Lab) -> Json {
    let switches = lab.switches.iter().map(|(name, switch)| (name.to_string(), of_switch(switch)));
    let nodes = lab.nodes.iter().map(|(name, node)| (name.to_string(), of_node(node)));
    json!({
        "name": lab.name,
        "switches": switches.collect::<Map<_, _>>(),
        "nodes": nodes.collect::<Map<_, _>>(),
        "links": lab.links.iter().map(of_link).collect::<Vec<_>>(),
    })
}

fn of_switch(switch: &Switch) -> Json {
    let Switch { backend, device, mac, mtu, settings } = switch;
    let mut file = json!({
        "backend": backend.map_or("auto".to_owned(), |backend| backend.to_string()),
        "stp": settings.stp,
        "forward_delay": settings.forward_delay_s,
        "ageing": settings.ageing_s,
        "multicast_snooping": settings.multicast_snooping,
    });
    put(&mut file, "device", device.as_ref());
    put(&mut file, "mac", mac.as_ref());
    put(&mut file, "mtu", mtu.as_ref());
    file
}

fn of_node(node: &Node) -> Json {
    let Node { interfaces, routes, sysctls } = node;
    let interfaces = interfaces.iter().map(|(name, i)| (name.to_string(), of_interface(i)));
    json!({
        "interfaces": interfaces.collect::<Map<_, _>>(),
        "routes": routes.iter().map(of_route).collect::<Vec<_>>(),
        "sysctls": sysctls,
    })
}

fn of_interface(interface: &Interface) -> Json {
    let Interface { mac, addresses } = interface;
    let mut file = json!({ "addresses": addresses });
    put(&mut file, "mac", mac.as_ref());
    file
}

fn of_route(route: &Route) -> Json {
    let Route { to, via, interface, metric } = route;
    let mut file = json!({ "to": to });
    put(&mut file, "via", via.as_ref());
    put(&mut file, "interface", interface.as_ref());
    put(&mut file, "metric", metric.as_ref());
    file
}

fn of_link(link: &Link) -> Json {
    // `parallel` follows from the order of the links.
    let Link { ends, parallel: _, mtu, port } = link;
    let mut file = json!({ "endpoints": ends.each_ref().map(ToString::to_string) });
    put(&mut file, "mtu", mtu.as_ref());
    put(&mut file, "isolated", port.isolated.then_some(&true));
    match &port.vlan {
        None => {}
        Some(Vlan::Access(vlan)) => put(&mut file, "vlan", Some(vlan)),
        Some(Vlan::Trunk { vlans, native }) => {
            put(&mut file, "trunks", Some(vlans));
            put(&mut file, "native", native.as_ref());
        }
    }
    file
}

/// Writes `key` if there is something to write.
fn put<T: serde::Serialize>(file: &mut Json, key: &str, value: Option<&T>) {
    if let Some(value) = value {
        file[key] = serde_json::to_value(value).expect("names and numbers are JSON");
    }
}
