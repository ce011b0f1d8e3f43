// A ping of one pair, in the node that asks, by the node's own `ping`.

import type { Node, Ran, Status } from "./lab";
import { Connection, Refused } from "./rpc";

/** The addresses of a node with what they are in, those on a network of the other first. */
function addresses(to: Node, from: Node): string[] {
  const all = (node: Node) =>
    node.interfaces.flatMap((it) => [...it.addresses, ...it.dynamic_addresses.map((one) => one.address), ...it.foreign_addresses]);
  const here = new Set(all(from).map(network));
  const there = all(to);
  const near = there.filter((it) => here.has(network(it)));
  const chosen = near.length > 0 ? near : there;
  return [...new Set(chosen.map((it) => it.split("/")[0] ?? it))].slice(0, 4);
}

/** The network of `10.0.0.1/24` or `fd00::1/64`, in bits. */
function network(address: string): string {
  const [ip = "", length = "0"] = address.split("/");
  return `${ip.includes(":") ? 6 : 4} ${binary(ip).slice(0, Number(length))}/${length}`;
}

function binary(ip: string): string {
  if (!ip.includes(":")) return ip.split(".").map((it) => Number(it).toString(2).padStart(8, "0")).join("");
  const [head = "", tail] = ip.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":"));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const gap = tail === undefined ? [] : Array<string>(Math.max(0, 8 - before.length - after.length)).fill("0");
  return [...before, ...gap, ...after].map((it) => Number.parseInt(it, 16).toString(2).padStart(16, "0")).join("");
}

/** Pings, and says in a sentence what came of it. */
export async function ping(connection: Connection, status: Status, from: string, to: string): Promise<string> {
  const [a, b] = [from, to].map((name) => status.nodes.find((node) => node.name === name));
  if (!a || !b) return "no answer: there is no such node any more";
  const asked = addresses(b, a);
  if (asked.length === 0) return `no answer: ${to} has no address`;
  try {
    // Two seconds: a neighbour that does not answer at once is asked for again after one.
    for (const address of asked) {
      const command = ["ping", "-n", "-c", "1", "-W", "2", address];
      const ran = await connection.call<Ran>("node.exec", { lab: status.lab, node: from, command, timeout: 10 });
      if (ran.status === 0) {
        const took = /time=([\d.]+ ms)/.exec(ran.stdout)?.[1];
        return `ok: ${to} answers ${from} from ${address}${took ? ` in ${took}` : ""}`;
      }
      if (ran.status === 127) return `not tried: ${ran.stderr.trim()}`;
    }
  } catch (error) {
    return `not tried: ${error instanceof Refused ? error.whole : String(error)}`;
  }
  return `no answer from ${to} (${asked.join(", ")}) to ${from}`;
}
