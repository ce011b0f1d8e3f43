//! The server under load: many who ask, some who misbehave, and what is left of that.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use world::{Running, Verdict, World, until};

const SOCKET: &str = "/run/ovsns/ovsns.sock";

/// How many ask at once, and how often each.
const CLIENTS: usize = 200;
const EACH: usize = 50;

/// Who reads nothing is given up after half that time.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// What the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Has {
    resident_kib: u64,
    threads: u64,
    files: usize,
}

fn has(server: &Running) -> Has {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()));
    let status = status.expect("it runs");
    let number = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).expect("a line");
        line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number")
    };
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.id())).expect("its files").count();
    Has { resident_kib: number("VmRSS"), threads: number("Threads"), files }
}

/// What its files are.
fn files(server: &Running) -> Vec<PathBuf> {
    let all = std::fs::read_dir(format!("/proc/{}/fd", server.id())).expect("its files");
    all.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).collect()
}

fn message(id: usize, method: &str, params: Value) -> String {
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    format!("{message}\n")
}

/// Asks one thing after the other; returns how many answers were results.
fn ask(client: usize) -> usize {
    let mut stream = UnixStream::connect(SOCKET).expect("a place");
    stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a limit");
    let mut lines = BufReader::new(stream.try_clone().expect("a file"));
    let mut answered = 0;
    for turn in 0..EACH {
        let id = client * EACH + turn;
        let (method, params) = match turn {
            20 if client.is_multiple_of(2) => ("lab.list", json!({})),
            40 if client.is_multiple_of(4) => ("lab.status", json!({ "lab": "big" })),
            _ => ("server.info", json!({})),
        };
        stream.write_all(message(id, method, params).as_bytes()).expect("it listens");
        let mut line = String::new();
        lines.read_line(&mut line).expect("an answer in time");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(answer["id"], json!(id));
        assert!(answer.get("result").is_some(), "{method}: {answer}");
        answered += 1;
    }
    answered
}

/// Those who do not as they should; each comes back a few times.
fn misbehave(how: usize, is_over: &AtomicUsize) {
    while is_over.load(Ordering::Relaxed) == 0 {
        let Ok(mut stream) = UnixStream::connect(SOCKET) else { return };
        let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
        let _ = match how {
            // Asks for much and reads nothing.
            0 => {
                let asked = message(1, "rpc.discover", json!({}));
                (0..2000).try_for_each(|_| stream.write_all(asked.as_bytes()))
            }
            // Subscribes and reads nothing.
            1 => stream.write_all(message(1, "fabric.events", json!({})).as_bytes()).map(|()| {
                std::thread::sleep(Duration::from_millis(500));
            }),
            // Goes in the middle of a word.
            2 => stream.write_all(br#"{"jsonrpc":"2.0","id":1,"meth"#),
            // Has work done and goes.
            3 => stream.write_all(message(1, "lab.status", json!({ "lab": "big" })).as_bytes()),
            // A hundred megabytes without an end.
            4 => (0..100).try_for_each(|_| stream.write_all(&vec![b'['; 1 << 20])),
            // Rubbish, and HTTP that is none.
            5 => stream.write_all(&[0xff; 4096]),
            _ => stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{"),
        };
        // Not so often that nobody else has the machine.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ten thousand requests of two hundred clients, beside seven who misbehave and a lab
/// that comes and goes: all are answered, and nothing is left of it.
pub(crate) fn ten_thousand_requests(world: &World) -> Verdict {
    let mut command = world.command();
    let server = world.start_command(command.arg("serve"));
    until("the server takes clients", || UnixStream::connect(SOCKET).is_ok());
    world.ovsns("up --topo single,60 --lab big --backend linux").ok();
    ask(0);
    let before = has(&server);
    let is_over = AtomicUsize::new(0);
    let (answered, most) = std::thread::scope(|scope| {
        let bad: Vec<_> = (0..7)
            .map(|how| {
                scope.spawn({
                    let is_over = &is_over;
                    move || misbehave(how, is_over)
                })
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS).map(|it| scope.spawn(move || ask(it))).collect();
        let mut most = before.resident_kib;
        while clients.iter().any(|client| !client.is_finished()) {
            world.ovsns("up --topo single,5 --lab small --backend linux").ok();
            world.ovsns("down small").ok();
            most = most.max(has(&server).resident_kib);
        }
        let answered = clients.into_iter().map(|client| client.join().expect("all answered")).sum();
        is_over.store(1, Ordering::Relaxed);
        bad.into_iter().for_each(|it| it.join().expect("it does not panic"));
        (answered, most)
    });
    let answered: usize = answered;
    assert_eq!(answered, CLIENTS * EACH);
    // 64 MiB is the longest message, and what it is read into; answers wait in bounds.
    assert!(most < before.resident_kib + 400 * 1024, "{most} KiB, {before:?} before");
    let mut after = has(&server);
    let start = Instant::now();
    while before.threads < after.threads || before.files < after.files {
        let left = || files(&server);
        assert!(start.elapsed() < GONE_WITHIN, "{before:?}, {after:?}: {:#?}", left());
        std::thread::sleep(Duration::from_millis(50));
        after = has(&server);
    }
    world::note(&format!(
        "the server had {} MiB before, {} MiB at most",
        before.resident_kib >> 10,
        most >> 10
    ));
    world.ovsns("down big").ok();
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    Ok(())
}
