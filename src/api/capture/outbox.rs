//! What waits to be taken by whoever has things captured.

use std::collections::VecDeque;

use super::Piece;

/// How much one piece has, about, in bytes.
const PIECE: usize = 1 << 20;

/// What is next, in order; what is told to a person goes first.
#[derive(Debug)]
pub(super) struct Outbox {
    is_text: bool,
    told: VecDeque<Piece>,
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Outbox {
    /// An empty one, of lines or of pieces of a file.
    pub(super) fn new(is_text: bool) -> Self {
        Self { is_text, told: VecDeque::new(), chunks: VecDeque::new(), bytes: 0 }
    }

    /// Adds what belongs together.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.chunks.back_mut() {
            Some(last) if last.len() + bytes.len() <= PIECE => last.extend(bytes),
            _ => self.chunks.push_back(bytes.to_owned()),
        }
    }

    /// Adds what is no part of what is written.
    pub(super) fn tell(&mut self, piece: Piece) {
        self.told.push_back(piece);
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.chunks.is_empty()
    }

    /// Takes the next.
    pub(super) fn pop(&mut self) -> Option<Piece> {
        if let Some(told) = self.told.pop_front() {
            return Some(told);
        }
        let bytes = self.chunks.pop_front()?;
        self.bytes -= bytes.len();
        Some(match self.is_text {
            true => Piece::Lines(String::from_utf8_lossy(&bytes).into_owned()),
            false => Piece::Pcapng(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_in_pieces_that_are_whole() {
        let mut outbox = Outbox::new(false);
        let packets = [vec![1; PIECE - 1], vec![2; 2], vec![3; 2 * PIECE], vec![4; 3]];
        packets.iter().for_each(|packet| outbox.write(packet));
        outbox.tell(Piece::Told("n1 is gone".into()));
        assert_eq!(outbox.bytes(), 3 * PIECE + 4);
        assert_eq!(outbox.pop(), Some(Piece::Told("n1 is gone".into())));
        for packet in packets {
            assert_eq!(outbox.pop(), Some(Piece::Pcapng(packet)));
        }
        assert_eq!((outbox.pop(), outbox.bytes(), outbox.is_empty()), (None, 0, true));
    }
}
