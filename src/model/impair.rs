//! What a link does to the frames that go one way: it keeps them for a while,
//! loses, doubles, reorders and corrupts some, and passes only so many.
//!
//! Numbers are written with their units as in `tc(8)`: `10ms`, `1%`, `10mbit`.
//! One without is refused, since nobody could tell what it means.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::check::THINGS_MAX;
use super::holds::{Written, Wrong};
use super::problem::{At, Found, Position, quoted};
use super::ranges::Pattern;
use super::spec::LinkSpec;
use super::topology::End;

/// What happens to the frames that go one way; 0 is nothing.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(default)]
pub struct Impairments {
    /// How long each is kept, in microseconds.
    pub delay_us: u32,
    /// By how much that varies, up and down.
    pub jitter_us: u32,
    /// How many of a million are lost.
    pub loss_ppm: u32,
    /// How many of a million arrive twice.
    pub duplicate_ppm: u32,
    /// How many of a million overtake those that are kept.
    pub reorder_ppm: u32,
    /// How many of a million have a bit turned round.
    pub corrupt_ppm: u32,
    /// How much passes, in kilobits a second.
    pub rate_kbps: u32,
}

impl Impairments {
    /// Whether frames pass as on any link.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is a limit to the rate and nothing else.
    pub fn is_rate(&self) -> bool {
        self.rate_kbps != 0 && Self { rate_kbps: 0, ..*self }.is_none()
    }

    /// Each that there is: its key in a file, and its value.
    pub fn said(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let Self {
            delay_us,
            jitter_us,
            loss_ppm,
            duplicate_ppm,
            reorder_ppm,
            corrupt_ppm,
            rate_kbps,
        } = *self;
        let share = |ppm: u32| (ppm != 0).then(|| Share(ppm).to_string());
        [
            ("delay", (delay_us != 0).then(|| Time(delay_us).to_string())),
            ("jitter", (jitter_us != 0).then(|| Time(jitter_us).to_string())),
            ("loss", share(loss_ppm)),
            ("duplicate", share(duplicate_ppm)),
            ("reorder", share(reorder_ppm)),
            ("corrupt", share(corrupt_ppm)),
            ("rate", (rate_kbps != 0).then(|| Rate(rate_kbps).to_string())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }
}

impl fmt::Display for Impairments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.said().map(|(key, value)| format!("{key} {value}")).collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(" "))
    }
}

/// A time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub u32);

/// A share of the frames, in a millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

/// A rate, in kilobits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u32);

/// What takes an impairment away.
const NONE: &str = "none";

impl Time {
    /// The longest delay: a minute.
    const MAX_US: u64 = 60_000_000;
    const UNITS: [(&str, u64); 3] = [("us", 1), ("ms", 1000), ("s", 1_000_000)];
}

impl Share {
    const UNITS: [(&str, u64); 1] = [("%", 10_000)];
}

impl Rate {
    /// The least: one full frame takes a second and a half.
    const MIN_KBPS: u64 = 8;
    const MAX_KBPS: u64 = 100_000_000;
    const UNITS: [(&str, u64); 3] = [("kbit", 1), ("mbit", 1000), ("gbit", 1_000_000)];
}

impl Written for Time {
    const WORDS: &'static str = "a time with its unit, such as `10ms`";
    fn schema() -> Json {
        schema("us|ms|s", &["10ms", "500us", "1.5s"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let number = number(text, &Self::UNITS, || {
            Wrong::new(format!("{} is no time", quoted(text)))
                .hint("write it with its unit, `10ms`, `500us` or `1s`; no finer than 1us")
        })?;
        match u32::try_from(number).ok().filter(|_| number <= Self::MAX_US) {
            Some(microseconds) => Ok(Self(microseconds)),
            None => Err(Wrong::new(format!("{} is more than 60s", quoted(text)))),
        }
    }
}

impl Written for Share {
    const WORDS: &'static str = "a share of the frames, such as `1%`";
    fn schema() -> Json {
        schema("%", &["1%", "0.01%"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let number = number(text, &Self::UNITS, || {
            Wrong::new(format!("{} is no share of the frames", quoted(text)))
                .hint("write it in percent, `1%` or `0.5%`; no finer than 0.0001%")
        })?;
        match u32::try_from(number).ok().filter(|_| number <= 1_000_000) {
            Some(ppm) => Ok(Self(ppm)),
            None => Err(Wrong::new(format!("{} is more than all of them", quoted(text)))),
        }
    }
}

impl Written for Rate {
    const WORDS: &'static str = "a rate with its unit, such as `10mbit`";
    fn schema() -> Json {
        schema("kbit|mbit|gbit", &["10mbit", "512kbit", "1.5gbit"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let number = number(text, &Self::UNITS, || {
            Wrong::new(format!("{} is no rate", quoted(text)))
                .hint("write bits a second with their unit, `10mbit`, `512kbit` or `1gbit`")
        })?;
        let fits = number == 0 || (Self::MIN_KBPS..=Self::MAX_KBPS).contains(&number);
        match u32::try_from(number).ok().filter(|_| fits && (number != 0 || text == NONE)) {
            Some(kbps) => Ok(Self(kbps)),
            None => Err(Wrong::new(format!("{} is no rate from 8kbit to 100gbit", quoted(text)))),
        }
    }
}

fn schema(units: &str, examples: &[&str]) -> Json {
    let pattern = format!(r"^([0-9]{{1,9}}(\.[0-9]{{1,9}})?({units})|{NONE})$");
    json!({ "type": "string", "pattern": pattern, "examples": examples })
}

/// A number with one of `units`, in what those are counted in, if it is a whole
/// one; 0 for the word that takes away.
fn number(text: &str, units: &[(&str, u64)], wrong: impl Fn() -> Wrong) -> Result<u64, Wrong> {
    if text == NONE {
        return Ok(0);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(&wrong)?;
    let (digits, unit) = text.split_at(unit_at);
    let (_, unit) = units.iter().find(|(name, _)| *name == unit).ok_or_else(&wrong)?;
    let (whole, parts) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| (1..=9).contains(&text.len());
    if !is_number(whole) || !is_number(parts) || parts.contains('.') {
        return Err(wrong());
    }
    let read = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let scale = 10u64.pow(u32::try_from(parts.len()).expect("nine at most"));
    let parts = read(parts)? * unit;
    match parts % scale {
        0 => Ok(read(whole)? * unit + parts / scale),
        _ => Err(wrong()),
    }
}

/// The greatest unit in which the number has few digits.
fn written(f: &mut fmt::Formatter<'_>, number: u32, units: &[(&str, u64)]) -> fmt::Result {
    let number = u64::from(number);
    let fits = |(_, unit): &&(&str, u64)| *unit <= number;
    let (name, unit) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    let (whole, rest) = (number / unit, number % unit);
    let width = unit.to_string().len() - 1;
    match format!("{rest:0width$}").trim_end_matches('0') {
        "" => write!(f, "{whole}{name}"),
        rest => write!(f, "{whole}.{rest}{name}"),
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        written(f, self.0, &Self::UNITS)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        written(f, self.0, &Self::UNITS)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        written(f, self.0, &Self::UNITS)
    }
}

/// The ends of links that a file names with impairments of their own, by place:
/// how each is written, what that stands for, and whether it is an end of any
/// of the links that are meant.
pub(super) type Named<'s> = BTreeMap<Position, (&'s At<Pattern>, HashSet<String>, bool)>;

/// What happens to frames that come from each end of a link.
pub(super) fn of_link<'s>(
    spec: &'s LinkSpec,
    ends: &[End; 2],
    named: &mut Named<'s>,
    found: &mut Found,
) -> [Impairments; 2] {
    let Some(At { value: said, .. }) = &spec.impairments else { return Default::default() };
    let mut directions = [said.keys; 2];
    for (key, direction) in &said.from {
        let too_many = THINGS_MAX < key.value.count();
        if too_many {
            let what = format!("{} stands for too many", quoted(key.value.as_str()));
            found.add_once(key.at, &what, "a link has two ends");
        }
        let names = || if too_many { Vec::new() } else { key.value.names() };
        let new = || (key, names().into_iter().collect(), too_many);
        let (_, names, is_end) = named.entry(key.at).or_insert_with(new);
        for (side, end) in ends.iter().enumerate() {
            let full = end.to_string();
            let short = full.split(':').next().unwrap_or(&full);
            if names.contains(&full) || names.contains(short) {
                *is_end = true;
                directions[side] = direction.keys.or(&directions[side]);
            }
        }
    }
    for (keys, end) in directions.iter().zip(ends) {
        let kept = keys.delay.is_some_and(|delay| delay.value != 0);
        for (key, said) in [("jitter", keys.jitter), ("reorder", keys.reorder)] {
            if let Some(said) = said.filter(|said| said.value != 0 && !kept && !keys.flawed) {
                let why = "no frame is kept, so none comes sooner or later than another";
                found.add_once(said.at, &format!("`{key}` without `delay`"), why);
            }
        }
        let shaping = spec.port.shaping.as_ref().filter(|_| matches!(end, End::Switch(_)));
        if let Some(shaping) = shaping.filter(|_| !keys.meant().is_none()) {
            found.add_once(
                shaping.at,
                "`shaping` beside `impairments` of what comes from the switch",
                "there is one queue each way: say `impairments: { rate: ... }` and no `shaping`",
            );
        }
    }
    directions.map(|keys| keys.meant())
}

/// Tells of ends that are at no link.
pub(super) fn check_named(named: Named, found: &mut Found) {
    for (key, _, _) in named.into_values().filter(|(_, _, is_end)| !is_end) {
        let what = format!("{} is at no end of this link", quoted(key.value.as_str()));
        found.add(key.at, what).hint("name one of its `endpoints`");
    }
}

/// Whether a text can be the value of that key of `impairments`.
///
/// # Errors
/// Why not, and what to write.
pub fn check(key: &str, text: &str) -> Result<(), String> {
    let checked = match key {
        "delay" | "jitter" => Time::parse(text).map(drop),
        "rate" => Rate::parse(text).map(drop),
        _ => Share::parse(text).map(drop),
    };
    checked.map_err(|wrong| match wrong.hint {
        Some(hint) => format!("{}: {hint}", wrong.message),
        None => wrong.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        time("10ms", Some((10_000, "10ms")));
        time("1.5ms", Some((1500, "1.5ms")));
        time("500us", Some((500, "500us")));
        time("0.25s", Some((250_000, "250ms")));
        time("60s", Some((60_000_000, "60s")));
        time("0ms", Some((0, "0us")));
        time("none", Some((0, "0us")));
        for bad in ["", "10", "ms", "10 ms", "-1ms", "1e3ms", "1.ms", ".5ms", "0.5us", "10m"] {
            time(bad, None);
        }
        for bad in ["61s", "1.2.3s", "9999999999s", "١ms", "10mS", "1,5ms"] {
            time(bad, None);
        }
        share("1%", Some((10_000, "1%")));
        share("0.0001%", Some((1, "0.0001%")));
        share("100%", Some((1_000_000, "100%")));
        share("12.5%", Some((125_000, "12.5%")));
        for bad in ["1", "0.00001%", "100.1%", "%", "1%%"] {
            share(bad, None);
        }
        rate("10mbit", Some((10_000, "10mbit")));
        rate("1.5gbit", Some((1_500_000, "1.5gbit")));
        rate("512kbit", Some((512, "512kbit")));
        rate("none", Some((0, "0kbit")));
        for bad in ["10", "10m", "10mbps", "7kbit", "101gbit", "0kbit", "1.0005mbit"] {
            rate(bad, None);
        }

        #[track_caller]
        fn check<T: Written + fmt::Display>(
            text: &str,
            number: impl Fn(&T) -> u32,
            wanted: Option<(u32, &str)>,
        ) {
            let parsed = T::parse(text).ok();
            let seen = parsed.map(|value| (number(&value), value.to_string()));
            assert_eq!(seen, wanted.map(|(number, text)| (number, text.to_owned())), "{text:?}");
        }
        #[track_caller]
        fn time(text: &str, wanted: Option<(u32, &str)>) {
            check(text, |time: &Time| time.0, wanted);
        }
        #[track_caller]
        fn share(text: &str, wanted: Option<(u32, &str)>) {
            check(text, |share: &Share| share.0, wanted);
        }
        #[track_caller]
        fn rate(text: &str, wanted: Option<(u32, &str)>) {
            check(text, |rate: &Rate| rate.0, wanted);
        }
    }

    #[test]
    fn what_is_printed_can_be_written() {
        for number in [1, 9, 10, 999, 1000, 1001, 123_456, 1_000_000, 59_999_999] {
            let text = Time(number).to_string();
            assert_eq!(Time::parse(&text).ok(), Some(Time(number)), "{text}");
            let text = Share(number.min(1_000_000)).to_string();
            assert_eq!(Share::parse(&text).ok(), Some(Share(number.min(1_000_000))), "{text}");
            let text = Rate(number.max(8)).to_string();
            assert_eq!(Rate::parse(&text).ok(), Some(Rate(number.max(8))), "{text}");
        }
    }
}
