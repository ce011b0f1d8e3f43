//! The server as systemd starts it: its units, the socket that it is given, and what it
//! tells.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use world::{Verdict, World, until};

const SOCKET: &str = "/run/ovsns/ovsns.sock";

/// systemd understands each word of them.
pub(crate) fn its_units_are_understood(world: &World) -> Verdict {
    world.needs("systemd-analyze")?;
    world.run("mkdir systemd");
    let product = world.binary().display().to_string();
    for unit in ["ovsns.service", "ovsns.socket", "ovsns@.service"] {
        let text = world.example(&format!("systemd/{unit}"));
        assert!(text.contains("/usr/local/bin/ovsns ") || unit == "ovsns.socket", "{unit}");
        // It looks for the program, too.
        let text = text.replace("/usr/local/bin/ovsns ", &format!("{product} "));
        world.file(&format!("systemd/{unit}"), &text);
    }
    let units = "systemd/ovsns.service systemd/ovsns.socket systemd/ovsns@two-nodes.service";
    let verified = world.run(&format!("systemd-analyze verify --man=no {units}"));
    assert_eq!((&*verified.stdout, &*verified.stderr), ("", ""));
    // What would give it mounts of its own is not there, and the rest is.
    let unit = "systemd/ovsns.service";
    let rated = world.run(&format!("systemd-analyze security --offline=true --no-pager {unit}"));
    let level = rated.stdout.split("exposure level for ovsns.service: ").nth(1);
    let level = level.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level < 8.0), "{rated}");
    Ok(())
}

/// It takes the socket that it is given, and leaves it where it is.
pub(crate) fn it_takes_the_socket_that_it_is_given(world: &World) -> Verdict {
    world.needs("systemd-socket-activate")?;
    world.run("mkdir -m 700 /run/ovsns");
    let product = world.binary().display().to_string();
    let server = world.start(&format!("systemd-socket-activate -l {SOCKET} {product} serve"));
    until("there is a socket", || Path::new(SOCKET).exists());
    // It is started by the first client, who is answered.
    let mut client = UnixStream::connect(SOCKET).expect("somebody listens");
    client
        .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server.info\"}\n")
        .expect("it listens");
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line).expect("an answer");
    let answer: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(answer["result"]["pid"], server.id(), "{answer}");
    world.ovsns("up --topo single,1 --lab l").ok();
    assert_eq!(world.namespaces(), ["l.h1"]);
    // There is one server, whoever has made its socket.
    world.ovsns("serve").code(1).says("already");
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    assert!(Path::new(SOCKET).exists(), "whoever has made it removes it");
    assert!(!Path::new("/run/ovsns/ovsns.sock.lock").exists());
    world.run(&format!("rm {SOCKET}"));
    // One that is elsewhere is not taken for the one that was asked for.
    let words = format!("systemd-socket-activate -l /run/other.sock {product} serve");
    let other = world.start(&words);
    until("there is a socket", || UnixStream::connect("/run/other.sock").is_ok());
    assert_eq!(other.finish().status.code(), Some(1));
    world.ovsns("down").ok();
    Ok(())
}

/// It tells when it serves, that it lives, and that it ends.
pub(crate) fn it_tells_how_it_does(world: &World) -> Verdict {
    let told = UnixDatagram::bind("told").expect("a socket");
    told.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let next = || {
        let mut message = [0; 4096];
        let length = told.recv(&mut message).expect("something is told");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command: Command = world.command();
    let here = std::env::current_dir().expect("the test's directory").join("told");
    command.arg("serve").env("NOTIFY_SOCKET", here).env("WATCHDOG_USEC", "600000");
    let server = world.start_command(&mut command);
    let ready = next();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(ready.contains("STATUS=serving at /run/ovsns/ovsns.sock"), "{ready}");
    UnixStream::connect(SOCKET).expect("it serves");
    for _ in 0..3 {
        assert_eq!(next().trim(), "WATCHDOG=1");
    }
    server.signal(Signal::SIGTERM);
    let last = std::iter::repeat_with(next).find(|told| told.trim() != "WATCHDOG=1");
    assert!(last.is_some_and(|last| last.starts_with("STOPPING=1\n")));
    server.finish().ok();
    Ok(())
}
