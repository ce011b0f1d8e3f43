//! What must hold for any words on the command line that are values: see
//! `crate::fuzzing`.

use super::settings::{self, Setting};

/// `KEY=VALUE`, written into a thing that has the key already, and into one that has
/// none.
pub(crate) fn setting(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(setting) = text.parse::<Setting>() else { return };
    for mut thing in [serde_json::json!({}), serde_json::json!({ "a": { "b": 1 }, "c": [1] })] {
        let said = settings::all(std::slice::from_ref(&setting));
        if said.write(&mut thing).is_ok() {
            let first = thing.clone();
            said.write(&mut thing).expect("it could be written before");
            assert_eq!(thing, first, "a second time changes nothing");
        }
    }
}
