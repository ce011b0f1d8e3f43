//! What a switch is told of OpenFlow and of those who collect: controllers, its own
//! number, flows.

use serde_json::{Value as Json, json};

use super::{Written, Wrong, text_schema};
use crate::model::flow::{self, BadFlow};
use crate::model::problem::quoted;

/// Where a controller is (`ovs-vswitchd.conf.db(5)`, `Controller.target`).
pub(in crate::model) struct Target(pub(in crate::model) String);

/// How a controller is reached, or reaches us.
const SCHEMES: [&str; 6] = ["tcp", "ssl", "unix", "ptcp", "pssl", "punix"];

impl Written for Target {
    const WORDS: &'static str = "where a controller is, such as `tcp:127.0.0.1:6653`";
    fn schema() -> Json {
        let pattern = format!("^({}):[!-~]*$", SCHEMES.join("|"));
        text_schema(&pattern, &["tcp:127.0.0.1:6653", "ssl:[fd00::1]:6653", "ptcp:6654"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            Wrong::new(format!("{} is not where a controller could be", quoted(text))).hint(
                "write `tcp:ADDRESS:PORT`, `ssl:ADDRESS:PORT`, `unix:FILE`, or with a `p` before it \
                 to wait for the controller (`ptcp:PORT`)",
            )
        };
        let (scheme, place) = text.split_once(':').ok_or_else(wrong)?;
        let printable = place.bytes().all(|byte| byte.is_ascii_graphic());
        let passive = scheme.starts_with('p');
        if !SCHEMES.contains(&scheme) || !printable || (place.is_empty() && !passive) {
            return Err(wrong());
        }
        if let Some(port) = port_of(scheme, place)
            && !port.parse::<u16>().is_ok_and(|port| port != 0)
        {
            let message = format!("{} has no port from 1 to 65535", quoted(text));
            return Err(Wrong::new(message).hint("write one, such as `tcp:127.0.0.1:6653`"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The port in a place of that scheme, if it says one: without it is 6653.
fn port_of<'a>(scheme: &str, place: &'a str) -> Option<&'a str> {
    match scheme {
        "tcp" | "ssl" => {
            let behind = place.rfind(']').map_or(place, |end| &place[end..]);
            behind.rsplit_once(':').map(|(_, port)| port)
        }
        "ptcp" | "pssl" => Some(place.split(':').next().unwrap_or(place)).filter(|p| !p.is_empty()),
        _ => None,
    }
}

/// The number of a switch among switches.
pub(in crate::model) struct DatapathId(pub(in crate::model) String);

impl Written for DatapathId {
    const WORDS: &'static str = "up to 16 hexadecimal digits";
    fn schema() -> Json {
        json!({ "type": ["string", "number"], "examples": ["0000000000000001"] })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        match digits.len() <= 16 && hex && digits.bytes().any(|b| b != b'0') {
            true => Ok(Self(format!("{:0>16}", digits.to_ascii_lowercase()))),
            false => {
                let shown = quoted(text);
                Err(Wrong::new(format!("a datapath id is {}, not {shown}", Self::WORDS)))
            }
        }
    }
}

/// Where records of flows go.
pub(in crate::model) struct Collector(pub(in crate::model) String);

impl Written for Collector {
    const WORDS: &'static str = "where a collector is, such as `127.0.0.1:2055`";
    fn schema() -> Json {
        text_schema("^.+:[0-9]{1,5}$", &["127.0.0.1:2055", "[fd00::1]:2055"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        match text.parse::<std::net::SocketAddr>() {
            Ok(place) if place.port() != 0 => Ok(Self(place.to_string())),
            _ => Err(Wrong::new(format!("{} is not where a collector could be", quoted(text)))
                .hint("write `ADDRESS:PORT`, such as `127.0.0.1:2055` or `[fd00::1]:2055`")),
        }
    }
}

/// A flow, less what only Open vSwitch understands.
pub(in crate::model) struct FlowText(pub(in crate::model) String);

impl Written for FlowText {
    const WORDS: &'static str = "a flow, such as `priority=10,in_port=n1,actions=output:n2`";
    fn schema() -> Json {
        text_schema("actions?=", &["priority=10,in_port=n1,actions=output:n2"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        flow::check(text).map_err(|BadFlow { what, hint }| Wrong { message: what, hint })?;
        Ok(Self(text.trim().to_owned()))
    }
}
