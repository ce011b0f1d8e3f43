//! `KEY=VALUE` on a command line: any key of the topology file, with its value
//! as the file would have it.

use serde_json::{Map, Value as Json};

use super::CliError;
use crate::model::file;

/// Keys that say what VLANs pass a port: one stands in the way of another.
const OF_VLANS: [&str; 4] = ["vlan", "trunks", "native", "qinq"];

/// One `KEY=VALUE`. `a.b=c` is the key `b` of the mapping `a`; without a value
/// the key is taken away.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    path: Vec<String>,
    value: Json,
}

impl std::str::FromStr for Setting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err("write KEY=VALUE, with a key of the topology file".to_owned());
        }
        let value = match value {
            "" => Json::Null,
            value => file::value(value.as_bytes()).map_err(|problems| {
                let first = problems.problems().first();
                let why = first.map(|problem| problem.message.clone()).unwrap_or_default();
                format!("the value is no YAML: {why}")
            })?,
        };
        Ok(Self { path, value })
    }
}

/// Writes settings into a switch or a link of a file.
///
/// # Errors
/// A key below one that holds no mapping.
pub(super) fn write(settings: &[Setting], thing: &mut Json) -> Result<(), CliError> {
    let set = |key: &str| settings.iter().any(|setting| setting.path[0] == key);
    if let (true, Some(map)) = (OF_VLANS.iter().any(|key| set(key)), thing.as_object_mut()) {
        // What is said now stands for all that was said about VLANs; but
        // `native` alone goes with the `trunks` that are there.
        let native_alone = OF_VLANS.iter().filter(|key| set(key)).eq([&"native"]);
        map.retain(|key, _| native_alone || set(key) || !OF_VLANS.contains(&key.as_str()));
    }
    for Setting { path, value } in settings {
        let [above @ .., last] = path.as_slice() else { continue };
        let mut place = &mut *thing;
        for key in above {
            if place.get(key).is_none_or(Json::is_null) {
                place[key.as_str()] = Json::Object(Map::new());
            }
            place = &mut place[key.as_str()];
            if !place.is_object() {
                return Err(CliError::usage(
                    format!("`{key}` holds no keys of its own"),
                    format!("write `{key}=VALUE`"),
                ));
            }
        }
        match value {
            Json::Null => drop(place.as_object_mut().and_then(|map| map.remove(last))),
            value => place[last.as_str()] = value.clone(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_as_they_are_typed() {
        let link = json!({ "endpoints": ["n1", "s1"], "vlan": 10 });
        check(&link, &["mtu=9000"], json!({ "endpoints": ["n1", "s1"], "vlan": 10, "mtu": 9000 }));
        check(&link, &["vlan="], json!({ "endpoints": ["n1", "s1"] }));
        check(
            &link,
            &["trunks=[10, 20]", "native=10"],
            json!({ "endpoints": ["n1", "s1"], "trunks": [10, 20], "native": 10 }),
        );
        check(
            &json!({}),
            &["policing.rate=1000", "policing.burst=200"],
            json!({ "policing": { "rate": 1000, "burst": 200 } }),
        );
        check(
            &json!({ "shaping": { "rate": 5, "queues": { "1": { "min": 3 } } } }),
            &["shaping.queues.1.min=", "shaping.rate=6"],
            json!({ "shaping": { "rate": 6, "queues": { "1": {} } } }),
        );
        check(
            &json!({}),
            &["controllers=[tcp:127.0.0.1:6653]", "fail_mode=secure", "rstp=true"],
            json!({
                "controllers": ["tcp:127.0.0.1:6653"], "fail_mode": "secure", "rstp": true
            }),
        );
        check(&json!({}), &["datapath_id='0001'"], json!({ "datapath_id": "0001" }));

        #[track_caller]
        fn check(thing: &Json, settings: &[&str], expected: Json) {
            let settings: Vec<Setting> =
                settings.iter().map(|text| text.parse().expect("a setting")).collect();
            let mut thing = thing.clone();
            write(&settings, &mut thing).expect("it fits");
            assert_eq!(thing, expected);
        }
    }

    #[test]
    fn no_settings() {
        for text in ["mtu", "=3", "a..b=1", "x=[1"] {
            text.parse::<Setting>().expect_err(text);
        }
        let deep = ["mtu.x=1".parse().expect("a setting")];
        write(&deep, &mut json!({ "mtu": 1500 })).expect_err("an MTU holds no keys");
    }
}
