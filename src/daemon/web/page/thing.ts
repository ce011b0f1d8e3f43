// What is known of the thing that is chosen.

import { type Bond, type Edge, type Graph, type Status, type Vertex, ends, isOurs, name, pair, stateWords } from "./lab";
import { type Deeds, deed } from "./lists";
import { button, element, make, write } from "./page";

type Facts = [string, string[]][];

/** Shows one thing; says whether it is still there. */
export function show(id: string | null, graph: Graph, status: Status, deeds: Deeds & { ping(from: string): void }): boolean {
  const vertex = graph.nodes.find((it) => it.id === id);
  const edge = graph.edges.find((it) => it.id === id);
  write(element("thing-title"), vertex?.name ?? (edge ? name(edge) : "Nothing chosen"));
  element("thing-hint").hidden = Boolean(vertex ?? edge);
  const facts = vertex ? ofVertex(vertex, graph, status) : edge ? ofEdge(edge, status) : [];
  const list = make("dl");
  for (const [what, values] of facts) {
    if (values.length === 0) continue;
    list.append(make("dt", what), ...values.slice(0, 200).map((value) => make("dd", value)));
  }
  const there = element("thing-facts");
  if (there.firstElementChild?.innerHTML !== list.innerHTML) there.replaceChildren(list);
  const todo: [string, string, () => void][] = [];
  if (vertex?.kind === "node" && vertex.state !== "missing") {
    todo.push(["Terminal", `Terminal in ${vertex.name}`, () => deeds.open(vertex.id)]);
    todo.push(["Ping from here", `Ping from here: ${vertex.name}`, () => deeds.ping(vertex.id)]);
  }
  if (edge && isOurs(edge)) {
    const { text, down } = deed(edge);
    todo.push([text, `${text}: ${name(edge)}`, () => deeds.hold(edge, down)]);
  }
  const row = element("thing-buttons");
  const said = todo.map(([, label]) => label).join("\n");
  if (row.dataset["said"] !== said) {
    const had = row.contains(document.activeElement);
    row.dataset["said"] = said;
    row.replaceChildren(...todo.map(([text, label, press]) => button(text, label, press)));
    // Who has pressed `Take down` goes on at `Bring up`.
    if (had) (row.firstElementChild as HTMLElement | null)?.focus();
  }
  return Boolean(vertex ?? edge);
}

function ofVertex(vertex: Vertex, graph: Graph, status: Status): Facts {
  const facts: Facts = [["State", [stateWords(vertex.state)]], ["More", vertex.details]];
  const joined = graph.edges.filter((edge) => edge.ends.some((end) => end.node === vertex.id));
  const node = vertex.kind === "node" ? status.nodes.find((it) => it.name === vertex.id) : undefined;
  if (node) {
    facts.push(["Namespace", [node.netns]]);
    for (const it of node.interfaces) {
      const dynamic = it.dynamic_addresses.map((one) => `${one.address} (${one.by})`);
      const foreign = it.foreign_addresses.map((one) => `${one} (not ours)`);
      const works = it.up && it.carrier ? "up" : it.up ? "no carrier" : "down";
      const all = [...it.addresses, ...dynamic, ...foreign];
      facts.push([it.name, [`${works}${it.to ? `, to ${it.to}` : ""}`, ...all, `${it.mac}, MTU ${it.mtu}`]]);
    }
    const routes = node.routes.map((it) => `${it.to}${it.via ? ` via ${it.via}` : ""} by ${it.device}`);
    facts.push(["Routes", routes]);
    facts.push(["Processes", node.processes.map((it) => `${it.name}: ${it.ended ?? it.state}`)]);
  }
  const it = vertex.kind === "switch" ? status.switches.find((one) => one.name === vertex.id) : undefined;
  if (it) {
    facts.push(["Bridge", [`${it.device}, ${it.mac}`]]);
    facts.push(["Broken", it.broken ? [it.broken] : []]);
    const controllers = it.openflow?.controllers ?? [];
    facts.push(["Controllers", controllers.map((one) => `${one.target}: ${one.connected ? "connected" : "not connected"}`)]);
    const ports = it.ports.map((port) => {
      const passed = `in ${port.counters.rx_packets}, out ${port.counters.tx_packets}, dropped ${port.counters.dropped}`;
      return [port.across ?? `${port.device} (not ours)`, port.words, port.broken ?? "", passed].filter(Boolean).join("; ");
    });
    facts.push(["Ports (frames)", ports]);
    facts.push(["Has learned", it.learned.map((one) => `${one.mac} at ${one.across ?? one.port}`)]);
  }
  if (!it) facts.push(["Links", joined.map((edge) => `${name(edge)}: ${stateWords(edge.state)}`)]);
  return facts;
}

function ofEdge(edge: Edge, status: Status): Facts {
  const facts: Facts = [["State", [stateWords(edge.state)]], ["More", edge.notes]];
  const named = ends(edge);
  for (const [at, end] of edge.ends.entries()) facts.push([named[at] ?? end.node, end.addresses]);
  // A NIC that a node has says in `links` how it has it.
  const plain = (end: string) => end.replace(/^(macvlan|nic):/, "nic:");
  const link = status.links.find((it) => pair(plain(it.ends[0]), plain(it.ends[1])) === pair(...named));
  if (link) facts.push(["MTU", link.mtu === null ? [] : [String(link.mtu)]]);
  if (link?.bond) facts.push(["Bond", ofBond(link.bond, named, status)]);
  const nic = edge.ends.find((end) => end.node.startsWith("nic:"));
  const uplink = nic && status.uplinks.find((it) => `nic:${it.nic}` === nic.node);
  if (uplink) facts.push(["NIC", [uplink.state, ...(uplink.unconfirmed ? [`given back unless somebody says: ovsns confirm ${uplink.unconfirmed}`] : [])]]);
  return facts;
}

/** A bond and its cables, as each of its switches has them. */
function ofBond(bond: Bond, named: [string, string], status: Status): string[] {
  const agreed = bond.agreed === null ? "" : bond.agreed ? ", both ends agree" : ", the ends do not agree";
  const said = [`${bond.mode}, LACP ${bond.lacp}${agreed}`];
  const [a, b] = named.map((end) => end.split("#")[0]) as [string, string];
  for (const [here, across] of [[a, b], [b, a]]) {
    const ports = status.switches.find((it) => it.name === here)?.ports.filter((it) => it.across === across) ?? [];
    for (const cable of ports.flatMap((it) => it.cables ?? [])) {
      const spare = bond.mode === "active-backup" ? "spare" : "used";
      const words = cable.enabled === null ? "not known" : !cable.enabled ? "out of use" : cable.active ? "used" : spare;
      said.push(`${cable.device} on ${here}: ${words}`);
    }
  }
  return said;
}
