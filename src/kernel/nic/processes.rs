//! The processes of this network namespace: programs of others are looked for
//! among them, by their names.

use std::fs;
use std::path::PathBuf;

/// Their numbers, and their directories (`proc(5)`). One that ends meanwhile is
/// none, or has nothing in it.
pub(super) fn here() -> impl Iterator<Item = (u32, PathBuf)> {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path();
        (fs::read_link(path.join("ns/net")).ok() == here).then_some((process, path))
    })
}
