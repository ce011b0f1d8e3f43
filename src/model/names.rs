//! Names, checked once at the edge and trusted from there on.
//!
//! A name from a file becomes part of a device name, of a path below
//! `/run/netns` and of a mark in the kernel. So every kind of name is a type
//! that can only be made by checking its letters and its length, and nothing
//! further in ever looks at a raw string again.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text cannot be the name of something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing at all.
    #[error("a {kind} name is empty")]
    Empty {
        /// What was being named, such as `node`.
        kind: &'static str,
    },
    /// Longer than the kernel, or the sum of our marks, can carry.
    #[error("the {kind} name `{text}` has {bytes} bytes, {bytes_max} at most")]
    TooLong {
        /// What was being named.
        kind: &'static str,
        /// The name, cut after 64 letters so that a message stays readable.
        text: String,
        /// Its length in bytes.
        bytes: usize,
        /// The longest allowed, in bytes.
        bytes_max: usize,
    },
    /// A letter that has a meaning elsewhere: in a path, an endpoint, a mark.
    #[error("the {kind} name `{text}` has {letter:?} in it; {allowed}")]
    Letter {
        /// What was being named.
        kind: &'static str,
        /// The name, escaped.
        text: String,
        /// The first letter that is not allowed.
        letter: char,
        /// What is allowed, as a clause.
        allowed: &'static str,
    },
    /// `.` and `..` are directories, and a leading `-` is an option.
    #[error("the {kind} name `{text}` must begin with a letter or a digit")]
    Start {
        /// What was being named.
        kind: &'static str,
        /// The name.
        text: String,
    },
}

/// Letters of names that may hold dots.
const DOTTED: &str = "letters, digits, `.`, `_` and `-` are allowed";
/// Letters of names in which a dot separates.
const UNDOTTED: &str = "letters, digits, `_` and `-` are allowed";

/// Checks `text` against the rules that all names share.
fn checked(
    kind: &'static str,
    text: &str,
    bytes_max: usize,
    allowed: &'static str,
) -> Result<String, BadName> {
    let shown = || text.chars().take(64).flat_map(char::escape_debug).collect::<String>();
    if text.is_empty() {
        return Err(BadName::Empty { kind });
    }
    let fits = |c: char| {
        c.is_ascii_alphanumeric() || c == '_' || c == '-' || (c == '.' && allowed == DOTTED)
    };
    if let Some(letter) = text.chars().find(|c| !fits(*c)) {
        return Err(BadName::Letter { kind, text: shown(), letter, allowed });
    }
    if bytes_max < text.len() {
        return Err(BadName::TooLong { kind, text: shown(), bytes: text.len(), bytes_max });
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(BadName::Start { kind, text: shown() });
    }
    Ok(text.to_owned())
}

/// Declares a name: its kind in words, its longest length, its letters.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $bytes_max:literal, $allowed:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The longest name of this kind, in bytes.
            pub const BYTES_MAX: usize = $bytes_max;

            /// Returns `text` as a name of this kind, or why it cannot be one.
            pub fn new(text: &str) -> Result<Self, BadName> {
                checked($kind, text, Self::BYTES_MAX, $allowed).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

// The full name of an interface, `LAB:NODE:INTERFACE`, is an altname of the
// kernel's, which holds 127 bytes (ALTIFNAMSIZ less its closing zero byte):
// 31 + 1 + 63 + 1 + 31 = 127. A port between two switches is called
// `LAB:SWITCH~SWITCH#NUMBER`: 31 + 1 + 44 + 1 + 44 + 1 + 5 = 127.

name! {
    /// The name of a lab. No dots: `LAB.NODE` names a namespace.
    LabName, "lab", 31, UNDOTTED
}
name! {
    /// The name of a node, unique in its lab together with the switches.
    NodeName, "node", 63, DOTTED
}
name! {
    /// The name of a switch, unique in its lab together with the nodes.
    SwitchName, "switch", 44, DOTTED
}
name! {
    /// The name of an interface as its node sees it, such as `eth0`.
    InterfaceName, "interface", 31, DOTTED
}
name! {
    /// The name of a network device in the kernel (`IFNAMSIZ` less its zero).
    IfName, "device", 15, DOTTED
}

name! {
    /// The name of a process, unique in its node.
    ProcessName, "process", 63, DOTTED
}

impl LabName {
    /// The lab of commands that name none.
    pub fn default_lab() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        check("eth0", true);
        check("b.1.1", true);
        check("fifteen-letters", true);
        check("sixteen-letters-", false);
        check("", false);
        check(".", false);
        check("..", false);
        check("-x", false);
        check("a/b", false);
        check("a b", false);
        check("a\tb", false);
        check("a\u{7f}", false);
        check("n\u{f6}de", false);

        #[track_caller]
        fn check(text: &str, accepted: bool) {
            assert_eq!(IfName::new(text).is_ok(), accepted, "{text:?}");
        }
    }

    #[test]
    fn a_lab_name_has_no_dot() {
        let refused = LabName::new("two.nodes").expect_err("a dot separates lab and node");
        assert_eq!(
            refused.to_string(),
            "the lab name `two.nodes` has '.' in it; letters, digits, `_` and `-` are allowed"
        );
    }

    #[test]
    fn a_long_name_is_cut_in_its_message() {
        let refused = NodeName::new(&"x".repeat(100_000)).expect_err("too long");
        assert!(refused.to_string().len() < 200);
    }

    #[test]
    fn the_longest_names_fit_an_altname() {
        let full = LabName::BYTES_MAX + 1 + NodeName::BYTES_MAX + 1 + InterfaceName::BYTES_MAX;
        assert_eq!(full, 127);
        let trunk = LabName::BYTES_MAX + 1 + 2 * SwitchName::BYTES_MAX + 1 + "#99999".len();
        assert_eq!(trunk, 127);
    }
}
