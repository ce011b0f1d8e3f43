//! A bad line between a client and a server.
//!
//! It knows where messages end, by its own means, and does to them, as a seed
//! says, what networks and dying servers do.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What can be done to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    SplitIntoBytes,
    SplitIntoPieces,
    JoinWithTheNext,
    Delay,
    SendTwice,
    AskForEcho,
    CutBefore,
    CutInTheMiddle,
    CutAfterCommit,
    FallSilent,
}

pub(crate) const FAULTS: [Fault; 10] = [
    Fault::SplitIntoBytes,
    Fault::SplitIntoPieces,
    Fault::JoinWithTheNext,
    Fault::Delay,
    Fault::SendTwice,
    Fault::AskForEcho,
    Fault::CutBefore,
    Fault::CutInTheMiddle,
    Fault::CutAfterCommit,
    Fault::FallSilent,
];

/// How often each fault was done; and how many echoes were asked and answered.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) faults: BTreeMap<Fault, u32>,
    pub(crate) connections: u32,
    pub(crate) echoes_answered: u32,
    pub(crate) echoes_wrong: u32,
}

/// Numbers that a seed determines (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A socket that leads to another, badly. Ends when dropped.
pub(crate) struct Proxy {
    task: JoinHandle<()>,
    socket: PathBuf,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Proxy {
    /// One message in `rarity` has a fault. `updates_twice` lets even updates
    /// come twice, which no network does.
    pub(crate) fn start(
        socket: &Path,
        server: &Path,
        seed: u64,
        rarity: u64,
        updates_twice: bool,
        counts: Arc<Mutex<Counts>>,
    ) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).expect("a socket");
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0_u64.. {
                let Ok((client, _)) = listener.accept().await else { return };
                counts.lock().unwrap().connections += 1;
                // The seed decides, not who happens to run first.
                let dice = |side: u64| Dice::new(seed ^ (number << 8 | side) << 20);
                let Ok(server) = UnixStream::connect(&server).await else { continue };
                let (client, server) = (tokio::io::split(client), tokio::io::split(server));
                let line = |side: u64, from_server| Line {
                    dice: dice(side),
                    rarity,
                    from_server,
                    updates_twice,
                    counts: counts.clone(),
                    held: Vec::new(),
                    echoes: 0,
                };
                let mut there = line(1, false);
                let mut back = line(2, true);
                connections.spawn(async move {
                    // Whichever ends first takes the other with it.
                    tokio::select! {
                        _ = there.carry(client.0, server.1) => {}
                        _ = back.carry(server.0, client.1) => {}
                    }
                });
            }
        });
        Self { task, socket: socket.to_owned() }
    }
}

/// One direction of a connection.
struct Line {
    dice: Dice,
    rarity: u64,
    from_server: bool,
    updates_twice: bool,
    counts: Arc<Mutex<Counts>>,
    /// What waits for the next message, to go in one piece with it.
    held: Vec<u8>,
    echoes: u32,
}

impl Line {
    async fn carry(
        &mut self,
        mut from: ReadHalf<UnixStream>,
        mut to: WriteHalf<UnixStream>,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            while let Some((message, bytes)) = first_message(&buffer) {
                let text: Vec<u8> = buffer.drain(..bytes).collect();
                if !self.deliver(&message, &text, &mut to).await? {
                    return Ok(());
                }
            }
            // What waits for a next message must not wait for ever.
            if !self.held.is_empty() {
                let more = from.read_buf(&mut buffer);
                match tokio::time::timeout(Duration::from_millis(2), more).await {
                    Ok(Ok(0)) => return Ok(()),
                    Ok(read) => drop(read?),
                    Err(_) => to.write_all(&std::mem::take(&mut self.held)).await?,
                }
            } else if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Delivers a message, more or less; `false` ends the connection.
    async fn deliver(
        &mut self,
        message: &Value,
        text: &[u8],
        to: &mut WriteHalf<UnixStream>,
    ) -> io::Result<bool> {
        let id = message["id"].as_str().unwrap_or_default();
        if !self.from_server && id.starts_with("proxy-") {
            let right = message["result"] == serde_json::json!([id, {"n": 1}])
                && message["error"] == Value::Null;
            let mut counts = self.counts.lock().unwrap();
            *(if right { &mut counts.echoes_answered } else { &mut counts.echoes_wrong }) += 1;
            return Ok(true);
        }
        let fault = (self.dice.below(self.rarity) == 0)
            .then(|| FAULTS[self.dice.below(FAULTS.len() as u64) as usize])
            .filter(|fault| self.applies(*fault, message));
        let Some(fault) = fault else {
            self.send(text, to).await?;
            return Ok(true);
        };
        *self.counts.lock().unwrap().faults.entry(fault).or_default() += 1;
        match fault {
            Fault::SplitIntoBytes => self.send_in_pieces(text, 1, to).await?,
            Fault::SplitIntoPieces => self.send_in_pieces(text, 700, to).await?,
            Fault::JoinWithTheNext => self.held.extend_from_slice(text),
            Fault::Delay => {
                tokio::time::sleep(Duration::from_millis(1 + self.dice.below(8))).await;
                self.send(text, to).await?;
            }
            Fault::SendTwice => self.send(&[text, text].concat(), to).await?,
            Fault::AskForEcho => {
                self.echoes += 1;
                let id = format!("proxy-{}", self.echoes);
                let echo =
                    serde_json::json!({"method": "echo", "params": [&id, {"n": 1}], "id": &id});
                self.send(&[echo.to_string().as_bytes(), text].concat(), to).await?;
            }
            // The request of a cut reply has been carried out.
            Fault::CutBefore | Fault::CutAfterCommit => return Ok(false),
            Fault::CutInTheMiddle => {
                let half = 1 + self.dice.below(text.len() as u64 - 1) as usize;
                self.send(&text[..half], to).await?;
                return Ok(false);
            }
            // Open, and dead: the client must find out by itself.
            Fault::FallSilent => std::future::pending().await,
        }
        Ok(true)
    }

    fn applies(&self, fault: Fault, message: &Value) -> bool {
        let is_update = message["method"].as_str().is_some_and(|m| m.starts_with("update"));
        match fault {
            Fault::AskForEcho => self.from_server,
            // Only replies to transactions have an array of results.
            Fault::CutAfterCommit => self.from_server && message["result"].is_array(),
            Fault::SendTwice => self.updates_twice || !is_update,
            _ => true,
        }
    }

    async fn send(&mut self, text: &[u8], to: &mut WriteHalf<UnixStream>) -> io::Result<()> {
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(text);
        to.write_all(&whole).await
    }

    async fn send_in_pieces(
        &mut self,
        text: &[u8],
        bytes_max: u64,
        to: &mut WriteHalf<UnixStream>,
    ) -> io::Result<()> {
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(text);
        let mut rest = &*whole;
        while !rest.is_empty() {
            let bytes = (1 + self.dice.below(bytes_max) as usize).min(rest.len());
            to.write_all(&rest[..bytes]).await?;
            tokio::task::yield_now().await;
            rest = &rest[bytes..];
        }
        Ok(())
    }
}

/// The first whole message, and how long it is.
fn first_message(buffer: &[u8]) -> Option<(Value, usize)> {
    let mut messages = serde_json::Deserializer::from_slice(buffer).into_iter::<Value>();
    let message = messages.next()?.ok()?;
    Some((message, messages.byte_offset()))
}
