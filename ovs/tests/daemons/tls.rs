crate::tests! { &["ovsdb-server"]; }
