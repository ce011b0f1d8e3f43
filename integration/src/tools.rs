//! Small programs that run in nodes: this test program itself, under another
//! first argument, so that nothing has to be installed to send a datagram.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, sendto, socket};

use crate::runner::patience;

/// First argument of a process that is a tool.
pub(crate) const FLAG: &str = "--tool";

/// How long a tool waits for a word from the other side.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A program that runs in a node.
#[derive(Debug, Clone, Copy)]
pub enum Tool {
    /// `PORT COUNT [GROUP INTERFACE]`: says `ready`, then every UDP datagram
    /// it hears as `ADDRESS TEXT`, and ends after so many; fails after 5 s of
    /// silence. Joins a multicast group if there is one.
    Hear,
    /// `FROM TO PORT TEXT`: sends one UDP datagram; broadcast and multicast
    /// leave by the interface that has the address FROM.
    Say,
    /// `ADDRESS PORT`: says `ready` and sends back what comes over TCP.
    Echo,
    /// `ADDRESS PORT`: one TCP connection over which a line goes out every
    /// 5 ms and comes back. Says `N` for each. At the end of its input twenty
    /// more pass, then it says `most MS`: the longest that one line took. Fails
    /// when the connection does. With bytes as its input only those lines count
    /// that go out after the first and before the second.
    Drip,
    /// `ADDRESS`: an ICMP echo request every 2 ms. Says `answered` when the first
    /// is. At the end of its input it says `lost N doubled N once N`. `ping` would
    /// not do: with less than 10 ms between two it never sleeps, and what it
    /// measures is the want of a processor (iputils 20221126).
    Beat,
    /// `ADDRESS PORT BYTES`: pours so many bytes over TCP into an echo, as fast
    /// as it takes them, and fails unless the same come back.
    Pour,
    /// `DEVICE FROM TO TAGS`: sends one Ethernet frame out of a device, past
    /// the kernel's own ideas of what may be sent. FROM and TO are MAC
    /// addresses, TAGS the VLANs that it is wrapped in, such as `100,10`, the
    /// outermost first, or `-`.
    Frame,
}

impl Tool {
    const ALL: [(&'static str, Self); 7] = [
        ("hear", Self::Hear),
        ("say", Self::Say),
        ("echo", Self::Echo),
        ("drip", Self::Drip),
        ("beat", Self::Beat),
        ("pour", Self::Pour),
        ("frame", Self::Frame),
    ];

    /// The tool as a command, inside a namespace if one is named.
    pub fn command(self, namespace: Option<&str>, words: &str) -> Command {
        let here = std::env::current_exe().expect("the path of this program");
        let mut command = match namespace {
            Some(namespace) => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", namespace]).arg(here);
                ip
            }
            None => Command::new(here),
        };
        let (name, _) = Self::ALL[self as usize];
        command.args([FLAG, name]).args(words.split_whitespace());
        command
    }
}

/// Is the tool `name`.
pub(crate) fn main(name: &str, words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((_, tool)) = Tool::ALL.into_iter().find(|(known, _)| *known == name) else {
        eprintln!("no tool `{name}`");
        return ExitCode::from(2);
    };
    let ended = match (tool, words.as_slice()) {
        (Tool::Hear, [port, count, group @ ..]) => hear(number(port), number(count), group),
        (Tool::Say, [from, to, port, text]) => say(address(from), address(to), number(port), text),
        (Tool::Echo, [at, port]) => echo(SocketAddr::new(address(at), number(port))),
        (Tool::Drip, [to, port]) => drip(SocketAddr::new(address(to), number(port))),
        (Tool::Beat, [to]) => beat(address(to)),
        (Tool::Pour, [to, port, bytes]) => {
            pour(SocketAddr::new(address(to), number(port)), number(bytes))
        }
        (Tool::Frame, [device, from, to, tags]) => frame(device, mac(from), mac(to), tags),
        (tool, _) => panic!("{tool:?}: {words:?}"),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{name}: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number that fits"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no address"))
}

fn mac(text: &str) -> [u8; 6] {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Result<Vec<u8>, _> = bytes.collect();
    let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes.unwrap_or_else(|| panic!("`{text}` is no MAC address"))
}

fn hear(port: u16, count: usize, group: &[&str]) -> std::io::Result<()> {
    let socket = match group {
        [group, interface] => match address(group) {
            IpAddr::V4(group) => {
                let socket = UdpSocket::bind((group, port))?;
                socket.join_multicast_v4(&group, &number::<Ipv4Addr>(interface))?;
                socket
            }
            IpAddr::V6(group) => {
                let socket = UdpSocket::bind((group, port))?;
                let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
                socket.join_multicast_v6(&group, number(index.trim()))?;
                socket
            }
        },
        // Of both families, where the kernel has both.
        _ => UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port)))?,
    };
    socket.set_read_timeout(Some(SILENCE_MAX * patience()))?;
    println!("ready");
    let mut datagram = [0; 2048];
    for _ in 0..count {
        let (bytes, from) = socket.recv_from(&mut datagram)?;
        println!("{} {}", from.ip().to_canonical(), String::from_utf8_lossy(&datagram[..bytes]));
    }
    Ok(())
}

fn say(from: IpAddr, to: IpAddr, port: u16, text: &str) -> std::io::Result<()> {
    // Linux takes the interface of the source address for a group or a
    // broadcast that no route covers.
    let socket = UdpSocket::bind((from, 0))?;
    socket.set_broadcast(from.is_ipv4())?;
    socket.send_to(text.as_bytes(), (to, port))?;
    Ok(())
}

fn echo(at: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("ready");
    for connection in listener.incoming() {
        let mut connection = connection?;
        connection.set_nodelay(true)?;
        let mut bytes = [0; 4096];
        loop {
            let got = connection.read(&mut bytes)?;
            if got == 0 {
                break;
            }
            connection.write_all(&bytes[..got])?;
        }
    }
    Ok(())
}

fn drip(to: SocketAddr) -> std::io::Result<()> {
    let mut out = TcpStream::connect_timeout(&to, SILENCE_MAX * patience())?;
    out.set_nodelay(true)?;
    out.set_read_timeout(Some(SILENCE_MAX * patience()))?;
    let mut back = BufReader::new(out.try_clone()?);
    let input = input();
    let (mut most, mut bytes, mut left) = (Duration::ZERO, 0, None);
    for count in 0u64.. {
        let start = Instant::now();
        writeln!(out, "{count}")?;
        let mut line = String::new();
        back.read_line(&mut line)?;
        if line.trim() != count.to_string() {
            return Err(std::io::Error::other(format!("sent {count}, got {line:?}")));
        }
        if bytes < 2 {
            most = most.max(start.elapsed());
        }
        println!("{count}");
        match input.recv_timeout(Duration::from_millis(5)) {
            Ok(Input::Byte) => {
                bytes += 1;
                most = if bytes == 1 { Duration::ZERO } else { most };
            }
            Ok(Input::End) => left = Some(20),
            Err(_) => {}
        }
        match left.as_mut() {
            Some(0) => break,
            Some(left) => *left -= 1,
            None => {}
        }
    }
    println!("most {:.1}", most.as_secs_f64() * 1000.0);
    Ok(())
}

/// Between two requests.
const BEAT: Duration = Duration::from_millis(2);
/// How long the last request may take to be answered.
const ANSWERED_WITHIN: Duration = Duration::from_millis(300);

fn beat(to: IpAddr) -> std::io::Result<()> {
    // RFC 792 and RFC 4443. Answers over IPv4 come with their IP header.
    let (family, protocol, [request, reply]) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, [8, 0]),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, [128, 129]),
    };
    let socket = socket(family, SockType::Raw, SockFlag::empty(), protocol)?;
    let out = UdpSocket::from(socket);
    out.connect((to, 0))?;
    let back = out.try_clone()?;
    back.set_read_timeout(Some(ANSWERED_WITHIN))?;
    let id = (std::process::id() as u16).to_be_bytes();
    let ended = Arc::new(AtomicBool::new(false));
    let listener = std::thread::spawn({
        let ended = ended.clone();
        move || -> std::io::Result<Vec<u16>> {
            let (mut answers, mut bytes) = (Vec::new(), [0; 256]);
            loop {
                let got = match back.recv(&mut bytes) {
                    Ok(got) => got,
                    Err(silence) if silence.kind() == std::io::ErrorKind::WouldBlock => {
                        if ended.load(Ordering::Relaxed) {
                            return Ok(answers);
                        }
                        continue;
                    }
                    Err(cause) => return Err(cause),
                };
                let header = if to.is_ipv4() { usize::from(bytes[0] & 15) * 4 } else { 0 };
                let [kind, _, _, _, i0, i1, n0, n1, ..] = bytes[header.min(got)..got] else {
                    continue;
                };
                if (kind, [i0, i1]) == (reply, id) {
                    if answers.is_empty() {
                        println!("answered");
                    }
                    answers.push(u16::from_be_bytes([n0, n1]));
                }
            }
        }
    });
    let input = input();
    let start = Instant::now();
    let mut sent = 0;
    for number in 0..u16::MAX {
        let mut frame = [0; 64];
        frame[0] = request;
        frame[4..6].copy_from_slice(&id);
        frame[6..8].copy_from_slice(&number.to_be_bytes());
        // The kernel does that of IPv6 itself.
        let sum = checksum(&frame);
        frame[2..4].copy_from_slice(&sum.to_be_bytes());
        // Without a way there is nothing to send, and it counts as lost.
        let _ = out.send(&frame);
        sent += 1;
        let next = start + BEAT * u32::from(number + 1);
        let wait = next.saturating_duration_since(Instant::now());
        if input.recv_timeout(wait) == Ok(Input::End) {
            break;
        }
    }
    ended.store(true, Ordering::Relaxed);
    let answers = listener.join().expect("it does not panic")?;
    let once: BTreeSet<u16> = answers.iter().copied().collect();
    println!(
        "lost {} doubled {} once {}",
        sent - once.len(),
        answers.len() - once.len(),
        once.len()
    );
    Ok(())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = pairs.sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !((folded + (folded >> 16)) as u16)
}

/// What the other end of our standard input has to say.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Byte,
    End,
}

fn input() -> Receiver<Input> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while let Ok(1) = std::io::stdin().read(&mut byte) {
            let _ = tell.send(Input::Byte);
        }
        let _ = tell.send(Input::End);
    });
    told
}

fn pour(to: SocketAddr, bytes: usize) -> std::io::Result<()> {
    let mut out = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    let mut back = out.try_clone()?;
    back.set_read_timeout(Some(Duration::from_secs(5)))?;
    // No two neighbouring pieces are alike, so none can take another's place.
    let sent: Vec<u8> = (0..bytes).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; bytes];
        back.read_exact(&mut received).map(|()| received)
    });
    for piece in sent.chunks(65536) {
        out.write_all(piece)?;
    }
    let received = reader.join().expect("it does not panic")?;
    if received != sent {
        return Err(std::io::Error::other("what came back is not what was sent"));
    }
    Ok(())
}

/// The EtherType of frames that nobody answers (IEEE 802, "local experimental").
const EXPERIMENTAL: u16 = 0x88b5;

fn frame(device: &str, from: [u8; 6], to: [u8; 6], tags: &str) -> std::io::Result<()> {
    let mut bytes = [to, from].concat();
    for tag in tags.split(',').filter(|tag| *tag != "-") {
        bytes.extend(0x8100u16.to_be_bytes());
        bytes.extend(number::<u16>(tag).to_be_bytes());
    }
    bytes.extend(EXPERIMENTAL.to_be_bytes());
    bytes.resize(60.max(bytes.len() + 46), 0);
    // Where a device is, as the kernel knows it.
    let mut addresses = getifaddrs()?.filter(|address| address.interface_name == device);
    let at = addresses.find_map(|address| address.address?.as_link_addr().copied());
    let at = at.ok_or_else(|| std::io::Error::other(format!("there is no `{device}`")))?;
    let none = SockFlag::empty();
    let socket = socket(AddressFamily::Packet, SockType::Raw, none, SockProtocol::EthAll)?;
    sendto(socket.as_raw_fd(), &bytes, &at, MsgFlags::empty())?;
    Ok(())
}
