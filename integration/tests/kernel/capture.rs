//! `ovsns capture`: what is in the file, read block by block by a reader of this
//! test's own, and by `tcpdump`.
//!
//! ```text
//! n1 -- s1 -- n2
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use world::{Running, Verdict, World, until};

const LAB: &str = "
name: seen
switches: { s1: {} }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24], mac: '02:00:00:00:00:01' } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24], mac: '02:00:00:00:00:02' } } }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
";

/// What a capture file says.
#[derive(Debug, Default)]
struct Captured {
    names: Vec<String>,
    packets: Vec<Heard>,
    /// Of each interface: how many there were, and how many were lost.
    counted: BTreeMap<usize, (u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    interface: usize,
    time: u64,
    length: u32,
    bytes: Vec<u8>,
    /// Whether it went out.
    out: bool,
}

impl Captured {
    fn read(bytes: &[u8]) -> Self {
        let mut captured = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = long(rest, 4) as usize;
            assert_eq!(long(rest, length - 4) as usize, length, "a whole block");
            let (body, kind) = (&rest[8..length - 4], long(rest, 0));
            match kind {
                0x0a0d_0d0a => assert_eq!(long(body, 0), 0x1a2b_3c4d),
                1 => {
                    let name = options(&body[8..])[&2].clone();
                    captured.names.push(String::from_utf8(name).expect("a name"));
                }
                6 => {
                    let kept = long(body, 12) as usize;
                    let flags = &options(&body[20 + kept.next_multiple_of(4)..])[&2];
                    captured.packets.push(Heard {
                        interface: long(body, 0) as usize,
                        time: u64::from(long(body, 4)) << 32 | u64::from(long(body, 8)),
                        length: long(body, 16),
                        bytes: body[20..20 + kept].to_vec(),
                        out: long(flags, 0) & 3 == 2,
                    });
                }
                5 => {
                    let options = options(&body[12..]);
                    let number = |code| u64::from_le_bytes(options[&code][..8].try_into().unwrap());
                    let delivered = number(8);
                    let at = long(body, 0) as usize;
                    let in_file = captured.packets.iter().filter(|p| p.interface == at).count();
                    assert_eq!(in_file as u64, delivered);
                    captured.counted.insert(at, (number(4), number(5)));
                }
                other => panic!("block {other:#x}"),
            }
            rest = &rest[length..];
        }
        captured
    }

    fn of(path: &str) -> Self {
        Self::read(&std::fs::read(path).expect("a capture file"))
    }

    /// Echo requests and answers, by interface and by whether they went out.
    fn pings(&self) -> BTreeMap<(String, bool, u8), usize> {
        let mut pings = BTreeMap::new();
        for packet in &self.packets {
            if packet.bytes[12..14] == [8, 0] && packet.bytes[23] == 1 {
                let name = self.names[packet.interface].clone();
                *pings.entry((name, packet.out, packet.bytes[34])).or_default() += 1;
            }
        }
        pings
    }
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn options(mut bytes: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let mut options = BTreeMap::new();
    loop {
        let code = u16::from_le_bytes([bytes[0], bytes[1]]);
        let length = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        if code == 0 {
            return options;
        }
        options.insert(code, bytes[4..4 + length].to_vec());
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
}

/// Starts a capture; returns when it listens.
fn capture(world: &World, words: &[&str]) -> Running {
    let mut command = std::process::Command::new("sh");
    // What it says goes where a test can await it.
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(world.binary()).arg("capture").args(words);
    let mut running = world.start_command(&mut command);
    running.line_with("capturing on ");
    running
}

fn end(running: Running) -> String {
    running.signal(Signal::SIGINT);
    running.finish().ok().stdout
}

fn up(world: &World) {
    world.file("seen.yaml", LAB);
    world.ovsns("up seen.yaml").ok();
    world.pings("seen.n1", "10.0.0.2");
}

/// Both ends of a link at once: names, numbers, directions, the order, and that
/// nothing else is changed.
pub(crate) fn all_is_written_down(world: &World) -> Verdict {
    let _ovs = (world.backend() == "ovs").then(|| world.open_vswitch(&[])).transpose()?;
    up(world);
    let foreign = world.foreign();
    let running = capture(world, &["n1", "s1:n1", "s1:n2:eth0", "s1:LOCAL", "-w", "a.pcapng"]);
    for _ in 0..3 {
        world.run("ip netns exec seen.n1 ping -n -c 1 -W 2 10.0.0.2");
    }
    let said = end(running);
    assert!(said.contains(" captured, 0 dropped"), "{said}");
    let seen = Captured::of("a.pcapng");
    assert_eq!(seen.names, ["n1:eth0", "s1:n1:eth0", "s1:n2:eth0", "s1:LOCAL"]);
    let of = |name: &str, out: bool, kind: u8| ((name.to_owned(), out, kind), 3);
    let expected = [
        of("n1:eth0", true, 8),
        of("n1:eth0", false, 0),
        of("s1:n1:eth0", false, 8),
        of("s1:n1:eth0", true, 0),
        of("s1:n2:eth0", true, 8),
        of("s1:n2:eth0", false, 0),
    ];
    assert_eq!(seen.pings(), expected.into());
    let times: Vec<u64> = seen.packets.iter().map(|packet| packet.time).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(seen.counted.len(), 4);
    let read = world.run("tcpdump -n -r a.pcapng icmp").stdout;
    assert_eq!(read.matches("echo request").count(), 9, "{read}");
    // No device is promiscuous any more, and nothing else is there.
    foreign.is_untouched(world);
    Ok(())
}

/// The kernel takes the outer tag out of a frame that comes in.
pub(crate) fn tags_are_put_back_and_packets_cut(world: &World) -> Verdict {
    up(world);
    let words = ["n1", "n2", "--snaplen", "30", "--filter", "icmp or vlan 100", "-w", "a.pcapng"];
    let running = capture(world, &words);
    let from = "02:00:00:00:00:01";
    world.send_frame("seen.n1", "eth0", from, "02:00:00:00:00:02", "100,10");
    world.send_frame("seen.n1", "eth0", from, "02:00:00:00:00:02", "7");
    world.pings("seen.n1", "10.0.0.2");
    end(running);
    let seen = Captured::of("a.pcapng");
    let tagged: Vec<_> = seen.packets.iter().filter(|it| it.bytes[12] == 0x81).collect();
    assert_eq!(tagged.len(), 2, "{:?}", seen.packets);
    for packet in &tagged {
        assert_eq!(packet.bytes[12..20], [0x81, 0, 0, 100, 0x81, 0, 0, 10]);
        assert_eq!((packet.bytes.len(), packet.length), (30, 68));
    }
    assert_eq!(tagged.iter().filter(|it| it.out).count(), 1);
    assert!(seen.packets.iter().any(|it| it.length == 98 && it.bytes.len() == 30));
    Ok(())
}

/// Of more than fits, what is lost is told: what was sent is what is in the file
/// and what was lost.
pub(crate) fn what_is_lost_is_counted(world: &World) -> Verdict {
    const SENT: u64 = 2000;
    up(world);
    let filter = "udp port 4000";
    let running =
        capture(world, &["n1:eth0", "--filter", filter, "--buffer", "64", "-w", "a.pcapng"]);
    running.signal(Signal::SIGSTOP);
    world.sh(&format!(
        "ip netns exec seen.n1 python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range({SENT}): s.sendto(b\"x\" * 100, (\"10.0.0.2\", 4000))'"
    ));
    running.signal(Signal::SIGCONT);
    let said = end(running);
    let seen = Captured::of("a.pcapng");
    let (received, dropped) = seen.counted[&0];
    assert_eq!(received, SENT);
    assert_eq!(seen.packets.len() as u64 + dropped, SENT);
    assert!(0 < dropped && !seen.packets.is_empty(), "{dropped}");
    assert!(said.contains(&format!("{} packets captured, {dropped} dropped", seen.packets.len())));
    Ok(())
}

/// A node that is removed is let go of; the other is still heard. With the last
/// one the capture ends.
pub(crate) fn a_device_that_goes_ends_alone(world: &World) -> Verdict {
    up(world);
    let mut running = capture(world, &["n1", "n2", "-w", "a.pcapng"]);
    world.ovsns("node rm n1 --lab seen").ok();
    running.line_with("n1:eth0 is gone");
    assert!(running.runs());
    world.attempt("ip netns exec seen.n2 ping -n -c 1 -W 1 10.0.0.9");
    world.ovsns("down seen").ok();
    let said = running.finish().ok().stdout;
    assert!(said.contains("n2:eth0 is gone"), "{said}");
    let seen = Captured::of("a.pcapng");
    let asks = |it: &&Heard| it.interface == 1 && it.out && it.bytes[12..14] == [8, 6];
    assert!(seen.packets.iter().any(|it| asks(&it)));
    assert_eq!(seen.counted.len(), 2, "both are told of");
    let left: Vec<_> = world.namespaces().into_iter().filter(|it| it.contains("seen")).collect();
    assert_eq!(left, [""; 0]);
    Ok(())
}

/// A program at the other end of a pipe reads each packet when it comes; when it
/// has enough the capture ends, and is no failure.
pub(crate) fn whoever_reads_sees_it_at_once_and_may_go(world: &World) -> Verdict {
    up(world);
    let line = format!(
        "{} capture n1 s1 --filter icmp | tcpdump -l -n -r - -c 2 2>/dev/null && echo ended",
        world.binary().display()
    );
    let mut shell = std::process::Command::new("bash");
    shell.args(["-o", "pipefail", "-c", &line]);
    let mut reader = world.start_command(shell.stderr(Stdio::inherit()));
    // A capture begins when it begins.
    until("the first packet is shown", || {
        world.attempt("ip netns exec seen.n1 ping -n -c 1 -W 1 10.0.0.2");
        world.run("ip -d link").stdout.contains("promiscuity 2")
    });
    world.run("ip netns exec seen.n1 ping -n -c 1 -W 2 10.0.0.2");
    reader.line_with("ICMP echo request");
    reader.line_with("ICMP echo");
    // It sees that nobody reads when it has something to say.
    let mut ended = false;
    until("the capture ends", || {
        world.attempt("ip netns exec seen.n1 ping -n -c 1 -W 1 10.0.0.2");
        ended |= !world.processes().iter().any(|(_, line)| line.contains(" capture n1 s1"));
        ended
    });
    reader.line_with("ended");
    // By number and by time it ends, too.
    let counted = world.start(&format!("{} capture n1 -c 3 -w b.pcapng", world.binary().display()));
    until("three packets have passed", || {
        world.attempt("ip netns exec seen.n1 ping -n -c 1 -W 1 10.0.0.2");
        let written = Path::new("b.pcapng").exists().then(|| std::fs::read("b.pcapng").ok());
        written.flatten().is_some_and(|it| {
            !it.is_empty()
                && !world.processes().iter().any(|(_, line)| line.contains("-w b.pcapng"))
        })
    });
    counted.finish().ok();
    assert_eq!(Captured::of("b.pcapng").packets.len(), 3);
    world.ovsns("capture n1 --for 1 -w c.pcapng").ok();
    assert_eq!(Captured::of("c.pcapng").counted.len(), 1);
    Ok(())
}

/// A device that is down is not gone: what passes when it is up again is heard.
pub(crate) fn a_link_that_comes_up_again_is_heard(world: &World) -> Verdict {
    up(world);
    let mut running = capture(world, &["n1", "s1:n1", "-w", "a.pcapng"]);
    world.pings("seen.n1", "10.0.0.2");
    for _ in 0..3 {
        world.ovsns("link down n1 s1 --lab seen").ok();
        world.silence("seen.n1", "10.0.0.2");
        world.ovsns("link up n1 s1 --lab seen").ok();
        world.pings("seen.n1", "10.0.0.2");
    }
    assert!(running.runs());
    let said = end(running);
    assert!(!said.contains("gone"), "{said}");
    let pings = Captured::of("a.pcapng").pings();
    for name in ["n1:eth0", "s1:n1:eth0"] {
        let way = (name.to_owned(), name == "n1:eth0", 8);
        assert!(4 <= pings[&way], "{name}: {pings:?}");
    }
    Ok(())
}

/// A pipe that nobody reads holds nobody up, and one whose reader has gone ends
/// the capture, though nothing passes.
pub(crate) fn nobody_reads(world: &World) -> Verdict {
    up(world);
    world.run("mkfifo pipe");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(world.binary());
        let mut running = world.start_command(command.args(["capture", "n1", "-w", "pipe"]));
        running.line_with("waiting for a reader of `pipe`");
        running.signal(signal);
        let ended = running.finish().code(1);
        assert_eq!(
            ended.stdout,
            "error: could not write `pipe`\n  because: nobody has opened it to read\n"
        );
    }
    world.ovsns("capture n1 -w pipe --for 1").code(1);
    // It begins when somebody does.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(world.binary());
    command.args(["capture", "n1", "-w", "pipe", "--filter", "icmp"]);
    let mut running = world.start_command(&mut command);
    running.line_with("waiting for a reader");
    let reader = world.start("head -c 40 pipe");
    running.line_with("capturing on n1:eth0");
    reader.finish().ok();
    running.finish().ok();
    Ok(())
}

pub(crate) fn on_a_terminal_it_is_a_line_a_packet(world: &World) -> Verdict {
    up(world);
    let mut command = world.command();
    command.args(["capture", "n1", "-f", "icmp"]);
    let mut terminal = world.terminal(&command);
    terminal.shows("capturing on n1:eth0");
    world.run("ip netns exec seen.n1 ping -n -c 1 -W 2 10.0.0.2");
    terminal.shows(" n1:eth0 out 10.0.0.1 > 10.0.0.2 ICMP, 98 bytes");
    terminal.shows(" n1:eth0 in  10.0.0.2 > 10.0.0.1 ICMP, 98 bytes");
    terminal.press("\x03");
    terminal.finish().ok().says("2 packets captured, 0 dropped");
    let mut command = world.command();
    command.args(["capture", "n1", "-w", "-"]);
    world.terminal(&command).finish().code(2).says("is not for a terminal");
    Ok(())
}

/// Before anything is touched.
pub(crate) fn what_cannot_be_captured_is_refused(world: &World) -> Verdict {
    up(world);
    for (words, why) in [
        ("capture n3", "there is no `n3` to capture on; did you mean `n1`?"),
        ("capture n1:eth9", "did you mean `n1:eth0`?"),
        ("capture other/n1", "no lab `other`"),
        ("capture n1 --filter tcp+port -w a.pcapng", "cannot read the filter"),
        ("capture", "required arguments"),
    ] {
        world.ovsns(words).code(2).says(why);
    }
    assert!(!Path::new("a.pcapng").exists());
    world.ovsns("capture --list").ok().says("s1:LOCAL");
    Ok(())
}
