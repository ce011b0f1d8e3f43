//! Whether somebody listens at a port, by the kernel's own list of sockets: to
//! connect would be heard by who listens, and UDP would not answer.

use std::fs;

use crate::model::life::Port;

/// Whether a socket of the network namespace of this process listens at `port`.
///
/// Like `ss -ln sport = PORT`.
pub(super) fn is_open(port: Port) -> bool {
    let files = if port.udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    files.iter().any(|file| {
        let text = fs::read_to_string(format!("/proc/self/net/{file}")).unwrap_or_default();
        has(&text, port)
    })
}

/// The same in the text of `/proc/net/tcp` or its like (`proc(5)`).
pub(super) fn has(text: &str, port: Port) -> bool {
    // TCP_LISTEN, and for UDP that it is bound and not connected (TCP_CLOSE).
    let state = if port.udp { "07" } else { "0A" };
    text.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _, seen) = (words.next(), words.next(), words.next());
        let number = local.and_then(|local| local.rsplit_once(':')).map(|(_, number)| number);
        let number = number.and_then(|number| u16::from_str_radix(number, 16).ok());
        number == Some(port.number) && seen == Some(state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_read_from_the_kernels_list() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt
   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3";
        let open = |number, udp| has(text, Port { number, udp });
        assert!(open(80, false));
        assert!(!open(8080, false), "a connection is no listener");
        assert!(!open(80, true));
        assert!(open(53, true));
    }
}
