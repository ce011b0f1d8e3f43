//! What `ovsns doctor` says of Open vSwitch and of the kernel, which others say
//! as well; and that looking changes nothing.

use std::fs;

use world::{Verdict, World};

use crate::TWO_NODES;

/// n1 -- b.1.1 -- n2 and somebody's br0, both on the machine's Open vSwitch,
/// which is taken apart bit by bit
pub(crate) fn it_tells_how_the_machines_open_vswitch_stands(world: &World) -> Verdict {
    told(world, "ok", "there is none, nobody listens at `/run/openvswitch/db.sock`");
    // Who starts it writes down which one it is.
    let mut ovs = world.open_vswitch(&["ovs_version=3.1.4"])?;
    let head = "3.1.4, database at `/run/openvswitch/db.sock`, ";
    let runs = format!("{head}`ovs-vswitchd` runs, datapaths netdev and system, ");
    told(world, "ok", &format!("{runs}0 bridges (0 of"));
    world.run("ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev");
    told(world, "ok", &format!("{runs}1 bridge (0 of"));
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml --backend ovs").ok();
    world.settled();
    let before = world.inventory();
    let said = told(world, "ok", "`ovs-vswitchd` runs");
    assert!(said.contains("2 bridges (1 of ovsns)"), "{said}");
    world.inventory().must_equal(&before);

    // Something else's trouble is nothing of ours; ours is.
    world.run("ovs-vsctl add-port br0 nothing");
    told(world, "ok", "`ovs-vswitchd` runs");
    let port = world.setting("", "two-nodes:n1:eth0", "ifname");
    let port = port.as_str().expect("a name");
    world.run(&format!("ip link delete {port}"));
    ovs.kill_switch();
    let said = told(world, "warn", &format!("{head}`ovs-vswitchd` does not run"));
    assert!(said.contains("mend: `systemctl restart openvswitch-switch`"), "{said}");
    ovs.start_switch(world);
    let said = told(world, "warn", &format!("{head}`ovs-vswitchd` runs"));
    let fault = format!("port `{port}`: could not open network device {port} (No such device)");
    assert!(said.contains(&fault), "{said}");
    assert!(said.contains("mend: `ovsns up` with the lab's file"), "{said}");
    world.ovsns("up two.yaml --backend ovs").ok();
    told(world, "ok", &format!("{head}`ovs-vswitchd` runs"));

    // A daemon that hangs, and one that is gone.
    let server = fs::read_to_string("/run/openvswitch/ovsdb-server.pid").expect("its id");
    world.run(&format!("kill -STOP {}", server.trim()));
    told(
        world,
        "warn",
        "its database at `/run/openvswitch/db.sock` is of no use: it does not answer",
    );
    world.run(&format!("kill -KILL {}", server.trim()));
    let headless = "`ovs-vswitchd` runs, but its database does not answer at `/run/openvswitch/";
    told(world, "warn", headless);
    ovs.kill_switch();
    told(world, "warn", "its database does not run; `/run/openvswitch/db.sock` is left of it");
    Ok(())
}

/// What the kernel is lacking in a lab, `doctor` has said before.
pub(crate) fn it_knows_what_plans_are_refused_for(world: &World) -> Verdict {
    let rows = rows(world);
    let row = |what: &str| {
        let row = rows.iter().find(|row| row["what"] == what);
        row.unwrap_or_else(|| panic!("no row `{what}`"))
    };
    for (what, port, switch) in [
        ("bridge VLAN filtering", "vlan: 10", "{}"),
        ("policing", "policing: { rate: 100 }", "{}"),
        ("mirrors", "mtu: 1500", "{ mirrors: { m: { from: [n1], output: n2 } } }"),
    ] {
        let text = TWO_NODES.replace("b.1.1: {}", &format!("b.1.1: {switch}"));
        let link = format!("  - {{ endpoints: [n1:eth0, b.1.1], {port} }}");
        world.file("plan.yaml", &text.replace("  - endpoints: [n1:eth0, b.1.1]", &link));
        let row = row(what);
        let planned = world.ovsns("plan plan.yaml");
        match row["verdict"].as_str() {
            Some("ok") => drop(planned.ok()),
            Some("lacks") => {
                assert!(row["mend"].is_string() && row["needed_for"].is_string(), "{row}");
                let said = row["said"].as_str().expect("words");
                let refused = planned.code(2);
                // Of VLANs the plan says it in words of its own.
                assert!(
                    refused.stderr.contains(said) || what.contains("VLAN"),
                    "{said}\n{refused}"
                );
            }
            verdict => panic!("{what}: {verdict:?}"),
        }
    }
    let module = world.attempt("modprobe openvswitch").status.success();
    let datapath = row("Open vSwitch's datapath in the kernel");
    assert_eq!(
        datapath["verdict"] == "ok",
        module || fs::exists("/sys/module/openvswitch").is_ok_and(|it| it)
    );
    assert_eq!(
        row("/dev/net/tun")["verdict"] == "ok",
        fs::exists("/dev/net/tun").is_ok_and(|it| it)
    );
    Ok(())
}

/// What it says of the machine's Open vSwitch, which must be as bad as
/// `verdict` and begin with `words`.
#[track_caller]
fn told(world: &World, verdict: &str, words: &str) -> String {
    let row = rows(world);
    let row = row.iter().find(|row| row["what"] == "Open vSwitch of this machine");
    let row = row.expect("it is always told");
    let said = row["said"].as_str().expect("words");
    assert_eq!(row["verdict"], verdict, "{row}");
    assert!(said.contains(words), "{words}\n{said}");
    assert_eq!(row["mend"].is_string(), verdict != "ok", "{row}");
    // People are told the same.
    let text = world.ovsns("doctor").ok().stdout;
    let line = format!("{verdict:<5} Open vSwitch of this machine: {said}");
    assert!(text.contains(&line), "{line}\n{text}");
    let rest = text.split(&line).nth(1).expect("just seen").to_owned();
    format!("{said}{}", rest.lines().take(2).collect::<Vec<_>>().join("\n"))
}

fn rows(world: &World) -> Vec<serde_json::Value> {
    let told = world.ovsns("doctor --json").ok().json();
    told.as_array().expect("a list of rows").clone()
}
