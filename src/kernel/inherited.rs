//! What a process has from the one that started it.

use nix::unistd::close;

/// Closes what the command was started with besides its three streams: who
/// waits for the other end of a pipe must not wait for a keeper.
pub fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let all: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in all.into_iter().filter(|fd| 2 < *fd) {
        // One of them was the directory that was just read.
        let _ = close(fd);
    }
}
