//! System calls, read from `strace`: what was really asked of the kernel.
//!
//! `ip monitor` shows what changed; a request that sets what is already so
//! changes nothing and is still a write. Here every message is seen. Threads
//! are traced into files of their own, so that no line is cut by another's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::private::SCRATCH;
use crate::witness::finish;
use crate::{Finished, World};

/// A request that changes the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A netlink message that is no question, by its number: `RTM_NEWLINK` is 16.
    Netlink(u16),
    /// A mount, an unmount, a new namespace, a file of `/proc/sys` opened to
    /// be written: the line of the trace.
    Call(String),
}

/// The system calls of one command and everything it started.
#[derive(Debug)]
pub struct Trace {
    /// Everything that changes the kernel, thread by thread.
    pub writes: Vec<Write>,
    /// Programs started, the command itself among them.
    pub programs: Vec<String>,
    /// Processes made, threads not counted.
    pub forks: usize,
}

impl World {
    /// Runs `ovsns` with `words` under `strace`, and reads the trace.
    pub fn traced(&self, words: &str) -> (Finished, Trace) {
        self.traced_program(&format!("{} {words}", self.binary().display()))
    }

    /// The same with any program.
    pub fn traced_program(&self, words: &str) -> (Finished, Trace) {
        let directory = Path::new(SCRATCH).join("trace");
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).expect("a directory for the trace");
        let finished = finish(
            Command::new("strace")
                .args(["-ff", "-qq", "-s", "4096", "-e", "write=all", "-e"])
                .arg("trace=sendto,sendmsg,sendmmsg,openat,mount,umount2,unshare,%process")
                .args(["-e", "signal=none", "-o"])
                .arg(directory.join("thread"))
                .args(words.split_whitespace()),
        );
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&directory).expect("traces").flatten().map(|it| it.path()).collect();
        files.sort();
        assert!(!files.is_empty(), "strace wrote nothing\n{finished}");
        let mut trace = Trace { writes: Vec::new(), programs: Vec::new(), forks: 0 };
        for file in files {
            let bytes = std::fs::read(&file).expect("a trace");
            trace.read(&String::from_utf8_lossy(&bytes));
        }
        (finished, trace)
    }

    /// Runs `ovsns` with `words` and has `strace` interfere: `rule` is an
    /// argument of its `-e inject=`. Returns how it ended and how often the
    /// rule struck: it counts calls thread by thread. Programs that the command
    /// starts are left alone.
    pub fn tampered(&self, rule: &str, words: &str) -> (Finished, usize) {
        self.tampered_program(rule, &format!("{} {words}", self.binary().display()))
    }

    /// The same with any program.
    pub fn tampered_program(&self, rule: &str, words: &str) -> (Finished, usize) {
        let log = Path::new(SCRATCH).join("tampered");
        let calls = rule.split(':').next().expect("a rule begins with calls");
        let finished = finish(
            Command::new("strace")
                .args(["-f", "-b", "execve", "-qq", "-e", "signal=none", "-e"])
                .arg(format!("trace={calls}"))
                .args(["-e", &format!("inject={rule}"), "-o"])
                .arg(&log)
                .args(words.split_whitespace()),
        );
        let log = std::fs::read(&log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let killed = finished.status.code().is_none() || log.contains("+++ killed by");
        (finished, log.matches("(INJECTED)").count().max(usize::from(killed)))
    }
}

impl Trace {
    /// Reads the trace of one thread.
    fn read(&mut self, text: &str) {
        let mut sent: Vec<u8> = Vec::new();
        for line in text.lines() {
            if let Some(dump) = line.strip_prefix(" | ") {
                sent.extend(dumped(dump));
                continue;
            }
            self.writes.extend(netlink_writes(&sent));
            sent.clear();
            self.call(line);
        }
        self.writes.extend(netlink_writes(&sent));
    }

    fn call(&mut self, line: &str) {
        let name = line.split('(').next().unwrap_or_default();
        let failed = line.contains(") = -1 ");
        match name {
            "mount" | "umount2" | "unshare" => self.writes.push(Write::Call(line.to_owned())),
            "openat" if line.contains("\"/proc/sys/") && !line.contains("O_RDONLY") => {
                self.writes.push(Write::Call(line.to_owned()));
            }
            "execve" if !failed => self.programs.push(line.to_owned()),
            "clone" | "clone3" | "fork" | "vfork" if !line.contains("CLONE_THREAD") => {
                self.forks += 1;
            }
            _ => {}
        }
    }
}

/// The bytes of one line of a dump: `00000  20 00 ..  10 00 ..  text |`.
fn dumped(line: &str) -> Vec<u8> {
    // Five digits, two blanks, then 16 times two digits and a blank, with one
    // more blank in the middle: 49 letters; the text follows.
    let digits = line.get(7..7 + 49).unwrap_or_default();
    digits.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// `linux/netfilter/nfnetlink.h`: the upper half of a message's number.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// `enum nf_tables_msg_types` of `linux/netfilter/nf_tables.h`: what asks for tables,
/// chains, rules, sets, their elements, the generation, objects and flow tables.
const NFT_QUESTIONS: [u16; 8] = [1, 4, 7, 10, 13, 16, 19, 23];

/// The netlink requests in what was sent that are no questions; nothing if
/// the bytes are not netlink messages from the first to the last.
fn netlink_writes(sent: &[u8]) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut rest = sent;
    while !rest.is_empty() {
        let Some((header, _)) = rest.split_first_chunk::<16>() else { return Vec::new() };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_le_bytes([header[4], header[5]]);
        if length < 16 || rest.len() < length {
            return Vec::new();
        }
        let is_write = match rest.get(16..20) {
            _ if kind >> 8 == NFNL_SUBSYS_NFTABLES => !NFT_QUESTIONS.contains(&(kind & 0xff)),
            // CTRL_CMD_GETFAMILY and ETHTOOL_MSG_FEATURES_GET of generic netlink,
            // whose families' numbers are rtnetlink's, too. As the first byte of
            // a message of rtnetlink they would be a family that nobody has.
            Some([3, ..]) if kind == 16 => false,
            Some([11, 1, 0, 0]) => false,
            Some([12, 1, 0, 0]) => true,
            // rtnetlink numbers its messages in fours: new, del, get, set.
            _ => kind % 4 != 2,
        };
        if 16 <= kind && is_write {
            writes.push(Write::Netlink(kind));
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_from_questions() {
        let mut trace = Trace { writes: Vec::new(), programs: Vec::new(), forks: 0 };
        trace.read(
            r#"execve("/bin/ip", ["ip"], 0x7ffd /* 20 vars */) = 0
sendto(3, [{nlmsg_len=16, ...}], 16, 0, NULL, 0) = 16
 | 00000  10 00 00 00 12 00 05 00  00 00 00 00 00 00 00 00   ............... |
sendmsg(3, {...}, 0) = 36
 * 36 bytes in buffer 0
 | 00000  10 00 00 00 10 00 05 00  00 00 00 00 00 00 00 00   ............... |
 | 00010  14 00 00 00 18 00 05 00  00 00 00 00 00 00 00 00  ................ |
 | 00020  00 00 00 00                                       ....             |
sendto(6, [{nlmsg_len=20, ...}, {...}], 40, 0, NULL, 0) = 40
 | 00000  14 00 00 00 01 0a 05 00  00 00 00 00 00 00 00 00   ............... |
 | 00010  01 00 00 00 14 00 00 00  02 0a 05 00 00 00 00 00   ............... |
 | 00020  00 00 00 00 01 00 00 00                           ........         |
sendto(5, [{nlmsg_len=20, ...}, {...}, {...}], 60, 0, NULL, 0) = 60
 | 00000  14 00 00 00 10 00 05 00  00 00 00 00 00 00 00 00   ............... |
 | 00010  03 01 00 00 14 00 00 00  15 00 05 00 00 00 00 00   ............... |
 | 00020  00 00 00 00 0b 01 00 00  14 00 00 00 16 00 05 00   ............... |
 | 00030  00 00 00 00 00 00 00 00  0c 01 00 00              ............... |
sendto(4, "hello there, udp", 16, 0, NULL, 0) = 16
 | 00000  68 65 6c 6c 6f 20 74 68  65 72 65 2c 20 75 64 70  hello there, udp |
openat(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", O_WRONLY|O_CLOEXEC) = 5
openat(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", O_RDONLY|O_CLOEXEC) = 5
clone(child_stack=NULL, flags=CLONE_VM|CLONE_THREAD|SIGCHLD) = 12
clone(child_stack=NULL, flags=SIGCHLD) = 13
"#,
        );
        assert_eq!(
            trace.writes,
            [
                Write::Netlink(16),
                Write::Netlink(24),
                Write::Netlink(2562),
                Write::Netlink(22),
                Write::Call(
                    r#"openat(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", O_WRONLY|O_CLOEXEC) = 5"#
                        .into()
                ),
            ]
        );
        assert_eq!((trace.programs.len(), trace.forks), (1, 1));
    }
}
