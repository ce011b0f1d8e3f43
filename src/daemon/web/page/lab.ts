// What the server tells of labs, as far as the page reads it: `ovsns api` has all.

export type State = "wanted" | "up" | "held_down" | "down" | "missing" | "extra";

export interface End {
  node: string;
  interface: string | null;
  addresses: string[];
}

export interface Vertex {
  id: string;
  name: string;
  kind: "switch" | "node" | "nic" | "remote";
  details: string[];
  state: State;
}

export interface Edge {
  id: string;
  ends: [End, End];
  notes: string[];
  state: State;
}

export interface Graph {
  lab: string;
  nodes: Vertex[];
  edges: Edge[];
  notes: string[];
}

export interface Row {
  lab: string;
  state: string;
}

interface Interface {
  name: string;
  mac: string;
  mtu: number;
  up: boolean;
  carrier: boolean;
  addresses: string[];
  dynamic_addresses: { address: string; by: string }[];
  foreign_addresses: string[];
  to: string | null;
}

export interface Node {
  name: string;
  netns: string;
  interfaces: Interface[];
  routes: { to: string; via: string | null; device: string }[];
  processes: { name: string; state: string; ended: string | null }[];
}

interface Port {
  device: string;
  across: string | null;
  words: string;
  broken: string | null;
  counters: { rx_packets: number; tx_packets: number; dropped: number };
}

export interface Switch {
  name: string;
  backend: string;
  device: string;
  mac: string;
  up: boolean;
  broken: string | null;
  datapath: string | null;
  openflow: { controllers: { target: string; connected: boolean }[]; flows: number } | null;
  ports: Port[];
  learned: { mac: string; across: string | null; port: string }[];
}

interface Link {
  ends: [string, string];
  mtu: number | null;
  up: boolean;
  held_down: boolean;
  words: string;
}

export interface Status {
  lab: string;
  state: string;
  cut_off: string | null;
  drift: string[];
  troubles: string[];
  nodes: Node[];
  switches: Switch[];
  links: Link[];
  uplinks: { nic: string; state: string; unconfirmed: string | null }[];
}

export interface Rate {
  ends: [string, string];
  up: boolean;
  bits_per_s: [number, number];
  packets_per_s: [number, number];
}

export interface Rates {
  lab: string;
  links: Rate[];
}

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
  timed_out: boolean;
}

/** Where an edge ends, as the command line writes it. */
export function words(end: End): string {
  return end.interface === null ? end.node : `${end.node}:${end.interface}`;
}

/** The name of an edge among people. */
export function name(edge: Edge): string {
  return `${words(edge.ends[0])} — ${words(edge.ends[1])}`;
}

/** What is told of a state, never by colour alone. */
export function stateWords(state: State): string {
  switch (state) {
    case "wanted":
    case "up":
      return "up";
    case "held_down":
      return "taken down";
    case "down":
      return "down";
    case "missing":
      return "missing";
    case "extra":
      return "not in the file";
  }
}

/** What two ends are called, whichever comes first. */
export function pair(a: string, b: string): string {
  return a < b ? `${a} -- ${b}` : `${b} -- ${a}`;
}

/** Whether a link can be taken down and up from here: it is one, and the only one there. */
export function isOurs(edge: Edge, graph: Graph): boolean {
  const kinds = new Map(graph.nodes.map((vertex) => [vertex.id, vertex.kind]));
  const between = pair(words(edge.ends[0]), words(edge.ends[1]));
  const twins = graph.edges.filter((it) => pair(words(it.ends[0]), words(it.ends[1])) === between);
  const known = edge.ends.every((end) => ["node", "switch"].includes(kinds.get(end.node) ?? ""));
  return known && twins.length === 1 && edge.state !== "missing" && edge.state !== "extra";
}

/** A rate in few letters: `1.07 M`. */
export function bits(rate: number): string {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (rate >= size) return `${(rate / size).toPrecision(3)} ${unit}`;
  }
  return rate.toFixed(0);
}
