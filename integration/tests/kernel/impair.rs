//! What links do to the frames that pass: limits to the rate, delay, loss. The
//! witnesses are `iperf3`, `ping` and `tc`, and what they measure is printed.
//!
//! ```text
//! h1 -- s1 -- h2
//! ```

use world::{Running, Skip, Verdict, World};

fn up(world: &World, impairments: &str) {
    let text = format!(
        "
name: imp
switches: {{ s1: {{}} }}
nodes:
  h1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
  h2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24] }} }} }}
links:
  - {{ endpoints: [h1, s1], impairments: {{ {impairments} }} }}
  - endpoints: [h2, s1]
"
    );
    world.file("imp.yaml", &text);
    world.ovsns("up imp.yaml").ok();
    world.pings("imp.h1", "10.0.0.2");
}

/// 20 Mbit/s from h1 and 100 to it, by the file; others live; and none
pub(crate) fn rates_hold(world: &World) -> Verdict {
    world.needs("iperf3")?;
    can(world, "tbf rate 1mbit burst 10kb limit 10kb")?;
    up(world, "rate: 20mbit, from: { s1: { rate: 100mbit } }");
    world.ovsns("up imp.yaml").ok().says("nothing to change");
    holds(20.0, udp(world, 30, ""));
    holds(100.0, udp(world, 120, "-R"));
    world.ovsns("link set h1 s1 --rate 5mbit").ok().says("rate 5mbit (was rate 100mbit)");
    holds(5.0, udp(world, 10, ""));
    world.ovsns("link set h1 s1 --rate 400mbit --from s1").ok();
    let list = world.ovsns("link list --json").ok().json();
    let link = &list.as_array().expect("links")[0];
    assert_eq!(link["impairments"][0]["rate_kbps"], 5000, "{link}");
    assert_eq!(link["impairments"][1]["rate_kbps"], 400_000, "{link}");
    // Segments of 64 kilobytes pass whole at this rate. What waits at a port of
    // the userspace datapath counts against the one socket by which it sends, so
    // that there less passes (measured: half).
    let measured = tcp(world, "-R");
    match world.backend().as_str() {
        "linux" => holds(400.0, measured),
        _ => println!("asked 400 Mbit/s of a switch in userspace, measured {measured:.0}"),
    }
    world.ovsns("link set h1 s1 --rate none").ok().says("impaired no more");
    let all = world.run("tc qdisc show").stdout + &inside(world, "tc qdisc show").stdout;
    assert!(!all.contains("6f76"), "{all}");
    Ok(())
}

/// Within 5 %, counted on the wire.
#[track_caller]
fn holds(asked: f64, wire: f64) {
    println!("asked {asked} Mbit/s, measured {wire:.2} ({:+.1} %)", (wire / asked - 1.0) * 100.0);
    // The machine may have much else to do: then it is less.
    assert!((0.95 * asked..=1.05 * asked).contains(&wire), "{wire} of {asked} Mbit/s");
}

/// h1 -~- s1: what somebody does to a queue of ours is seen and mended, and a
/// queue of somebody's is left alone
pub(crate) fn others_at_the_queue(world: &World) -> Verdict {
    can(world, "tbf rate 1mbit burst 10kb limit 10kb")?;
    up(world, "from: { h1: { rate: 20mbit } }");
    let ours = inside(world, "tc qdisc show dev eth0").stdout;
    assert!(ours.starts_with("qdisc tbf 6f76: root") && ours.contains("20Mbit"), "{ours}");
    let mended = |what: &str| {
        inside(world, what);
        let status = world.ovsns("status").ok();
        status.says("imp: drifted").says("what leaves by h1:eth0 is impaired: rate 20mbit");
        world.ovsns("up imp.yaml").ok().says("1 step in");
        assert_eq!(inside(world, "tc qdisc show dev eth0").stdout, ours, "after {what}");
        world.ovsns("up imp.yaml").ok().says("nothing to change");
    };
    mended("tc qdisc del dev eth0 root");
    mended("tc qdisc change dev eth0 root handle 6f76: tbf rate 1mbit burst 25kb limit 275000");
    mended("tc qdisc change dev eth0 root handle 6f76: tbf rate 20mbit burst 25000 limit 99999");

    let theirs = "tc qdisc replace dev eth0 root handle 7: tbf rate 1mbit burst 10kb limit 10kb";
    inside(world, theirs);
    let there = inside(world, "tc qdisc show dev eth0").stdout;
    world.ovsns("status").ok().says("! link `h1:eth0` cannot be impaired: `eth0` has a queueing");
    world.ovsns("up imp.yaml").code(2).says("`tbf` that is not ours").says("tc qdisc del dev eth0");
    assert_eq!(inside(world, "tc qdisc show dev eth0").stdout, there);
    // What is to have none of ours does not care.
    world.ovsns("link set h1 s1 --rate none").ok();
    assert_eq!(inside(world, "tc qdisc show dev eth0").stdout, there);
    world.ovsns("down").ok();
    Ok(())
}

/// `s1` of Open vSwitch, which takes off what it does not know when it starts
pub(crate) fn a_queue_outlives_the_switch(world: &World) -> Verdict {
    can(world, "tbf rate 1mbit burst 10kb limit 10kb")?;
    let mut ovs = world.open_vswitch(&[])?;
    up(world, "rate: 20mbit");
    let queues = || {
        let all = world.run("tc qdisc show").stdout;
        all.lines().filter(|line| line.contains("tbf 6f76:")).count()
    };
    assert_eq!(queues(), 1);
    ovs.kill_switch();
    ovs.start_switch(world);
    ovs.caught_up(world);
    assert_eq!(queues(), 1, "{}", world.run("tc qdisc show").stdout);
    world.ovsns("up imp.yaml").ok().says("nothing to change");
    // With the last of it goes the row.
    world.ovsns("link set h1 s1 --rate none").ok();
    assert_eq!((queues(), world.row_count("QoS")), (0, 0));
    world.ovsns("link set h1 s1 --rate 20mbit").ok();
    world.ovsns("down").ok();
    assert_eq!(world.row_count("QoS"), 0);
    Ok(())
}

/// 20 ms, 2 % and the rest from h1, where there is netem; else it is refused
pub(crate) fn delay_and_loss_hold(world: &World) -> Verdict {
    world.needs("iperf3")?;
    if let Err(skip) = can(world, "netem delay 1ms") {
        up(world, "");
        let refused = world.ovsns("link set h1 s1 --delay 20ms --loss 2%").code(2);
        refused.says("link `h1:eth0` cannot have `delay`, `loss`").says("module sch_netem");
        world.ovsns("up imp.yaml").ok().says("nothing to change");
        world.ovsns("doctor").says("lacks delay and loss of links");
        return Err(skip);
    }
    up(world, "delay: 20ms, jitter: 1ms");
    world.ovsns("up imp.yaml").ok().says("nothing to change");
    let median = median_ms(world);
    println!("asked 40 ms there and back, measured {median:.3}");
    assert!((39.0..=42.0).contains(&median), "{median} ms of 40");

    // By 10,000 of them: what four standard deviations of the binomial allow.
    world.ovsns("link set h1 s1 --delay none --jitter none").ok();
    world.ovsns("link set h1 s1 --loss 2% --from h1").ok();
    let (sent, lost) = flood(world);
    let (n, p) = (f64::from(sent), 0.02);
    let bound = 4.0 * (n * p * (1.0 - p)).sqrt();
    println!("asked 2 % of {sent}, lost {lost} ({:.2} %)", f64::from(lost) / n * 100.0);
    assert!((f64::from(lost) - n * p).abs() <= bound, "{lost} of {sent}, {bound} off at most");

    world.ovsns("link set h1 s1 --loss none --duplicate 10% --from h1").ok();
    let twice = inside(world, "ping -n -q -c 200 -i 0.01 10.0.0.2").stdout;
    assert!(twice.contains("duplicates"), "{twice}");
    world.ovsns("link set h1 s1 --duplicate none --rate 20mbit --delay 5ms").ok();
    holds(20.0, udp(world, 30, ""));
    let seen = inside(world, "tc qdisc show dev eth0").stdout;
    assert!(seen.contains("netem 6f76:") && seen.contains("rate 20Mbit"), "{seen}");
    world.ovsns("link set h1 s1 impairments=").ok();
    assert!(!inside(world, "tc qdisc show dev eth0").stdout.contains("6f76"));
    Ok(())
}

/// The median of 100 ways there and back.
fn median_ms(world: &World) -> f64 {
    let text = inside(world, "ping -n -c 100 -i 0.01 10.0.0.2").stdout;
    let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse().ok();
    let mut times: Vec<f64> = text.lines().filter_map(time).collect();
    assert!(90 <= times.len(), "{text}");
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// How many of 10,000 pings were sent, and lost on the way there.
fn flood(world: &World) -> (u32, u32) {
    let text = inside(world, "ping -n -q -i 0.001 -c 10000 -W 1 10.0.0.2").stdout;
    let line = text.lines().find(|line| line.contains("transmitted")).expect("a summary");
    let number = |at: usize| line.split(", ").nth(at)?.split(' ').next()?.parse::<u32>().ok();
    let (sent, heard) = (number(0).expect("sent"), number(1).expect("heard"));
    (sent, sent - heard)
}

fn inside(world: &World, words: &str) -> world::Finished {
    world.run(&format!("ip netns exec imp.h1 {words}"))
}

/// Whether the kernel has a queueing discipline.
fn can(world: &World, words: &str) -> Result<(), Skip> {
    world.needs("tc")?;
    world.run("ip link add try0 type veth peer name try1");
    let can = world.attempt(&format!("tc qdisc add dev try0 root {words}")).status.success();
    world.run("ip link delete try0");
    let kind = words.split(' ').next().unwrap_or_default();
    if can { Ok(()) } else { Err(Skip(format!("this kernel has no qdisc `{kind}`"))) }
}

fn server(world: &World) -> Running {
    let mut server = world.start("ip netns exec imp.h2 iperf3 -s --forceflush");
    server.line_with("Server listening");
    server
}

/// What arrives of more UDP than can pass at h2, or with `-R` at h1, in megabits a
/// second: of a frame of 1442 bytes it has 1400. TCP, which slows down when its
/// first segments are lost, is at 5 Mbit/s now and then a third below for seconds.
#[track_caller]
fn udp(world: &World, mbit: u32, words: &str) -> f64 {
    measured(world, &format!("-u -b {mbit}M -l 1400 {words}")) * 1442.0 / 1400.0
}

/// The same of TCP, which has 1448 of a frame of 1514.
#[track_caller]
fn tcp(world: &World, words: &str) -> f64 {
    measured(world, words) * 1514.0 / 1448.0
}

#[track_caller]
fn measured(world: &World, words: &str) -> f64 {
    // Each has its own: one that is still busy with the last refuses the next.
    let _server = server(world);
    let json = world.json(&format!("ip netns exec imp.h1 iperf3 -c 10.0.0.2 -J -t 2 {words}"));
    let received = &json["end"]["sum_received"]["bits_per_second"];
    received.as_f64().unwrap_or_else(|| panic!("no rate: {json:#}")) / 1e6
}

/// examples/slow-link.yaml: left -~- right, and h3 -x- right
pub(crate) fn the_example(world: &World) -> Verdict {
    can(world, "tbf rate 1mbit burst 10kb limit 10kb")?;
    world.example("slow-link.yaml");
    let foreign = world.foreign();
    world.ovsns("up slow-link.yaml").ok();
    world.ovsns("up slow-link.yaml").ok().says("nothing to change");
    world.pings("slow-link.h1", "fd00::2");
    world.silence("slow-link.h1", "10.0.0.3");
    let list = world.ovsns("link list").ok();
    list.says("from left: rate 20mbit, from right: rate 4mbit").says("held down");
    world.ovsns("link up h3 right").ok();
    world.pings("slow-link.h1", "10.0.0.3");
    world.ovsns("down slow-link").ok();
    foreign.is_untouched(world);
    Ok(())
}
