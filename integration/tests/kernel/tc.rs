//! Policing and mirrors at ports of a bridge, set by ovsns's hands; the
//! witnesses are traffic and `tc`.
//!
//! ```text
//! a -- pa br0 pb -- b      mon0 -- mon1 in watch
//! ```

use std::collections::BTreeMap;

use ovsns::kernel::KernelError;
use ovsns::kernel::netlink::Netlink;
use ovsns::kernel::tc::{self, Direction, Mirror, Policing, Rules};
use ovsns::kernel::worker::Worker;
use ovsns::model::names::IfName;
use world::{Running, Skip, Verdict, World, until};

pub(crate) fn mirrors_show_what_passes_a_port(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    lab.needs_mirrors()?;
    lab.mirror("pa", "m", Direction::In, "mon0").expect("it can");
    let shown = lab.shown_of_pings();
    assert_eq!(shown, ["request 1", "request 2", "request 3"]);

    lab.end_mirror("pa", "m", Direction::In).expect("it can");
    lab.mirror("pa", "m", Direction::Out, "mon0").expect("it can");
    assert_eq!(lab.shown_of_pings(), ["reply 1", "reply 2", "reply 3"]);

    lab.mirror("pa", "m", Direction::In, "mon0").expect("it can");
    let all = ["request 1", "reply 1", "request 2", "reply 2", "request 3", "reply 3"];
    assert_eq!(lab.shown_of_pings(), all);

    // Another port of the same mirror, and another mirror of the same port.
    lab.end_mirror("pa", "m", Direction::In).expect("it can");
    lab.end_mirror("pa", "m", Direction::Out).expect("it can");
    lab.mirror("pb", "m", Direction::Out, "mon0").expect("it can");
    lab.mirror("pb", "other", Direction::Out, "mon0").expect("it can");
    let twice = ["request 1", "request 1", "request 2", "request 2", "request 3", "request 3"];
    assert_eq!(lab.shown_of_pings(), twice);
    Ok(())
}

pub(crate) fn mirrors_are_seen_as_they_were_made(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    lab.needs_mirrors()?;
    assert_eq!(lab.rules(), BTreeMap::new());
    lab.mirror("pa", "fifteen-letters", Direction::In, "mon0").expect("it can");
    lab.mirror("pa", "b", Direction::Out, "pb").expect("it can");
    lab.mirror("pa", "a", Direction::Out, "mon0").expect("it can");
    let at_pa = [
        mirror("a", Direction::Out, Some("mon0")),
        mirror("b", Direction::Out, Some("pb")),
        mirror("fifteen-letters", Direction::In, Some("mon0")),
    ];
    assert_eq!(lab.mirrors("pa"), at_pa);
    assert_eq!(lab.rules().len(), 1, "only where something is set");

    // An output that is gone shows nothing, nor does another of its name.
    world.run("ip link delete mon0");
    world.run("ip link add mon0 type veth peer name mon1 netns watch");
    let at_pa = [
        mirror("a", Direction::Out, None),
        mirror("b", Direction::Out, Some("pb")),
        mirror("fifteen-letters", Direction::In, None),
    ];
    assert_eq!(lab.mirrors("pa"), at_pa);
    for (name, direction) in [("a", Direction::Out), ("fifteen-letters", Direction::In)] {
        lab.end_mirror("pa", name, direction).expect("it can");
    }
    lab.end_mirror("pa", "b", Direction::Out).expect("it can");
    assert_eq!(lab.rules(), BTreeMap::new());
    lab.has_no_hooks("pa");
    Ok(())
}

pub(crate) fn mirrors_that_cannot_be_are_told(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    lab.needs_mirrors()?;
    let told = |failed: Result<(), KernelError>| failed.expect_err("it cannot").to_string();
    let told_of = |port: &str, name: &str, output: &str| {
        let text = told(lab.mirror(port, name, Direction::In, output));
        lab.has_no_hooks("pa");
        text
    };
    let no_device = "there is no such device";
    assert!(told_of("pz", "m", "mon0").contains(no_device));
    assert!(told_of("pa", "m", "mon9").contains(no_device));
    let what = "could not mirror `pa` to `mon0` as `sixteen-letters-`: ";
    assert!(told_of("pa", "sixteen-letters-", "mon0").starts_with(what));
    assert!(told_of("pa", "", "mon0").ends_with("does not take these values"));

    lab.mirror("pa", "m", Direction::In, "mon0").expect("it can");
    let twice = told(lab.mirror("pa", "m", Direction::In, "mon0"));
    assert_eq!(twice, "could not mirror `pa` to `mon0` as `m`: it exists already");
    let none = told(lab.end_mirror("pa", "m", Direction::Out));
    assert_eq!(none, "could not end the mirror `m` of `pa`: there is no such thing");
    assert_eq!(lab.mirrors("pa"), [mirror("m", Direction::In, Some("mon0"))]);
    Ok(())
}

/// Somebody has filters at both hooks, before ours and behind them, and some
/// with preferences of ours.
pub(crate) fn filters_of_others_stay_and_work(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    lab.needs_mirrors()?;
    world.run("ip link add mon2 type veth peer name mon3 netns watch");
    world.run("ip link set mon2 up");
    world.run("ip -n watch link set mon3 up");
    world.run("tc qdisc add dev pa clsact");
    let every = "protocol all u32 match u32 0 0 action mirred egress mirror dev mon2 continue";
    let theirs = [("ingress", 5), ("ingress", 113), ("ingress", 49000), ("egress", 112)];
    for (hook, pref) in theirs {
        world.run(&format!("tc filter add dev pa {hook} pref {pref} {every}"));
    }
    // With a cookie that is nearly one of ours.
    let cookie = "cookie 6d6e616d650000000000000000000001";
    world.run(&format!("tc filter add dev pa egress pref 115 {every} {cookie}"));
    world.run("ip netns exec a ping -n -c 1 10.0.0.2");
    lab.pull_the_plug();
    let before = lab.listed("pa");
    let counts = theirs.map(|(hook, pref)| lab.counted("pa", hook, pref));
    assert!(counts.iter().all(|count| 1 <= *count), "{before}");
    assert_eq!(lab.rules(), BTreeMap::new());

    let each = |what: &dyn Fn(&str, Direction) -> Result<(), KernelError>| {
        for name in ["m2", "m1", "m3"] {
            what(name, Direction::In).expect("it can");
            what(name, Direction::Out).expect("it can");
        }
    };
    each(&|name, direction| lab.mirror("pa", name, direction, "mon0"));
    let with_ours = lab.listed("pa");
    let lost: Vec<&str> = before.lines().filter(|line| !with_ours.contains(line)).collect();
    assert_eq!(lost, [""; 0]);
    assert_eq!(lab.mirrors("pa").len(), 6);
    each(&|name, direction| lab.end_mirror("pa", name, direction));
    assert_eq!(lab.listed("pa"), before);

    // With ours among them each of theirs sees all that passes, and so do ours.
    each(&|name, direction| lab.mirror("pa", name, direction, "mon0"));
    lab.plug_in();
    let before = theirs.map(|(hook, pref)| lab.counted("pa", hook, pref));
    assert_eq!(lab.shown_of_pings().len(), 6 * 3);
    let after = theirs.map(|(hook, pref)| lab.counted("pa", hook, pref));
    for (before, after) in before.iter().zip(&after) {
        assert!(before + 3 <= *after, "{before} to {after}");
    }
    Ok(())
}

pub(crate) fn the_hooks_go_with_the_last_filter(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    lab.needs_mirrors()?;
    let (add, end) = (
        |name: &str| lab.mirror("pa", name, Direction::In, "mon0").expect("it can"),
        |name: &str| lab.end_mirror("pa", name, Direction::In).expect("it can"),
    );
    // Ours alone.
    add("m1");
    add("m2");
    end("m1");
    assert!(lab.hooks("pa").contains("clsact"));
    end("m2");
    lab.has_no_hooks("pa");
    // Somebody has come to use them.
    add("m1");
    world.run("tc filter add dev pa egress pref 1 protocol all u32 match u32 0 0");
    end("m1");
    assert!(lab.hooks("pa").contains("clsact"));
    world.run("tc filter delete dev pa egress pref 1");
    // Theirs, and empty.
    add("m1");
    end("m1");
    assert!(lab.hooks("pa").contains("clsact"));
    world.run("tc qdisc delete dev pa clsact");
    // Theirs, of the kind that has but one hook.
    world.run("tc qdisc add dev pa ingress");
    let hooks = lab.hooks("pa");
    add("m1");
    assert_eq!(lab.shown_of_pings(), ["request 1", "request 2", "request 3"]);
    let listed = lab.filters("pa");
    let refused = lab.mirror("pa", "m2", Direction::Out, "mon0").expect_err("it cannot");
    let words = "could not mirror `pa` to `mon0` as `m2`, where somebody's qdisc `ingress` is in \
                 the place of `clsact`: it is in use";
    assert_eq!(refused.to_string(), words);
    assert_eq!(lab.filters("pa"), listed);
    end("m1");
    assert_eq!(lab.hooks("pa"), hooks);
    Ok(())
}

/// A `u32` shares its preference with others of its kind, a `matchall` with none.
pub(crate) fn a_filter_beside_ours_stays(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    lab.needs_mirrors()?;
    lab.mirror("pa", "m", Direction::In, "mon0").expect("it can");
    let pref = tc::MIRROR_PREFS.start();
    let add = format!("tc filter add dev pa ingress pref {pref} protocol all u32 match u32 1 1");
    let added = world.attempt(&add).status.success();
    let listed = lab.filters("pa");
    assert_eq!(added, !listed.contains("matchall"), "{listed}");
    lab.end_mirror("pa", "m", Direction::In).expect("it can");
    let left = lab.filters("pa");
    assert_eq!(left.contains("match 00000001/00000001"), added, "{left}");
    assert_eq!(left.matches("mirred").count(), 0, "{left}");
    assert_eq!(lab.hooks("pa").contains("clsact"), added);
    Ok(())
}

pub(crate) fn what_comes_in_is_policed(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    if let Err(reason) = lab.tries(async |worker| tc::can_police(worker).await) {
        // But at least all of it is taken back.
        lab.police("pa", Policing::new(100, 0)).expect_err(&reason);
        lab.has_no_hooks("pa");
        return Err(Skip(reason));
    }
    lab.needs_mirrors()?;
    let policing = |rate, burst| Policing::new(rate, burst).expect("it polices");
    // Neighbours may ask for each other besides.
    let all = 100..=104;
    let unpoliced = lab.came_of_a_hundred();
    assert!(all.contains(&unpoliced), "{unpoliced} of 100 without policing");
    // A fifth of what is sent at once fits.
    let burst = policing(10, 20 * 1442 * 8 / 1024);
    lab.police("pa", Some(burst)).expect("it can");
    let shown = world.run("tc filter show dev pa ingress").stdout;
    assert!(shown.contains("police") && shown.contains("rate 10Kbit"), "{shown}");
    assert_eq!(lab.rules()["pa"].policing, Some(burst));
    let came = lab.came_of_a_hundred();
    assert!((15..=30).contains(&came), "{came} of 100");

    // A mirror shows what the switch saw.
    lab.mirror("pa", "m", Direction::In, "mon0").expect("it can");
    let before = lab.received("watch", "mon1");
    let came = lab.came_of_a_hundred();
    let shown = lab.received("watch", "mon1") - before;
    assert!(came < 60 && shown.abs_diff(came) <= 4, "{shown} were shown, {came} came");

    // Another in its place; the numbers are kept whatever the kernel rounds.
    for (rate, burst) in [(u32::MAX, 1), (1, u32::MAX), (7_777_777, 0)] {
        lab.police("pa", Some(policing(rate, burst))).expect("it can");
        assert_eq!(lab.rules()["pa"].policing, Some(policing(rate, burst)));
        let shown = world.run("tc filter show dev pa ingress").stdout;
        assert_eq!(shown.matches("police").count(), 1, "{shown}");
    }
    assert_eq!(lab.mirrors("pa").len(), 1);
    lab.police("pa", None).expect("it can");
    assert_eq!(lab.rules()["pa"].policing, None);
    let unpoliced = lab.came_of_a_hundred();
    assert!(all.contains(&unpoliced), "{unpoliced} of 100 without policing again");
    lab.end_mirror("pa", "m", Direction::In).expect("it can");
    lab.has_no_hooks("pa");
    lab.police("pa", None).expect("nothing to end is no error");
    Ok(())
}

/// Each thing that is tried, tried with `tc` as well.
pub(crate) fn tries_agree_with_tc(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    let can = |qdisc: &str, filters: &[&str], action: &str| {
        filters.iter().any(|filter| lab.tc_can(qdisc, &format!("{filter} action {action}")))
    };
    let ours = ["matchall", "u32 match u32 0 0"];
    let mirred = can("clsact", &ours, "mirred egress mirror dev pb");
    agree(mirred, lab.tries(async |worker| tc::can_mirror(worker).await));
    let police = "police rate 1mbit burst 10k conform-exceed drop/continue";
    let as_we_do = can("clsact", &ours, police);
    agree(as_we_do, lab.tries(async |worker| tc::can_police(worker).await));
    let as_it_does = can("ingress", &["matchall", "basic"], police);
    agree(as_it_does, lab.tries(async |worker| tc::can_police_like_ovs(worker).await));
    let htb = world.attempt("tc qdisc add dev pb root htb default 1").status.success();
    agree(htb, lab.tries(async |worker| tc::can_shape(worker).await));
    return Ok(());

    #[track_caller]
    fn agree(works: bool, tried: Result<(), String>) {
        assert_eq!(tried.is_ok(), works, "{tried:?}");
        if let Err(reason) = tried {
            assert!(reason.starts_with("this kernel has not "), "{reason}");
            assert!(reason.contains("module") && reason.contains("CONFIG_NET_"), "{reason}");
        }
    }
}

/// pa is a port of an Open vSwitch, too, which is told to police it.
pub(crate) fn open_vswitch_polices_where_the_try_says_so(world: &World) -> Verdict {
    let lab = Lab::draw(world)?;
    for program in ["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"] {
        world.needs(program)?;
    }
    let started = world.sh("
        run=/run/world/ovs
        mkdir $run
        export OVS_RUNDIR=$run OVS_LOGDIR=$run OVS_DBDIR=$run OVS_SYSCONFDIR=$run
        ovsdb-tool create $run/conf.db /usr/share/openvswitch/vswitch.ovsschema
        ovsdb-server $run/conf.db --remote=punix:$run/db.sock --detach --no-chdir --pidfile \
            --log-file=$run/ovsdb-server.log 2>&1
        ovs-vsctl --db=unix:$run/db.sock --no-wait init
        ovs-vswitchd unix:$run/db.sock --detach --no-chdir --pidfile \
            --log-file=$run/ovs-vswitchd.log 2>&1
        ip link set pa nomaster
        ovs-vsctl --db=unix:$run/db.sock -- add-br br1 -- set bridge br1 datapath_type=netdev \
            -- add-port br1 pa -- set interface pa ingress_policing_rate=1000
    ");
    let polices = lab.tries(async |worker| tc::can_police_like_ovs(worker).await);
    let log = || std::fs::read_to_string("/run/world/ovs/ovs-vswitchd.log").expect("a log");
    let failed = || log().lines().any(|line| line.contains("policing") && line.contains("failed"));
    let done = || world.run("tc filter show dev pa ingress").stdout.contains("police");
    until("Open vSwitch has policed, or failed to", || done() || failed());
    assert_eq!(done(), polices.is_ok(), "{polices:?}\n{}\n{started}", log());
    Ok(())
}

fn mirror(name: &str, direction: Direction, output: Option<&str>) -> Mirror {
    Mirror { name: name.to_owned(), direction, output: output.map(device) }
}

fn device(name: &str) -> IfName {
    IfName::new(name).expect("a good name")
}

/// The drawing at the top, made by `ip`, and ovsns's hands at its ports.
struct Lab<'a> {
    world: &'a World,
    netlink: Netlink,
}

impl<'a> Lab<'a> {
    fn draw(world: &'a World) -> Result<Self, Skip> {
        world.needs("tc")?;
        world.needs("tcpdump")?;
        world.sh("
            # Nobody speaks but who is told to.
            quiet='sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1'
            $quiet
            ip link add br0 type bridge
            ip link set br0 up
            for node in a:1 b:2; do
                name=${node%:*}
                ip netns add $name
                ip netns exec $name $quiet
                ip link add p$name type veth peer name eth0 netns $name
                ip link set p$name master br0 up
                ip -n $name link set eth0 up
                ip -n $name addr add 10.0.0.${node#*:}/24 dev eth0
            done
            ip netns add watch
            ip link add mon0 type veth peer name mon1 netns watch
            ip netns exec watch $quiet
            ip link set mon0 up
            ip addr add 10.9.9.1/30 dev mon0
            ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:09 dev mon0 nud permanent
            ip -n watch link set mon1 up
        ");
        world.settled();
        world.pings("a", "10.0.0.2");
        Ok(Self { world, netlink: Netlink::new().expect("a socket") })
    }

    fn needs_mirrors(&self) -> Verdict {
        self.tries(async |worker| tc::can_mirror(worker).await).map_err(Skip)
    }

    fn mirror(
        &self,
        port: &str,
        name: &str,
        direction: Direction,
        output: &str,
    ) -> Result<(), KernelError> {
        tc::add_mirror(&self.netlink, &device(port), name, direction, &device(output))
    }

    fn end_mirror(&self, port: &str, name: &str, direction: Direction) -> Result<(), KernelError> {
        tc::delete_mirror(&self.netlink, &device(port), name, direction)
    }

    fn police(&self, port: &str, policing: Option<Policing>) -> Result<(), KernelError> {
        tc::set_policing(&self.netlink, &device(port), policing)
    }

    fn rules(&self) -> BTreeMap<String, Rules> {
        let links = self.world.json("ip -j link show");
        let links = links.as_array().expect("a list").iter().map(|link| {
            let index = link["ifindex"].as_u64().expect("a number");
            (
                u32::try_from(index).expect("a small one"),
                device(link["ifname"].as_str().expect("it")),
            )
        });
        let rules = tc::rules(&self.netlink, &links.collect()).expect("readable");
        rules.into_iter().map(|(port, rules)| (port.to_string(), rules)).collect()
    }

    fn mirrors(&self, port: &str) -> Vec<Mirror> {
        self.rules().remove(port).unwrap_or_default().mirrors
    }

    fn tries(
        &self,
        what: impl AsyncFnOnce(&Worker) -> Result<Result<(), String>, KernelError>,
    ) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let tried = runtime.expect("a runtime").block_on(async {
            let worker = Worker::start().expect("a thread");
            what(&worker).await.expect("a kernel that says yes or no")
        });
        // In a namespace of its own, that is.
        self.has_no_hooks("lo");
        tried
    }

    /// Whether `tc` can add such a filter under such a qdisc.
    fn tc_can(&self, qdisc: &str, filter: &str) -> bool {
        self.world.run("ip link add try0 type veth peer name try1");
        self.world.run(&format!("tc qdisc add dev try0 {qdisc}"));
        let add = format!("tc filter add dev try0 ingress protocol all {filter}");
        let added = self.world.attempt(&add).status.success();
        self.world.run("ip link delete try0");
        added
    }

    // ---- what tc says ----

    fn hooks(&self, port: &str) -> String {
        self.world.run(&format!("tc qdisc show dev {port} ingress")).stdout
    }

    #[track_caller]
    fn has_no_hooks(&self, port: &str) {
        assert_eq!(self.hooks(port), "");
    }

    fn filters(&self, port: &str) -> String {
        let hooks = ["ingress", "egress"];
        hooks.map(|it| self.world.run(&format!("tc filter show dev {port} {it}")).stdout).concat()
    }

    /// All filters with their counters, but not for how long they are there.
    fn listed(&self, port: &str) -> String {
        let show = |hook| self.world.run(&format!("tc -s filter show dev {port} {hook}")).stdout;
        let all = ["ingress", "egress"].map(show).concat();
        let less = |line: &str| line.split(" installed ").next().unwrap_or_default().to_owned();
        all.lines().map(less).collect::<Vec<_>>().join("\n")
    }

    /// How many frames a filter has seen.
    fn counted(&self, port: &str, hook: &str, pref: u16) -> u64 {
        let show = format!("tc -s filter show dev {port} {hook} pref {pref}");
        let shown = self.world.run(&show).stdout;
        let sent = shown.split("Sent ").nth(1).and_then(|rest| rest.split(' ').nth(2));
        sent.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{shown}"))
    }

    // ---- traffic ----

    /// Takes pa's carrier, so that counters stand still.
    fn pull_the_plug(&self) {
        self.world.run("ip -n a link set eth0 down");
        until("the kernel has noticed", || {
            self.world.run("ip link show dev pa").stdout.contains("state LOWERLAYERDOWN")
                || self.world.run("ip link show dev pa").stdout.contains("state DOWN")
        });
    }

    fn plug_in(&self) {
        self.world.run("ip -n a link set eth0 up");
        self.world.settled();
        self.world.pings("a", "10.0.0.2");
    }

    /// Pings b from a three times, and returns what mon1 heard of it.
    fn shown_of_pings(&self) -> Vec<String> {
        let mut watch = self.watch();
        self.world.run("ip netns exec a ping -n -c 3 -i 0.2 10.0.0.2");
        // Heard last, and never answered.
        self.world.attempt("ping -n -c 1 -W 0.1 10.9.9.2");
        let lines = watch.lines_to("10.9.9.2");
        let numbers = lines.iter().filter_map(|line| {
            let (_, what) = line
                .split_once("10.0.0.1: ICMP echo ")
                .or(line.split_once("10.0.0.2: ICMP echo "))?;
            let (what, rest) = what.split_once(", id ")?;
            let number = rest.split_once("seq ")?.1.split(',').next()?;
            Some(format!("{what} {number}"))
        });
        numbers.collect()
    }

    fn watch(&self) -> Running {
        let dump =
            "exec ip netns exec watch tcpdump -Z root -lnq --immediate-mode -i mon1 icmp 2>&1";
        let mut command = std::process::Command::new("sh");
        let mut watch = self.world.start_command(command.args(["-c", dump]));
        watch.line_with("listening on");
        watch
    }

    /// Sends a hundred pings at once from a to b, of 1442 bytes each, and
    /// returns how many frames came to b. (Of its answers ping may lose some.)
    fn came_of_a_hundred(&self) -> u64 {
        let before = self.received("b", "eth0");
        self.world.attempt("ip netns exec a ping -n -q -l 100 -c 100 -s 1400 -W 1 10.0.0.2");
        self.received("b", "eth0") - before
    }

    fn received(&self, namespace: &str, name: &str) -> u64 {
        let link = self.world.json(&format!("ip -n {namespace} -s -j link show dev {name}"));
        link[0]["stats64"]["rx"]["packets"].as_u64().expect("a counter")
    }
}
