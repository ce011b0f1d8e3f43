//! Changing a lab that runs, one thing at a time: the lab as remembered is
//! written out as a file, the file is changed, and what it says now is made.
//! So a thing that is added passes the same checks as one from a file.

use serde_json::{Map, Value as Json};

use super::show::{self, Meter};
use super::{CliError, input};
use crate::engine::{Done, Engine, EngineError};
use crate::model::file;
use crate::model::names::LabName;
use crate::model::topology::Lab;

/// The lab that a thing is added to: the one that was named, the only one, or
/// else `default`.
pub(super) async fn lab_to_change(
    engine: &mut Engine,
    named: Option<&str>,
) -> Result<LabName, CliError> {
    if named.is_none() {
        let labs = engine.labs().await?;
        let default = LabName::default_lab();
        if labs.is_empty() || (1 < labs.len() && labs.contains(&default)) {
            return Ok(default);
        }
    }
    input::one_lab(engine, named).await
}

/// Changes a lab by its file, and says what that came to.
pub(super) async fn change(
    command: &str,
    named: Option<&str>,
    edit: impl FnOnce(&mut Json) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut engine = input::engine(command).await?;
    let name = lab_to_change(&mut engine, named).await?;
    change_in(&mut engine, &name, edit).await
}

/// The same for a lab that has been found.
pub(super) async fn change_in(
    engine: &mut Engine,
    name: &LabName,
    edit: impl FnOnce(&mut Json) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut meter = Meter::new(&format!("change {name}"));
    let changed = apply(engine, name, edit, &mut meter).await;
    drop(meter);
    let done = changed?;
    super::attach::warn(&done.moved.warnings);
    let lines = [done.plan.lines(), done.moved.lines].concat();
    if lines.is_empty() {
        show::line(&format!("lab {name}: nothing to change"));
    } else {
        show::line(&format!("lab {name}:\n  {}", lines.join("\n  ")));
    }
    Ok(())
}

/// Makes what a lab's file says when it is changed.
pub(super) async fn apply(
    engine: &mut Engine,
    name: &LabName,
    edit: impl FnOnce(&mut Json) -> Result<(), CliError>,
    meter: &mut Meter,
) -> Result<Done, CliError> {
    let edit = |lab: Option<Lab>| changed(name, lab.as_ref(), edit);
    let (_, done) = engine.change(name, edit, &mut |done, all| meter.set(done, all)).await?;
    Ok(done)
}

/// What a lab would be if its file were changed.
pub(super) fn edited(
    engine: &mut Engine,
    name: &LabName,
    edit: impl FnOnce(&mut Json) -> Result<(), CliError>,
) -> Result<Lab, CliError> {
    let lab = engine.state().read(name).map_err(EngineError::from)?.lab;
    changed(name, lab.as_ref(), edit)
}

fn changed(
    name: &LabName,
    lab: Option<&Lab>,
    edit: impl FnOnce(&mut Json) -> Result<(), CliError>,
) -> Result<Lab, CliError> {
    let mut text = match lab {
        Some(lab) => file::to_file(lab),
        None => serde_json::json!({ "name": name, "switches": {}, "nodes": {}, "links": [] }),
    };
    edit(&mut text)?;
    let text = serde_json::to_vec_pretty(&text).expect("JSON is JSON");
    Ok(file::read(&text, &format!("lab {name} as changed"), None)?)
}

/// The things of one kind: `nodes` or `switches`.
pub(super) fn things<'a>(file: &'a mut Json, kind: &str) -> &'a mut Map<String, Json> {
    file[kind].as_object_mut().expect("a lab's file has them")
}

/// The links.
pub(super) fn links(file: &mut Json) -> &mut Vec<Json> {
    file["links"].as_array_mut().expect("a lab's file has them")
}

/// The two endpoints of a link in a file.
pub(super) fn endpoints(link: &Json) -> [&str; 2] {
    let end = |index: usize| link["endpoints"][index].as_str().unwrap_or_default();
    [end(0), end(1)]
}

/// Takes away the links that `gone` says, and the interfaces they were on.
pub(super) fn remove_links(file: &mut Json, gone: impl Fn(&Json) -> bool) -> usize {
    let (removed, kept): (Vec<_>, Vec<_>) = links(file).drain(..).partition(|link| gone(link));
    *links(file) = kept;
    for link in &removed {
        for end in endpoints(link) {
            let Some((node, interface)) = end.split_once(':') else { continue };
            let interfaces = file["nodes"][node]["interfaces"].as_object_mut();
            interfaces.and_then(|interfaces| interfaces.remove(interface));
            // A route that leaves by it leads nowhere now.
            if let Some(routes) = file["nodes"][node]["routes"].as_array_mut() {
                routes.retain(|route| route["interface"] != interface);
            }
        }
    }
    removed.len()
}
