//! Words that are handed on to the kernel as they are, and how a node is sealed.

use serde_json::{Value as Json, json};

use super::{Flag, Holds, Label, Of, Text, other_kind, text};
use crate::model::problem::{At, Found, quoted};
use crate::model::spec::SealedSpec;
use crate::model::topology::Sealed;
use crate::model::yaml::{Kind, Tree};

/// Whether a node is sealed, and how.
pub(in crate::model) struct Sealing;

impl Holds for Sealing {
    type Value = Option<Sealed>;
    fn words() -> String {
        format!("{} or {}", Flag::words(), Of::<SealedSpec>::words())
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Self::Value> {
        match &tree.kind {
            Kind::Map(_) => {
                let spec = Of::<SealedSpec>::read(tree, key, found)?;
                Some(Some(Sealed { raw: spec.raw }))
            }
            Kind::Scalar { quoted: false, text } if matches!(text.as_str(), "true" | "false") => {
                Some((text == "true").then_some(Sealed { raw: false }))
            }
            _ => {
                other_kind::<Self>(tree, key, found);
                None
            }
        }
    }
    fn schema() -> Json {
        json!({ "anyOf": [Flag::schema(), Of::<SealedSpec>::schema()] })
    }
}

/// A kernel parameter below `net.`.
pub(in crate::model) struct Parameter;

impl Label for Parameter {
    type Name = String;
    fn pattern() -> String {
        r"^net(\.[A-Za-z0-9_-]+)+$".to_owned()
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<String> {
        let shown = quoted(&key.value);
        let letters = |part: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            !part.is_empty() && part.bytes().all(fits)
        };
        if key.value.contains('/') {
            let problem = found.add(key.at, format!("the parameter {shown} has a slash in it"));
            if !key.value.contains('.') {
                let dotted = quoted(&key.value.replace('/', "."));
                problem.hint(format!("write it as `sysctl` does: {dotted}"));
            }
        } else if !key.value.starts_with("net.") {
            found
                .add(key.at, format!("{shown} is not below `net.`"))
                .hint("only what begins with `net.` is a node's own; the rest is the machine's");
        } else if !key.value.split('.').all(letters) {
            found
                .add(key.at, format!("{shown} is not the name of a kernel parameter"))
                .hint("write it like `net.ipv4.ip_forward`");
        } else {
            return Some(key.value.clone());
        }
        None
    }
}

/// What a kernel parameter is set to.
pub(in crate::model) struct Setting(pub(in crate::model) String);

/// More than any parameter below `net.` takes; the kernel's own limit is a
/// page.
const SETTING_BYTES_MAX: usize = 1024;

impl Holds for Text<Setting> {
    type Value = Setting;
    fn words() -> String {
        "a number or a text".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Setting> {
        let value = text::<Self>(tree, key, found)?;
        let plain = matches!(tree.kind, Kind::Scalar { quoted: false, .. });
        let number = match value.to_ascii_lowercase().as_str() {
            "true" if plain => Some(1),
            "false" if plain => Some(0),
            _ => None,
        };
        if let Some(number) = number {
            other_kind::<Self>(tree, key, found);
            found.last_hint(|| format!("write {number}"));
            return None;
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            found.add(tree.at, format!("{} cannot be the value of `{key}`", quoted(value)));
            return None;
        }
        if SETTING_BYTES_MAX < value.len() {
            let message = format!("`{key}` is longer than {SETTING_BYTES_MAX} bytes");
            found.add(tree.at, message);
            return None;
        }
        Some(Setting(value.to_owned()))
    }
    fn schema() -> Json {
        json!({ "type": ["string", "number"], "minLength": 1, "maxLength": SETTING_BYTES_MAX })
    }
}
