//! `KEY=VALUE` on a command line: any key of the topology file, with its value
//! as the file would have it.

use serde_json::Value as Json;

use crate::api::edit::Settings;
use crate::model::file;

/// One `KEY=VALUE`. `a.b=c` is the key `b` of the mapping `a`; without a value
/// the key is taken away.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    path: String,
    value: Json,
}

impl std::str::FromStr for Setting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        if key.split('.').any(str::is_empty) {
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
        Ok(Self { path: key.to_owned(), value })
    }
}

/// All of them; of two of one key, what was said last.
pub(super) fn all(settings: &[Setting]) -> Settings {
    let each = settings.iter().map(|Setting { path, value }| (path.clone(), value.clone()));
    Settings(each.collect())
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
            all(&settings).write(&mut thing).expect("it fits");
            assert_eq!(thing, expected);
        }
    }

    #[test]
    fn no_settings() {
        for text in ["mtu", "=3", "a..b=1", "x=[1"] {
            text.parse::<Setting>().expect_err(text);
        }
        let deep = ["mtu.x=1".parse().expect("a setting")];
        all(&deep).write(&mut json!({ "mtu": 1500 })).expect_err("an MTU holds no keys");
    }
}
