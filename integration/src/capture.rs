//! Overhearing what passes a device, by `tcpdump`: who sent a frame, to whom,
//! in which VLANs.

use std::process::Command;

use crate::{Running, Tool, World};

/// A `tcpdump` on one device.
pub struct Capture {
    namespace: String,
    device: String,
    process: Running,
}

/// A frame that was overheard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Who sent it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Its VLAN tags, the outermost first.
    pub tags: Vec<u16>,
    /// All that `tcpdump` says of it.
    pub line: String,
}

/// Who sends the frame by which a capture is told that it has heard enough.
const SENTINEL: &str = "02:00:5e:00:53:ff";

/// Every station.
const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";

impl World {
    /// Starts to overhear a device in a namespace; `filter` is as `tcpdump`
    /// takes it, and may be empty. Returns when it hears.
    pub fn capture(&self, namespace: &str, device: &str, filter: &str) -> Capture {
        let filter = match filter {
            "" => String::new(),
            // What tells it to end has to pass, too.
            filter => format!("'({filter}) or ether src {SENTINEL}'"),
        };
        // It says on its standard error that it listens.
        let line = format!("exec tcpdump -l -n -e -t -i {device} {filter} 2>&1");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "sh", "-c", &line]);
        let mut process = self.start_command(&mut command);
        process.line_with("listening on");
        Capture { namespace: namespace.to_owned(), device: device.to_owned(), process }
    }

    /// Sends one frame out of a device of a namespace, from one MAC address to
    /// another, in `tags` (see [`Tool::Frame`]).
    #[track_caller]
    pub fn send_frame(&self, namespace: &str, device: &str, from: &str, to: &str, tags: &str) {
        let words = format!("{device} {from} {to} {tags}");
        self.tool(namespace, Tool::Frame, &words).finish().ok();
    }

    /// Sends one frame to every station.
    #[track_caller]
    pub fn broadcast_frame(&self, namespace: &str, device: &str, from: &str, tags: &str) {
        self.send_frame(namespace, device, from, BROADCAST, tags);
    }
}

impl Capture {
    /// What was heard up to now. A frame sent by the device itself is heard
    /// last, which proves that there is nothing more to wait for.
    pub fn heard(mut self, world: &World) -> Vec<Frame> {
        world.broadcast_frame(&self.namespace, &self.device, SENTINEL, "-");
        let lines = self.process.lines_to(SENTINEL);
        let frames = lines.iter().filter_map(|line| Frame::read(line));
        frames.filter(|frame| frame.from != SENTINEL).collect()
    }

    /// Awaits a frame of which `tcpdump` says `text`; returns all that was
    /// heard before and not read, and that one.
    #[track_caller]
    pub fn hears(&mut self, text: &str) -> Vec<Frame> {
        self.process.lines_to(text).iter().filter_map(|line| Frame::read(line)).collect()
    }
}

impl Frame {
    /// `02:... > ff:..., ethertype 802.1Q (0x8100), length 64: vlan 10, p 0, ...`
    fn read(line: &str) -> Option<Self> {
        let (from, rest) = line.split_once(" > ")?;
        let (to, rest) = rest.split_once(", ")?;
        let tags = rest.split("vlan ").skip(1).filter_map(|rest| rest.split(',').next());
        let tags = tags.filter_map(|id| id.parse().ok()).collect();
        Some(Self { from: from.to_owned(), to: to.to_owned(), tags, line: line.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tcpdump() {
        let plain = "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), length 42: \
                     Request who-has 10.0.0.2 tell 10.0.0.1, length 28";
        let double = "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype 802.1Q (0x8100), length \
                      68: vlan 100, p 0, ethertype 802.1Q (0x8100), vlan 10, p 0, ethertype \
                      Unknown (0x88b5),";
        let read = |line: &str| Frame::read(line).map(|frame| (frame.from, frame.tags));
        let from = "02:00:00:00:00:01".to_owned();
        assert_eq!(read(plain), Some((from.clone(), vec![])));
        assert_eq!(read(double), Some((from, vec![100, 10])));
        assert_eq!(read("\t0x0000:  0000 0000"), None);
    }
}
