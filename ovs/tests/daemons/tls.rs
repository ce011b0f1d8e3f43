//! `ssl:` remotes, with the certificates that `ovs-pki` makes.

use std::path::Path;
use std::process::Command;

use ovsdb::vswitch::{Bridge, OpenVswitch, Qos};
use ovsdb::{Client, Remote, Tls, Transaction};
use tempfile::TempDir;

use crate::database::root;
use crate::lab::{Server, VSWITCH_SCHEMA, free_port, quick};

crate::tests! { &["ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-pki", "openssl", "setpriv", VSWITCH_SCHEMA];
    both_sides_show_a_certificate
    another_authority_is_not_trusted
    a_name_is_checked_when_asked_for
    files_that_are_none_are_named
}

/// A directory in which a script has made keys and certificates.
fn made_by(script: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir
}

const OVS_PKI: &str = "pki() { ovs-pki --dir=$PWD/pki --log=$PWD/pki.log \"$@\" 2>&1; }
    pki init; pki req+sign server controller; pki req+sign client switch
    cp pki/controllerca/cacert.pem trusted-by-client.pem
    cp pki/switchca/cacert.pem trusted-by-server.pem";

/// One authority, and a server whose certificate does name it.
const NAMED: &str = "key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    openssl req -x509 $key -subj /CN=ca -keyout ca.key -out trusted-by-client.pem 2>/dev/null
    cp trusted-by-client.pem trusted-by-server.pem
    for who in server client; do
        openssl req $key -subj /CN=$who -keyout $who-privkey.pem -out $who.csr 2>/dev/null
        echo subjectAltName=DNS:$who.ovsdb.test > ext
        openssl x509 -req -in $who.csr -CA trusted-by-client.pem -CAkey ca.key -extfile ext \
            -CAcreateserial -out $who-cert.pem 2>/dev/null
    done";

fn file(pki: &TempDir, name: &str) -> String {
    pki.path().join(name).display().to_string()
}

fn server(pki: &TempDir) -> (Server, Remote) {
    let port = free_port();
    let server = Server::of(
        VSWITCH_SCHEMA,
        &[
            format!("--remote=pssl:{port}:127.0.0.1"),
            format!("--private-key={}", file(pki, "server-privkey.pem")),
            format!("--certificate={}", file(pki, "server-cert.pem")),
            format!("--ca-cert={}", file(pki, "trusted-by-server.pem")),
        ],
    );
    server.vsctl(&["init"]);
    (server, format!("ssl:127.0.0.1:{port}").parse().unwrap())
}

fn credentials(pki: &TempDir) -> Tls {
    let (key, certificate) = (file(pki, "client-privkey.pem"), file(pki, "client-cert.pem"));
    Tls::from_files(key, certificate, file(pki, "trusted-by-client.pem")).unwrap()
}

async fn connect(remote: &Remote, tls: Tls) -> Result<Client, String> {
    let client = quick("Open_vSwitch").remote(remote.clone()).tls(tls).watch::<OpenVswitch>();
    let client = client.watch::<Bridge>().watch::<Qos>();
    let client = client.connect_within(std::time::Duration::from_secs(2)).connect().await;
    client.map_err(|error| {
        let mut error: &dyn std::error::Error = &error;
        while let Some(source) = error.source() {
            error = source;
        }
        error.to_string()
    })
}

async fn both_sides_show_a_certificate() {
    let pki = made_by(OVS_PKI);
    let (server, remote) = server(&pki);
    let client = connect(&remote, credentials(&pki)).await.unwrap();
    // Many records in each direction.
    let mut change = Transaction::new();
    for n in 0..2000 {
        let other_config = [("n".to_owned(), format!("{n:0500}"))].into();
        change.insert(&Qos { kind: "linux-htb".into(), other_config, ..Default::default() });
    }
    change.put(OpenVswitch::EXTERNAL_IDS, client.read(root).uuid, [("over", "tls")]);
    client.transact(&change).await.unwrap();
    assert_eq!(client.read(|replica| replica.count("QoS")), Ok(2000));
    assert!(1_000_000 < client.traffic().bytes_in && 1_000_000 < client.traffic().bytes_out);
    assert_eq!(server.vsctl(&["get", "open", ".", "external_ids"]), "{over=tls}");
}

async fn another_authority_is_not_trusted() {
    let (ours, theirs) = (made_by(NAMED), made_by(NAMED));
    let (_server, remote) = server(&ours);
    let (key, certificate) = (file(&ours, "client-privkey.pem"), file(&ours, "client-cert.pem"));
    // We do not trust the server.
    let tls = Tls::from_files(&key, &certificate, file(&theirs, "trusted-by-client.pem")).unwrap();
    let error = connect(&remote, tls).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
    // The server does not trust us.
    let (key, certificate) =
        (file(&theirs, "client-privkey.pem"), file(&theirs, "client-cert.pem"));
    let tls = Tls::from_files(&key, &certificate, file(&ours, "trusted-by-client.pem")).unwrap();
    let error = connect(&remote, tls).await.unwrap_err();
    assert!(error.contains("received fatal alert"), "{error}");
    connect(&remote, credentials(&ours)).await.expect("the right ones");
}

async fn a_name_is_checked_when_asked_for() {
    let pki = made_by(NAMED);
    let (_server, remote) = server(&pki);
    let right = credentials(&pki).expect_name("server.ovsdb.test").unwrap();
    connect(&remote, right).await.expect("the name in the certificate");
    let wrong = credentials(&pki).expect_name("other.ovsdb.test").unwrap();
    let error = connect(&remote, wrong).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
    let error = credentials(&pki).expect_name("no name").unwrap_err();
    assert_eq!(error.to_string(), "`no name` cannot be the name in a certificate");
}

async fn files_that_are_none_are_named() {
    let pki = made_by(NAMED);
    let (key, certificate) = (file(&pki, "client-privkey.pem"), file(&pki, "client-cert.pem"));
    let error = Tls::from_files(&key, "/nowhere.pem", &certificate).unwrap_err();
    assert_eq!(error.to_string(), "could not read the certificate `/nowhere.pem`");
    let error = Tls::from_files(&certificate, &certificate, &certificate).unwrap_err();
    assert_eq!(error.to_string(), format!("could not read the private key `{certificate}`"));
    let error = Tls::from_files(&key, &certificate, &key).unwrap_err();
    assert_eq!(error.to_string(), format!("could not read the CA certificate `{key}`"));
    let other = file(&pki, "server-privkey.pem");
    let error = Tls::from_files(other, &certificate, &certificate).unwrap_err();
    assert_eq!(error.to_string(), "could not use the certificate with its key");
    assert!(Path::new(&key).exists());
}
