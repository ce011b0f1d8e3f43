//! The server from afar: by TLS and with the token, and not else.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use world::{Running, Verdict, World, until};

const SOCKET: &str = "/run/ovsns/ovsns.sock";

/// A machine that others can reach, and a token.
fn machine(world: &World) {
    world.run("ip link add outside type veth peer name inside");
    for end in ["inside", "outside"] {
        // No address whose state changes by itself.
        world.run(&format!("ip link set {end} addrgenmode none"));
        world.run(&format!("ip link set {end} up"));
    }
    world.run("ip address add 10.9.8.7/24 dev outside");
    world.run("ip link set lo up");
    world.sh("(umask 077; openssl rand -hex 32 > token)");
}

fn server(world: &World, words: &str, address: &str) -> Running {
    let mut command = world.command();
    let running = world.start_command(command.arg("serve").args(words.split_whitespace()));
    until("the server takes clients", || {
        UnixStream::connect(SOCKET).is_ok() && TcpStream::connect(address).is_ok()
    });
    running
}

/// What asks the server at `ADDRESS`, by TLS if there is a certificate.
const CLIENT: &str = "
import base64, http.client, json, os, socket, ssl, sys
address, port = sys.argv[1], int(sys.argv[2])
tls = ssl.create_default_context(cafile='cert.pem') if os.path.exists('cert.pem') else None
token = open('token').read().strip()

def request(headers, method='lab.list', **more):
    if tls:
        at = http.client.HTTPSConnection(address, port, context=tls, timeout=60)
    else:
        at = http.client.HTTPConnection(address, port, timeout=60)
    message = {'jsonrpc': '2.0', 'id': 1, 'method': method, **more}
    at.request('POST', '/', json.dumps(message), {'Content-Type': 'application/json', **headers})
    answer = at.getresponse()
    text = answer.read().decode()
    asks = answer.headers.get('WWW-Authenticate', '')
    return f'{answer.status} {asks}{json.loads(text)[\"result\"] if answer.status == 200 else \"\"}'

class WebSocket:
    def __init__(self, **headers):
        self.wire = socket.create_connection((address, port), 60)
        if tls:
            self.wire = tls.wrap_socket(self.wire, server_hostname=address)
        self.file = self.wire.makefile('rb')
        lines = ['GET / HTTP/1.1', f'Host: {address}:{port}', 'Connection: Upgrade',
                 'Upgrade: websocket', 'Sec-WebSocket-Version: 13',
                 'Sec-WebSocket-Key: ' + base64.b64encode(bytes(16)).decode()]
        lines += [f'{name.replace(\"_\", \"-\")}: {value}' for name, value in headers.items()]
        self.wire.sendall('\\r\\n'.join(lines + ['', '']).encode())
        self.status = self.file.readline().split()[1].decode()
        self.headers = http.client.parse_headers(self.file)
    def say(self, **message):
        text = json.dumps({'jsonrpc': '2.0', 'id': 1, **message}).encode()
        assert len(text) < 126
        # The mask is of zeroes.
        self.wire.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
    def hears(self):
        kind, length = self.file.read(2)
        if length == 126:
            length = int.from_bytes(self.file.read(2), 'big')
        said = self.file.read(length)
        # It may ask first whether anybody is there.
        return json.loads(said) if kind == 0x81 else self.hears()

bearer = {'Authorization': 'Bearer ' + token}
";

/// Whoever has the token, from any machine, by TLS.
pub(crate) fn who_knows_the_token_from_afar(world: &World) -> Verdict {
    world.needs("openssl")?;
    world.needs("python3")?;
    machine(world);
    let before = world.inventory();
    // What the refusal says to do is enough.
    let refused = world.ovsns("serve --tcp 10.9.8.7:8443 --token token").code(1);
    let refused = refused.says("`10.9.8.7:8443` is not a loopback address");
    let make = refused.stderr.split('`').find(|word| word.starts_with("openssl req "));
    world.sh(make.expect("a command"));
    let words = "--tcp 10.9.8.7:8443 --token token --cert cert.pem --key key.pem";
    let server = server(world, words, "10.9.8.7:8443");
    let script = "
own = {'Origin': f'https://{address}:{port}'}
print('nobody:', request({}))
print('a wrong one:', request({'Authorization': 'Bearer ' + '0' * 64}))
print('a part of it:', request({'Authorization': 'Bearer ' + token[:-1]}))
print('another site:', request({'Origin': 'https://evil.test', **bearer}))
print('it:', request(bearer))
print('its own page:', request({**own, **bearer}))
up = {'topology': {'nodes': {'a': {}}}, 'lab': 'far'}
print('up:', request(bearer, 'lab.up', params=up)[:3])
print('a socket of nobody:', WebSocket().status)
print('a socket of another site:', WebSocket(
    Origin='https://evil.test', Sec_WebSocket_Protocol='ovsns, ovsns.token.' + token).status)
page = WebSocket(Sec_WebSocket_Protocol='ovsns, ovsns.token.' + token, **own)
print('a socket:', page.status, page.headers['Sec-WebSocket-Protocol'])
page.say(method='call.follow', params={'method': 'lab.list'})
assert 'result' in page.hears()
print('heard:', page.hears()['params']['result']['answer'][0]['lab'])
";
    world.file("client.py", &format!("{CLIENT}{script}"));
    let heard = world.run("python3 client.py 10.9.8.7 8443").stdout;
    let lines = [
        "nobody: 401 Bearer realm=\"ovsns\"",
        "a wrong one: 401 Bearer realm=\"ovsns\"",
        "a part of it: 401 Bearer realm=\"ovsns\"",
        "another site: 403 ",
        "it: 200 []",
        "its own page: 200 []",
        "up: 200",
        "a socket of nobody: 401",
        "a socket of another site: 403",
        "a socket: 101 ovsns",
        "heard: far",
    ];
    assert_eq!(heard.lines().collect::<Vec<_>>(), lines);
    assert_eq!(world.namespaces(), ["far.a"]);
    world.ovsns("down").ok();
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    until("the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(&before);
    Ok(())
}

/// On this machine without TLS, but not for pages that others lead here; and whoever
/// only sits there from afar takes nobody's place.
pub(crate) fn on_this_machine_without_tls(world: &World) -> Verdict {
    world.needs("openssl")?;
    world.needs("python3")?;
    machine(world);
    let server = server(world, "--tcp 127.0.0.1:8080 --token token", "127.0.0.1:8080");
    let script = "
print('nobody:', request({}))
print('it:', request(bearer))
print('by name:', request({'Host': 'localhost:8080', **bearer}))
print('by another:', request({'Host': 'evil.test:8080', **bearer}))
print('with its page:', request({'Host': 'evil.test', 'Origin': 'http://evil.test', **bearer}))
";
    world.file("client.py", &format!("{CLIENT}{script}"));
    let heard = world.run("python3 client.py 127.0.0.1 8080").stdout;
    let lines = [
        "nobody: 401 Bearer realm=\"ovsns\"",
        "it: 200 []",
        "by name: 200 []",
        "by another: 403 ",
        "with its page: 403 ",
    ];
    assert_eq!(heard.lines().collect::<Vec<_>>(), lines);
    let come = || TcpStream::connect("127.0.0.1:8080").expect("it listens");
    let sitting: Vec<_> = (0..600).map(|_| come()).collect();
    world.ovsns("list").ok();
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    drop(sitting);
    Ok(())
}

/// What would give the machine away is refused, with a thing to do, and nothing is left.
pub(crate) fn what_is_not_safe_is_refused(world: &World) -> Verdict {
    world.needs("openssl")?;
    machine(world);
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                -subj /CN=x -days 9";
    world.sh(&format!("{make} -keyout one.key -out one.pem; {make} -keyout two.key -out two.pem"));
    let before = world.inventory();
    let serve = |words: &str| world.ovsns(&format!("serve --tcp 127.0.0.1:8080 {words}"));
    serve("").code(2).says("--token <FILE>");
    world.ovsns("serve --token token").code(2).says("--tcp <ADDR:PORT>");
    serve("--token token --cert one.pem").code(2).says("--key <FILE>");
    serve("--token nothing").code(1).says("could not read").says("openssl rand -hex 32 > nothing");
    let mode = |mode| std::fs::set_permissions("token", PermissionsExt::from_mode(mode));
    mode(0o644).expect("it is ours");
    serve("--token token").code(1).says("its mode is 0644").says("`chmod 600 token`");
    mode(0o600).expect("it is ours");
    world.sh("chown 1234 token");
    serve("--token token").code(1).says("belongs to user 1234");
    world.sh("chown 0 token; umask 077; echo too-short > short; touch empty");
    serve("--token short").code(1).says("has 9 characters").says("openssl rand");
    serve("--token empty").code(1).says("has 0 characters");
    serve("--token token --cert one.pem --key two.key").code(1).says("of one pair");
    serve("--token token --cert one.key --key one.key").code(1).says("the certificate `one.key`");
    world.sh("chmod 600 one.pem");
    serve("--token token --cert one.pem --key one.pem").code(1).says("the key `one.pem`");
    world.sh("chmod 644 one.key");
    let refused = serve("--token token --cert one.pem --key one.key").code(1);
    refused.says("everybody can read the key `one.key`").says("`chmod o= one.key`");
    for open in ["0.0.0.0", "[::]", "10.9.8.7"] {
        let refused = world.ovsns(&format!("serve --tcp {open}:8080 --token token"));
        refused.code(1).says("there is no certificate").says("openssl req");
    }
    world.ovsns("serve --tcp 127.0.0.1 --token token").code(2);
    let _theirs = std::net::TcpListener::bind("127.0.0.1:8080").expect("it is free");
    serve("--token token").code(1).says("could not listen at `127.0.0.1:8080`").says("ss -ltnp");
    assert!(!std::path::Path::new(SOCKET).exists());
    world.inventory().must_equal(&before);
    Ok(())
}
