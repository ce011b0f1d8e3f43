//! What there is to ask for, as an OpenRPC document (<https://spec.open-rpc.org>,
//! 1.3), made from the types that the calls are read into and answered with.

use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value as Json, json};

use super::methods::{DISCOVER, FOLLOW, Follow, INFO, Info};
use super::subscriptions::{CAPTURE, ENDS, EVENTS, Events, LOGS, STATS, Stats};
use crate::api::{self, Call, Capture, Event, Failure, NodeLogs, Piece, Reading, Spoken};

/// The document.
pub fn document() -> Json {
    let settings = SchemaSettings::draft07();
    let settings = settings.with(|it| it.definitions_path = "/components/schemas".into());
    let mut told = Told { generator: settings.into_generator(), methods: Vec::new() };
    api::visit(&mut told);
    let [follow, _, unfollow] = FOLLOW;
    told.method::<Follow, u64>(
        follow,
        "Has a call done, and tells of it as it goes on: `call.news` with `news`, and as the \
         last `answer` or `failure`. The result is the subscription's number.",
    );
    told.subscription::<Events, Event>(
        EVENTS,
        "Tells what happens to labs, each an `Event` (things made, changed, gone; links up and \
         down; drift; processes). Whoever does not keep up is told how much he missed.",
        "Hears no more events.",
    );
    told.subscription::<Stats, Reading>(
        STATS,
        "Tells how fast the links of a lab are, each time a `Reading`.",
        "Hears of rates no more.",
    );
    told.subscription::<Capture, Piece>(
        CAPTURE,
        "Captures packets as they pass; what comes of it is told, each time a `Piece`. What \
         passes when this has answered is captured.",
        "Captures no more, and hears no more of it.",
    );
    told.subscription::<NodeLogs, Spoken>(
        LOGS,
        "Tells what the processes of a node have said, and go on to say, each time a `Spoken`.",
        "Hears no more of what is said.",
    );
    told.method::<Unfollow, bool>(
        unfollow,
        "Hears no more of a call; what has begun goes on. Whether there was such a subscription.",
    );
    told.method::<Nothing, Info>(INFO, "Says what the server is.");
    told.method::<Nothing, Json>(DISCOVER, "This document.");
    told.methods.sort_by_key(|method| method["name"].as_str().map(str::to_owned));
    told.generator.subschema_for::<Failure>();
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "ovsns",
            "description": "Labs of network namespaces and switches",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0 OR MIT" },
        },
        "methods": told.methods,
        "components": {
            "schemas": told.generator.take_definitions(true),
            "errors": errors(),
        },
    })
}

/// The same as text, made once.
pub(super) fn text() -> Box<RawValue> {
    static TEXT: OnceLock<Box<RawValue>> = OnceLock::new();
    TEXT.get_or_init(|| to_raw_value(&document()).expect("JSON is JSON")).clone()
}

/// A method without parameters.
#[derive(JsonSchema)]
#[allow(dead_code)]
struct Nothing {}

/// What ends a subscription takes, by position.
#[derive(JsonSchema)]
#[allow(dead_code)]
struct Unfollow {
    /// What began it answered.
    subscription: u64,
}

struct Told {
    generator: SchemaGenerator,
    methods: Vec<Json>,
}

impl api::Visitor for Told {
    fn visit<C: Call>(&mut self) {
        let schema = C::json_schema(&mut self.generator).to_value();
        let about = schema["description"].as_str().unwrap_or_default().to_owned();
        self.method::<C, C::Answer>(C::NAME, &about);
    }
}

impl Told {
    /// What begins a subscription to `T`s, and what ends it.
    fn subscription<P: JsonSchema, T: JsonSchema>(
        &mut self,
        [name, told, stop]: [&str; 3],
        about: &str,
        about_stop: &str,
    ) {
        let about = format!(
            "{about} The result is the subscription's number; each notification is `{told}`, \
             with `subscription` and `result`."
        );
        self.method::<P, u64>(name, &about);
        self.generator.subschema_for::<T>();
        self.method::<Unfollow, bool>(stop, about_stop);
    }

    fn method<P: JsonSchema, R: JsonSchema>(&mut self, name: &str, about: &str) {
        let takes = P::json_schema(&mut self.generator).to_value();
        let required = takes["required"].as_array().cloned().unwrap_or_default();
        let empty = Map::new();
        let properties = takes["properties"].as_object().unwrap_or(&empty);
        let params = properties.iter().map(|(name, schema)| {
            json!({
                "name": name,
                "description": schema["description"],
                "required": required.iter().any(|it| it == name),
                "schema": schema,
            })
        });
        let result = self.generator.subschema_for::<R>();
        let structure = if ENDS.contains(&name) { "by-position" } else { "by-name" };
        self.methods.push(json!({
            "name": name,
            "description": about,
            "paramStructure": structure,
            "params": params.collect::<Vec<_>>(),
            "result": { "name": "answer", "schema": result },
            "errors": errors().as_object().expect("an object").keys()
                .map(|key| json!({ "$ref": format!("#/components/errors/{key}") }))
                .collect::<Vec<_>>(),
        }));
    }
}

/// What every method may answer instead.
fn errors() -> Json {
    let data = json!({ "$ref": "#/components/schemas/Failure" });
    json!({
        "not_served": { "code": -32000, "message": "this client is not served: why" },
        "taken_back": { "code": -32001, "message": "failed, and all was taken back", "data": data },
        "refused": { "code": -32002, "message": "bad input, and nothing was touched", "data": data },
        "left": { "code": -32003, "message": "failed, and something is left", "data": data },
        "late": {
            "code": -32004,
            "message": "in the database, and not carried out by the switch in time",
            "data": data,
        },
        "busy": { "code": -32005, "message": "too many calls wait; try again later" },
    })
}
