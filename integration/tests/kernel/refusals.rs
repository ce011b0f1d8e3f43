//! What is refused before anything is touched: status 2, with the reason.

use world::{Verdict, World};

use crate::TWO_NODES;

/// n1 -- b.1.1 -- n2, where others were first
pub(crate) fn names_taken_by_others(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    world.file("br.yaml", &TWO_NODES.replace("b.1.1: {}", "b.1.1: { device: br0 }"));
    // The name that the kernel will be given, as it was given once before.
    world.ovsns("up two.yaml").ok();
    let device = world.setting("", "two-nodes:b.1.1", "ifname");
    let device = device.as_str().expect("a name");
    world.ovsns("down two-nodes").ok();
    for (taken, file, name) in [
        ("ip netns add two-nodes.n1", "two.yaml", "two-nodes.n1"),
        (&*format!("ip link add {device} type bridge"), "two.yaml", device),
        (&format!("ip link add x type veth peer name {device}"), "two.yaml", device),
        (
            "ip link add x type bridge ; ip link property add dev x altname two-nodes:b.1.1",
            "two.yaml",
            "two-nodes:b.1.1",
        ),
        (
            "ip link add x type bridge ; ip link property add dev x altname two-nodes:n2:eth0",
            "two.yaml",
            "two-nodes:n2:eth0",
        ),
        ("ip link add br0 type bridge", "br.yaml", "br0"),
        ("mkdir -p /run/netns/two-nodes.n2", "two.yaml", "two-nodes.n2"),
        ("mkdir -p /run/netns ; touch /run/netns/two-nodes.n2", "two.yaml", "two-nodes.n2"),
    ] {
        world.sh(taken);
        let before = world.inventory();
        let refused = world.ovsns(&format!("up {file}"));
        assert_eq!(refused.status.code(), Some(2), "{taken}\n{refused}");
        assert!(refused.stderr.contains(name), "{taken}\n{refused}");
        world.inventory().must_equal(&before);
        // Nor does taking the lab down take them along.
        world.ovsns("down two-nodes");
        world.inventory().must_equal(&before);
        world.sh(&format!(
            "
            for name in x {device} br0; do ip link del $name 2>/dev/null || :; done
            ip netns del two-nodes.n1 2>/dev/null || :
            rm -rf /run/netns/two-nodes.n2
        "
        ));
    }
    // With nobody in the way it works.
    world.ovsns("up two.yaml").ok();
    Ok(())
}

pub(crate) fn bad_files_touch_nothing(world: &World) -> Verdict {
    let foreign = world.foreign();
    let refused = |text: &[u8], words: &[&str]| {
        std::fs::write("bad.yaml", text).expect("the test's own file");
        let shown = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
        let refused = world.ovsns("up bad.yaml");
        assert_eq!(refused.status.code(), Some(2), "{shown}\n{refused}");
        for word in words {
            assert!(refused.stderr.contains(word), "no {word:?} for\n{shown}\n{refused}");
        }
        assert_eq!(refused.stdout, "", "{shown}");
    };
    let changed = |from: &str, to: &str, words: &[&str]| {
        assert!(TWO_NODES.contains(from), "{from}");
        refused(TWO_NODES.replace(from, to).as_bytes(), words);
    };
    refused(b"", &["bad.yaml", "nothing"]);
    refused(b"# nothing\n", &["bad.yaml", "nothing"]);
    refused(b"a: [", &["bad.yaml:"]);
    refused(b"just words", &["bad.yaml:1:1:"]);
    refused(b"- 1\n- 2\n", &["bad.yaml:1:"]);
    refused(b"name: \x00\xff\xfe", &["bad.yaml"]);
    refused(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0xff], &["bad.yaml"]);
    refused("a: ".repeat(2000).as_bytes(), &["bad.yaml:"]);
    refused("[".repeat(100_000).as_bytes(), &["bad.yaml"]);
    refused(b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", &["bad.yaml:"]);
    refused(b"name: x\nname: y\n", &["bad.yaml:2:"]);
    // Names.
    let too_long = "n".repeat(64);
    for name in ["''", "'a/b'", "'a b'", "\"a\\tb\"", "\"a\\0b\"", "..", "-a", &too_long] {
        changed("  n2:", &format!("  {name}:"), &["bad.yaml:7:"]);
        changed("  b.1.1: {}", &format!("  {name}: {{}}"), &["bad.yaml:4:"]);
        changed("name: two-nodes", &format!("name: {name}"), &["bad.yaml:2:"]);
    }
    // Addresses.
    changed("10.0.0.2/24", "10.0.0.1/24", &["10.0.0.1", "bad.yaml:7:"]);
    changed("10.0.0.2/24", "10.0.0.0/24", &["10.0.0.0", "bad.yaml:7:"]);
    changed("10.0.0.2/24", "10.0.0.255/24", &["10.0.0.255", "bad.yaml:7:"]);
    changed("10.0.0.2/24", "10.0.0.2/33", &["bad.yaml:7:"]);
    changed("10.0.0.2/24", "10.0.0.256/24", &["bad.yaml:7:"]);
    changed("10.0.0.2/24", "here", &["bad.yaml:7:"]);
    changed("10.0.0.2/24", "224.0.0.1/4", &["bad.yaml:7:"]);
    changed("fd00::2/64", "fd00::/64", &["bad.yaml:7:"]);
    // Links.
    changed("[n2:eth0, b.1.1]", "[n3:eth0, b.1.1]", &["n3", "bad.yaml:10:"]);
    changed("[n2:eth0, b.1.1]", "[n2:eth0, b.1.2]", &["b.1.2", "b.1.1", "bad.yaml:10:"]);
    changed("[n2:eth0, b.1.1]", "[n1:eth0, b.1.1]", &["n1:eth0", "bad.yaml:10:"]);
    changed("[n2:eth0, b.1.1]", "[n2:eth0]", &["bad.yaml:10:"]);
    changed("[n2:eth0, b.1.1]", "[n2:eth0, b.1.1, n1]", &["bad.yaml:10:"]);
    changed("[n2:eth0, b.1.1]", "[n2:eth0, n2:eth0]", &["bad.yaml:10:"]);
    changed("[n2:eth0, b.1.1]", "[b.1.1, b.1.1]", &["bad.yaml:10:"]);
    // Keys and values.
    changed("switches:", "swiches:", &["swiches", "switches", "bad.yaml:3:1:"]);
    changed("interfaces", "interface", &["interfaces", "bad.yaml:6:"]);
    changed("b.1.1: {}", "b.1.1: { stp: maybe }", &["stp", "bad.yaml:4:"]);
    changed("b.1.1: {}", "b.1.1: { forward_delay: 31 }", &["30", "bad.yaml:4:"]);
    changed("b.1.1: {}", "b.1.1: { mtu: 1 }", &["mtu", "bad.yaml:4:"]);
    changed("b.1.1: {}", "b.1.1: { mac: 'ff:ff:ff:ff:ff:ff' }", &["bad.yaml:4:"]);
    changed("b.1.1: {}", "b.1.1: { backend: ovn }", &["ovn", "bad.yaml:4:"]);
    changed("b.1.1: {}", "b.1.1: { device: sixteen-letters- }", &["15", "bad.yaml:4:"]);
    changed("b.1.1: {}", "n1: {}", &["n1"]);
    // All together.
    let several = TWO_NODES
        .replace("10.0.0.2/24", "10.0.0.2/99")
        .replace("[n1:eth0, b.1.1]", "[n1:eth0, b.9]")
        .replace("switches:", "swiches:");
    refused(several.as_bytes(), &["bad.yaml:3:", "bad.yaml:7:", "bad.yaml:9:"]);
    foreign.is_untouched(world);
    assert!(world.inventory().with("/run/ovsns/labs/").is_empty());
    Ok(())
}

pub(crate) fn bad_commands_touch_nothing(world: &World) -> Verdict {
    let foreign = world.foreign();
    world.file("two.yaml", TWO_NODES);
    let too_long = "l".repeat(32);
    for (words, says) in [
        ("up", "ovsns.yaml"),
        ("up no-such-file.yaml", "no-such-file.yaml"),
        ("up /run", "/run"),
        ("up two.yaml --backend vpp", "vpp"),
        ("up two.yaml --lab a/b", "a/b"),
        ("up --topo star,3", "star"),
        ("up --topo single", "single"),
        ("up --topo single,0", "0"),
        ("up --topo single,x", "x"),
        ("up --topo tree,2", "tree"),
        ("up --topo single,99999999999999999999", "99999999999999999999"),
        ("up two.yaml --topo single,2", "--topo"),
        ("down nobody", "nobody"),
        ("down ../../etc", "../../etc"),
        ("status nobody", "nobody"),
        ("exec n1 -- true", "n1"),
        ("shell n1", "n1"),
        ("ping a b", "a"),
        ("ping a", "ping"),
        ("node add", "NODE"),
        ("node rm n1", "there is no lab"),
        ("fly", "fly"),
        (&format!("up two.yaml --lab {too_long}"), "31"),
    ] {
        let refused = world.ovsns(words);
        assert_eq!(refused.status.code(), Some(2), "{refused}");
        assert!(refused.stderr.contains(says), "no {says:?}\n{refused}");
        assert_eq!(refused.stdout, "");
    }
    foreign.is_untouched(world);
    Ok(())
}

/// 100 MB that begin like a topology
pub(crate) fn a_huge_file(world: &World) -> Verdict {
    let foreign = world.foreign();
    let mut text = TWO_NODES.as_bytes().to_vec();
    text.resize(100_000_000, b'#');
    std::fs::write("huge.yaml", &text).expect("room in the scratch directory");
    let refused = world.ovsns("up huge.yaml").code(2).says("huge.yaml");
    assert!(refused.stderr.len() < 2000, "{} bytes of words", refused.stderr.len());
    // From a pipe its size is not known before.
    let binary = world.binary().display();
    world.sh(&format!("{binary} up - <huge.yaml && exit 1; test $? = 2"));
    world.sh(&format!("timeout 10 {binary} up /dev/zero && exit 1; test $? = 2"));
    std::fs::remove_file("huge.yaml").expect("the test's own file");
    foreign.is_untouched(world);
    Ok(())
}
