//! The page of `ovsns serve --web`: what a person with a browser sees and does there,
//! and what the kernel says of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use world::{Browser, Running, Skip, Verdict, World, keys, until};

use crate::TWO_NODES;

const TOKEN: &str = "0123456789abcdef+123456789abcdef";
const AT: &str = "127.0.0.1:8080";

/// A server with a page, and a browser.
fn page(world: &World) -> Result<(Running, Browser), Skip> {
    let browser = world.browser()?;
    let token = Path::new("/run/world").join(world.file("token", TOKEN));
    std::fs::set_permissions(token, PermissionsExt::from_mode(0o600)).expect("our own file");
    Ok((server_at(world), browser))
}

/// A server whose terminals have a plain shell: that of whoever runs the tests may do a
/// lot of its own before it reads a key, and in files of his.
fn server_at(world: &World) -> Running {
    let mut command = world.command();
    command.args(["serve", "--web", AT, "--token", "/run/world/token"]);
    let server = world.start_command(command.env("SHELL", "/bin/sh").env_remove("ENV"));
    until("the page is there", || TcpStream::connect(AT).is_ok());
    server
}

/// Comes in by the address that the server told, and waits until a lab is shown.
#[track_caller]
fn come_in(browser: &Browser) {
    browser.open(&format!("http://{AT}/#token={TOKEN}"));
    browser.until("document.body.dataset.lab");
}

/// The row of a link or a node is of that state.
#[track_caller]
fn is(browser: &Browser, id: &str, state: &str) {
    let row = json!(format!("tr[data-id=\"{id}\"]"));
    browser.until(&format!("document.querySelector({row})?.dataset.state === '{state}'"));
}

fn operstate(world: &World) -> Value {
    world.setting("two-nodes.n1", "eth0", "operstate")
}

#[track_caller]
fn no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// n1 -- b.1.1 -- n2: all of it is drawn and listed; a link goes down and up by a click.
pub(crate) fn links_go_down_and_up_by_a_click(world: &World) -> Verdict {
    let (_server, browser) = page(world)?;
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    come_in(&browser);
    let names =
        "return [...document.querySelectorAll('#things th button')].map(it => it.textContent)";
    assert_eq!(browser.asks(names), json!(["b.1.1", "n1", "n2"]));
    browser.until(
        "[...document.querySelectorAll('#drawing canvas')].some(it => \
         it.getContext('2d').getImageData(0, 0, it.width, it.height).data.some(byte => byte))",
    );
    // How fast a link is, there and back: more than a ping in two seconds.
    let pinging = world.pinging("two-nodes.n1", "10.0.0.2");
    browser.until(
        "[2, 3].every(at => /^[1-9][0-9.]* k$/.test( \
         document.querySelector('tr[data-id=\"b.1.1 -- n1:eth0\"]').cells[at].textContent))",
    );
    browser.until(
        "document.getElementById('drawing')._cyreg.cy.getElementById('b.1.1 -- n1:eth0') \
         .data('label').includes(' kbit/s')",
    );
    drop(pinging);
    // What nobody answers goes one way: there from the first end, back from the second.
    world.run("ip -n two-nodes.n1 neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev eth0");
    let lost = world.start("ip netns exec two-nodes.n1 ping -q -i 0.1 -s 1000 10.0.0.77");
    for (end, ways) in [("n1:eth0", [2, 3]), ("n2:eth0", [3, 2])] {
        let at = |way: usize| {
            let row = format!("tr[data-id=\"b.1.1 -- {end}\"]");
            format!("document.querySelector('{row}').cells[{way}].textContent.endsWith('k')")
        };
        browser.until(&format!("{} && !{}", at(ways[0]), at(ways[1])));
    }
    drop(lost);
    // The token has left the address.
    assert_eq!(browser.asks("return location.href"), json!(format!("http://{AT}/")));

    // A click on the picture of a node.
    let place = "const box = document.getElementById('drawing'), at = box.getBoundingClientRect(), \
                 node = box._cyreg.cy.getElementById('n1').renderedPosition(); \
                 return [at.x + node.x, at.y + node.y].map(Math.round)";
    let place = browser.asks(place);
    browser.click_at(place[0].as_i64().expect("a number"), place[1].as_i64().expect("a number"));
    browser.shows("#thing-title", "n1");
    browser.shows("#thing-facts", "10.0.0.1/24");

    is(&browser, "b.1.1 -- n1:eth0", "up");
    browser.click("button[aria-label='Take down: n1:eth0 -- b.1.1']");
    is(&browser, "b.1.1 -- n1:eth0", "held_down");
    browser.shows("tr[data-id='b.1.1 -- n1:eth0']", "taken down");
    browser.shows("#news", "n1:eth0 -- b.1.1: taken down");
    browser.until("document.getElementById('drawing').ariaLabel.includes('taken down')");
    assert_ne!(operstate(world), "UP");
    browser.click("button[aria-label='Bring up: n1:eth0 -- b.1.1']");
    is(&browser, "b.1.1 -- n1:eth0", "up");
    until("the kernel has it up", || operstate(world) == "UP");
    world.pings("two-nodes.n1", "10.0.0.2");
    no_complaints(&browser);
    is_accessible(&browser);
    Ok(())
}

/// n1 == n2, n1 == s1 === s2
const BESIDE: &str = "
name: l
switches: { s1: { backend: linux, stp: true }, s2: { backend: linux, stp: true } }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] }, eth1: { addresses: [10.0.1.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] }, eth1: { addresses: [10.0.1.2/24] } } }
links:
  - endpoints: ['n1:eth0', 'n2:eth0']
  - endpoints: ['n1:eth1', 'n2:eth1']
  - endpoints: ['n1:eth2', s1]
  - endpoints: ['n1:eth3', s1]
  - { endpoints: [s1, s2], down: true }
  - { endpoints: [s2, s1], down: true }
  - { endpoints: [s1, s2], down: true }
";

/// n1 == n2, n1 == s1 === s2: each of several links between the same two things is drawn,
/// told of, and taken down by itself, under the name that the command line has for it.
pub(crate) fn links_beside_each_other(world: &World) -> Verdict {
    let (_server, browser) = page(world)?;
    world.file("l.yaml", BESIDE);
    world.ovsns("up l.yaml").ok();
    come_in(&browser);
    let listed = world.ovsns("link list --json").ok().json();
    let listed = listed.as_array().expect("a list").iter();
    let mut listed: Vec<String> = listed
        .map(|link| format!("{} -- {}", link["ends"][0], link["ends"][1]).replace('"', ""))
        .collect();
    listed.sort();
    let shown = browser.asks(
        "return [...document.querySelectorAll('#links th')].map(it => it.textContent).sort()",
    );
    assert_eq!(shown, json!(listed));

    // No two lie on each other: a place on each, halfway, where nothing else is.
    let ids = ["n1:eth0 -- n2:eth0", "n1:eth1 -- n2:eth1", "s1 -- s2", "s1 -- s2#1", "s1 -- s2#2"];
    let middle = |id: &str| {
        let id = json!(id);
        let at = browser.asks(&format!(
            "const box = document.getElementById('drawing'), at = box.getBoundingClientRect(), \
             cy = box._cyreg.cy, it = cy.getElementById({id}).renderedMidpoint(); \
             return [at.x + it.x, at.y + it.y].map(Math.round)"
        ));
        [0, 1].map(|axis| at[axis].as_i64().expect("a number"))
    };
    let titles =
        ["n1:eth0 -- n2:eth0", "n1:eth1 -- n2:eth1", "s1 -- s2", "s1 -- s2#1", "s1 -- s2#2"];
    for (id, title) in ids.iter().zip(titles) {
        let [x, y] = middle(id);
        browser.click_at(x, y);
        let exactly =
            format!("document.getElementById('thing-title').textContent === {}", json!(title));
        browser.until(&exactly);
    }

    // By the keyboard, where `s1 -- s2#1` is chosen the way a person chooses it.
    browser.click("tr[data-id='s1 -- s2#1'] th button");
    browser.shows("#thing-title", "s1 -- s2#1");
    browser.shows("#thing-facts", "taken down");
    browser.asks("document.querySelector('#thing-buttons button').focus()");
    browser.press(keys::ENTER);
    is(&browser, "s1 -- s2#1", "up");
    let states = |world: &World| {
        let listed = world.ovsns("link list --json").ok().json();
        let trunks = listed.as_array().expect("a list").iter();
        let trunks = trunks.filter(|it| it["ends"][0] == "s1");
        let mut states: Vec<_> =
            trunks.map(|it| (it["ends"][1].clone(), it["up"].clone())).collect();
        states.sort_by_key(|(end, _)| end.to_string());
        json!(states)
    };
    assert_eq!(states(world), json!([["s2", false], ["s2#1", true], ["s2#2", false]]));
    is(&browser, "s1 -- s2", "held_down");
    is(&browser, "s1 -- s2#2", "held_down");
    // The command line has the same names.
    world.ovsns("link down s1 s2#1").ok();
    is(&browser, "s1 -- s2#1", "held_down");
    world.ovsns("link up s2#0 s1").ok();
    is(&browser, "s1 -- s2", "up");
    assert_eq!(states(world), json!([["s2", true], ["s2#1", false], ["s2#2", false]]));
    world.ovsns("link up s1 s2#3").code(2).says("there is no link 3 between `s1` and `s2`");

    // Only the one that carries something is fast.
    let pinging = world.pinging("l.n1", "10.0.1.2");
    let rate =
        |id: &str| format!("document.querySelector('tr[data-id=\"{id}\"]').cells[2].textContent");
    browser.until(&format!("/^[1-9][0-9.]* k$/.test({})", rate(ids[1])));
    browser.until(&format!("{} === '0'", rate(ids[0])));
    drop(pinging);
    browser.click("button[aria-label='Take down: n1:eth0 -- n2:eth0']");
    is(&browser, "n1:eth0 -- n2:eth0", "held_down");
    is(&browser, "n1:eth1 -- n2:eth1", "up");
    world.silence("l.n1", "10.0.0.2");
    world.pings("l.n1", "10.0.1.2");
    no_complaints(&browser);
    Ok(())
}

/// What `axe` says of the page, where that was fetched: it is no part of ovsns.
fn is_accessible(browser: &Browser) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/daemon/web/page");
    let Ok(axe) = std::fs::read_to_string(page.join("node_modules/axe-core/axe.min.js")) else {
        return world::note("without axe: `npm ci --ignore-scripts` in src/daemon/web/page");
    };
    browser.asks(&axe);
    browser.asks("axe.run().then(it => { window.found = it.violations; })");
    browser.until("window.found");
    let found = browser
        .asks("return window.found.map(it => [it.impact, it.id, it.nodes.map(node => node.html)])");
    assert_eq!(found, json!([]), "axe has found something");
}

/// n1 -- b.1.1 -- n2: what others do shows without a click, whoever they are.
pub(crate) fn what_others_do_shows_by_itself(world: &World) -> Verdict {
    let (_server, browser) = page(world)?;
    browser.open(&format!("http://{AT}/#token={TOKEN}"));
    browser.shows("#lab-state", "There is no lab");
    world.file("two.yaml", TWO_NODES);
    world.ovsns("--no-server up two.yaml").ok();
    is(&browser, "b.1.1 -- n2:eth0", "up");
    browser.shows("#lab-state", "up");
    browser.until("document.getElementById('trouble').hidden");
    world.run("ip -n two-nodes.n2 link del eth0");
    is(&browser, "b.1.1 -- n2:eth0", "missing");
    browser.until("!document.getElementById('trouble').hidden");
    browser.shows("#trouble-list", "n2");
    browser.shows("#lab-state", "drifted");
    world.ovsns("up two.yaml").ok();
    is(&browser, "b.1.1 -- n2:eth0", "up");
    browser.until("document.getElementById('trouble').hidden");
    world.ovsns("up --lab other --topo single,3").ok();
    browser.until("document.querySelectorAll('#lab option').length === 2");
    world.ovsns("down two-nodes").ok();
    browser.until("document.body.dataset.lab === 'other'");
    is(&browser, "h3:eth0 -- s1", "up");
    no_complaints(&browser);
    Ok(())
}

/// n1 -- b.1.1 -- n2: a ping, and a terminal in a node that ends with its window.
pub(crate) fn a_ping_and_a_terminal(world: &World) -> Verdict {
    let (_server, browser) = page(world)?;
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    come_in(&browser);
    browser.click("#ping-go");
    browser.shows("#ping-said", "ok: n2 answers n1 from 10.0.0.2");
    world.run("ip -n two-nodes.n2 link set eth0 down");
    browser.click("#ping-go");
    browser.shows("#ping-said", "no answer from n2");

    browser.click("#things button[aria-label='Terminal in n1']");
    browser.until("document.activeElement.matches('.xterm-helper-textarea')");
    browser.press("ip -br addr show eth0; stty size; echo $OVSNS_LAB-$TERM\n");
    let screen = ".terminal-box[data-node=n1] .xterm-accessibility-tree";
    browser.shows(screen, "10.0.0.1/24");
    browser.shows(screen, "two-nodes-xterm-256color");
    // It hears how big it is.
    let columns = browser.asks(
        "document.querySelector('.terminal-box .screen').style.width = '20rem'; \
         return document.querySelector('.terminal-box .screen').clientWidth",
    );
    assert!(columns.as_u64() < Some(400), "{columns}");
    browser
        .press("until stty size | grep -E ' [1-4][0-9]$'; do :; done; echo is-narrow | tr - _\n");
    browser.shows(screen, "is_narrow");

    let runs = |what: &str| world.processes().iter().any(|(_, line)| line.contains(what));
    browser.press("sleep 4753\n");
    until("it runs", || runs("sleep 4753"));
    browser.click(".terminal-box button");
    until("it is hung up on", || !runs("sleep 4753"));
    browser.until("!document.querySelector('.terminal-box')");
    // Whoever says `exit` is told so.
    browser.click("#things button[aria-label='Terminal in n2']");
    browser.until("document.activeElement.matches('.xterm-helper-textarea')");
    browser.press("exit 3\n");
    browser.shows(".terminal-box[data-node=n2]", "the shell has ended with status 3");
    no_complaints(&browser);
    Ok(())
}

/// A node with processes of its own has terminals like any other; there are only so many,
/// and all end with the server.
pub(crate) fn terminals_have_an_end(world: &World) -> Verdict {
    let (server, browser) = page(world)?;
    let alone = "name: l\nnodes: { a: { isolation: [all] } }\n";
    world.ovsns(&format!("up {}", world.file("l.yaml", alone))).ok();
    come_in(&browser);
    browser.click("#things button[aria-label='Terminal in a']");
    browser.until("document.activeElement.matches('.xterm-helper-textarea')");
    browser.press("hostname; sleep 4754\n");
    let runs = |what: &str| world.processes().iter().any(|(_, line)| line.contains(what));
    until("it runs", || runs("sleep 4754"));
    browser.click(".terminal-box button");
    until("it is hung up on", || !runs("sleep 4754"));

    browser.asks(
        "window.heard = []; window.lines = []; \
         const token = sessionStorage.getItem('ovsns-token'); \
         for (let i = 0; i < 33; i++) { \
           const it = new WebSocket('/terminal', ['ovsns', 'ovsns.token.' + token]); \
           it.onopen = () => it.send('{\"open\":{\"lab\":\"l\",\"node\":\"a\",\"size\":[80,24]}}'); \
           it.onmessage = (event) => heard.push(event.data); lines.push(it); }",
    );
    let refused = json!({ "ended": "there are 32 terminals already; close one" }).to_string();
    browser.until(&format!("heard.includes({})", json!(refused)));
    browser.until("lines.filter(it => it.readyState === 1).length === 32");
    let shells = || {
        let all = world.processes();
        all.iter().filter(|(_, line)| line.contains("shell l/a")).count()
    };
    until("each has a shell", || shells() == 32);
    // One that goes makes room for another.
    browser.asks("lines.find(it => it.readyState === 1).close()");
    until("its shell has gone", || shells() == 31);
    browser.click("#things button[aria-label='Terminal in a']");
    until("there is room", || shells() == 32);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.finish().ok();
    until("all have ended", || shells() == 0);
    browser.shows("#link-state", "does not answer");
    // What happens meanwhile is seen when there is a server again, and what happens then.
    world.ovsns("node add b").ok();
    let _server = server_at(world);
    is(&browser, "b", "up");
    world.ovsns("node add c").ok();
    is(&browser, "c", "up");
    Ok(())
}

/// n1 -- b.1.1 -- n2, h1 -- s1 -- h2: what goes while it is looked at is said to have gone.
pub(crate) fn what_goes_is_said(world: &World) -> Verdict {
    let (server, browser) = page(world)?;
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    come_in(&browser);
    world.ovsns("up --lab z --topo single,2 --backend linux").ok();
    browser.until("document.querySelectorAll('#lab option').length === 2");

    // A thing, and the node of a terminal.
    browser.click("#things button[aria-label='Terminal in n1']");
    browser.until("document.activeElement.matches('.xterm-helper-textarea')");
    browser.press("echo a-shell | tr - _\n");
    browser.shows(".terminal-box .xterm-accessibility-tree", "a_shell");
    browser.click("tr[data-id=n1] th button");
    browser.shows("#thing-title", "n1");
    world.ovsns("node rm n1 --lab two-nodes").ok();
    browser.shows("#thing-title", "Nothing chosen");
    browser.shows("#thing-hint", "n1 of lab two-nodes is gone");
    browser.shows(".terminal-box .head", "two-nodes/n1 is gone");
    browser.click(".terminal-box button");
    browser.until("!document.querySelector('.terminal-box')");

    // A lab: what is chosen in it is not in another, and another one is not it.
    browser.click("tr[data-id='b.1.1 -- n2:eth0'] th button");
    browser.shows("#thing-title", "n2:eth0 -- b.1.1");
    browser.click("#things button[aria-label='Terminal in n2']");
    browser.until("document.activeElement.matches('.xterm-helper-textarea')");
    world.ovsns("down two-nodes").ok();
    browser.until("document.body.dataset.lab === 'z'");
    browser.shows("#news", "Lab two-nodes is gone. This is lab z.");
    browser.shows("#thing-hint", "b.1.1 -- n2:eth0 of lab two-nodes is gone");
    browser.shows(".terminal-box .head", "two-nodes/n2 is gone");

    // One that is made again before the page has looked is fast again.
    let fast = "Number(document.querySelector('tr[data-id=\"h1:eth0 -- s1\"]').cells[2].textContent \
                .replace(' k', '')) > 0";
    let pinging = world.pinging("z.h1", "10.0.0.2");
    browser.until(fast);
    drop(pinging);
    let counts = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.id())).expect("it runs");
        let names = tasks.flatten().map(|it| std::fs::read_to_string(it.path().join("comm")));
        names.flatten().any(|name| name.trim() == "fabric.stats")
    };
    until("the server counts", counts);
    // It looks away for so long.
    browser.asks(
        "document.querySelector('tr[data-id=\"h1:eth0 -- s1\"]').cells[2].textContent = 'old'; \
         setTimeout(() => { const end = performance.now() + 5000; while (performance.now() < end); })",
    );
    world.ovsns("down z").ok();
    until("the server counts no more", || !counts());
    world.ovsns("up --lab z --topo single,2 --backend linux").ok();
    // More than all that it may hear late of the lab that went.
    let _pinging = world.start("ip netns exec z.h1 ping -q -i 0.05 -s 1000 10.0.0.2");
    let cell = "document.querySelector('tr[data-id=\"h1:eth0 -- s1\"]').cells[2].textContent";
    browser.until(&format!("/^[1-9][0-9]{{2}} k$/.test({cell})"));
    no_complaints(&browser);
    Ok(())
}

/// h1 -- s1 -- h2: a server that goes is said to have gone, and all is as before when it is
/// there again; another one asks who is there.
pub(crate) fn a_server_goes_and_comes(world: &World) -> Verdict {
    let (server, browser) = page(world)?;
    world.ovsns("up --lab z --topo single,2 --backend linux").ok();
    come_in(&browser);
    let fast = "Number(document.querySelector('tr[data-id=\"h1:eth0 -- s1\"]').cells[2].textContent \
                .replace(' k', '')) > 0";
    let _pinging = world.pinging("z.h1", "10.0.0.2");
    browser.until(fast);
    // How old the picture is, and that nothing can be done.
    server.signal(nix::sys::signal::Signal::SIGKILL);
    drop(server);
    browser.shows("#link-state", "trying again");
    browser.shows("#news", "What is shown is of ");
    browser.until(
        "[...document.querySelectorAll('#links tr')].every(it => it.cells[2].textContent === '')",
    );
    browser.click("button[aria-label='Take down: h1:eth0 -- s1']");
    browser.shows("#news", "h1:eth0 -- s1 stays as it is: the server is not there");
    browser.click("#ping-go");
    browser.shows("#ping-said", "not tried: the server is not there");
    browser.click("#things button[aria-label='Terminal in h1']");
    browser.shows(".terminal-box[data-node=h1] .head", "ended");
    let back = server_at(world);
    browser.shows("#link-state", "connected");
    browser.shows("#news", "The server is there again.");
    browser.until(fast);

    // Another server, which this token does not open.
    drop(back);
    browser.shows("#link-state", "trying again");
    let other = Path::new("/run/world").join(world.file("token", &TOKEN.replace('0', "9")));
    std::fs::set_permissions(other, PermissionsExt::from_mode(0o600)).expect("our own file");
    let _other = server_at(world);
    browser.shows("#door-error", "not this server's token");
    assert_eq!(browser.asks("return document.getElementById('hall').checkVisibility()"), false);
    // What cannot be a token is none, whatever letters it has.
    for wrong in ["\u{442}\u{43e}\u{43a}\u{435}\u{43d}", "two words", "%zz", "a,b"] {
        browser.asks("document.getElementById('door-error').textContent = ''");
        browser.until("document.activeElement.id === 'token'");
        browser.press(&format!("{wrong}{}", keys::ENTER));
        browser.shows("#door-error", "not this server's token");
    }
    browser.open("about:blank");
    browser.open(&format!("http://{AT}/#token=%zz"));
    browser.shows("#door-error", "not this server's token");
    Ok(())
}

/// h1 -- s1 === s2 -- h2, with an uplink, a tunnel and a controller that is not there:
/// what they are and what is wrong with them is told.
pub(crate) fn what_is_wrong_is_shown(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let (_server, browser) = page(world)?;
    for line in [
        "ovs-vsctl -- add-br br-phy -- set bridge br-phy datapath_type=netdev",
        "ip address add 172.31.0.1/24 dev br-phy",
        "ip link set br-phy up",
        "ip link add eth5 type veth peer name far5",
        "ip link set eth5 up",
        "ip link set far5 up",
    ] {
        world.run(line);
    }
    let lab = "
name: A_lab-with_odd-letters_31-lettr
switches:
  s1: { backend: ovs, controllers: ['tcp:127.0.0.1:6653'], fail_mode: standalone }
  s2: { backend: ovs, tunnels: { t0: { remote: 172.31.0.2, type: vxlan, key: 77 } } }
nodes: { 'h[1-2]': {} }
links:
  - { endpoints: [s1, s2], bond: { members: 2, mode: active-backup } }
  - endpoints: [h1, s1]
  - endpoints: [h2, s2]
cuts: { c1: { nodes: [h1], from: [h2] } }
";
    world.file("l.yaml", lab);
    world.ovsns("up l.yaml").ok();
    come_in(&browser);
    browser.shows("#notes", "cut c1: h1 from h2");
    browser.shows("#trouble-list", "controller tcp:127.0.0.1:6653 of switch s1 is not connected");
    browser.until("!document.getElementById('trouble-hint').checkVisibility()");
    world.ovsns("attach eth5 --switch s1 --confirm 600").ok();
    browser.shows("#trouble-list", "NIC eth5 is given back unless somebody says: ovsns confirm ");
    is(&browser, "nic:eth5 -- s1", "up");
    world.ovsns("confirm").ok();
    browser.until("!document.getElementById('trouble-list').textContent.includes('eth5')");

    // How fast all of them are is known, and what a bond is made of.
    let all = "['nic:eth5 -- s1', 's2 -- s2@t0', 's1 -- s2', 'h1:eth0 -- s1'].every(id => \
               document.querySelector(`tr[data-id=\"${id}\"]`).cells[2].textContent !== '')";
    browser.until(all);
    browser.click("tr[data-id='s1 -- s2'] th button");
    browser.shows("#thing-facts", "active-backup, LACP active, both ends agree");
    browser.until(
        "document.getElementById('thing-facts').textContent.split('on s1: used').length === 2",
    );
    browser.until(
        "document.getElementById('thing-facts').textContent.split('on s1: spare').length === 2",
    );
    let cable = browser.asks(
        "return [...document.querySelectorAll('#thing-facts dd')].map(it => it.textContent) \
         .find(it => it.endsWith(' on s1: spare')).split(' ')[0]",
    );
    let cable = cable.as_str().expect("a device");
    world.run(&format!("ip link set {cable} down"));
    browser.shows(
        "#trouble-list",
        &format!("cable {cable} of the bond to s2 on switch s1 is out of use"),
    );
    browser.shows("#lab-state", "drifted");
    browser.until("document.getElementById('trouble-hint').checkVisibility()");

    is_accessible(&browser);

    // A drift as long as a lab is not all of the page.
    world.run("ip -n A_lab-with_odd-letters_31-lettr.h1 link del eth0");
    world.run("ip -n A_lab-with_odd-letters_31-lettr.h2 link del eth0");
    is(&browser, "h2:eth0 -- s2", "missing");
    browser.shows("#trouble-list", " more, which `ovsns status` lists");
    no_complaints(&browser);
    Ok(())
}

/// Ulm: 217 nodes, 447 cables. Each has its place, in sight and on no other.
pub(crate) fn a_city_is_drawn(world: &World) -> Verdict {
    let (_server, browser) = page(world)?;
    world.example("city-ulm.json");
    world.ovsns("up city-ulm.json").ok();
    come_in(&browser);
    browser.until("document.querySelectorAll('#things tr').length === 217");
    browser.until("document.querySelectorAll('#links tr').length === 447");
    browser.until("document.getElementById('drawing').ariaBusy === 'false'");
    let places = "const cy = document.getElementById('drawing')._cyreg.cy, \
                  boxes = cy.nodes().map(it => it.renderedBoundingBox({ includeLabels: false, includeOverlays: false })), \
                  inside = boxes.filter(it => 0 <= it.x1 && 0 <= it.y1 \
                    && it.x2 <= cy.width() && it.y2 <= cy.height()), \
                  covers = (a, b) => a.x1 < b.x2 && b.x1 < a.x2 && a.y1 < b.y2 && b.y1 < a.y2, \
                  covered = boxes.filter((a, at) => boxes.some((b, of) => at !== of && covers(a, b))); \
                  return [cy.edges().length, boxes.length, inside.length, covered.length]";
    let places = browser.asks(places);
    assert_eq!([&places[0], &places[1], &places[2]], [447, 217, 217]);
    assert!(places[3].as_u64() < Some(217 / 10), "{places}: one in ten may touch another");
    no_complaints(&browser);
    Ok(())
}

/// Who does not know the token sees nothing of a lab; pages of others get nowhere.
pub(crate) fn strangers_get_nowhere(world: &World) -> Verdict {
    let (_server, browser) = page(world)?;
    world.ovsns("up --topo single,2 --lab l").ok();
    browser.open(&format!("http://{AT}/#token=wrong"));
    browser.shows("#door-error", "not this server's token");
    browser.until("document.activeElement.id === 'token'");
    assert_eq!(browser.asks("return document.getElementById('hall').checkVisibility()"), false);
    assert_eq!(browser.asks("return location.hash"), "");
    browser.complaints();
    browser.press(&format!("{TOKEN}{}", keys::ENTER));
    browser.until("document.body.dataset.lab === 'l'");
    browser.until("!document.getElementById('door').checkVisibility()");
    no_complaints(&browser);
    // It is kept for this tab, and only there.
    browser.open(&format!("http://{AT}/"));
    browser.until("document.body.dataset.lab === 'l'");

    // A page of somebody else, which knows the token even.
    browser.open("data:text/html,somebody");
    browser.asks(&format!(
        "window.heard = []; \
         for (const path of ['rpc', 'terminal']) {{ \
           const it = new WebSocket('ws://{AT}/' + path, ['ovsns', 'ovsns.token.{TOKEN}']); \
           it.onopen = () => heard.push('open'); it.onerror = () => heard.push('refused'); }} \
         fetch('http://{AT}/rpc', {{ method: 'POST', body: '{{}}' }}) \
           .then(() => heard.push('answered'), () => heard.push('refused'));"
    ));
    browser.until("window.heard.length === 3");
    assert_eq!(browser.asks("return heard"), json!(["refused", "refused", "refused"]));

    // The parts of the page are for all, but not under a foreign name; the rest is not.
    let bearer = format!("Authorization: Bearer {TOKEN}");
    for (status, request) in [
        (200, "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080".to_owned()),
        (200, "GET /page.js HTTP/1.1\r\nHost: localhost:8080".to_owned()),
        (403, "GET / HTTP/1.1\r\nHost: evil.example:8080".to_owned()),
        (403, format!("GET / HTTP/1.1\r\n{bearer}")),
        (401, "GET /terminal HTTP/1.1\r\nHost: 127.0.0.1:8080".to_owned()),
        (426, format!("GET /terminal HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{bearer}")),
        (401, "POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:8080".to_owned()),
        (403, format!("POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{bearer}\r\nOrigin: null")),
    ] {
        let mut stream = TcpStream::connect(AT).expect("a server");
        let request = format!("{request}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("an answer");
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{said:.300}");
        let has_policy = said.to_lowercase().contains("frame-ancestors 'none'");
        assert_eq!(has_policy, status == 200, "{request}{said:.900}");
    }
    world
        .ovsns("serve --web 192.0.2.1:8080 --token token --socket a.sock")
        .code(1)
        .says("loopback");
    world.ovsns(&format!("serve --web {AT}")).code(2).says("--token");
    // Only a person is told the token itself, and not a log.
    let elsewhere = ["--web", "127.0.0.1:8081", "--token", "token", "--socket", "a.sock"];
    let mut command = world.command();
    let person = world.terminal(command.arg("serve").args(elsewhere));
    person.shows(&format!("page at http://127.0.0.1:8081/#token={TOKEN}"));
    drop(person);
    let output = command.stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let id = output.id();
    until("it is there", || TcpStream::connect("127.0.0.1:8081").is_ok());
    // Not even of who comes in by it, rightly or not, in a browser or without.
    browser.open(&format!("http://127.0.0.1:8081/#token={TOKEN}"));
    browser.click("#things button[aria-label='Terminal in h1']");
    browser.shows(".terminal-box", "#");
    browser.open(&format!("http://127.0.0.1:8081/rpc?token={TOKEN}"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(id as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("it runs");
    let said = output.wait_with_output().expect("it ends").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("(the token is in token)") && !said.contains(TOKEN), "{said}");
    Ok(())
}

/// n1 -- b.1.1 -- n2: all that a mouse can do, by keys alone.
pub(crate) fn all_of_it_by_keyboard(world: &World) -> Verdict {
    let (_server, browser) = page(world)?;
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    come_in(&browser);
    let to = |css: &str| {
        for _ in 0..60 {
            browser.press(keys::TAB);
            if browser.asks(&format!("return document.activeElement.matches({})", json!(css)))
                == true
            {
                return;
            }
        }
        panic!("no way to {css}");
    };
    to("#things tr[data-id=n2] th button");
    let outline = "return getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.asks(outline), "solid", "it can be seen where the focus is");
    browser.press(keys::ENTER);
    browser.shows("#thing-title", "n2");
    to("tr[data-id='b.1.1 -- n1:eth0'] td button");
    browser.press(keys::ENTER);
    is(&browser, "b.1.1 -- n1:eth0", "held_down");
    assert_ne!(operstate(world), "UP");
    // The focus has stayed on what is the way back now.
    browser.shows("tr[data-id='b.1.1 -- n1:eth0'] button:focus", "Bring up");
    browser.press(keys::ENTER);
    is(&browser, "b.1.1 -- n1:eth0", "up");
    to("#ping-from");
    browser.press(keys::DOWN);
    to("#ping-to");
    browser.press("n1");
    to("#ping-go");
    browser.press(keys::ENTER);
    browser.shows("#ping-said", "ok: n1 answers n2 from 10.0.0.1");
    to("#things button[aria-label='Terminal in n1']");
    browser.press(keys::ENTER);
    browser.until("document.activeElement.matches('.xterm-helper-textarea')");
    browser.press("echo a-word | tr - _\n");
    browser.shows(".terminal-box .xterm-accessibility-tree", "a_word");
    browser.press(&[keys::SHIFT, keys::F6, keys::NONE].concat());
    browser.shows(".terminal-box button:focus", "Close");
    browser.press(keys::ENTER);
    browser.until("!document.querySelector('.terminal-box')");
    browser.until("document.activeElement.matches('#things button')");
    no_complaints(&browser);
    Ok(())
}
