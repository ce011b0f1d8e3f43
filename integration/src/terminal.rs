//! A person at a terminal: a command on a pseudo-terminal of its own, as the
//! session's leader, with keys to press and a screen to read.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::pty::{Winsize, openpty};
use nix::unistd::ttyname;

use crate::witness::{Finished, as_typed, until};

/// How many rows and columns a terminal has at first.
const SIZE: (u16, u16) = (30, 100);

/// A command that runs on a terminal.
pub struct Terminal {
    command: String,
    child: Child,
    keys: File,
    screen: Arc<Mutex<String>>,
    /// Its device, and how many rows and columns it has.
    device: PathBuf,
    size: (u16, u16),
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts `command` with a terminal as its input, output and error.
    pub(crate) fn start(command: &Command) -> Self {
        let (rows, columns) = SIZE;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a pseudo-terminal");
        let device = ttyname(&pty.slave).expect("a terminal has a name");
        let text = as_typed(command);
        let end = || Stdio::from(pty.slave.try_clone().expect("another handle of the terminal"));
        // setsid(1) makes the terminal the controlling one of a new session,
        // without which there is no Ctrl-C.
        let mut setsid = Command::new("setsid");
        setsid.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => setsid.env(name, value),
                None => setsid.env_remove(name),
            };
        }
        let child = setsid
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap_or_else(|cause| panic!("{text}: {cause}"));
        drop(setsid);
        drop(pty.slave);
        let keys = File::from(pty.master);
        let screen = Arc::new(Mutex::new(String::new()));
        let mut output = keys.try_clone().expect("another handle of the terminal");
        let written = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO is how a terminal says that nobody is left at its other end.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                written.lock().expect("no reader panics").push_str(&text);
            }
        });
        let reader = Some(reader);
        Self { command: text, child, keys, screen, device, size: SIZE, reader }
    }

    /// Presses keys; `"\x03"` is Ctrl-C.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal that takes keys");
    }

    /// Awaits a text on the screen.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        until(&format!("the screen shows {text:?}"), || self.screen().contains(text));
    }

    /// Everything that was on the screen so far.
    pub fn screen(&self) -> String {
        self.screen.lock().expect("no reader panics").clone()
    }

    /// What is on the screen now, a line a row.
    pub fn display(&self) -> String {
        let some = |count: u16| NonZero::new(count).expect("a screen has a row and a column");
        let mut screen = vt100::Parser::new(some(self.size.0), some(self.size.1), 0);
        screen.process(self.screen().as_bytes());
        screen.screen().contents()
    }

    /// Makes it another size, as when a window is dragged.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let (r, c) = (rows.to_string(), columns.to_string());
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(&self.device).args(["rows", &r, "cols", &c]);
        assert!(stty.status().expect("stty runs").success(), "{stty:?}");
        self.size = (rows, columns);
    }

    /// Awaits the command's end.
    pub fn finish(mut self) -> Finished {
        let status = self.child.wait().expect("a child of ours");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let command = self.command.clone();
        Finished { command, status, stdout: self.screen(), stderr: String::new() }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
