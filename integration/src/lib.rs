//! Private worlds.
