//! What a person reads who asks for help, or gets a command line wrong. No
//! root is needed for any of it.

use std::process::{Command, Output};

fn ovsns(words: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    Command::new(env!("CARGO_BIN_EXE_ovsns"))
        .args(words)
        .current_dir(directory.path())
        .env("COLUMNS", "100")
        .output()
        .expect("the program runs")
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    let status = output.status.code().expect("it was not killed");
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    match err.is_empty() {
        true => format!("{out}status {status}"),
        false => format!("{out}{err}status {status}"),
    }
}

#[test]
fn help() {
    let pages: &[&[&str]] = &[
        &[],
        &["up"],
        &["plan"],
        &["down"],
        &["list"],
        &["status"],
        &["node"],
        &["node", "add"],
        &["node", "rm"],
        &["node", "list"],
        &["switch"],
        &["switch", "add"],
        &["switch", "rm"],
        &["switch", "set"],
        &["switch", "list"],
        &["link"],
        &["link", "add"],
        &["link", "rm"],
        &["link", "set"],
        &["link", "down"],
        &["link", "up"],
        &["link", "list"],
        &["capture"],
        &["cut"],
        &["heal"],
        &["flow"],
        &["flow", "add"],
        &["flow", "del"],
        &["flow", "dump"],
        &["trace"],
        &["why"],
        &["graph"],
        &["top"],
        &["exec"],
        &["shell"],
        &["ping"],
        &["doctor"],
        &["gc"],
        &["schema"],
        // Not listed, but it says what it is.
        &["keep-ovs"],
    ];
    for page in pages {
        let words: Vec<&str> = page.iter().copied().chain(["--help"]).collect();
        let name =
            format!("help_{}", if page.is_empty() { "ovsns".into() } else { page.join("_") });
        let output = ovsns(&words);
        assert!(output.stderr.is_empty() && output.status.success(), "{page:?}");
        insta::assert_snapshot!(name, String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn wrong_command_lines() {
    let cases: &[&[&str]] = &[
        &["upp"],
        &["up"],
        &["up", "no-such-file.yaml"],
        &["up", "--topo", "star,3"],
        &["up", "--topo", "single,3", "--lab", "two.nodes"],
        &["up", "--topo", "single,3", "--backend", "iron"],
        &["down", "a", "--all"],
        &["exec", "n1"],
        &["exec", "a/b/c", "--", "true"],
        &["ping", "n1"],
        &["ping", "--timeout", "0"],
        &["link", "set", "n1", "s1"],
        &["node", "add", "n/1/2"],
        &["switch", "add", ""],
        &["flow", "add", "s1"],
        &["flow", "del", "s1"],
        &["flow", "del", "s1", "in_port=n1", "--all"],
        &["trace", "s1"],
        &["graph", "no-such.yaml"],
        &["graph", "--topo", "single,3", "--format", "png"],
        &["graph", "--topo", "single,3", "two-nodes"],
        &["top", "--interval", "0"],
    ];
    let mut all = Vec::new();
    for case in cases {
        let output = ovsns(case);
        assert_eq!(output.status.code(), Some(2), "{case:?}: {}", text(&output));
        all.push(format!("$ ovsns {}\n{}", case.join(" "), text(&output)));
    }
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn the_schema_is_json() {
    let output = ovsns(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["title"], "ovsns topology");
}
