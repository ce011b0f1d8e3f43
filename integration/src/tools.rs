//! Small programs that run in nodes: this test program itself, under another
//! first argument, so that nothing has to be installed to send a datagram.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};
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
    /// more pass, then it says `most MS`: the longest that one line took.
    /// Fails when the connection does.
    Drip,
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
    const ALL: [(&'static str, Self); 6] = [
        ("hear", Self::Hear),
        ("say", Self::Say),
        ("echo", Self::Echo),
        ("drip", Self::Drip),
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
        (Tool::Pour, [to, port, bytes]) => {
            pour(SocketAddr::new(address(to), number(port)), number(bytes))
        }
        (Tool::Frame, [device, from, to, tags]) => frame(device, mac(from), mac(to), tags),
        (Tool::Hear | Tool::Say | Tool::Echo | Tool::Drip | Tool::Pour | Tool::Frame, _) => {
            panic!("`{name}`: {words:?}")
        }
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
    // The other end of our standard input says when it is enough.
    let (end, enough) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = end.send(());
    });
    let mut most = Duration::ZERO;
    let mut left = None;
    for count in 0u64.. {
        let start = Instant::now();
        writeln!(out, "{count}")?;
        let mut line = String::new();
        back.read_line(&mut line)?;
        if line.trim() != count.to_string() {
            return Err(std::io::Error::other(format!("sent {count}, got {line:?}")));
        }
        most = most.max(start.elapsed());
        println!("{count}");
        if enough.recv_timeout(Duration::from_millis(5)) == Ok(()) {
            left = Some(20);
        }
        match left.as_mut() {
            Some(0) => break,
            Some(left) => *left -= 1,
            None => {}
        }
    }
    println!("most {}", most.as_millis());
    Ok(())
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
