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
  /** Which it is of several between the same two switches, from 0. */
  number: number;
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
  cables?: { device: string; enabled: boolean | null; active: boolean }[];
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

export interface Bond {
  mode: string;
  lacp: string;
  agreed: boolean | null;
  members: number;
}

interface Link {
  ends: [string, string];
  mtu: number | null;
  up: boolean;
  held_down: boolean;
  words: string;
  bond: Bond | null;
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

/** Where an edge ends, without which of several it is. */
function words(end: End): string {
  return end.interface === null ? end.node : `${end.node}:${end.interface}`;
}

/** The two ends as the command line names them: of several links between the same two
switches all but the first have a number behind the end that comes later. */
export function ends(edge: Edge): [string, string] {
  const [a, b] = edge.ends.map(words) as [string, string];
  if (edge.number === 0) return [a, b];
  const number = `#${edge.number}`;
  return a < b ? [a, b + number] : [a + number, b];
}

/** The name of an edge, as the command line writes it. */
export function name(edge: Edge): string {
  return ends(edge).join(" -- ");
}

/** What `fabric.stats` calls the ends of an edge: NICs and tunnels go by other words. */
function counted(edge: Edge): [string, string] {
  return ends(edge).map((end) => end.replace(/^nic:/, "NIC ").replace(/^[^@:]*@/, "")) as [string, string];
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

/** How fast an edge is, from its first end to its second and back. */
export function speed(edge: Edge, rates: Map<string, Rate>): [number, number] | undefined {
  const ends = counted(edge);
  const rate = rates.get(pair(...ends));
  if (!rate) return undefined;
  const [there, back] = rate.bits_per_s;
  return rate.ends[0] === ends[0] ? [there, back] : [back, there];
}

/** Whether a link can be taken down and up from here. NICs and tunnels have other ids
than nodes and switches. */
export function isOurs(edge: Edge): boolean {
  const known = edge.ends.every((end) => !/^nic:|@/.test(end.node));
  return known && edge.state !== "missing" && edge.state !== "extra";
}

/** A rate in few letters: `1.07 M`. */
export function bits(rate: number): string {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (rate >= size) return `${(rate / size).toPrecision(3)} ${unit}`;
  }
  return rate.toFixed(0);
}
