//! The nearest known word to one that is not known.

/// Returns the one of `known` that somebody who wrote `word` most likely
/// meant, if one is near at all; among equally near ones the first.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let length = word.chars().count();
    // One slip in four letters: nobody who writes `uplinks` means `links`.
    let far = (length / 4).max(1);
    known
        .into_iter()
        .filter(|known| known.len().abs_diff(word.len()) <= far + word.len() - length)
        .map(|known| (strsim::osa_distance(word, known), known))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger() {
        check("switchs", Some("switches"));
        check("adresses", Some("addresses"));
        check("interface", Some("interfaces"));
        check("lniks", Some("links"));
        check("SWITCHES", None);
        check("mac", None);
        check("uplinks", None);
        check("", None);

        #[track_caller]
        fn check(word: &str, expected: Option<&str>) {
            let known = ["switches", "addresses", "interfaces", "links", "mtu"];
            assert_eq!(nearest(word, known), expected, "{word:?}");
        }
    }
}
