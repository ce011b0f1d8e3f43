//! The example on the front page is the one that is compiled and run.

#[test]
fn the_front_page_shows_the_example() {
    let example = include_str!("../examples/bridge.rs");
    let (_, code) = example.split_once("\n\n").expect("a first paragraph");
    let page = include_str!("../README.md");
    let (_, rest) = page.split_once("```no_run\n").expect("an example");
    let (shown, _) = rest.split_once("```\n").expect("its end");
    assert_eq!(shown, code.replace("pub(crate) ", ""));
}
