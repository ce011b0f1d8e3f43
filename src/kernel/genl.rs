//! The families of generic netlink (genl(8)), by name.

use netlink_packet_core::DefaultNla;
use nix::errno::Errno;

use super::error::KernelError;
use super::netlink::Netlink;
use super::raw::{Raw, find, text};

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// The number that the kernel gave the family `name`, if it has it. A family
/// that is a module's the kernel loads now, if the module is there.
///
/// Like `genl ctrl get name NAME`.
pub fn family(netlink: &Netlink, name: &str) -> Result<Option<u16>, KernelError> {
    let asked = || format!("reach the `{name}` family of generic netlink");
    let attribute = text(CTRL_ATTR_FAMILY_NAME, name);
    let message = Raw::new(GENL_ID_CTRL, &[CTRL_CMD_GETFAMILY, 1, 0, 0], &[attribute]);
    let answers = match netlink.raw(message, 0, asked) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(None),
        other => other?,
    };
    let family = answers.iter().find_map(|answer| {
        let number = find(behind_header(answer), &[CTRL_ATTR_FAMILY_ID])?;
        number.try_into().ok().map(u16::from_ne_bytes)
    });
    family.map(Some).ok_or_else(|| KernelError::new(asked(), Errno::EBADMSG))
}

/// A request to a family.
pub fn request(family: u16, command: u8, attributes: &[DefaultNla]) -> Raw {
    Raw::new(family, &[command, 1, 0, 0], attributes)
}

/// The attributes of an answer, behind the header of generic netlink.
pub fn behind_header(answer: &Raw) -> &[u8] {
    answer.bytes.get(4..).unwrap_or_default()
}
