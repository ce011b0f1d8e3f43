//! The token by which a client on TCP is known: a line in a file that nobody but its
//! owner can read. Whoever has it can do with the machine's network what root can.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use subtle::ConstantTimeEq;

/// The least that a token has: in hexadecimal, 128 bits.
const CHARACTERS_MIN: usize = 32;

/// The most, which is far more than anybody needs.
const CHARACTERS_MAX: usize = 4096;

/// What a browser calls the token among the subprotocols of its WebSocket, since it
/// cannot set `Authorization` there: `new WebSocket(url, ["ovsns", "ovsns.token.T"])`.
const AS_SUBPROTOCOL: &str = "ovsns.token.";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("could not read the token `{}`", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory or a device.
    #[error("the token `{}` is no file", .0.display())]
    NoFile(PathBuf),
    /// Others can read or write it.
    #[error("the token `{}` is not its owner's alone: its mode is {mode:04o}", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// In the notation of chmod.
        mode: u32,
    },
    /// Somebody else can change it.
    #[error("the token `{}` belongs to user {uid}", path.display())]
    Theirs {
        /// Where.
        path: PathBuf,
        /// Whose.
        uid: u32,
    },
    /// It could be guessed.
    #[error(
        "the token `{}` has {characters} characters; the least is {CHARACTERS_MIN}", path.display()
    )]
    Short {
        /// Where.
        path: PathBuf,
        /// How many.
        characters: usize,
    },
    /// It cannot be one.
    #[error(
        "the token `{}` is not one line of at most {CHARACTERS_MAX} letters, digits and `-._~+`",
        .0.display()
    )]
    Characters(PathBuf),
}

impl TokenError {
    /// A thing to do.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Open { path, .. } => {
                format!("`chmod 600 {0}`; whoever has read it still has it", path.display())
            }
            Self::Theirs { path, .. } => format!("`chown {} {}`", Uid::effective(), path.display()),
            Self::File { path, .. }
            | Self::NoFile(path)
            | Self::Short { path, .. }
            | Self::Characters(path) => {
                format!("make one: `(umask 077; openssl rand -hex 32 > {})`", path.display())
            }
        }
    }
}

/// What a client has to know.
pub(super) struct Token(Vec<u8>);

impl fmt::Debug for Token {
    /// Says nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").finish_non_exhaustive()
    }
}

impl Token {
    /// Reads it, if it is good and nobody else's.
    pub(super) fn of_file(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File { path: path.to_owned(), source };
        // A pipe would keep us waiting for somebody who writes.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let file = options.open(path).map_err(failed)?;
        let there = file.metadata().map_err(failed)?;
        if !there.is_file() {
            return Err(TokenError::NoFile(path.to_owned()));
        }
        let mode = there.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        let uid = Uid::from_raw(there.uid());
        if !uid.is_root() && uid != Uid::effective() {
            return Err(TokenError::Theirs { path: path.to_owned(), uid: uid.as_raw() });
        }
        let mut text = Vec::new();
        // Somebody may have given a file of another kind.
        file.take(2 * CHARACTERS_MAX as u64).read_to_end(&mut text).map_err(failed)?;
        let token = text.trim_ascii();
        let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+".contains(byte);
        if CHARACTERS_MAX < token.len() || !token.iter().all(is_good) {
            return Err(TokenError::Characters(path.to_owned()));
        }
        if token.len() < CHARACTERS_MIN {
            return Err(TokenError::Short { path: path.to_owned(), characters: token.len() });
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether a request with these headers knows it: as `Authorization: Bearer TOKEN`,
    /// or as the subprotocol `ovsns.token.TOKEN` of a WebSocket.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let said = headers.get_all(AUTHORIZATION).iter().filter_map(bearer);
        let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(subprotocols);
        let offered = offered.filter_map(|name| name.strip_prefix(AS_SUBPROTOCOL));
        said.chain(offered).any(|said| self.is(said))
    }

    /// The token itself, for whoever may read its file.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it is letters, digits and some signs")
    }

    /// Takes as long for one that begins right as for any other of that length.
    fn is(&self, said: &str) -> bool {
        self.0.ct_eq(said.as_bytes()).into()
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, said) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| said.trim())
}

/// The names in a `Sec-WebSocket-Protocol`.
pub(super) fn subprotocols(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn of_text(text: &str, mode: u32) -> Result<Token, TokenError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        fs::write(&path, text).expect("it can be written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        Token::of_file(&path)
    }

    #[test]
    fn files() {
        for mode in [0o600, 0o400] {
            of_text(&format!("{GOOD}\n"), mode).expect("a good token");
        }
        for mode in [0o644, 0o640, 0o604, 0o620, 0o602] {
            let refused = of_text(GOOD, mode).expect_err("others can read it");
            assert!(matches!(&refused, TokenError::Open { mode: it, .. } if *it == mode));
            assert!(refused.hint().starts_with("`chmod 600 "), "{}", refused.hint());
        }
        for short in ["", "\n", &GOOD[1..]] {
            assert!(matches!(of_text(short, 0o600), Err(TokenError::Short { .. })), "{short:?}");
        }
        let long = "a".repeat(CHARACTERS_MAX + 1);
        for bad in [&format!("{GOOD} {GOOD}"), &format!("{GOOD}\n{GOOD}"), "\u{e9}", "a/b", &long] {
            assert!(matches!(of_text(bad, 0o600), Err(TokenError::Characters(_))), "{bad:?}");
        }
        let directory = tempfile::tempdir().expect("a directory");
        assert!(matches!(Token::of_file(directory.path()), Err(TokenError::NoFile(_))));
        let missing = Token::of_file(&directory.path().join("token"));
        assert!(matches!(missing, Err(TokenError::File { .. })));
    }

    #[test]
    fn who_knows_it() {
        check("authorization", &format!("Bearer {GOOD}"), true);
        check("authorization", &format!("bearer  {GOOD} "), true);
        check("authorization", &format!("Basic {GOOD}"), false);
        check("authorization", GOOD, false);
        check("authorization", "Bearer ", false);
        check("authorization", &format!("Bearer {}", &GOOD[1..]), false);
        check("authorization", &format!("Bearer {GOOD}0"), false);
        check("authorization", &format!("Bearer {}", GOOD.to_uppercase()), false);
        check("sec-websocket-protocol", &format!("ovsns, ovsns.token.{GOOD}"), true);
        check("sec-websocket-protocol", &format!("ovsns.token.{GOOD}"), true);
        check("sec-websocket-protocol", &format!("ovsns.token.{GOOD}x"), false);
        check("sec-websocket-protocol", GOOD, false);
        check("cookie", GOOD, false);

        #[track_caller]
        fn check(name: &'static str, value: &str, admitted: bool) {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).expect("a value"));
            let token = Token(GOOD.into());
            assert_eq!(token.admits(&headers), admitted, "{name}: {value}");
        }
    }

    #[test]
    fn it_is_not_told() {
        assert_eq!(format!("{:?}", Token(GOOD.into())), "Token(..)");
    }
}
