//! Numbers, bare and in a unit that is not written beside them.

use std::ops::RangeInclusive;

use serde_json::{Value as Json, json};

use super::{Holds, other_kind, text};
use crate::model::problem::Found;
use crate::model::yaml::{Kind, Tree};

/// A whole number from `MIN` to `MAX`.
pub(in crate::model) struct Whole<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Holds for Whole<MIN, MAX> {
    type Value = u32;
    fn words() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<u32> {
        whole::<Self>(tree, key, found, MIN..=MAX)
    }
    fn schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

fn whole<H: Holds>(
    tree: &Tree,
    key: &str,
    found: &mut Found,
    range: RangeInclusive<u32>,
) -> Option<u32> {
    let digits = text::<H>(tree, key, found)?;
    let is_quoted = matches!(tree.kind, Kind::Scalar { quoted: true, .. });
    match digits.parse::<u32>() {
        Ok(number) if !is_quoted && range.contains(&number) => return Some(number),
        Ok(_) if is_quoted => {
            other_kind::<H>(tree, key, found);
            found.last_hint(|| format!("write it without quotes: {digits}"));
        }
        _ => other_kind::<H>(tree, key, found),
    }
    None
}

/// A time.
pub(in crate::model) struct Seconds<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Holds for Seconds<MIN, MAX> {
    type Value = u32;
    fn words() -> String {
        format!("a whole number of seconds from {MIN} to {MAX}, without a unit")
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<u32> {
        whole::<Self>(tree, key, found, MIN..=MAX)
    }
    fn schema() -> Json {
        Whole::<MIN, MAX>::schema()
    }
}

/// A short time.
pub(in crate::model) struct Millis<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Holds for Millis<MIN, MAX> {
    type Value = u32;
    fn words() -> String {
        format!("a whole number of milliseconds from {MIN} to {MAX}, without a unit")
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<u32> {
        whole::<Self>(tree, key, found, MIN..=MAX)
    }
    fn schema() -> Json {
        Whole::<MIN, MAX>::schema()
    }
}

/// A rate, or what it may be exceeded by.
pub(in crate::model) struct Kilobits;

impl Holds for Kilobits {
    type Value = u32;
    fn words() -> String {
        "a whole number of kilobits".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<u32> {
        let before = found.count();
        let number = Whole::<1, { u32::MAX }>::read(tree, key, found);
        if number.is_none() && before < found.count() {
            found.last_hint(|| "it is in kilobits, without a unit: 10 Mbit/s is 10000".to_owned());
        }
        number
    }
    fn schema() -> Json {
        Whole::<1, { u32::MAX }>::schema()
    }
}

/// The id of a VLAN; 0 and 4095 are reserved (IEEE 802.1Q).
pub(in crate::model) type VlanId = Whole<1, 4094>;

/// An MTU in bytes: the least that IPv4 works with, the most the kernel takes.
pub(in crate::model) type Mtu = Whole<68, 65535>;
