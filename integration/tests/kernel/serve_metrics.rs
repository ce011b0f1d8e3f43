//! The server in numbers, as Prometheus takes them.

use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::Value;
use world::{Skip, Verdict, World, until};

use crate::{TWO_NODES, own_ovs};

/// Reads them as OpenMetrics wants them, which is stricter than Prometheus itself; says
/// what is not as the conventions have it; prints each series with its value.
const SCRAPE: &str = "
import http.client, json, re, socket
from prometheus_client.openmetrics.parser import text_string_to_metric_families
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect('/run/ovsns/ovsns.sock')
at = Local('localhost')
at.request('GET', '/metrics')
answer = at.getresponse()
assert answer.status == 200, answer.status
kind = answer.headers['Content-Type']
assert kind == 'application/openmetrics-text; version=1.0.0; charset=utf-8', kind
found = {}
for family in text_string_to_metric_families(answer.read().decode()):
    assert re.fullmatch('(ovsns|process)_[a-z_]+', family.name), family.name
    assert family.documentation.endswith('.'), family
    for sample in family.samples:
        labels = ','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))
        found[sample.name + '{' + labels + '}'] = sample.value
print(json.dumps(found))
";

/// n1 -- b.1.1 -- n2
pub(crate) fn what_there_is_in_numbers(world: &World) -> Verdict {
    world.needs("python3")?;
    if !world.shell("/usr/bin/python3 -c 'import prometheus_client'").status.success() {
        return Err(Skip("there is no `prometheus_client`; integration/run installs it".into()));
    }
    world.file("two.yaml", TWO_NODES);
    world.file("scrape.py", SCRAPE);
    let server = world.start_command(world.command().arg("serve"));
    until("the server takes clients", || UnixStream::connect("/run/ovsns/ovsns.sock").is_ok());
    let scrape = || world.json("/usr/bin/python3 scrape.py");
    let empty = scrape();
    assert_eq!(empty["ovsns_labs{state=up}"], 0.0, "{empty:#}");
    assert_eq!(empty["ovsns_clients{by=unix}"], 1.0, "who asks is one: {empty:#}");

    world.ovsns("up two.yaml").ok();
    world.ovsns("node rm nobody").code(2);
    let value = |scraped: &Value, series: &str| scraped[series].as_f64().unwrap_or(-1.0);
    let mut seen = empty;
    until("the lab is seen", || {
        seen = scrape();
        seen["ovsns_labs{state=up}"] == 1.0
    });
    for (series, expected) in [
        ("ovsns_nodes{lab=two-nodes,state=up}", 2.0),
        ("ovsns_switches{lab=two-nodes}", 1.0),
        ("ovsns_links{lab=two-nodes,state=up}", 2.0),
        ("ovsns_links_unlisted{lab=two-nodes}", 0.0),
        ("ovsns_link_up{from=n1:eth0,lab=two-nodes,to=b.1.1}", 1.0),
        ("ovsns_calls_total{method=lab.up,outcome=done}", 1.0),
        ("ovsns_call_duration_seconds_count{method=lab.up}", 1.0),
        ("ovsns_looks_failed_total{}", 0.0),
    ] {
        assert_eq!(value(&seen, series), expected, "{series}: {seen:#}");
    }
    for series in ["process_resident_memory_bytes{}", "process_open_fds{}"] {
        assert!(1.0 < value(&seen, series), "{series}: {seen:#}");
    }

    // What passes is counted, each way.
    world.run("ip netns exec two-nodes.n1 ping -q -c 3 -i 0.2 -s 1000 10.0.0.2");
    let there = "ovsns_link_bytes_total{from=n1:eth0,lab=two-nodes,to=b.1.1}";
    let back = "ovsns_link_bytes_total{from=b.1.1,lab=two-nodes,to=n1:eth0}";
    let sum = "ovsns_lab_bytes_total{lab=two-nodes}";
    until("the pings are counted", || {
        let now = scrape();
        [there, back, sum].iter().all(|it| value(&seen, it) + 3000.0 <= value(&now, it))
    });
    world.ovsns("link down n2 b.1.1").ok();
    until("it is seen that a link is down", || {
        value(&scrape(), "ovsns_links{lab=two-nodes,state=down}") == 1.0
    });
    world.ovsns("down").ok();
    until("its numbers go with the lab", || scrape()[there].is_null());

    // What is asked of Open vSwitch is counted, where there is one.
    let committed = "ovsns_ovsdb_transactions_total{outcome=committed}";
    let (before, now) = (value(&scrape(), committed), || value(&scrape(), committed));
    assert_eq!(before, 0.0);
    if own_ovs::needs(world).is_ok() {
        world.ovsns("up two.yaml --backend ovs").ok();
        assert!(1.0 <= now(), "{:#}", scrape());
        world.ovsns("down").ok();
    }
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    Ok(())
}
