//! An OVSDB client.
